"""CPU time of one ask, in memory, one thread, as ratios to Optuna's GPSampler and TPE.

    python tests/bench/bench_ask.py [--quick | --forecasts | --ladder]

"first" is the ask that fits or loads, "later" the median of the next ones with a result told in
between; for ClimbSampler "first" begins a round of 32 and "mean" is over that round. The references
are Optuna's own samplers on as many plain coordinates.

With --forecasts: what a stock sampler's ask costs more for the forecast stored with each trial,
over a whole doubling of the trials, in which the study's process is fitted anew once.

With --ladder: CPU seconds of SimplexGPSampler's asks that choose one of three rungs, too, from 200
trials on, most of them on the cheapest.
"""

from __future__ import annotations

from harness import parser_of  # first: one thread

# isort: split

import logging
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import create_trial

from climb_opt import (
    ClimbSampler,
    MixtureSpace,
    SimplexGPSampler,
    SimplexSampler,
    UserError,
    lookup,
)
from climb_opt.attributes import RUNG, SLOT
from climb_opt.emulator import LadderObjective, MixingLaw, SimulatedLadder
from climb_opt.samplers import stock
from climb_opt.samplers.forecasts import Forecaster
from climb_opt.view import RUNG_CONSTRAINT

ROUND = 32
TURNS = (0, 0, 0, 0, 0, 0, 1, 2)  # rungs of the trials that a ladder's asks begin with


def space_of(k: int) -> MixtureSpace:
    prior = np.random.default_rng(k).dirichlet(np.ones(k))
    return MixtureSpace({f"d{i:03d}": float(p) for i, p in enumerate(prior)})


def loss(weights: np.ndarray) -> float:
    """Smooth, with an optimum inside the simplex."""
    pull = np.cos(np.arange(weights.shape[-1]))
    return float(np.exp(-np.sqrt(weights) @ (1.0 + pull)) + 0.1 * np.sum(weights**2))


def study_with(sampler: BaseSampler, k: int, n: int, free: bool) -> optuna.Study:
    """n finished trials: weights of `space_of(k)`, or for `free` points of a plain box."""
    study = optuna.create_study(sampler=sampler)
    space = space_of(k)
    for i, weights in enumerate(space.sample_mixed(np.random.default_rng(0), n)):
        params = {f"x{j}": float(w) for j, w in enumerate(weights)} if free else None
        study.add_trial(
            create_trial(
                params=params or space.params(weights),
                distributions=box(k) if free else space.distributions(),
                value=loss(weights),
                user_attrs={SLOT: i},
            )
        )
    return study


def box(k: int) -> dict[str, BaseDistribution]:
    return {f"x{j}": FloatDistribution(0.0, 1.0) for j in range(k)}


def ask_times(sampler: BaseSampler, k: int, n: int, asks: int, free: bool = False) -> list[float]:
    study = study_with(sampler, k, n, free)
    times = []
    for _ in range(asks):
        start = time.process_time()
        trial = study.ask(box(k) if free else space_of(k).distributions())
        times.append(time.process_time() - start)
        study.tell(trial, loss(np.array(list(trial.params.values()))))
    return times


def samplers(k: int, n: int) -> dict[str, tuple[Callable[[], BaseSampler], bool, int]]:
    """Name -> how to make it, whether it searches a plain box, how many asks to time."""
    space = space_of(k)
    made: dict[str, tuple[Callable[[], BaseSampler], bool, int]] = {
        "optuna TPE": (lambda: TPESampler(seed=0), True, 6),
        "optuna GP": (lambda: GPSampler(seed=0, deterministic_objective=False), True, 3),
        "SimplexSampler(TPE)": (lambda: SimplexSampler(space, TPESampler(seed=0)), False, 6),
    }
    for predictor in ("lightgbm", "extra-trees", "loglinear", "gp"):
        made[f"ClimbSampler({predictor})"] = (
            lambda p=predictor: ClimbSampler(space, rounds=(n, ROUND), predictor=p, seed=0),
            False,
            ROUND,
        )
    try:
        ours = lookup.find("sampler", "simplex-gp")
    except UserError as error:
        print(f"(left out: {error})")
    else:
        made["SimplexGPSampler"] = (lambda: ours(space, seed=0), False, 4)
    return made


def nothing(*_: object) -> dict[str, object]:
    return {}


def forecasts(k: int, n: int, repeats: int = 3) -> None:
    """Asks between n and 2 n results, with forecasts and without, in turn."""
    print(f"K = {k}, {n} to {2 * n} results: CPU ms an ask, median and mean of {repeats} x {n}")
    own = Forecaster.foretell
    for name in ("random", "qmc", "tpe"):
        times: dict[bool, list[float]] = {False: [], True: []}
        for repeat in range(repeats):
            for told, foretell in ((False, nothing), (True, own)):
                sampler = getattr(stock, name)(space_of(k), seed=repeat)
                with mock.patch.object(Forecaster, "foretell", foretell):
                    asked = ask_times(sampler, k, n - 1, n + 1)
                times[told] += asked[1:]  # the first sets things up
        off, on = (1e3 * np.array(each) for each in times.values())
        middle, mean = np.median(on) / np.median(off) - 1, on.mean() / off.mean() - 1
        print(f"{name:8}{np.median(off):8.2f}{np.median(on):8.2f} ({middle:+.0%})", end="")
        print(f"{off.mean():9.2f}{on.mean():8.2f} ({mean:+.0%})", flush=True)


def ladder(k: int, n: int, asks: int = 9) -> None:
    """Asks that choose the rung, too: a search goes on from n trials, every eighth fits anew."""
    source = SimulatedLadder(MixingLaw(k), correlation=0.8, noise=0.1)
    space, target = source.space, source.ladder.target
    study = optuna.create_study(sampler=SimplexGPSampler(space, ladder=source.ladder, seed=0))
    drawn = space.sample_mixed(np.random.default_rng(0), n)
    for i in range(n):
        place = i % len(TURNS)
        rung, weights = TURNS[place], drawn[i - max(0, place - 5)]  # one of eight on every rung
        trial = create_trial(
            params=space.params(weights),
            distributions=space.distributions(),
            value=float(source.score(weights[None], rung, [0, i])[0]),
            user_attrs={RUNG: rung},
            system_attrs={RUNG_CONSTRAINT: float(target - rung)},
        )
        study.add_trial(trial)
    objective, times = LadderObjective(source), []
    for _ in range(asks):
        start = time.process_time()
        asked = study.ask(space.distributions())
        times.append(time.process_time() - start)
        study.tell(asked, objective(asked))
    told = f"median {np.median(times):.2f}, longest {max(times):.2f}"
    print(f"K = {k}, {target + 1} rungs, {n} trials: CPU s of {asks} asks: {told}")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="K = 21, n = 112 only")
    parser.add_argument("--forecasts", action="store_true", help="what forecasts add to an ask")
    parser.add_argument("--ladder", action="store_true", help="asks that choose the rung, too")
    options = parser.parse_args()
    sizes = [(21, 112)] if options.quick else [(21, 112), (21, 1000), (240, 112)]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("climb_opt").setLevel(logging.ERROR)  # one of 240 domains is hardly drawn
    if options.ladder:
        ladder(21, 200)
        return
    if options.forecasts:
        forecasts(21, 64)
        forecasts(21, 112)
        return
    for k, n in sizes:
        print(f"\nK = {k}, n = {n}: CPU ms\n{'':28}{'first':>9}{'later':>9}{'mean':>9}", end="")
        print(f"{'/ GP':>9}{'/ TPE':>9}   (of later)")
        later: dict[str, float] = {}
        for name, (make, free, asks) in samplers(k, n).items():
            ask_times(make(), k, 16, 2, free)  # imports and first-use costs
            times = 1e3 * np.array(ask_times(make(), k, n, asks, free))
            later[name] = float(np.median(times[1:]))
            ratios = [later[name] / later.get(r, np.nan) for r in ("optuna GP", "optuna TPE")]
            print(f"{name:28}{times[0]:9.1f}{later[name]:9.1f}{times.mean():9.1f}", end="")
            print("".join(f"{r:9.3f}" for r in ratios), flush=True)


if __name__ == "__main__":
    main()
