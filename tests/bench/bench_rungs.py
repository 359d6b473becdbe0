"""What cheap trials tell of the target: our process of rungs, BoTorch's and GPyTorch's.

    python tests/bench/bench_rungs.py --output rungs.jsonl [--sources law/0.95@0.1 ...] [--seeds 10]

Fits each model on many trials of the cheapest rung and few of the target (--target N of them), and
predicts the target's other runs. It resumes from --output. Sources as of bench_ladder.py, but
`regmix/...` are its real rows; those whose tables are absent (--tables FOLDER) are left out.
BoTorch and GPyTorch are needed.

All models are given the roots of the weights. BoTorch's and GPyTorch's are given them scaled to
[0, 1] and scores standardised on each rung, as their documentation asks; ours takes both as they
are. `botorch mf` is told how high a rung is as (rung + 1) / rungs: relative costs, down to 4e-5,
would call two rungs one.

Figures: rank correlation with the runs left out; log score, the mean log density of a run, in nats,
scores in standard deviations of the target's; share of runs within their 90 % interval; CPU seconds
to fit and predict.
"""

from __future__ import annotations

from harness import Row, load, parser_of, run_all, timed  # first: one thread

# isort: split

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import gpytorch
import numpy as np
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import MultiTaskGP, SingleTaskMultiFidelityGP

from climb_opt.emulator import LadderSource, pool, read_runs
from climb_opt.gp.fit import process_of
from climb_opt.gp.ladder import Results
from climb_opt.gp.ladder_fit import LadderFits
from climb_opt.statistics import spearman
from climb_opt.text import pipe_table
from ladder_sources import REGMIX, RESULTS, SCORES, regmix, source

RUNGS = ((122e6, 4e9), (310e6, 8e9), (937e6, 35.3e9))  # of dmsl: parameters, tokens
COUNTS = {"dmsl": (30, 10, 6), "regmix": (64, 24, 8), "law": (64, 24, 8)}  # trials on each rung
USUAL = (
    *("dmsl/mean7", "dmsl/openhermes", "regmix/avg13", "regmix/pile_cc"),
    *("law/0.95@0.1", "law/0.8@0.1", "law/0.2@0.1", "law/misleads@0.1"),
)
STEPS = 200  # of Adam; its tutorial takes 50
HELD_OUT = 200  # of a simulated ladder
WITHIN_90 = 1.6449
Moments = tuple[np.ndarray, np.ndarray]
Runs = tuple[np.ndarray, np.ndarray]  # weights (n, K), scores (n,)


@dataclass(frozen=True)
class Task:
    """Results to learn from, and runs of the target, mean 0 and deviation 1, to predict."""

    given: Results
    roots: np.ndarray
    values: np.ndarray


# --- tasks ---------------------------------------------------------------------------------------


def counts_of(name: str, target: int | None = None) -> tuple[int, ...]:
    """Trials to learn from on each rung; `target` of them at the target, by default few."""
    usual = COUNTS[name.partition("/")[0]]
    return usual if target is None else (*usual[:-1], target)


def task(name: str, seed: int, tables: Path, cache: Path, target: int | None = None) -> Task:
    """Draws runs of each rung, mixtures at random; those of the target it has not drawn are left.

    Raises:
        OSError, UserError: no such table.
    """
    rng, counts, each = np.random.default_rng([seed, 17]), counts_of(name, target), []
    for rung, (weights, values) in enumerate(_rows(name, seed, tables, cache, counts)):
        order = rng.permutation(len(values))
        picked, left = order[: counts[rung]], order[counts[rung] :]
        each.append((weights[picked], values[picked]))
        rest = weights[left], values[left]
    # Scores in standard deviations of the target's: a log score is then free of units.
    middle, spread = float(rest[1].mean()), float(rest[1].std())
    values = (np.concatenate([v for _, v in each]) - middle) / spread
    roots = np.sqrt(np.concatenate([w for w, _ in each]))
    given = Results(roots, values, np.repeat(np.arange(len(counts)), counts), len(counts))
    return Task(given, np.sqrt(rest[0]), (rest[1] - middle) / spread)


def _rows(name: str, seed: int, tables: Path, cache: Path, counts: tuple[int, ...]) -> list[Runs]:
    kind, _, what = name.partition("/")
    if kind == "regmix":
        runs = [regmix(tables, size) for size, _, _ in REGMIX]
        each = [[t.result(n) for n in SCORES[what] or t.names] for t in runs]
        return [(t.weights, np.mean(own, axis=0)) for t, own in zip(runs, each, strict=True)]
    if kind == "dmsl":
        score = [f"{c}_loss" for c in (RESULTS if what == "mean7" else [what])]
        rows = pool(read_runs(tables / "dmsl" / "dmsl.csv"), RUNGS, score)
        return [(rows.space.rows, values) for values in rows.values]
    ladder: LadderSource = source(name, tables, cache)
    rng, found = np.random.default_rng([seed, 23]), []
    for rung, count in enumerate(counts):
        n = count + (HELD_OUT if rung == ladder.ladder.target else 0)
        weights = ladder.space.sample_mixed(rng, n)
        found.append((weights, ladder.score(weights, rung, [seed, rung])))
    return found


# --- models: of a task, mean and deviation of a run at its roots ---------------------------------


def ours(job: Task) -> Moments:
    process = LadderFits().ladder(job.given)
    mean, std = process.moments(job.roots)
    return mean, np.hypot(std, process.noise)


def one_rung(job: Task, rung: int) -> Moments:
    rows = job.given.rows(job.given.rungs == rung)
    process = process_of(rows.roots, rows.values)
    mean, std = process.moments(job.roots)
    return mean, np.hypot(std, process.noise)


def target_only(job: Task) -> Moments:
    return one_rung(job, job.given.height - 1)


def cheapest_only(job: Task) -> Moments:
    """Ranks only: nothing says what its scores are at the target."""
    mean, std = one_rung(job, 0)
    return mean, np.full(len(std), np.nan)


def multi_task(job: Task) -> Moments:
    x, at, y, back = _tensors(job, np.arange(job.given.height))
    target = job.given.height - 1
    model = MultiTaskGP(x, y[:, None], task_feature=-1, output_tasks=[target])
    # Its own transform of all scores at once does nothing more: they are standardised on each rung.
    fit_gpytorch_mll(gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model))
    return back(model.posterior(at[:, :-1], observation_noise=True))


def multi_fidelity(job: Task) -> Moments:
    heights = (1.0 + np.arange(job.given.height)) / job.given.height
    x, at, y, back = _tensors(job, heights)
    model = SingleTaskMultiFidelityGP(x, y[:, None], data_fidelities=[x.shape[1] - 1])
    fit_gpytorch_mll(gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model))
    return back(model.posterior(at, observation_noise=True))


class Coregionalised(gpytorch.models.ExactGP):
    """As GPyTorch's tutorial of tasks on different inputs: Matern 5/2 times an index kernel."""

    def __init__(
        self, x: torch.Tensor, y: torch.Tensor, tasks: int, noise: gpytorch.likelihoods.Likelihood
    ) -> None:
        super().__init__(x, y, noise)
        k = x.shape[1] - 1
        self.mean_module = gpytorch.means.ConstantMean()
        data = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=k, active_dims=[*range(k)])
        self.covar_module = data * gpytorch.kernels.IndexKernel(tasks, rank=1, active_dims=[k])

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def coregionalised(job: Task) -> Moments:
    x, at, y, back = _tensors(job, np.arange(job.given.height))
    noise = gpytorch.likelihoods.GaussianLikelihood()
    model = Coregionalised(x, y, job.given.height, noise).double()
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(noise, model)
    adam = torch.optim.Adam(mll.train().parameters(), lr=0.1)
    for _ in range(STEPS):
        adam.zero_grad()
        (-mll(model(x), y)).backward()
        adam.step()
    mll.eval()
    return back(noise(model(at)))


def _tensors(
    job: Task, heights: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Callable[..., Moments]]:
    """Inputs (n, K + 1), inputs to predict at, standardised scores (n,), and the way back."""
    torch.manual_seed(0)  # index kernels begin at random
    roots, values, rungs, count, _ = job.given
    low, width = roots.min(axis=0), np.maximum(np.ptp(roots, axis=0), 1e-6)
    x = np.column_stack([(roots - low) / width, heights[rungs]])
    at = np.column_stack([(job.roots - low) / width, np.full(len(job.roots), heights[-1])])
    each = [values[rungs == r] for r in range(count)]
    means, stds = (np.array([f(own) for own in each]) for f in (np.mean, np.std))

    def back(found: object) -> Moments:
        mean, variance = (getattr(found, name).detach().numpy().ravel() for name in PARTS)
        return means[-1] + stds[-1] * mean, stds[-1] * np.sqrt(variance)

    y = (values - means[rungs]) / stds[rungs]
    return torch.tensor(x), torch.tensor(at), torch.tensor(y), back


PARTS = ("mean", "variance")
MODELS: dict[str, Callable[[Task], Moments]] = {
    "ours": ours,
    "botorch mt": multi_task,
    "botorch mf": multi_fidelity,
    "gpytorch icm": coregionalised,
    "target only": target_only,
    "cheapest only": cheapest_only,
}


# --- figures -------------------------------------------------------------------------------------


def figures(model: Callable[[Task], Moments], job: Task) -> dict[str, float]:
    """NaN for what a model cannot say."""
    (mean, std), seconds = timed(lambda: model(job))
    gap = (job.values - mean) / std
    score = -0.5 * gap**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    held = float(np.mean(np.abs(gap) <= WITHIN_90)) if np.isfinite(std).all() else np.nan
    return {
        "rank": float(spearman(mean, job.values)),
        "nats": float(score.mean()),
        "held": held,
        "seconds": seconds,
    }


def table(rows: list[Row], sources: list[str]) -> str:
    """Rank and log score as medians over seeds, coverage and seconds as means."""
    models = [m for m in MODELS if any(r["model"] == m for r in rows)]

    def cell(name: str, model: str) -> str:
        own = [r for r in rows if r["source"] == name and r["model"] == model]
        if not own:
            return ""
        each = {f: np.array([r[f] for r in own], dtype=float) for f in FIGURES}
        rank, nats = np.median(each["rank"]), np.median(each["nats"])
        if np.isnan(nats):
            return f"{rank:.2f}"
        return f"{rank:.2f} / {nats:.2f} / {100 * each['held'].mean():.0f}"

    by_model = {m: [r["seconds"] for r in rows if r["model"] == m] for m in models}
    lines = [
        *([name, *(cell(name, m) for m in models)] for name in sources),
        ["CPU s", *(f"{np.mean(by_model[m]):.2f}" for m in models)],
        ["fits", *(str(len(by_model[m])) for m in models)],
    ]
    return "\n".join(pipe_table(["rank / nats / % within", *models], lines))


def against(rows: list[Row]) -> str:
    """The log score of ours against each model's, on the same ladders and seeds."""
    found: dict[str, dict[tuple[str, int], float]] = {}
    for row in rows:
        if not np.isnan(row["nats"]):
            found.setdefault(row["model"], {})[row["source"], row["seed"]] = row["nats"]
    base, lines = found.pop("ours", {}), []
    for model, theirs in found.items():
        gains = np.array([base[pair] - nats for pair, nats in theirs.items() if pair in base])
        if len(gains):
            better = int(np.sum(gains > 0))
            lines.append([model, str(len(gains)), str(better), f"{np.median(gains):.2f}"])
    head = ["ours against", "pairs", "better in", "median gain, nats"]
    return "\n".join(pipe_table(head, lines))


FIGURES = ("rank", "nats", "held")
KEY = ("source", "model", "seed", "target")


def main() -> None:
    parser = parser_of(__doc__, "tables", "cache")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sources", nargs="+", default=list(USUAL))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--target", type=int, help="trials of the target to learn from")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folders = {"dmsl", "regmix"} - {p.name for p in args.tables.glob("*")}
    sources = [s for s in args.sources if s.partition("/")[0] not in folders]
    for name in sorted({*args.sources} - {*sources}):
        print(f"{name}: no table in {args.tables}, left out.")
    of = {name: counts_of(name, args.target)[-1] for name in sources}
    every = product(range(args.seeds), sources, args.models)
    wanted = (dict(zip(KEY, (name, m, seed, of[name]), strict=True)) for seed, name, m in every)
    drawn = lru_cache(maxsize=1)(task)  # the same for all models

    def run(row: Row) -> Row:
        job = drawn(row["source"], row["seed"], args.tables, args.cache, row["target"])
        return figures(MODELS[row["model"]], job)

    run_all(wanted, KEY, args.output, run)
    rows = [*load(args.output, KEY).values()]
    rows = [r for r in rows if r["target"] == counts_of(r["source"], args.target)[-1]]
    print(table(rows, sources), against(rows), sep="\n\n")


if __name__ == "__main__":
    main()
