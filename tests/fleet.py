"""Real workers in real processes on a real storage, some of them killed: for test_rounds and soak.

The objective is a formula that takes a moment, so that what is tested is who does what when.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from climb_opt import workers as rounds
from climb_opt.attributes import RUNG, SLOT
from climb_opt.plan import Plan, Slot, attempts_by_slot
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import locks, open_storage, study_lock
from climb_opt.view import all_trials, read_history

SPACE = MixtureSpace({f"domain-{k}": 9.0 - k for k in range(8)})
BASELINES = {"baseline/prior": SPACE.mixture(SPACE.prior)}
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload([__name__])

PACE = rounds.Pace(beat=0.3, grace=2.0, poll=0.2)
# Where a worker kills itself with SIGKILL.
MOMENTS = ("create", "first beat", "objective", "tell", "fail")


class SlotSampler(BaseSampler):
    """A mixture that depends on the seed, the slot and the finished trials of earlier rounds."""

    def __init__(self, space: MixtureSpace, plan: Plan, seed: int) -> None:
        self.space, self.plan, self.seed = space, plan, seed

    def mixture(self, study: optuna.Study, slot: Slot) -> np.ndarray:
        assert isinstance(slot, int)
        here = self.plan.round_of(slot)
        history = read_history(
            study,
            self.space,
            lambda t: isinstance(s := t.user_attrs.get(SLOT), int) and self.plan.round_of(s) < here,
        )
        draw = self.space.sample(np.random.default_rng([self.seed, slot]), 1)[0]
        if not len(history):
            return draw
        order = sorted(range(len(history)), key=lambda i: history.trials[i].user_attrs[SLOT])
        best = min(order, key=lambda i: (history.values[i], order.index(i)))
        return self.space.project(0.5 * history.weights[best] + 0.5 * draw)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.space.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.space.params(self.mixture(study, trial.user_attrs[SLOT]))

    def sample_independent(self, study: Any, trial: Any, name: str, kind: Any) -> Any:
        raise AssertionError(f"{name} was not proposed with the others")


class PlanningSampler(SlotSampler):
    """The same, and it can say a slot's mixture before the trial exists."""

    def plan_ahead(
        self, study: optuna.Study, slot: Slot
    ) -> tuple[dict[str, float], dict[str, Any]]:
        return self.space.params(self.mixture(study, slot)), {}


def climb(plan: Plan, seed: int) -> BaseSampler:
    """The real one, on a small pool."""
    from climb_opt import ClimbSampler

    return ClimbSampler(SPACE, rounds=plan.rounds, seed=seed, predictor="loglinear", pool_size=500)


def tpe(plan: Plan, seed: int) -> BaseSampler:
    """A stock sampler, asked weight by weight."""
    from climb_opt import SimplexSampler

    return SimplexSampler(SPACE, optuna.samplers.TPESampler(seed=None))


class ChoosingSampler(PlanningSampler):
    """Takes the rungs in turn, the cheapest where no other is paid for."""

    def plan_ahead(
        self, study: optuna.Study, slot: Slot
    ) -> tuple[dict[str, float], dict[str, Any]]:
        assert self.plan.ladder is not None and isinstance(slot, int)
        left = self.plan.left(all_trials(study))
        rung = slot % len(self.plan.ladder)
        rung = rung if self.plan.ladder.costs[rung] <= left else 0
        return self.space.params(self.mixture(study, slot)), {RUNG: rung}


SAMPLERS: dict[str, Callable[[Plan, int], BaseSampler]] = {
    "planning": lambda plan, seed: PlanningSampler(SPACE, plan, seed),
    "choosing": lambda plan, seed: ChoosingSampler(SPACE, plan, seed),
    "asking": lambda plan, seed: SlotSampler(SPACE, plan, seed),
    "climb": climb,
    "tpe": tpe,
}


@dataclass(frozen=True)
class Job:
    """What one process does: on which study, how, and when it dies."""

    storage: str
    name: str
    plan: Plan
    seed: int = 0
    sampler: str = "planning"  # of SAMPLERS
    failing: float = 0.0  # share of objectives that raise
    seconds: float = 0.05  # an objective's mean duration
    pace: rounds.Pace = PACE
    dies: str | None = None  # one of MOMENTS
    after: int = 0  # trials before it dies
    hung: float = 120.0  # seconds after which a holder of the lock is taken for dead
    remote: bool = True  # as on a machine of its own: no other can look whether it lives


def score(trial: optuna.Trial) -> float:
    """Distance of the trial's mixture from a corner of the simplex."""
    weights = SPACE.weights(SPACE.suggest(trial))
    return float(np.sum((weights - np.eye(len(SPACE))[2]) ** 2))


def run(job: Job) -> None:
    """One worker, until the plan is done or it kills itself."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    locks.HUNG = job.hung  # type: ignore[assignment]
    study = optuna.load_study(study_name=job.name, storage=open_storage(job.storage))
    study.sampler = SAMPLERS[job.sampler](job.plan, job.seed)
    chance = random.Random(f"{job.seed}/{os.getpid()}")
    begun = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal begun
        begun += 1
        value = score(trial)
        time.sleep(chance.expovariate(1 / job.seconds))
        if job.dies == "objective" and begun > job.after:
            die()
        if chance.random() < job.failing:
            raise RuntimeError("as one in ten does")
        return value

    _arm(job, lambda: begun >= job.after)
    mixtures = {s: m for s, m in BASELINES.items() if s in job.plan.named}
    wanted = rounds.Work(job.plan, mixtures, space=SPACE, pace=job.pace)
    rounds.work(study, objective, study_lock(study), wanted)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(job: Job, due: Callable[[], bool]) -> None:
    """Let the process die at the moment it should, by way of the very code that is tested."""
    from climb_opt.workers import beats, claims, worker

    if job.remote:
        beats.machine = lambda: f"machine of {os.getpid()}/alone"  # type: ignore[assignment]
    places: dict[str, tuple[Any, str]] = {
        "create": (claims.Claims, "_start"),
        "first beat": (beats.Heart, "__enter__"),
        "tell": (worker, "_tell"),
        "fail": (worker, "fail"),
    }
    if job.dies not in places:
        return
    owner, name = places[job.dies]
    real = getattr(owner, name)

    def armed(*args: Any, **kwargs: Any) -> Any:
        if due():
            if job.dies == "create":
                real(*args, **kwargs)  # the trial exists, its claim never ends
            die()
        return real(*args, **kwargs)

    setattr(owner, name, armed)


def create(storage: str, name: str) -> optuna.Study:
    """A fresh study."""
    return optuna.create_study(storage=open_storage(storage), study_name=name)


def start(jobs: Sequence[Job]) -> list[Any]:
    """One process a job."""
    processes = [SPAWN.Process(target=run, args=(job,)) for job in jobs]
    for process in processes:
        process.start()
    return processes


def finish(processes: Sequence[Any], seconds: float) -> list[int | None]:
    """Wait for all; kill what is left after `seconds`. Returns exit codes."""
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


@dataclass(frozen=True)
class Audit:
    """What a search must have none of, and how much of everything there was."""

    slots: int
    complete: int
    doubles: int
    overshoot: int
    barrier_violations: int
    two_mixtures: int
    trials: int
    failed: int
    unfinished: int

    @property
    def sound(self) -> bool:
        """Every slot complete exactly once, in order, retried with its own mixture."""
        wrong = self.doubles + self.overshoot + self.barrier_violations + self.two_mixtures
        return self.complete == self.slots and wrong == 0


def audit(study: optuna.Study, plan: Plan) -> Audit:
    """Count from the study's trials alone."""
    trials = all_trials(study)
    attempts = attempts_by_slot(trials)
    slots = [slot for index in range(len(plan.rounds)) for slot in plan.slots(index)]
    done = {
        slot: [t for t in attempts.get(slot, ()) if t.state == TrialState.COMPLETE]
        for slot in slots
    }
    return Audit(
        slots=len(slots),
        complete=sum(bool(d) for d in done.values()),
        doubles=sum(len(d) > 1 for d in done.values()),
        overshoot=sum(slot not in slots for slot in attempts),
        barrier_violations=_violations(plan, attempts) if plan.barrier else 0,
        two_mixtures=sum(_mixtures(tried) > 1 for tried in attempts.values())
        + sum(_misplaced(plan, slot, tried) for slot, tried in attempts.items()),
        trials=len(trials),
        failed=sum(t.state == TrialState.FAIL for t in trials),
        unfinished=sum(not t.state.is_finished() for t in trials),
    )


def _violations(plan: Plan, attempts: dict[Slot, list[FrozenTrial]]) -> int:
    """Trials that began before every slot of the earlier rounds had ended."""
    count, ended = 0, None
    for index in range(len(plan.rounds)):
        tried = [t for slot in plan.slots(index) for t in attempts.get(slot, ())]
        if ended is not None:
            count += sum(t.datetime_start is not None and t.datetime_start < ended for t in tried)
        ends = [t.datetime_complete for t in tried if t.state == TrialState.COMPLETE]
        ended = max((e for e in ends if e is not None), default=None)
    return count


def _misplaced(plan: Plan, slot: Slot, tried: Sequence[FrozenTrial]) -> int:
    """Trials on another rung than the slot's first; of a fixed plan, than the slot's own."""
    if plan.ladder is None:
        return sum(RUNG in t.user_attrs for t in tried)
    own = plan.rung_of(slot)
    own = tried[0].user_attrs[RUNG] if own is None else own
    return sum(t.user_attrs.get(RUNG) != own for t in tried)


def _mixtures(tried: Sequence[FrozenTrial]) -> int:
    whole = [t for t in tried if set(SPACE.parameter_names) <= set(t.params)]
    return len({tuple(t.params[n] for n in SPACE.parameter_names) for t in whole})
