"""A search by the command line with a formula for proxies, shared by the tests of its commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from climb_opt import recipes
from climb_opt.attributes import SLOT
from climb_opt.recipes import Choice, ModelRecipe, ProxyRecipe, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.study import open_study

TARGET = np.array([0.1, 0.2, 0.7])


class Formula:
    """Stands in for a `ProxyObjective`: the same seam, a formula for a proxy."""

    is_main = True

    def __init__(self, each: Callable[[optuna.Trial], Any] = lambda trial: None) -> None:
        self.each, self.closed = each, False

    def __call__(self, trial: optuna.Trial) -> float:
        weights = [trial.suggest_float(f"w/{name}", 0, 1) for name in ("web", "code", "math")]
        self.each(trial)
        return float(np.sum((np.array(weights) - TARGET) ** 2))

    def serve(self) -> None:
        raise AssertionError("rank 0 does not serve")

    def close(self) -> None:
        self.closed = True


def arrange(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Formula]:
    """An empty folder with a recipe `mine.yaml`, and a stand-in for proxies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    # As without optuna-dashboard: its pictures take longer than all else here.
    monkeypatch.setattr("climb_opt.reports.dashboard.notebook.installed", lambda name: False)
    recipe = StudyRecipe(
        corpus=str(tiny_corpus.path),
        proxy=ProxyRecipe(
            model=ModelRecipe(hidden=16, layers=1, heads=2), tokens=40_960, sequence=16
        ),
        evaluators=(Choice("heldout", {"target": "sums", "max_tokens": 500}),),
        score=["sums/bpb"],
        rounds=(3, 2),
        sampler=Choice("climb", {"predictor": "loglinear", "pool_size": 200}),
        baselines=("prior",),
        max_attempts=2,
    )
    write(recipe)

    def use(each: Callable[[optuna.Trial], Any] = lambda trial: None) -> Formula:
        objective = Formula(each)
        monkeypatch.setattr(
            "climb_opt.study.working.make_objective", lambda study, **options: objective
        )
        return objective

    use()
    return use


def write(recipe: StudyRecipe, file: str = "mine.yaml") -> None:
    Path(file).write_text(yaml.safe_dump(json.loads(recipes.to_json(recipe))))


def the_study(name: str = "mine") -> optuna.Study:
    return open_study(study_name=name, storage=open_storage("runs/climb.journal"))


def fail_on(slot: Any) -> Callable[[optuna.Trial], None]:
    def each(trial: optuna.Trial) -> None:
        if trial.user_attrs.get(SLOT) == slot:
            raise RuntimeError("out of luck")

    return each
