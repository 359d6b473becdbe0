"""What a study is: the keys of its recipe, with their defaults and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from climb_opt.choices import SPARE, Choice
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError
from climb_opt.proxy_recipe import ProxyRecipe
from climb_opt.strict import ONE, POSITIVE, SHARE, Range

Bound = dict[str, float] | float | None  # by domain, or for all


@dataclass(frozen=True)
class PhaseBounds:
    """Bounds in one phase; where it names a domain, it and not the general bound holds."""

    lower: Bound = None  # least weight, of all domains or by name
    upper: Bound = None  # largest weight, of all domains or by name

    RANGES: ClassVar = {"lower": SHARE, "upper": SHARE}


@dataclass(frozen=True)
class SpaceRecipe:
    """Bounds of the search: see `MixtureSpace`."""

    lower: Bound = None  # least weight, of all domains or by name
    upper: Bound = None  # largest weight, of all domains or by name
    max_epochs: float | None = None  # a trial's tokens repeat no domain more often
    phases: tuple[PhaseBounds, ...] = field(default=(), metadata=SPARE)  # {lower, upper} of each

    RANGES: ClassVar = {"lower": SHARE, "upper": SHARE, "max_epochs": POSITIVE}

    def of_phase(self, place: int, domains: Sequence[str]) -> dict[str, Bound]:
        """lower and upper in a phase, from 0."""
        own = self.phases[place] if self.phases else PhaseBounds()
        pairs = {"lower": (self.lower, own.lower), "upper": (self.upper, own.upper)}
        return {key: _replaced(general, one, domains) for key, (general, one) in pairs.items()}


FOUND = "found"  # what the default rule recommends, where it is one of several mixtures
MAIN = "score"  # the name of a study's first objective
AUTO = "auto"  # a score whose weights `climb-opt noise` finds; frozen when the study is created
Score = dict[str, float] | list[str]  # component -> coefficient, or a list whose mean is taken


@dataclass(frozen=True)
class ScoreRecipe:
    """A further objective: what adds up to it, and which way is better."""

    score: Score  # component -> coefficient, or a list whose mean is taken
    direction: Literal["minimize", "maximize"] = "minimize"  # which way it is better

    def coefficients(self) -> dict[str, float]:
        """component -> coefficient."""
        return _coefficients(self.score)


@dataclass(frozen=True)
class BudgetRecipe:
    """What a search may spend on training, all rungs and baselines together."""

    flops: float  # of all trials

    RANGES: ClassVar = {"flops": POSITIVE}


MIXMIN = "mixmin"  # of what branches are read for: one mixture, which scores no other


@dataclass(frozen=True)
class BranchesRecipe:
    """One trunk for every trial, and branches of it off which mixtures are priced."""

    trunk: float | str = 0.5  # share of the target's tokens, on the prior; or a checkpoint's name
    tokens: int | None = None  # of a branch; None: as many as a trial trains on after the trunk
    general: float = 0.5  # share of each branch's tokens that is drawn from the prior
    lr: float | None = None  # learning rate of branches; None: the proxy's
    decay: float = 0.0  # last share of a branch's steps, in which the rate falls to 0
    # What is made of branches: read-outs that score mixtures, and the optimum of the ensemble.
    read: tuple[Literal["mixmin", "ensemble", "merge"], ...] = ("merge",)  # none: the trunk alone
    groups: dict[str, list[str]] = field(default_factory=dict)  # name -> domains of one branch
    most: int = 24  # branches; smaller domains are grouped
    epochs: float = 4.0  # a domain that a branch would repeat more often is grouped
    check: int = 6  # mixtures trained to see whether the read-outs rank as training does

    RANGES: ClassVar = {
        "tokens": Range(1),
        "general": Range(0, 1, "most"),
        "lr": POSITIVE,
        "decay": SHARE,
        "most": Range(1),
        "epochs": POSITIVE,
        "check": Range(4),  # fewer say nothing of a rank correlation
        "trunk": Range(0, 1, "most"),  # where it is a share
    }

    @property
    def share(self) -> float:
        """The share of the target's tokens that the trunk trains; 0 of a given checkpoint."""
        return 0.0 if isinstance(self.trunk, str) else self.trunk


@dataclass(frozen=True)
class MethodBaseline:
    """A baseline of which a method sets the weights while its proxy trains, from the prior on."""

    name: str  # of its slot, its row and its line; by default the method's
    reweight: Choice  # the method, with its options


@dataclass(frozen=True)
class StudyRecipe:
    """One search: what is trained, how it is scored, who proposes mixtures.

    >>> from climb_opt.recipes import read_study
    >>> recipe = read_study("tiny.yaml", ["rounds=[16, 8]"])  # a file of yours, and an override
    >>> recipe.rounds, recipe.sampler.name, recipe.direction
    ((16, 8), 'climb', 'minimize')
    """

    corpus: str | CorpusRecipe  # its folder, or how to build it; elsewhere, --set corpus=
    proxy: ProxyRecipe  # what a trial trains: a name, a file, or its keys
    evaluators: tuple[Choice, ...]  # what scores it; none only where a command brings scores
    score: Score  # component -> coefficient, a list whose mean is taken, or auto (see `noise`)
    direction: Literal["minimize", "maximize"] = "minimize"  # which way the score is better
    also: dict[str, ScoreRecipe] = field(default_factory=dict)  # further objectives: a Pareto set
    rounds: tuple[int, ...] = (64, 32, 16)  # trials of each round, or {trials, proxy} of each
    ladder: tuple[ProxyRecipe, ...] = ()  # rungs, cheapest first; the last is the target, `proxy`
    rungs: tuple[int, ...] = ()  # of the ladder, one a round; none: the sampler chooses
    budget: BudgetRecipe | None = None  # FLOPs of a search by ladder, in place of rounds
    repetition: Literal["matched", "whole"] = "matched"  # rungs repeat domains as the target does
    branches: BranchesRecipe | None = field(default=None, metadata=SPARE)  # one trunk, and branches
    sampler: Choice = field(default_factory=lambda: Choice("climb"))  # who proposes mixtures
    pruner: Choice | None = None  # who stops hopeless trials early; needs proxy.report_every
    prune_first_round: bool = False  # else trials of round 1 run to their end; never baselines
    space: SpaceRecipe = field(default_factory=SpaceRecipe)  # bounds of the weights
    phases: tuple[float, ...] = field(default=(), metadata=SPARE)  # shares of a trial, e.g. .8, .2
    baselines: tuple[str | MethodBaseline, ...] = (
        "prior",  # trained before round 1, to be beaten: fixed mixtures
        "uniform",  # and methods that set weights, doremi or {reweight: doremi, eta: 2.0}
    )
    barrier: bool = True  # a round waits for the last trial of the one before
    verify: int = 0  # of the rounds' slots, the last: measure the recommendation and its rivals
    max_attempts: int = 3  # of a slot, before it is given up
    constraints: dict[str, float] = field(default_factory=dict)  # component -> its worst value
    confirm_seeds: int = 3  # fresh seeds of `climb-opt confirm`
    seed: int = 0  # of every proposal; what proxies are trained with follows from it
    seeds: Literal["fresh", "common"] = "fresh"  # of proxies: each has its own, or all share one

    RANGES: ClassVar = {
        **dict.fromkeys(("rounds", "max_attempts", "confirm_seeds"), ONE),
        "rungs": Range(0),
        "phases": Range(0, 1, "least"),
        "seed": Range(0, 2**32 - 1),  # what NumPy takes
    }

    @property
    def corpus_folder(self) -> str:
        """Where the corpus lies, or is built."""
        return self.corpus if isinstance(self.corpus, str) else str(self.corpus.output)

    @property
    def proxies(self) -> tuple[ProxyRecipe, ...]:
        """What each rung trains, cheapest first; without a ladder the one proxy."""
        return (*self.ladder[:-1], self.proxy)

    @property
    def readouts(self) -> tuple[str, ...]:
        """What scores mixtures without training, cheapest first: the lowest rungs."""
        return () if self.branches is None else tuple(r for r in self.branches.read if r != MIXMIN)

    @property
    def named(self) -> tuple[str, ...]:
        """The names of all baselines, in their order."""
        return tuple(b if isinstance(b, str) else b.name for b in self.baselines)

    @property
    def fixed(self) -> tuple[str, ...]:
        """The baselines that are one mixture throughout."""
        return tuple(b for b in self.baselines if isinstance(b, str))

    @property
    def methods(self) -> dict[str, Choice]:
        """The baselines of which a method sets the weights: name -> the method."""
        return {b.name: b.reweight for b in self.baselines if not isinstance(b, str)}

    @property
    def searched(self) -> tuple[int, ...]:
        """Slots of each round that search: all but the last `verify`."""
        left, found = sum(self.rounds) - self.verify, []
        for size in self.rounds:
            found.append(min(size, left))
            left -= found[-1]
        return tuple(size for size in found if size)

    def coefficients(self) -> dict[str, float]:
        """component -> coefficient of the study's score."""
        return _coefficients(self.score)

    @property
    def sign(self) -> float:
        """+1 where a lower score is better, -1 where a higher one is."""
        return -1.0 if self.direction == "maximize" else 1.0

    def objectives(self) -> dict[str, ScoreRecipe]:
        """All objectives by name; the first is "score"."""
        return {MAIN: ScoreRecipe(self.score, self.direction), **self.also}


def _replaced(general: Bound, own: Bound, domains: Sequence[str]) -> Bound:
    if own is None or general is None or not isinstance(own, dict):
        return general if own is None else own
    return {**(general if isinstance(general, dict) else dict.fromkeys(domains, general)), **own}


def _coefficients(score: Score) -> dict[str, float]:
    if isinstance(score, dict):
        return dict(score)
    if score == [AUTO]:
        raise UserError(
            "study.score: auto has no weights yet; `climb-opt noise RECIPE` finds them."
        )
    return {name: 1.0 / len(score) for name in score}
