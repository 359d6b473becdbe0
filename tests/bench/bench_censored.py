"""Censored extrapolation: what a model claims at its own optimum when the best tenth is hidden.

    python tests/bench/bench_censored.py                                 # laws, a minute
    python tests/bench/bench_censored.py --sources avg13 pile_cc dclm --tables tables --seeds 4

125 mixtures are drawn around the prior and scored; the best tenth is hidden, the rest is what each
model learns. Of 12,000 candidates it then picks the one it claims best. `optimism` is the true
score there less the claim, in units of regret (0 the best mixture, 1 a typical random one): above 0
it promises too much. In brackets, the regret of the pick. `simplex-gp` is the process that
`SimplexGPSampler` believes in, before `best_mixture` corrects what it promises; `best` is what that
recommends and states, of a study of the same trials. After Marin's test
(docs/notes/searching.md#epochs).
"""

from __future__ import annotations

from harness import parser_of  # first: one thread

# isort: split

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from optuna.trial import create_trial

import bench_search
from climb_opt.ablation.run import promises
from climb_opt.emulator import Source
from climb_opt.lookup import find
from climb_opt.predictors.base import expected, informed
from climb_opt.text import pipe_table

BEST = "best"  # no predictor: what `best_mixture` recommends and states
MODELS = (BEST, "simplex-gp", "lightgbm", "extra-trees", "loglinear", "epochs")
DRAWN, HIDDEN = 125, 12
POOL, NEAR = 8000, 4000  # candidates from the prior, and around the best that was seen
Run = dict[str, tuple[float, float]]  # model -> optimism, regret
SOURCES = ("law8-0", "law8-1", "law21-2", "law21-3", "law64-0")


def pool_of(source: Source, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Candidates (POOL + NEAR, K): draws, and the 20 best seen, `seen` (20, K), shaken."""
    space = source.space
    shaken = seen[rng.integers(0, len(seen), NEAR)] * np.exp(
        0.5 * rng.normal(size=(NEAR, len(space)))
    )
    return np.concatenate([space.sample_mixed(rng, POOL), space.project(shaken)])


def judge(source: Source, models: Sequence[str], noise: float, seed: int) -> Run:
    """Model -> optimism and regret of its own optimum."""
    rng = np.random.default_rng([seed, 17])
    weights = source.space.sample_mixed(rng, DRAWN)
    true = source.score(weights)
    kept = np.sort(np.argsort(true, kind="stable")[HIDDEN:])
    scores = true[kept] + noise * true.std() * rng.normal(size=len(kept))
    pool = pool_of(source, weights[kept[np.argsort(true[kept])[:20]]], rng)
    best, typical = bench_search.yardstick(source)
    trials = [
        create_trial(
            params=source.space.params(w),
            distributions=source.space.distributions(),
            value=float(v),
        )
        for w, v in zip(weights[kept], scores, strict=True)
    ]
    found = {}
    for name in models:
        if name == BEST:
            of = promises.kept(source.space, trials, source.score, typical - best)
            found[name] = (-of["score error"], (of["true"] - best) / (typical - best))
            continue
        predictor = informed(find("predictor", name), source.space)()
        predictor.fit(weights[kept], scores)
        claims = expected(predictor, pool)
        pick = int(np.argmin(claims))
        truth = float(source.score(pool[[pick]])[0])
        found[name] = ((truth - claims[pick]) / (typical - best), (truth - best) / (typical - best))
    return found


def table(rows: dict[tuple[str, float], list[Run]], models: Sequence[str]) -> str:
    """Mean optimism and regret, a line for each source and noise, and the mean over all."""

    def cells(runs: Sequence[Run]) -> list[str]:
        means = (np.mean([run[name] for run in runs], axis=0) for name in models)
        return [f"{optimism:+.2f} ({regret:.2f})" for optimism, regret in means]

    lines = [[s, f"{n:g}", *cells(runs)] for (s, n), runs in rows.items()]
    lines.append(["all", "", *cells([run for runs in rows.values() for run in runs])])
    return "\n".join(pipe_table(["source", "noise", *models], lines))


def main(arguments: Sequence[str] | None = None) -> str:
    parser = parser_of(__doc__)
    parser.add_argument("--sources", nargs="+", default=SOURCES)
    parser.add_argument("--noise", nargs="+", type=float, default=(0.0, 0.3))
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tables", type=Path, default=Path("tables"))
    parser.add_argument("--cache", type=Path, default=Path("runs/emulators"))
    options = parser.parse_args(arguments)
    rows = {}
    for name in options.sources:
        source = bench_search.source(name, options.tables, options.cache)
        for noise in options.noise:
            rows[name, noise] = [
                judge(source, options.models, noise, s) for s in range(options.seeds)
            ]
    return table(rows, options.models)


if __name__ == "__main__":
    print(main())
