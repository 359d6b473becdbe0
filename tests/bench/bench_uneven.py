"""Noise that differs between mixtures: what is it worth to know, for what is promised?

    python tests/bench/bench_uneven.py --output uneven.jsonl [--sources law8-0 ...] [--seeds 2]

Searches of simulated laws by SimplexGPSampler (or --sampler climb, tpe, random) whose noise
variance at the corner of the smallest domain is --ratio times that at the prior (1: noise does not
differ; log variance linear in the share of tokens that differ). What each recommends and promises
is asked without more (corner 0), with what six runs at the prior and two or six at the corner let
expect, as `climb-opt noise` tells, and with the truth (-1). Figures are in units of regret; it
resumes from --output.
"""

from __future__ import annotations

from harness import Row, append, load, parser_of  # first: one thread

# isort: split

import zlib
from itertools import product

import numpy as np
import optuna

import bench_search
from bench_coverage import SAMPLERS
from climb_opt.ablation.run import promises
from climb_opt.ablation.table.coverage import cells, lines_of
from climb_opt.attributes import REPEATED
from climb_opt.emulator import Source
from climb_opt.emulator.objective import spread
from climb_opt.gp.uneven import Uneven, growth_of
from climb_opt.retrain.noise import Repeated
from climb_opt.selection import best_mixture
from climb_opt.text import pipe_table

KEY = ("sampler", "source", "noise", "ratio", "corner", "seed", "n")
PRIOR_RUNS = 6
CORNERS = (0, 2, 6, -1)  # runs at the corner; none: nothing is known; -1: the truth is


class UnevenObjective:
    """The score of a source with noise of `sigma` at the prior, of other mixtures as `uneven`."""

    def __init__(self, source: Source, sigma: float, uneven: Uneven, seed: int) -> None:
        self.source, self.sigma, self.uneven, self.seed = source, sigma, uneven, seed

    def __call__(self, trial: optuna.Trial) -> float:
        weights = self.source.space.weights(self.source.space.suggest(trial))[None]
        rng = np.random.default_rng([self.seed, trial.number])
        std = self.sigma * float(np.sqrt(self.uneven.factors(np.sqrt(weights))[0]))
        return float(self.source.score(weights)[0] + std * rng.standard_normal())


def searched(sampler: str, name: str, noise: float, ratio: float, seed: int, n: int) -> list[Row]:
    """One search, and what is promised of its recommendation by each that is known."""
    source = bench_search.source(name, None, None)
    space = source.space
    prior = space.project(space.prior)
    corner = space.project(np.eye(len(space))[int(np.argmin(space.prior))])
    apart = float(np.abs(corner - prior).sum()) / 2
    uneven = Uneven(prior, float(np.log(ratio)) / apart)
    own_seed = zlib.crc32(f"{name} {noise} {seed}".encode())
    sigma = noise * spread(source)
    study = optuna.create_study(sampler=SAMPLERS[sampler](space, seed))
    study.optimize(UnevenObjective(source, sigma, uneven, own_seed), n_trials=n)
    best, typical = bench_search.yardstick(source)
    rows = []
    for runs in CORNERS:
        growth = uneven.growth if runs < 0 else 0.0
        if runs > 0:
            rng = np.random.default_rng([own_seed, runs])
            near, far = (float(rng.standard_normal(m).std(ddof=1)) for m in (PRIOR_RUNS, runs))
            seen = {"prior": (near, PRIOR_RUNS), "corner": (ratio**0.5 * far, runs)}
            growth = growth_of(seen, "prior", "corner", apart)
        study.set_user_attr(REPEATED, Repeated(growth)._asdict())
        pick = best_mixture(study, space=space)
        own, other = source.score(np.stack([space.weights(pick), prior])).tolist()
        row = dict(zip(KEY, (sampler, name, noise, ratio, runs, seed, n), strict=True))
        row |= {"growth": growth, "regret": (own - best) / (typical - best)}
        for what, stated, true in (
            ("score", pick.predicted, own),
            ("gain", pick.gain, other - own),
        ):
            assert stated is not None
            held = promises.held(stated, true, typical - best)
            row |= {f"{what} {figure}": value for figure, value in held.items()}
        rows.append(row)
    return rows


def main() -> None:
    parser = parser_of(__doc__, "output", "first-seed")
    parser.add_argument("--sampler", choices=list(SAMPLERS), default="gp")
    parser.add_argument("--sources", nargs="+", default=["law8-0", "law8-1", "law21-0", "law21-1"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.1, 0.3], help="at the prior")
    parser.add_argument("--ratio", nargs="+", type=float, default=[1.0, 25.0], help="of variances")
    parser.add_argument("--trials", type=int, default=56)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    options = parser.parse_args()
    done, rows = load(options.output, KEY), []
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for seed, name, noise, ratio in product(seeds, options.sources, options.noise, options.ratio):
        of = (options.sampler, name, noise, ratio)
        keys = [(*of, runs, seed, options.trials) for runs in CORNERS]
        if any(key not in done for key in keys):
            found = searched(*of, seed, options.trials)
            for key, row in zip(keys, found, strict=True):
                done[key] = row
                append(options.output, row)
        rows += [done[key] for key in keys]
    for by in (("ratio", "corner"), ("ratio", "noise", "corner")):
        head, *lines = lines_of(rows, by)
        for line, own in zip(lines, cells(rows, *by).values(), strict=True):
            line.append(f"{np.mean([row['regret'] for row in own]):.3f}")
        print("\n".join(pipe_table([*head, "mean"], lines)), end="\n\n")


if __name__ == "__main__":
    main()
