"""What is handed over: each domain's weight, tokens and files, in each phase of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from climb_opt.shards import Corpus
from climb_opt.text import printable

UNITS = 1_000_000  # weights are handed over in millionths, which sum to exactly 1
ORIGIN = "Mixture of study "  # begins the line of the head by which exports know each other


@dataclass(frozen=True)
class Source:
    """One domain of the mixture.

    Args:
        name: as the corpus calls it.
        slug: the same, safe in a path; it depends on the names of the corpus's domains only.
        index: its place in the corpus, from 0; without a corpus, in the mixture as given.
        units: its weight in millionths.
        tokens: what the corpus holds of it; None where that is not known.
        documents: likewise.
        files: its shards' paths and tokens; empty without a corpus.
        path: where the trainer finds it, from the user's template; None without one.
    """

    name: str
    slug: str
    index: int
    units: int
    tokens: int | None = None
    documents: int | None = None
    files: tuple[tuple[str, int], ...] = ()
    path: str | None = None

    @property
    def weight(self) -> float:
        """The weight, a multiple of one millionth."""
        return self.units / UNITS

    def filled(self, template: str) -> str:
        """A path of this domain, with `{domain}` and `{index}` filled in."""
        values = {"domain": self.slug, "index": f"{self.index:03d}"}
        return re.sub(r"\{(domain|index)\}", lambda match: values[match[1]], template)


@dataclass(frozen=True)
class Span:
    """Where a phase is in its run.

    Args:
        number, count: the how manieth of how many phases, from 1.
        share: of the run's tokens.
        begin: tokens of the run before it; None where the run's tokens are not known.
        borders: the step, from 0, at which each phase of the run begins, and the end; None where
            the tokens or a step are not known.
        run: the whole run, without its phases.
    """

    number: int
    count: int
    share: float
    begin: int | None
    borders: tuple[int, ...] | None
    run: Handover

    @property
    def steps(self) -> tuple[int, int] | None:
        """The phase's first step, from 0, and the step after its last."""
        if self.borders is None:
            return None
        return self.borders[self.number - 1], self.borders[self.number]

    @property
    def name(self) -> str:
        """Which phase it is, in words."""
        return f"phase {self.number} of {self.count}"

    def __str__(self) -> str:
        if self.steps is None:
            return self.name
        return f"{self.name}, steps {self.steps[0] + 1} to {self.steps[1]}"


@dataclass(frozen=True)
class Handover:
    """A mixture on its way to another trainer; domains that weigh nothing are left out.

    Where the mixture changes, this is the mean over the run, and `phases` are what each reads.

    Args:
        study, rule: where it comes from.
        origin: in words, where no rule chose it: "trial 3".
        rung: at which its study judged it, where it has several.
        as_good: what is as good for all that is known; empty where the mixture is shown to be
            better, or nothing is claimed of it.
        sources: domains, largest first; their weights sum to 1.
        tokens: what the run will train on, where known: needed to state repetition.
        sequence: tokens a sequence, for formats that ask.
        corpus: where its shards and their form come from; None where it is not at hand.
        corpus_path: what a command calls the corpus, here or where it lies.
        seed: for formats that shuffle.
        batch: sequences of a step, where known: phases then end at whole steps.
        phases: of a schedule, in order; empty where one mixture holds throughout.
        span: of a phase, where in its run it is.
        left_out: domains whose weight is not zero but too small to be written, with that weight.
        absent: domains of the corpus that the mixture does not name.
        notes: what is known to be worth saying, and what `render` adds; formats that have comments
            begin with it.
    """

    study: str
    sources: tuple[Source, ...]
    rule: str = ""
    origin: str = ""
    rung: str = ""
    as_good: str = ""
    tokens: int | None = None
    sequence: int = 2048
    corpus: Corpus | None = None
    corpus_path: str = "CORPUS"
    seed: int = 42
    batch: int | None = None
    phases: tuple[Handover, ...] = ()
    span: Span | None = None
    left_out: Mapping[str, float] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def epochs(self, source: Source) -> float | None:
        """How often the run reads the domain; None where its tokens or the budget are unknown."""
        if not source.tokens or self.tokens is None:
            return None
        return source.weight * self.tokens / source.tokens

    @property
    def sequences(self) -> int | None:
        """Sequences that hold the budget, the last one perhaps in part; None without a budget."""
        return None if self.tokens is None else -(-self.tokens // self.sequence)

    @property
    def first(self) -> list[str]:
        """What is as good, as a line to be said first; none where nothing is."""
        return [printable(f"{self.as_good}.")] if self.as_good else []

    @property
    def head(self) -> list[str]:
        """What is as good, where the mixture comes from, and the notes: lines for a comment."""
        line = f"{ORIGIN}{self.study}"
        if self.rule:
            line += f", rule {self.rule}"
        if self.origin:
            line += f", from {self.origin}"
        if self.rung:
            line += f", judged at {self.rung}"
        if self.span is not None:
            line += f", {self.span}"
        if self.tokens is not None:
            line += f", for {self.tokens} tokens"
        return [*self.first, printable(line), *self.notes]

    def paths(self, default: str) -> list[str]:
        """Where each source is: from the user's template, else from `default`."""
        return [s.path or s.filled(default) for s in self.sources]


def under_head(first: str) -> Callable[[str], bool]:
    """Whether a text has the head of a handover as comments, and then a line like `first`."""

    def known(text: str) -> bool:
        lines = text.split("\n")
        head = list(takewhile(lambda line: line.startswith("# "), lines))
        below = "".join(lines[len(head) :][:1])
        ours = any(line.startswith(f"# {ORIGIN}") for line in head)
        return ours and re.fullmatch(first, below) is not None

    return known
