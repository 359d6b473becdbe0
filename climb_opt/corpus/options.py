"""Everything that decides what a corpus contains: the same options give the same bytes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from climb_opt.corpus.documents import DOMAIN_FIELD, TARGET_FIELD
from climb_opt.corpus.read.inputs import find_sources
from climb_opt.corpus.read.once import told_apart
from climb_opt.corpus.read.source import ReadOptions, Source
from climb_opt.corpus.stages import cluster, tokenise
from climb_opt.corpus.stages.cluster import ClusterOptions
from climb_opt.corpus.stages.domains import SplitOptions
from climb_opt.corpus.stages.embed import PRECISIONS, EmbedOptions
from climb_opt.corpus.stages.merge import MergeOptions
from climb_opt.corpus.stages.pruning import Rule, cautions, parse_rule
from climb_opt.corpus.stages.roles import MOST_TARGETS, Target, parse_target
from climb_opt.corpus.stages.scores import check_scorer, column_of, parse_scorer
from climb_opt.corpus.stages.tokenise import TokenOptions
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError
from climb_opt.text import storable, twins
from climb_opt.tokenizer import load_tokenizer

log = logging.getLogger(__name__)

DEFAULT_DOMAINS = 16

T = TypeVar("T")


@dataclass(frozen=True)
class BuildOptions:
    """One corpus.

    Attributes:
        inputs: what to read (corpus/read/inputs.py).
        targets: `NAME=FIELD:VALUE` or `NAME=FILES`: held out whole, never trained on.
        target_share: fraction of the documents that match FIELD:VALUE.
        near_duplicates: similarity from which a document counts as a copy; None keeps them.
        scores, prune: see corpus/stages/scores.py and pruning.py.
        label_field: known labels, to hold the domains against.
        domain_field: what names each document's domain, where inputs bring none of their own.
    """

    inputs: tuple[str, ...]
    name: str = "corpus"
    read: ReadOptions = field(default_factory=ReadOptions)
    tokens: TokenOptions = field(default_factory=TokenOptions)
    embed: EmbedOptions = field(default_factory=EmbedOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    merge: MergeOptions = field(default_factory=MergeOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    targets: tuple[str, ...] = ()
    target_share: float = CorpusRecipe.target_share
    near_duplicates: float | None = CorpusRecipe.near_duplicates
    scores: tuple[str, ...] = ()
    prune: tuple[str, ...] = ()
    label_field: str | None = None
    domain_field: str | None = None
    seed: int = 0


def options_of(recipe: CorpusRecipe) -> BuildOptions:
    """The build's options of a recipe.

    Raises:
        UserError: the recipe names no folder.
    """
    if recipe.output in (None, "-"):
        raise UserError("Name the corpus's folder: --output FOLDER, or `output:` in its recipe.")
    return _part(
        BuildOptions,
        recipe,
        name=storable(recipe.name or Path(recipe.output).resolve().name),
        read=_part(ReadOptions, recipe),
        tokens=_part(TokenOptions, recipe),
        embed=_part(EmbedOptions, recipe),
        cluster=_part(ClusterOptions, recipe, backend=recipe.kmeans),
        merge=MergeOptions(recipe.domains, recipe.merge_distance),
        split=SplitOptions(recipe.heldout, recipe.heldout_tokens),
        targets=recipe.target,
        scores=recipe.score,
    )


def _part(kind: type[T], recipe: CorpusRecipe, **others: Any) -> T:
    """The options of one kind: the recipe's keys of their names, and `others`."""
    names = {f.name for f in dataclasses.fields(CorpusRecipe)}
    shared = [f.name for f in dataclasses.fields(kind) if f.name in names]  # type: ignore[arg-type]
    return kind(**{name: getattr(recipe, name) for name in shared} | others)


@dataclass(frozen=True)
class Plan:
    """Options checked and resolved: what will be read, and what is made of it."""

    options: BuildOptions
    sources: tuple[Source, ...]
    read: ReadOptions
    targets: tuple[Target, ...]
    scorers: dict[str, str]
    rule: Rule | None  # which clusters are left out
    clustered: bool  # the inputs bring their own domains

    @property
    def wanted(self) -> dict[str, str]:
        """The fields that the options name, and the option that does."""
        options, read = self.options, self.options.read
        found = {read.text_field: "--text-field"}
        if read.id_field != ReadOptions().id_field:  # else documents may have none
            found.setdefault(read.id_field, "--id-field")
        for target, text in zip(self.targets, options.targets, strict=True):
            if target.field != TARGET_FIELD:
                found.setdefault(target.field, f"--target {text} (no input is called so)")
        for name, spec in self.scorers.items():
            if (column := column_of(spec)) is not None:
                found.setdefault(column, f"--score {name}={spec}")
        if options.label_field is not None:
            found.setdefault(options.label_field, "--label-field")
        if options.domain_field is not None:
            found.setdefault(options.domain_field, "--domain-field")
        return {**found, **{f: "--fields" for f in read.fields if f not in found}}


def make_plan(options: BuildOptions) -> Plan:
    """Check the options, but for the numbers of a recipe, which are checked with it, and find the
    inputs.

    Raises:
        UserError: an input that is not there, options that contradict each other.
    """
    merge, precision = options.merge, options.embed.precision
    if precision not in PRECISIONS:
        raise UserError(f"--precision must be {', '.join(PRECISIONS)}, but is {precision!r}.")
    if merge.domains is not None and merge.distance is not None:
        raise UserError("--domains and --merge-distance exclude each other.")
    tokenise.check(options.tokens)
    cluster.check(options.cluster)
    if options.read.detokenize is not None:
        load_tokenizer(options.read.detokenize)  # refuse it here, not in a worker
    if not options.inputs:
        raise UserError("Name at least one input: files, folders, globs or prefixed inputs.")
    sources = find_sources(options.inputs)
    for target, files in _targets(options):
        if files is not None:
            sources += find_sources([files], target.name)
    plan = plan_from(options, told_apart(sources))
    for spec in plan.scorers.values():  # of hours of reading
        check_scorer(spec)
    for caution in cautions(options.prune):
        log.warning("Caution: %s", caution)
    return plan


def plan_from(options: BuildOptions, sources: Sequence[Source]) -> Plan:
    """The plan of checked options and the sources that were found for them."""
    targets = [target for target, _ in _targets(options)]
    scored = [parse_scorer(text) for text in options.scores]
    _refuse_twins("scores", [name for name, _ in scored])
    scorers = dict(scored)
    rule = parse_rule(options.prune, list(scorers))
    clustered = _clustered(sources, options.domain_field)
    extra = [t.field for t in targets if t.field != TARGET_FIELD]
    extra += [c for c in map(column_of, scorers.values()) if c is not None]
    extra += [f for f in (options.label_field, options.domain_field) if f is not None]
    kept = tuple(dict.fromkeys([*options.read.fields, *extra]))
    read = dataclasses.replace(options.read, fields=kept)
    return Plan(options, tuple(sources), read, tuple(targets), scorers, rule, clustered)


def _targets(options: BuildOptions) -> list[tuple[Target, str | None]]:
    found = [parse_target(text, options.target_share) for text in options.targets]
    _refuse_twins("targets", [target.name for target, _ in found])
    if len(found) > MOST_TARGETS:
        raise UserError(f"{len(found)} targets are given; a corpus has at most {MOST_TARGETS}.")
    return found


def _refuse_twins(what: str, names: Sequence[str]) -> None:
    for a, b in twins(names):
        raise UserError(f"Two {what} are called {a!r}" + (f" and {b!r}." if a != b else "."))


def _clustered(sources: Sequence[Source], domain_field: str | None) -> bool:
    trained = [s for s in sources if TARGET_FIELD not in s.fields]
    named = [DOMAIN_FIELD in s.fields or DOMAIN_FIELD in s.extra.get("sides", {}) for s in trained]
    if domain_field is not None:
        if any(named):
            raise UserError(
                f"--domain-field {domain_field}: some inputs bring their own domains (domains:, "
                "weborganizer:, centroid=N/); leave it out, or name their folders as plain inputs."
            )
        return True
    if any(named) and not all(named):
        raise UserError(
            "Some inputs bring their own domains (domains:, weborganizer:, centroid=N/) and others "
            "do not; build them apart, or name folders of the former as plain inputs."
        )
    return all(named)
