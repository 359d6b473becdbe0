"""A study whose domains' influence takes a second to measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from climb_opt.influence.options import InfluenceOptions
from climb_opt.objective import ProxyObjective
from climb_opt.recipes import study_from
from climb_opt.shards import Corpus

OPTIONS = InfluenceOptions(tokens=2_048, curvature_tokens=512, iterations=8, tolerance=0.1)


def recipe_data(corpus: Corpus, **changes: Any) -> dict[str, Any]:
    """A recipe as plain data; `changes` replace keys."""
    proxy = {
        "model": {"hidden": 16, "layers": 1, "heads": 2},
        "tokens": 40 * 512,
        "sequence": 16,
        "batch_tokens": 512,
        "lr": 1e-2,
        "precision": "fp32",
    }
    return {
        "corpus": str(corpus.path),
        "proxy": proxy,
        "evaluators": [{"name": "heldout", "domains": True}],
        "score": ["sums/bpb"],
        **changes,
    }


def proxies_of(
    corpus: Corpus, folder: Path, stop: Callable[[], bool] = lambda: False, **changes: Any
) -> ProxyObjective:
    """What trains and scores them."""
    recipe = study_from(recipe_data(corpus, **changes))
    return ProxyObjective(corpus, recipe, directory=folder / "runs", stop=stop)
