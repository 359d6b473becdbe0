"""A small study on a tiny corpus, with a formula for a score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from climb_opt.attributes import SLOT
from climb_opt.recipes import Choice, ModelRecipe, ProxyRecipe, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.view import all_trials
from climb_opt.workers import Pace

optuna.logging.set_verbosity(optuna.logging.ERROR)


PACE = Pace(beat=0.5, grace=5.0, poll=0.05)


@pytest.fixture
def recipe(tiny_corpus: Corpus) -> StudyRecipe:
    return StudyRecipe(
        corpus=str(tiny_corpus.path),
        proxy=ProxyRecipe(
            model=ModelRecipe(hidden=16, layers=1, heads=2), tokens=4096, sequence=16
        ),
        evaluators=(Choice("heldout", {"target": "sums"}),),
        score=["sums/bpb"],
        rounds=(3, 2),
        sampler=Choice("climb", {"predictor": "loglinear", "pool_size": 200}),
        max_attempts=2,
    )


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "x.journal")


def score(trial: optuna.Trial) -> float:
    """Distance from a mixture, by the trial's weights."""
    weights = [trial.suggest_float(f"w/{name}", 0, 1) for name in ("web", "code", "math")]
    return float(np.sum((np.array(weights) - [0.1, 0.2, 0.7]) ** 2))


def finished(study: optuna.Study) -> list[Any]:
    return [t.user_attrs[SLOT] for t in all_trials(study) if t.state == TrialState.COMPLETE]
