"""The long form of the crash tests: `make soak`, or one of them by `python tests/soak.py --help`.

Each run: 8 processes, plan 64/32/16 with a baseline, one objective in ten raises, three workers are
killed with SIGKILL (one between the creation of its trial and the first beat), a new worker takes
the place of each; on PostgreSQL the server crashes once and comes back. Afterwards every slot must
hold exactly one finished trial, no round may have begun early, no retry may have another mixture or
rung. Every second run has a rung for each round.
As a script, the exit status is 1 if a run is not sound.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from tqdm import tqdm

import fleet
from climb_opt.ladder import Ladder
from climb_opt.plan import Plan
from climb_opt.storages import patient
from climb_opt.view import all_trials
from fleet import BASELINES, Job
from servers import Postgres, closed_engines  # noqa: F401

PLAN = Plan((64, 32, 16), named=tuple(BASELINES), max_attempts=8)
LADDER = replace(PLAN, rungs=(0, 1, 2), ladder=Ladder.of([1, 4, 16]))  # of every second run
WORKERS = 8
LIMIT = 900.0  # seconds for one run


def soak(storage: str, seed: int, server: Postgres | None) -> fleet.Audit:
    """One run; prints what died when."""
    chance = random.Random(seed)
    name, plan = f"soak-{seed}", LADDER if seed % 2 else PLAN
    study = fleet.create(storage, name)
    deaths = ["first beat", *chance.sample([m for m in fleet.MOMENTS if m != "first beat"], 2)]
    jobs = [
        Job(
            storage,
            name,
            plan,
            seed=seed,
            failing=0.1,
            sampler="planning" if index % 2 else "asking",
            dies=deaths[index] if index < len(deaths) else None,
            after=chance.randint(1, 6),
        )
        for index in range(WORKERS)
    ]
    processes = fleet.start(jobs)
    crash_at = chance.randint(15, 80) if server is not None else None
    replaced: set[int] = set()
    until = time.monotonic() + LIMIT
    bar = tqdm(total=113, desc=f"{name}, {', '.join(deaths)} die", unit="slot")
    try:
        while any(p.is_alive() for p in processes) and time.monotonic() < until:
            time.sleep(0.5)
            done = sum(t.state.name == "COMPLETE" for t in all_trials(patient(study)))
            bar.update(done - bar.n)
            if server is not None and crash_at is not None and done >= crash_at:
                crash_at = None
                server.crash()
                time.sleep(chance.uniform(0.5, 3.0))
                server.start()
            for index, process in enumerate(list(processes)):
                if process.exitcode == -9 and index not in replaced:
                    replaced.add(index)
                    processes += fleet.start([Job(storage, name, plan, seed=seed, failing=0.1)])
    finally:
        bar.close()
        codes = fleet.finish(processes, 0)
    audit = fleet.audit(study, plan)
    print(f"{name}: {len(replaced)} killed, exit codes {sorted(set(map(str, codes)))}, {audit}")
    if crash_at is not None:
        print(f"{name}: the server was to crash after {crash_at} slots, and did not")
    return audit


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 120)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["journal", "postgres"])
def test_a_long_search_loses_nothing(kind: str, seed: int, tmp_path: Path) -> None:
    if kind == "journal":
        audit = soak(str(tmp_path / "x.journal"), seed, None)
    else:
        server = Postgres(tmp_path)
        try:
            audit = soak(server.fresh(), seed, server)
        finally:
            server.close()
    assert audit.sound, audit


def main() -> int:
    """Run all, print a verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", nargs="+", default=["journal", "postgres"])
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    unsound = 0
    for kind in args.storage:
        audits = []
        with tempfile.TemporaryDirectory() as folder:
            server = Postgres(Path(folder) / "server") if kind == "postgres" else None
            for seed in range(args.seed, args.seed + args.runs):
                where = server.fresh() if server else str(Path(folder) / f"{seed}.journal")
                begun = time.monotonic()
                audits.append(soak(where, seed, server))
                print(f"{kind}, seed {seed}: {time.monotonic() - begun:.0f} s", flush=True)
            if server is not None:
                server.close()
        sound = sum(audit.sound for audit in audits)
        unsound += len(audits) - sound
        complete = sum(audit.complete for audit in audits)
        print(
            f"{kind}: {sound} of {len(audits)} runs sound; {complete} of "
            f"{len(audits) * audits[0].slots} slots complete, "
            f"{sum(a.doubles for a in audits)} doubles, "
            f"{sum(a.overshoot for a in audits)} overshoot, "
            f"{sum(a.barrier_violations for a in audits)} barrier violations, "
            f"{sum(a.two_mixtures for a in audits)} slots with two mixtures, "
            f"{sum(a.failed for a in audits)} failed attempts"
        )
    return 1 if unsound else 0


if __name__ == "__main__":
    sys.exit(main())
