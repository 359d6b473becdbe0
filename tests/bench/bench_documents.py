"""How much of the noise between runs is of documents? An evaluator, and what its runs say.

    climb-opt noise documents.yaml --repeats 10 --corner 0 --spread 6   # PYTHONPATH=tests/bench
    python tests/bench/bench_documents.py documents-noise --storage STORAGE

`documents.yaml` names the evaluator `bench_documents:Grouped` with `target: prose`, and scores
`prose/bpb`. Of the variance over seeds of the mean of groups of documents, what is left when each
group's and each seed's mean is taken away is what more documents would average out.
"""

from __future__ import annotations

from harness import parser_of  # first: one thread

# isort: split

import math
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import COMPONENTS, SLOT
from climb_opt.evaluators.heldout import HeldOutLoss
from climb_opt.storages import open_storage

GROUPS = 8
NAMES = [f"group{g}/bpb" for g in range(GROUPS)]


class Grouped(HeldOutLoss):
    """The target's bits per byte, and those of every eighth document, by size."""

    def components(self) -> list[str]:
        return [*super().components(), *NAMES]

    def evaluate(self, model: Any, accelerator: Any) -> dict[str, float]:
        scores = super().evaluate(model, accelerator)
        (text,) = self._texts.values()
        bits = text.by_document(self.token_nats(model, accelerator)) / math.log(2)
        group = np.argsort(np.argsort(-text.bytes)) % GROUPS
        for g, name in enumerate(NAMES):
            scores[name] = float(bits[group == g].sum() / text.bytes[group == g].sum())
        return scores


def shares(table: np.ndarray) -> tuple[float, float]:
    """Standard deviation of the rows' means of `table` (n, GROUPS), and of what documents add."""
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    own = (rest**2).sum() / ((len(table) - 1) * (GROUPS - 1)) / GROUPS
    return float(table.mean(axis=1).std(ddof=1)), math.sqrt(own)


def table_of(trials: list[FrozenTrial]) -> np.ndarray:
    return np.array([[t.user_attrs[COMPONENTS][name] for name in NAMES] for t in trials])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("study")
    parser.add_argument("--storage")
    options = parser.parse_args()
    study = optuna.load_study(study_name=options.study, storage=open_storage(options.storage))
    done = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    for kind in ("prior", "draw"):
        table = table_of([t for t in done if str(t.user_attrs[SLOT]).startswith(kind)])
        whole, own = shares(table)
        rng, again = np.random.default_rng(0), []
        for _ in range(2000):
            w, o = shares(table[rng.integers(0, len(table), len(table))])
            again += [(o / w) ** 2] if w > 0 else []
        low, high = np.quantile(again, [0.05, 0.95])
        share = f"{(own / whole) ** 2:.1%} [{low:.1%}, {high:.1%}]"
        print(f"{kind}: {len(table)} runs, sd {whole:.3f}, of documents {own:.3f}: {share}")


if __name__ == "__main__":
    main()
