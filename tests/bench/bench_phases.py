"""Searching two phases against one, on simulated laws with a phase effect and without.

    python tests/bench/bench_phases.py --file phases.jsonl
    python tests/bench/bench_phases.py --seeds 4 --trials 56
    python tests/bench/bench_phases.py --first 205 --seeds 1 --again 5
    python tests/bench/bench_phases.py --kinds one --domains 16
    python tests/bench/bench_phases.py --kinds known

Each run is a search by `simplex-gp` of a `PhasedLaw` of its own (seeds 0 to 9; constants were
chosen on laws 100 to 111); `--again` searches a law with further seeds of search and noise. "One"
searches mixtures that hold throughout, and its regret is against the best of those; "two" searches
phases of .8 and .2, against the best schedule; "known" is the same search with an effect, told what
a token of each domain counts for in each phase. All are in units of what a typical random mixture
loses. Noise is given in standard deviations of random mixtures, which a law with a bad tail has
many of: what that is in the other unit is printed, too.
Processes may share a file, and one that was stopped goes on.
"""

from __future__ import annotations

from harness import Row, parser_of, run_all  # first: one thread

# isort: split

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import optuna

from climb_opt import SimplexGPSampler
from climb_opt.emulator import MixingLaw, NoisyObjective, PhasedLaw, Source
from climb_opt.emulator.objective import reference_draws
from climb_opt.gp import beliefs
from climb_opt.gp.phased import PhaseView
from climb_opt.selection import best_mixture

SHARES = (0.8, 0.2)
EFFECT = 1.0  # standard deviation of log worth, last token against first
KEY = ("kind", "effect", "domains", "noise", "trials", "seed", "again")
SEARCHES = {
    ("one", 0.0): "one mixture",
    ("two", EFFECT): "two phases, effect",
    ("two", 0.0): "two phases, no effect",
    ("known", EFFECT): "two phases, effect known",
}


@dataclass(frozen=True)
class KnownView(PhaseView):
    """`PhaseView` whose mean mixture is of what tokens count for, given the roots of that (P K,).

    Deviations are as ever: where tokens count for what was said they are of no account.
    """

    scale: tuple[float, ...] = ()

    def features(self, roots: np.ndarray) -> np.ndarray:
        k = self.plain(roots)
        mean = super().features(roots * np.array(self.scale))[:, :k]
        return np.concatenate([mean, super().features(roots)[:, k:]], axis=1)

    def pull(self, root: np.ndarray, slope: np.ndarray) -> np.ndarray:
        scale, mean = np.array(self.scale), np.arange(len(slope)) < self.plain(root[None])
        by_mean = super().pull(root * scale, np.where(mean, slope, 0.0))
        return np.asarray(scale * by_mean + super().pull(root, np.where(mean, 0.0, slope)))


@contextmanager
def told(source: Source, known: bool) -> Iterator[None]:
    """The processes of searches know what tokens of a `PhasedLaw` count for, where `known`."""
    if not known:
        yield
        return
    assert isinstance(source, PhasedLaw)
    view = KnownView(SHARES, tuple(np.sqrt(source.counts).ravel().tolist()))
    with patch.object(beliefs, "view_of", lambda history: view):
        yield


def wanted(args: argparse.Namespace) -> list[Row]:
    """The runs, seed by seed, so that what is done at any time is of whole seeds."""
    kinds = [(kind, effect) for kind, effect in SEARCHES if kind in args.kinds]
    fixed = {"domains": args.domains, "noise": args.noise, "trials": args.trials}
    return [
        {"kind": kind, "effect": effect, **fixed, "seed": seed, "again": again}
        for seed in range(args.first, args.first + args.seeds)
        for again in range(args.again)
        for kind, effect in kinds
    ]


def run(row: Row) -> Row:
    """One search and what the mixture it recommends really loses."""
    began = time.process_time()
    plain = MixingLaw(row["domains"], seed=row["seed"])
    source: Source = plain
    if row["kind"] != "one":
        source = PhasedLaw(SHARES, effect=row["effect"], domains=row["domains"], seed=row["seed"])
    seed = row["seed"] + 1000 * row["again"]
    objective = NoisyObjective(source, seed=seed)
    objective.sigma = NoisyObjective(plain, noise=row["noise"]).sigma  # the same for both
    study = optuna.create_study(sampler=SimplexGPSampler(source.space, seed=seed))
    with told(source, row["kind"] == "known"):
        study.optimize(objective, n_trials=row["trials"])
        found = source.space.weights(dict(best_mixture(study, space=source.space)))
    typical = float(np.median(plain.score(reference_draws(plain.space))))
    unit, best = typical - plain.optimum()[1], source.optimum()[1]
    score = float(source.score(found[None])[0])
    return {
        "regret": (score - best) / unit,
        "gain": (plain.optimum()[1] - score) / unit,  # over the best mixture throughout
        "most": (plain.optimum()[1] - best) / unit,
        "sigma": objective.sigma / unit,
        "cpu": time.process_time() - began,
    }


def report(rows: list[Row]) -> None:
    """Mean and median regrets, and how two phases compare with one."""
    found = {(r["kind"], r["effect"], (r["seed"], r["again"])): r for r in rows}
    sigmas = np.array([r["sigma"] for r in rows])
    print(f"Noise of a trial: {sigmas.min():.3f} to {sigmas.max():.3f}, median", end=" ")
    print(f"{np.median(sigmas):.3f}, of what a typical random mixture loses\n")
    print(
        f"{'search':<24} {'mean':>8} {'median':>8} {'worst':>8} {'gain':>8} {'of':>7} {'CPU s':>6}"
    )
    for (kind, effect), name in SEARCHES.items():
        each = [r for (k, e, _), r in found.items() if (k, e) == (kind, effect)]
        if not each:
            continue
        regret = np.array([r["regret"] for r in each])
        gain, most, cpu = (np.mean([r[w] for r in each]) for w in ("gain", "most", "cpu"))
        print(
            f"{name:<24} {regret.mean():>8.4f} {np.median(regret):>8.4f} {regret.max():>8.4f} "
            f"{gain:>+8.4f} {most:>8.4f} {cpu:>8.1f}"
        )
    whole = [s for k, e, s in found if (k, e) == ("one", 0.0)]
    pairs = [
        (found["one", 0.0, s], found["two", EFFECT, s], found["two", 0.0, s])
        for s in whole
        if ("two", EFFECT, s) in found and ("two", 0.0, s) in found
    ]
    if not pairs:
        return
    one, two, none = (np.array([p[i]["regret"] for p in pairs]) for i in range(3))
    print(f"\n{len(pairs)} pairs. Regret of two phases over that of one:", end=" ")
    print(
        f"{two.mean() / one.mean():.2f} of means, {np.median(two) / np.median(one):.2f} of medians"
    )
    worse = none - one
    print(f"Without an effect two phases lose {worse.mean():+.4f} more on average, ", end="")
    print(f"{worse.max():+.4f} at worst")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first law's seed")
    parser.add_argument("--again", type=int, default=1, help="searches of each law")
    parser.add_argument("--domains", type=int, default=8)
    parser.add_argument("--trials", type=int, default=112)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument(
        "--kinds", nargs="+", default=["one", "two"], choices=["one", "two", "known"]
    )
    parser.add_argument("--file", type=Path, help="a line of JSON a run; resumed where it is there")
    args = parser.parse_args()
    report(run_all(wanted(args), KEY, args.file, run))


if __name__ == "__main__":
    main()
