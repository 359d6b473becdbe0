"""Sources of bench_ladder.py by name, the regret of a mixture on them, and RegMix's tables."""

from __future__ import annotations

from functools import lru_cache, reduce
from itertools import count
from pathlib import Path

import numpy as np

from climb_opt.emulator import (
    Emulator,
    LadderSource,
    MixingLaw,
    RowLadder,
    SimulatedLadder,
    Source,
    SourceLadder,
    Table,
    pool,
    read_runs,
    read_table,
)
from climb_opt.emulator.shapes import Interactions, Thresholds
from climb_opt.emulator.simulated import USUAL as SIMULATED
from climb_opt.errors import UserError
from climb_opt.ladder import Ladder, Rung

RUNGS = ((122e6, 4e9), (310e6, 6e9), (680e6, 13e9), (937e6, 35.3e9))
RESULTS = ("arxiv", "book", "c4", "github", "commoncrawl", "stackexchange", "wikipedia")
DMSL = (*RESULTS, "openhermes", "mean7")
REGMIX = (("1m", 1e6, 1e9), ("60m", 6e7, 1e9), ("1B", 1e9, 25e9))  # parameters, tokens
SCORES = {"avg13": None, "pile_cc": ["metric/the_pile_pile_cc_val_loss"]}
# Laws of ladders that differ from seed to seed, in turn, and their domains; of seeds from OWN on.
KINDS = ((MixingLaw, 21), (Interactions, 12), (Thresholds, 12))
OWN = 600
FREE = Ladder.of((1e-5, 1e-4, 1.0))  # rungs below the target that cost next to nothing
WORST = 0.2  # rank correlation of the cheapest rung that each of them can have
USUAL = [
    *(f"dmsl/{name}" for name in DMSL),
    *(f"regmix/{name}@{noise}" for noise in (0, 0.1) for name in SCORES),
    *(f"law/{rho}@{noise}" for noise in (0, 0.1, 0.3) for rho in (0.95, 0.8, 0.2)),
    "law/misleads@0.1",
]


@lru_cache(maxsize=64)
def source(name: str, tables: Path, cache: Path, seed: int = 0) -> LadderSource:
    """The source of a name; `seed`: which of the ladders that are called so."""
    kind, _, rest = name.partition("/")
    what, _, noise = rest.partition("@")
    each = float(noise or 0)
    if kind == "dmsl":
        score = [f"{c}_loss" for c in (RESULTS if what == "mean7" else [what])]
        return pool(read_runs(tables / "dmsl" / "dmsl.csv"), RUNGS, score, each)
    if kind == "regmix":
        sizes = [_regmix(size, what, tables, cache) for size, _, _ in REGMIX]
        rungs = tuple(Rung(size, 6 * n * t, int(t), int(n)) for size, n, t in REGMIX)
        return SourceLadder(tuple(sizes), Ladder(rungs), each)
    misleads, law = what == "misleads", _law(seed) if own(name) else MixingLaw()
    rho, ladder = 0.95 if misleads else float(what), FREE if kind == "free" else SIMULATED
    return SimulatedLadder(law, ladder, rho, misleads, each, seed=seed)


@lru_cache(maxsize=256)
def _law(seed: int) -> Source:
    """The law of a seed: another where no deviation makes a rung of that one rank so badly."""
    made, domains = KINDS[seed % len(KINDS)]
    for other in count(OWN + seed, 1000):
        law = made(domains, seed=other)
        worst = SimulatedLadder(law, correlation=WORST, seed=seed)
        try:
            worst.truth(worst.reference()[:1], 1)
        except UserError:
            continue
        return law
    raise AssertionError


@lru_cache(maxsize=8)
def _regmix(size: str, what: str, tables: Path, cache: Path) -> Emulator:
    table, prior = regmix(tables, size), prior_of(regmix(tables))
    return Emulator.fit(table, SCORES[what] or table.names, prior=prior, cache=cache)


def regmix(tables: Path, size: str = "1m") -> Table:
    """RegMix's runs of a size; only the smallest has rows to train on."""
    stems = [tables / "regmix" / f"{part}_" for part in ("train", "test")[size != "1m" :]]
    parts = [
        read_table(f"{s}mixture_{size}.csv", f"{s}pile_loss_{size}.csv", key="index") for s in stems
    ]
    return reduce(Table.append, parts)


def prior_of(table: Table) -> dict[str, float]:
    """RegMix's mixtures were drawn around prior^.5: their mean's square stands for the prior."""
    return {domain: weight**2 for domain, weight in table.mean_weights().items()}


def rows(oracle: LadderSource) -> bool:
    return isinstance(oracle, RowLadder)


def own(name: str) -> bool:
    """Whether each seed has a ladder of its own by that name."""
    return name.startswith(("laws/", "free/"))


def rows_named(name: str) -> bool:
    return name.startswith("dmsl/")


@lru_cache(maxsize=64)
def yardstick(oracle: LadderSource) -> tuple[float, float]:
    """The best score, and what is one unit of regret."""
    best = oracle.optimum()[1]
    if rows(oracle):
        return best, oracle.sigma
    return best, float(np.median(oracle.truth(oracle.reference()))) - best


def regret(oracle: LadderSource, weights: np.ndarray) -> float:
    best, unit = yardstick(oracle)
    return float((oracle.truth(weights[None])[0] - best) / unit)
