"""What is handed over: each domain's weight, tokens and files, checked before it is written."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from climb_opt.apportion import apportion
from climb_opt.errors import UserError, bare, did_you_mean, listed
from climb_opt.shards import Corpus
from climb_opt.text import printable, storable

UNITS = 1_000_000  # weights are handed over in millionths, which sum to exactly 1
FIELDS = ("domain", "index")


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
class Handover:
    """A mixture on its way to another trainer; domains that weigh nothing are left out.

    Args:
        study, rule: where it comes from.
        rung: at which its study judged it, where it has several.
        as_good: what is as good for all that is known; empty where the mixture is shown to be
            better, or nothing is claimed of it.
        sources: domains, largest first; their weights sum to 1.
        tokens: what the run will train on, where known: needed to state repetition.
        sequence: tokens a sequence, for formats that ask.
        corpus: where its shards and their form come from; None where it is not at hand.
        corpus_path: what a command calls the corpus, here or where it lies.
        seed: for formats that shuffle.
        left_out: domains whose weight is not zero but too small to be written, with that weight.
        absent: domains of the corpus that the mixture does not name.
        notes: what is known to be worth saying, and what `render` adds; formats that have comments
            begin with it.
    """

    study: str
    sources: tuple[Source, ...]
    rule: str = ""
    rung: str = ""
    as_good: str = ""
    tokens: int | None = None
    sequence: int = 2048
    corpus: Corpus | None = None
    corpus_path: str = "CORPUS"
    seed: int = 42
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
        line = f"Mixture of study {self.study}"
        if self.rule:
            line += f", rule {self.rule}"
        if self.rung:
            line += f", judged at {self.rung}"
        if self.tokens is not None:
            line += f", for {self.tokens} tokens"
        return [*self.first, printable(line), *self.notes]

    def paths(self, default: str) -> list[str]:
        """Where each source is: from the user's template, else from `default`."""
        return [s.path or s.filled(default) for s in self.sources]


def prepare(
    mixture: Mapping[str, float],
    *,
    study: str,
    corpus: Corpus | None = None,
    inventory: Mapping[str, float] | None = None,
    template: str | None = None,
    **settings: Any,
) -> Handover:
    """Check a mixture and gather what the formats need.

    Args:
        corpus: gives tokens and shards; it must hold every domain that weighs something.
        inventory: domain -> tokens in the corpus's order, where the corpus is not at hand.
        template: a path with `{domain}` (its slug) or `{index}` (its place in the corpus) in it,
            for each domain's data.
        settings: further fields of `Handover`.

    Raises:
        UserError: weights that do not sum to 1, a domain the corpus lacks, or a template that
            gives two domains one path.
    """
    units = _units(mixture)
    if inventory is None and corpus is not None:
        # What stands in for a corpus may have no domains to list, only give them by name.
        inventory = {d.name: d.tokens for d in getattr(corpus, "domains", ())}
    known = list(inventory or ())
    everything = list(dict.fromkeys([*known, *mixture]))
    slugs = distinct_slugs(everything)
    order = sorted((d for d in mixture if units[d] > 0), key=lambda d: (-units[d], d))
    lacking = [d for d in order if d not in known]
    if known and lacking and corpus is None:
        raise UserError(
            f"The study's corpus has no domain {lacking[0]!r}."
            f"{did_you_mean(lacking[0], known)} Domains: {listed(known)}."
        )
    sources = []
    for name in order:
        source = Source(name, slugs[name], everything.index(name), units[name])
        if corpus is not None:
            domain = corpus.domain(name)
            documents, files = sum(s.documents for s in domain.shards), domain.files(corpus.path)
            source = replace(source, tokens=domain.tokens, documents=documents, files=tuple(files))
        elif inventory is not None and name in inventory:
            source = replace(source, tokens=int(inventory[name]))
        sources.append(source)
    if corpus is not None:
        settings["corpus_path"] = str(corpus.path)
    return Handover(
        study=study,
        sources=tuple(_placed(sources, template)),
        corpus=corpus,
        left_out={d: float(w) for d, w in mixture.items() if w > 0 and not units[d]},
        absent=tuple(d for d in known if d not in mixture),
        **settings,
    )


def slug(name: str) -> str:
    """A name safe in any path and URL: letters, digits, dot, dash and underscore of any script."""
    plain = unicodedata.normalize("NFKC", storable(name))
    return re.sub(r"[^\w.-]+", "-", plain).strip("-.")[:80].rstrip("-.") or "domain"


def distinct_slugs(names: Iterable[str]) -> dict[str, str]:
    """Each name's slug, no two alike on any file system.

    Slugs that differ by nothing, or by case or accents only, all end with a digest of their name:
    a digest stays where a number would pass to another domain when one is added, dropped or moved.
    """
    slugs = {name: slug(name) for name in names}
    while True:
        counts = Counter(bare(s) for s in slugs.values())
        alike = [name for name, s in slugs.items() if counts[bare(s)] > 1]
        if not alike:
            return slugs
        for name in alike:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
            slugs[name] += f"-{digest[:6]}"


def _units(mixture: Mapping[str, float]) -> dict[str, int]:
    """Weights in millionths that sum to one million, by largest remainders.

    What is below half of one is 0, and what is not is at least 1, so that equal weights, be they
    hundreds, are not kept and dropped by their order.
    """
    names, weights = list(mixture), np.array([float(w) for w in mixture.values()])
    if not len(names) or not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise UserError(f"A mixture needs finite weights, none negative, but got {dict(mixture)}.")
    if abs(weights.sum() - 1.0) > 1e-6:
        raise UserError(f"The mixture's weights sum to {weights.sum():.9g}, not to 1.")
    large = np.where(weights / weights.sum() * UNITS < 0.5, 0.0, weights)
    exact = large / large.sum() * UNITS
    units = np.maximum(np.floor(exact), large > 0).astype(int)
    over = int(units.sum()) - UNITS
    if over > 0:  # the largest pay for those that were raised to 1
        largest = np.argsort(-units, kind="stable")[: np.count_nonzero(units > 1)]
        np.subtract.at(units, np.resize(largest, over), 1)
    else:
        units = apportion(np.maximum(exact, units), UNITS)
    return dict(zip(names, units.tolist(), strict=True))


def _placed(sources: list[Source], template: str | None) -> list[Source]:
    """The sources with their paths of the template."""
    if template is None:
        return sources
    for name in re.findall(r"\{(.*?)\}", template):
        if name not in FIELDS:
            raise UserError(
                f"--path {template!r}: unknown field {{{printable(name)}}}. Known: {{domain}} (the "
                "domain's name made safe for a path), {index} (its place in the corpus)."
            )
    if not re.search(r"\{(domain|index)\}", template) and len(sources) > 1:
        raise UserError(
            f"--path {template!r} gives several domains one path; put {{domain}} (the domain's "
            "name made safe for a path) or {index} (its place in the corpus) in it."
        )
    return [replace(s, path=s.filled(template)) for s in sources]
