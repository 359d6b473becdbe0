# Written by hub/build.py from climb_opt: change it there.
"""What a study has learnt so far, as arrays.

Samplers, predictors and selection see a study only through `History`, so that what counts as usable
is decided once: a COMPLETE trial with a mixture of this space and finite values. Failed, pruned and
foreign trials are left out; enqueued and imported ones count.

A trial may store *components* (task scores or losses) beside its value, in the user attribute
`climb/components`; the study's `climb/aggregate` says how they add up to the value.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from .attributes import AGGREGATE, BEAT, COMPONENTS, FACTS, IMPORTED, METHOD, PATH, RUNG
from .errors import TrialFailed, UserError
from .metrics import higher_is_better

# A score beyond is a run that diverged, whatever its size: it counts as this much, so that squares
# and LightGBM's 32 bits hold it (3e38).
MOST = 1e30
APART = 1e-6  # of the components' sizes, by which their sum may miss the score

log = logging.getLogger(__name__)


class Moved(NamedTuple):
    """A finished baseline of which a method set the weights: its score, oriented as `values` are,
    is of no mixture, but of the path that its trial stores."""

    name: str
    trial: FrozenTrial
    value: float

    @property
    def path(self) -> dict[str, Any]:
        """The path, as `climb_opt.paths` reads it."""
        return dict(self.trial.user_attrs[PATH])


@dataclass(frozen=True)
class History:
    """Finished trials as arrays, one row a trial, oldest first.

    `values` (n,) or (n, objectives) are oriented so that lower is better. `components` (n, C) are
    as stored, with `coefficients` (C,) such that values = components @ coefficients; both are None
    when the study states no aggregate or a trial lacks a component. No number is beyond `MOST`.
    `rungs` (n,) are their rungs, from 0, the cheapest, to `target`; None: all are of the target.
    `shares` (P,) are those of the phases, where mixtures are schedules of several. `methods` are
    baselines that are no rows: scores of no mixture, from which nothing is learnt. `growth` is of
    the noise's log variance, from the prior to where all tokens differ, as runs beside the study
    found (`gp.uneven`), and `other_seeds` how far scores of others lie from those of the seed that
    all trials share, at the prior; 0 where they share none, or it was not measured.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 3, "code": 1})
    >>> sampler = climb_opt.ClimbSampler(space, rounds=(4,), seed=0)
    >>> study = optuna.create_study(direction="maximize", sampler=sampler)
    >>> study.optimize(lambda trial: space.suggest(trial)["code"], n_trials=4)
    >>> history = climb_opt.read_history(study, space)
    >>> bool((history.values == -history.weights[:, 1]).all())  # lower is better
    True
    """

    weights: np.ndarray
    values: np.ndarray
    trials: tuple[FrozenTrial, ...]
    components: np.ndarray | None = None
    coefficients: np.ndarray | None = None
    names: tuple[str, ...] = field(default=())
    rungs: np.ndarray | None = None
    target: int = 0
    shares: tuple[float, ...] = ()
    methods: tuple[Moved, ...] = ()
    growth: float = 0.0
    other_seeds: float = 0.0

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def mixtures(self) -> np.ndarray:
        """What each trial reads over its whole run, (n, K): of schedules the mean mixture."""
        count = max(len(self.shares), 1)
        return self.weights.reshape(len(self), count, self.weights.shape[1] // count).sum(axis=1)

    def rows(self, which: np.ndarray) -> History:
        """The trials that `which`, indices or a mask (n,), picks."""
        picked = np.arange(len(self))[which]
        return replace(
            self,
            weights=self.weights[picked],
            values=self.values[picked],
            trials=tuple(self.trials[i] for i in picked),
            components=None if self.components is None else self.components[picked],
            rungs=None if self.rungs is None else self.rungs[picked],
        )


def distinct(history: History) -> History:
    """`history` without runs that are an earlier one again: of its mixture, on its rung and with
    its seed, so with its very scores.

    Such a copy says nothing of the noise, and a model that counts it takes the scores for exact.
    `study/seeds.py` makes none; studies of earlier releases hold them, and tell others of them
    (`--from`). Trials that state no seed are no copies, but for those of an older study.
    """
    rungs = np.zeros(len(history), dtype=int) if history.rungs is None else history.rungs
    weights = np.round(history.weights, 6) + 0.0  # decoded from parameters: equal up to rounding
    seen: dict[tuple[Any, ...], set[int | None]] = {}
    rows = []
    for row, trial in enumerate(history.trials):
        seed = facts_of(trial).get("seed")
        if seed is not None or "trial" in trial.user_attrs.get(IMPORTED, {}):
            key = (rungs[row], history.values[row].tobytes(), weights[row].tobytes())
            seeds = seen.setdefault(key, set())
            if seeds and (seed is None or {seed, None} & seeds):
                continue
            seeds.add(seed)
        rows.append(row)
    return history if len(rows) == len(history) else history.rows(np.array(rows))


def report_components(trial: optuna.Trial, components: Mapping[str, float]) -> None:
    """Store the scores that make up a trial's value, so that predictors can model each of them.

    Args:
        components: name -> value, as {"arc_easy/bpb": 1.25}; NaN in the score is `TrialFailed`.

    >>> import climb_opt, optuna
    >>> study = optuna.create_study()
    >>> climb_opt.set_aggregate(study, {"arc/bpb": 0.5, "piqa/bpb": 0.5})
    >>> trial = study.ask()
    >>> report_components(trial, {"arc/bpb": 1.25, "piqa/bpb": 1.0})
    >>> trial.user_attrs["climb/components"]
    {'arc/bpb': 1.25, 'piqa/bpb': 1.0}
    """
    found = {name: float(value) for name, value in components.items()}
    used = trial.study.user_attrs.get(AGGREGATE, {})
    if wrong := [name for name, value in found.items() if np.isnan(value) and name in used]:
        raise TrialFailed(f"component {wrong[0]!r} is nan, not a number")
    trial.set_user_attr(COMPONENTS, found)


def set_aggregate(study: optuna.Study, coefficients: Mapping[str, float]) -> None:
    """State how a trial's components add up to its value: sum of coefficient x component.

    Args:
        coefficients: component -> coefficient.

    >>> import optuna
    >>> study = optuna.create_study()
    >>> set_aggregate(study, {"arc/bpb": 0.5, "piqa/bpb": 0.5})
    >>> study.user_attrs["climb/aggregate"]
    {'arc/bpb': 0.5, 'piqa/bpb': 0.5}
    """
    if not coefficients or not all(np.isfinite(float(c)) for c in coefficients.values()):
        raise UserError(f"The aggregate needs finite coefficients, but got {dict(coefficients)}.")
    study.set_user_attr(AGGREGATE, {name: float(c) for name, c in coefficients.items()})


def components_of(trial: FrozenTrial) -> dict[str, float]:
    """The scores stored with a trial."""
    return dict(trial.user_attrs.get(COMPONENTS, {}))


def facts_of(trial: FrozenTrial | optuna.Trial) -> dict[str, Any]:
    """What is stored of how a trial came about."""
    return dict(trial.user_attrs.get(FACTS, {}))


def fact(trial: FrozenTrial, name: str) -> float:
    """A number among what is stored of how a trial came about; 0 where there is none."""
    value = facts_of(trial).get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0


def report_facts(trial: optuna.Trial, **facts: object) -> None:
    """Add to what is stored of how a trial came about; what was said first stays. The `path` of a
    method's weights is long, and stored by itself."""
    if (path := facts.pop("path", None)) is not None:
        trial.set_user_attr(PATH, path)
    trial.set_user_attr(FACTS, {**facts, **facts_of(trial)})


def is_moved(trial: FrozenTrial) -> bool:
    """Whether a trial is a finished baseline of which a method set the weights: it ends as pruned,
    without weights, so that nobody takes its score for a mixture's."""
    ended = trial.state == TrialState.PRUNED and bool(trial.values)
    return ended and METHOD in trial.user_attrs and PATH in trial.user_attrs


def moved(trials: Iterable[FrozenTrial], sign: float) -> tuple[Moved, ...]:
    """The finished baselines of methods; `sign` is -1 where higher is better."""
    found = [t for t in trials if is_moved(t)]
    return tuple(Moved(t.user_attrs[METHOD], t, sign * t.values[0]) for t in found)


def seconds_of(trial: FrozenTrial) -> float:
    """How long a trial took: what its worker measured; else between its two times of day.

    The latter lie in each other's order only while nobody sets the clock. A worker that died
    measured nothing, and others find out hours later: it counts until its last sign of life.
    """
    stated = facts_of(trial).get("seconds")
    if isinstance(stated, (int, float)):
        return float(stated)
    if trial.datetime_start is None or trial.datetime_complete is None:
        return 0.0
    begun, ended = trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()
    beat = trial.user_attrs.get(BEAT)
    if trial.state == TrialState.FAIL and isinstance(beat, Mapping) and "at" in beat:
        ended = min(ended, float(beat["at"]))
    return max(0.0, ended - begun)


def excesses(
    components: Mapping[str, float], rails: Mapping[str, float], *, maximize: bool
) -> dict[str, float]:
    """How far each guard-rail's component is beyond its worst value: kept where <= 0.

    Args:
        rails: component -> its worst value; a component that was not measured is left out.
        maximize: whether the study's score is better when higher.
    """
    over = {n: components[n] - worst for n, worst in rails.items() if n in components}
    return {n: -x if higher_is_better(n, default=maximize) else x for n, x in over.items()}


def kept(
    trials: Sequence[FrozenTrial],
    rails: Mapping[str, float] | None = None,
    *,
    maximize: bool = False,
) -> np.ndarray:
    """Which trials (n,) kept every guard-rail; one that was not measured on a rail did not.

    Args:
        rails: component -> its worst value, for trials that store no constraints of their own.
        maximize: whether the study's score is better when higher.
    """
    rails = rails or {}
    found = [t.constraints or excesses(components_of(t), rails, maximize=maximize) for t in trials]
    names = {*rails, *(name for one in found for name in one)} - {RUNG}  # no guard-rail
    return np.array([all(one.get(n, np.inf) <= 0 for n in names) for one in found], dtype=bool)


def components_as_arrays(
    rows: Sequence[FrozenTrial], aggregate: Mapping[str, float], sign: float
) -> tuple[np.ndarray | None, np.ndarray | None, tuple[str, ...]]:
    """Components (n, C), coefficients (C,) and names; None, None, () where a trial lacks one, or
    where they add up to another score than the trial's, which is said."""
    names = tuple(sorted(aggregate))
    table = [[components_of(t).get(n, np.nan) for n in names] for t in rows]
    components = np.array(table, dtype=float)
    if not components.size or not np.all(np.isfinite(components)):
        return None, None, ()
    coefficients = np.array([aggregate[n] for n in names])
    sums, values = components @ coefficients, np.array([t.values[0] for t in rows])
    apart = np.abs(sums - values) > APART * (np.abs(components) @ np.abs(coefficients))
    if np.any(apart & (np.abs(values) < MOST)):
        first = int(np.argmax(apart & (np.abs(values) < MOST)))
        _say_apart(rows[first].number, float(sums[first]), float(values[first]))
        return None, None, ()
    return np.clip(components, -MOST, MOST), sign * coefficients, names


def say_whole(trials: Sequence[FrozenTrial]) -> None:
    """Say, once, that components were to be modelled, and that those of these trials cannot be."""
    stored = [components_of(trial).keys() for trial in trials]
    _say_stored(", ".join(sorted(set.intersection(*map(set, stored)) if stored else ())))


@functools.cache  # a sampler models the history at every ask
def _say_stored(names: str) -> None:
    log.warning(
        "Components are left aside, and the score is modelled as a whole: climb_opt.set_aggregate "
        "has to name components that all trials store, and all store %s.",
        names or "none",
    )


@functools.cache  # a sampler reads the history at every ask
def _say_apart(number: int, total: float, value: float) -> None:
    log.warning(
        "Components are left aside: those of trial %d add up to %.6g by %s, but its score is %.6g. "
        "climb_opt.set_aggregate says how they do.",
        number,
        total,
        AGGREGATE,
        value,
    )
