"""What emulated arms search on: a mixing law, or a table of real runs turned into a function.

    mixing-law   {domains, tasks, law, noise, components, merge, bias}
    table        {folder, tables: {name: {mixtures, results, key, score ...}}, table: name, noise}

`merge` searches over fewer domains than the law has (coarser clusters); `bias` makes the searched
function differ from the judged one (a proxy smaller than the target). Several rungs: `laddered.py`.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.ablation.run.contents import of_options
from climb_opt.ablation.run.options import check_domains, prepared
from climb_opt.emulator import (
    Emulator,
    LadderObjective,
    LadderSource,
    MixingLaw,
    NoisyObjective,
    Source,
    Table,
    read_table,
)
from climb_opt.emulator.objective import reference_draws
from climb_opt.emulator.tables import LABELS, read_tables
from climb_opt.errors import UserError, listed
from climb_opt.ladder import Ladder
from climb_opt.metrics import better_low
from climb_opt.reading import check_there, named
from climb_opt.recipes import Choice
from climb_opt.simplex import MixtureSpace
from climb_opt.statistics import spearman
from climb_opt.strict import as_list, check_keys


@dataclass(frozen=True)
class Surface:
    """A source with its yardsticks: `best` is the lowest true score known, `typical` the median one
    of the sparse prior, `truth` the noise-free score (n,) of searched mixtures (n, K)."""

    source: Source
    noisy: NoisyObjective | LadderObjective
    best: float
    typical: float
    truth: Callable[[np.ndarray], np.ndarray]
    quality: str

    @property
    def space(self) -> MixtureSpace:
        """The space that is searched."""
        return self.source.space

    @property
    def ladder(self) -> Ladder | None:
        """Its rungs; None where it has but one."""
        return self.source.ladder if isinstance(self.source, LadderSource) else None

    def objective(self, seed: int) -> NoisyObjective | LadderObjective:
        """What a trial of a run with this seed is scored by; arms with one seed share the noise."""
        own = copy.copy(self.noisy)  # its sigma took thousands of evaluations to measure
        own.seed = seed
        return own

    def regret(self, weights: np.ndarray) -> np.ndarray:
        """True value (n,) of mixtures (n, K): 0 the best known, 1 a typical random mixture."""
        return np.asarray((self.truth(weights) - self.best) / (self.typical - self.best))


def surface(objective: Choice) -> Surface:
    """The surface that an objective names; made once per process and content of its tables.

    Raises:
        UserError: an unknown objective or option, or whatever is wrong with a table.
    """
    read = tuple(of_options(objective.options).items())
    return _surface(objective.name, json.dumps(objective.options, sort_keys=True), read)


@lru_cache(maxsize=64)
def _surface(name: str, options: str, read: tuple[tuple[str, str], ...]) -> Surface:
    made: Surface = prepared(name, json.loads(options))()
    return made


# --- the two kinds -----------------------------------------------------------------------------


def mixing_law(
    domains: int = 21,
    tasks: int = 5,
    law: int = 0,
    noise: float = 0.0,
    components: bool = False,
    merge: int | None = None,
    bias: float = 0.0,
) -> Surface:
    """A mixing law: every domain helps some tasks and hurts others, with known optima."""
    target = MixingLaw(domains, tasks, seed=law)
    searched: Source = target
    if bias:
        searched = Biased(searched, MixingLaw(domains, tasks, seed=law + 10_000), bias)
    expand: Callable[[np.ndarray], np.ndarray] = np.asarray
    if merge is not None:
        merged = Merged(searched, merge)
        searched, expand = merged, merged.expand
    return measured(searched, target, expand, noise, components)


def table_of(
    tables: dict[str, dict[str, Any]],
    table: str | None = None,
    folder: str = ".",
    noise: float = 0.0,
    components: bool = False,
) -> Surface:
    """A table of real runs, turned into a function."""
    name = table if table is not None else next(iter(tables), "")
    if name not in tables:
        raise UserError(f"objective: no table {name!r}. Tables: {listed(tables)}.")
    emulator = fitted(tables[name], folder, components)
    return measured(emulator, emulator, np.asarray, noise, components)


def measured(
    searched: Source,
    judged: Source,
    expand: Callable[[np.ndarray], np.ndarray],
    noise: float,
    components: bool,
) -> Surface:
    """The surface of what is `searched`, whose mixtures are judged once expanded."""
    check_domains(searched.space)
    return Surface(
        source=searched,
        noisy=NoisyObjective(searched, noise=noise, components=components),
        best=judged.optimum()[1],
        typical=_typical(judged),
        truth=lambda weights: judged.score(expand(weights)),
        quality=searched.quality(),
    )


@lru_cache(maxsize=64)  # thousands of evaluations, and the same for every noise
def _typical(source: Source) -> float:
    return float(np.median(source.score(reference_draws(source.space))))


# --- tables --------------------------------------------------------------------------------------


def load_table(given: Mapping[str, Any], folder: str = ".") -> Table:
    """The rows of a recipe's `{mixtures, results, key, ...}`; several files are appended."""
    data = {key: value for key, value in given.items() if key not in ("score", "prior")}
    pairs = [as_list(data.pop(key, None)) for key in ("mixtures", "results")]
    if None in pairs[0] + pairs[1] or len(pairs[0]) != len(pairs[1]):
        raise UserError("A table needs as many files under mixtures as under results.")
    if not Path(folder).is_dir():
        raise UserError(
            f"No folder of tables {folder!r}; say where they are with --tables FOLDER. RegMix's "
            "are data/*.csv of github.com/sail-sg/regmix, Olmix's in huggingface.co allenai/olmix."
        )
    check_keys(data, sorted(inspect.signature(read_table).parameters), (), "table")
    mixtures, results = ([Path(folder, file) for file in files] for files in pairs)
    left_out = [name for name in named(data.get("ignore", ())) if name not in LABELS]
    check_there("table.ignore", left_out, [*mixtures, *results])
    return read_tables(mixtures, results, **data)


def fitted(given: Mapping[str, Any], folder: str, components: bool) -> Emulator:
    """The emulator of a table; one fit serves every setting.

    Fits take minutes, so they are kept in the user's cache folder, named by what was fitted.
    """
    read = tuple(of_options(given, folder).items())
    return _fitted(json.dumps(given, sort_keys=True), folder, components, read)


@lru_cache(maxsize=16)
def _fitted(
    given: str, folder: str, components: bool, read: tuple[tuple[str, str], ...]
) -> Emulator:
    data = json.loads(given)
    table = load_table(data, folder)
    score = data.get("score") or list(table.names)
    score = score if isinstance(score, dict) else better_low(as_list(score))
    cache, prior = cache_folder(), data.get("prior")
    return Emulator.fit(table, score, prior=prior, components=components, cache=cache)


def cache_folder() -> Path:
    """Where fitted emulators are kept: $CLIMB_OPT_CACHE, else the user's cache folder."""
    own = os.environ.get("CLIMB_OPT_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(shared) / "climb_opt"


# --- what a proxy and a clustering change --------------------------------------------------------


class Biased:
    """(1 - bias) x the target + bias x an unrelated law: what a small proxy sees of a large one."""

    def __init__(self, target: Source, other: Source, bias: float) -> None:
        if not 0.0 <= bias < 1.0:
            raise UserError(f"objective: bias must lie in [0, 1), but is {bias}.")
        self.space, self.names = target.space, target.names
        self.coefficients = target.coefficients
        self._target, self._other, self._bias = target, other, bias

    def components(self, weights: np.ndarray) -> np.ndarray:
        """(n, C), the target's and the other's blended."""
        mine, theirs = self._target.components(weights), self._other.components(weights)
        return np.asarray((1.0 - self._bias) * mine + self._bias * theirs)

    def score(self, weights: np.ndarray) -> np.ndarray:
        """(n,), of the blended components."""
        return np.asarray(self.components(weights) @ self.coefficients)

    def extrapolates(self, weights: np.ndarray) -> np.ndarray:
        """(n,), as the target."""
        return self._target.extrapolates(weights)

    def quality(self) -> str:
        """The target's line and the rank correlation of both on random mixtures."""
        draws = reference_draws(self.space)
        rho = spearman(self.score(draws), self._target.score(draws))
        return f"{self._target.quality()}; rank correlation with the target {rho:.2f}"

    def optimum(self) -> tuple[np.ndarray, float]:
        """The target's optimum: that is what a search on this is judged by."""
        return self._target.optimum()


class Merged:
    """Fewer, coarser domains: fine domain i joins group i mod `groups`, keeping its share there."""

    def __init__(self, fine: Source, groups: int) -> None:
        k = len(fine.space)
        if not 1 <= groups <= k:
            raise UserError(f"objective: merge must lie in 1..{k} (domains), but is {groups}.")
        self._fine, self.names, self.coefficients = fine, fine.names, fine.coefficients
        self._spread = np.zeros((groups, k))
        self._spread[np.arange(k) % groups, np.arange(k)] = fine.space.prior
        width = len(str(groups - 1))
        self.space = MixtureSpace(
            {f"g{i:0{width}d}": float(s) for i, s in enumerate(self._spread.sum(axis=1))}
        )
        order = [int(name[1:]) for name in self.space.domains]
        self._spread = self._spread[order] / self._spread[order].sum(axis=1, keepdims=True)

    def expand(self, weights: np.ndarray) -> np.ndarray:
        """Weights over the groups (n, groups) as weights over the fine domains (n, K)."""
        return np.asarray(weights @ self._spread)

    def components(self, weights: np.ndarray) -> np.ndarray:
        """(n, C) of the expanded mixtures."""
        return self._fine.components(self.expand(weights))

    def score(self, weights: np.ndarray) -> np.ndarray:
        """(n,) of the expanded mixtures."""
        return self._fine.score(self.expand(weights))

    def extrapolates(self, weights: np.ndarray) -> np.ndarray:
        """(n,) of the expanded mixtures."""
        return self._fine.extrapolates(self.expand(weights))

    def quality(self) -> str:
        """The fine source's line and what was merged."""
        return (
            f"{self._fine.quality()}; {len(self._fine.space)} domains merged to {len(self.space)}"
        )

    def optimum(self) -> tuple[np.ndarray, float]:
        """The fine source's optimum, which coarse domains may not reach."""
        return self._fine.optimum()
