"""What a worker costs the database: statements, commits, asks per second, long histories.

    python tests/bench/bench_storage.py [--domains 21 240] [--workers 1 8 32] [--seconds 10]

Everything is measured against plain Optuna with `RandomSampler` (ask, suggest every weight, tell)
on the same PostgreSQL server in the same run, in blocks that take turns.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna

sys.path.insert(0, str(Path(__file__).parents[1]))

from climb_opt import ClimbSampler
from climb_opt.plan import Plan
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import open_storage, patient, study_lock
from climb_opt.workers import Claims, Pace, Work
from fleet import SlotSampler
from servers import Postgres

SPAWN = multiprocessing.get_context("forkserver")
Cycle = Callable[[], None]


def space_of(domains: int) -> MixtureSpace:
    """A made-up space of that many domains."""
    return MixtureSpace({f"domain-{k:03d}": float(domains - k) for k in range(domains)})


def plain_ask(study: optuna.Study, space: MixtureSpace) -> Callable[[], optuna.Trial]:
    """Optuna alone: ask, and suggest each weight."""
    study.sampler = optuna.samplers.RandomSampler()

    def ask() -> optuna.Trial:
        trial = study.ask()
        for name in space.parameter_names:
            trial.suggest_float(name, 0.0, 1.0)
        return trial

    return ask


def our_ask(
    study: optuna.Study, space: MixtureSpace, *, planning: bool = True, slots: int = 600
) -> Callable[[], optuna.Trial]:
    """A worker's claim, and the mixture it finds or suggests."""
    plan = Plan((slots,))
    study.sampler = (
        ClimbSampler(space, rounds=plan.rounds, design="dirichlet", seed=0)
        if planning
        else SlotSampler(space, plan, 0)
    )
    claims = Claims(patient(study), study_lock(study), Work(plan, pace=Pace(grace=1000.0)))

    def ask() -> optuna.Trial:
        trial = claims.claim()
        assert isinstance(trial, optuna.Trial)
        space.suggest(trial)
        return trial

    return ask


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Statements and commits of every engine of this process."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    counts: Counter[str] = Counter()

    def statement(*_: Any) -> None:
        counts["statements"] += 1

    def commit(*_: Any) -> None:
        counts["commits"] += 1

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", commit)
    try:
        yield counts
    finally:
        event.remove(Engine, "before_cursor_execute", statement)
        event.remove(Engine, "commit", commit)


def count(server: Postgres, domains: int) -> None:
    """Statements and commits of one ask and one tell, after the first few."""
    space = space_of(domains)
    asks: dict[str, Callable[..., Callable[[], optuna.Trial]]] = {
        "Optuna RandomSampler": plain_ask,
        "claim, sampler plans ahead": our_ask,
        "claim, sampler asked late": lambda s, sp: our_ask(s, sp, planning=False),
    }
    for what, kind in asks.items():
        url = server.fresh()
        study = optuna.create_study(storage=url if kind is plain_ask else open_storage(url))
        ask = kind(study, space)
        cpu = []
        for _ in range(5):
            with counted() as asked:
                begun = time.process_time()
                trial = ask()
                cpu.append(1000 * (time.process_time() - begun))
            with counted() as told:
                study.tell(trial, 0.0)
        print(
            f"K = {domains:3d}  {what:28s} ask {asked['statements']:4d} statements "
            f"{asked['commits']:4d} commits {statistics.median(cpu[1:]):6.0f} CPU ms; "
            f"tell {told['statements']:3d} / {told['commits']}"
        )


def cycle(
    url: str, name: str, ours: bool, domains: int, gate: Any, seconds: float, out: Any
) -> None:
    """One process of a block: ask and tell until the time is up."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = space_of(domains)
    study = optuna.load_study(study_name=name, storage=open_storage(url) if ours else url)
    ask = (our_ask if ours else plain_ask)(study, space)
    study.tell(ask(), 0.0)  # load, connect
    gate.wait()
    asked, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        study.tell(ask(), 0.0)
        asked += 1
    out.put(asked)


def rate(server: Postgres, ours: bool, workers: int, domains: int, seconds: float) -> float:
    """Asks per second of that many processes on a new study."""
    url = server.fresh()
    study = optuna.create_study(storage=url)
    gate, out = SPAWN.Barrier(workers), SPAWN.Queue()
    job = (url, study.study_name, ours, domains, gate, seconds, out)
    processes = [SPAWN.Process(target=cycle, args=job) for _ in range(workers)]
    for process in processes:
        process.start()
    total = sum(out.get() for _ in processes)
    for process in processes:
        process.join()
    return float(total / seconds)


def long_history(server: Postgres, trials: int, domains: int) -> None:
    """A study of many finished trials: the first ask of a process, and later ones."""
    space = space_of(domains)
    url = server.fresh()
    for ours in (False, True):
        study = optuna.create_study(storage=url)
        fill(server, url.partition("@/")[2].partition("?")[0], study._study_id, trials, space)
        name = study.study_name
        begun = time.process_time()
        study = optuna.load_study(study_name=name, storage=open_storage(url) if ours else url)
        ask = our_ask(study, space, slots=2 * trials) if ours else plain_ask(study, space)
        study.tell(ask(), 0.0)
        first = time.process_time() - begun
        later = []
        for _ in range(5):
            begun = time.process_time()
            trial = ask()
            later.append(1000 * (time.process_time() - begun))
            study.tell(trial, 0.0)
        begun = time.process_time()
        study.get_trials(deepcopy=True)
        print(
            f"{trials} trials, K = {domains}: {'claim' if ours else 'Optuna RandomSampler':20s} "
            f"open and first ask {first:.1f} CPU s, later {statistics.median(later):.0f} CPU ms "
            f"(one copy of the history: {time.process_time() - begun:.1f} CPU s)"
        )


def fill(server: Postgres, database: str, study: int, trials: int, space: MixtureSpace) -> None:
    """Finished trials by SQL, without Optuna: the writing is not what is measured."""
    kind = '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, '
    kind += '"log": false}}'
    names = ", ".join(
        f"('{n}', {w})" for n, w in zip(space.parameter_names, space.prior, strict=True)
    )
    mine = f"trials WHERE study_id = {study}"
    for statement in (
        f"INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) "
        f"SELECT i, {study}, 'COMPLETE', now(), now() FROM generate_series(0, {trials - 1}) i",
        f"INSERT INTO trial_values (trial_id, objective, value, value_type) "
        f"SELECT trial_id, 0, random(), 'FINITE' FROM {mine}",
        f"INSERT INTO trial_user_attributes (trial_id, key, value_json) "
        f"SELECT trial_id, 'climb/slot', number::text FROM {mine}",
        f"INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
        f"SELECT t.trial_id, p.name, p.weight, '{kind}' FROM "
        f"(SELECT trial_id FROM {mine}) t, (VALUES {names}) p(name, weight)",
    ):
        server.sql(statement, database)


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, nargs="+", default=[21, 240])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--trials", type=int, default=10_000)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder))
        server.sql("ALTER SYSTEM SET max_connections = 300")
        server.stop()
        server.start()
        for domains in args.domains:
            count(server, domains)
        for workers in args.workers:
            pairs = [
                [
                    rate(server, ours, workers, args.domains[0], args.seconds)
                    for ours in (False, True)
                ]
                for _ in range(args.blocks)
            ]
            ratios = sorted(ours / plain for plain, ours in pairs)
            print(
                f"{workers:3d} workers, K = {args.domains[0]}: Optuna {pairs[0][0]:6.1f} asks/s, "
                f"claims {pairs[0][1]:6.1f} asks/s; ratio of {args.blocks} paired blocks: median "
                f"{statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}"
            )
        if args.trials:
            long_history(server, args.trials, args.domains[0])
        server.close()


if __name__ == "__main__":
    main()
