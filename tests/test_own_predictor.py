"""A predictor of somebody's own: what is wrong with it is one line that names it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pytest

from climb_opt import ClimbSampler, MixtureSpace
from climb_opt.cli import main
from climb_opt.errors import UserError
from climb_opt.predictors.base import expected
from climb_opt.predictors.own import predictor_factory
from climb_opt.samplers.presets import ClimbOptions

WEIGHTS, SCORES = np.random.default_rng(0).dirichlet(np.ones(3), 12), np.linspace(0, 1, 12)
MODULE = """
import sys
import numpy as np

class Fine:
    def fit(self, weights, scores): self.scores = scores
    def predict(self, weights): return weights[:, 0].copy(), weights[:, 0] + 1

class Unfit:
    def predict(self, weights): return weights[:, 0], weights[:, 0]

class Needs(Fine):
    def __init__(self, depth): self.depth = depth

class Broken(Fine):
    def __init__(self): raise OSError("no weights")

class Stops(Fine):
    def fit(self, weights, scores): sys.exit(3)

class Raises(Fine):
    def predict(self, weights): raise KeyError("boom")

class Alone(Fine):
    def predict(self, weights): return weights[:, 0]

class Short(Fine):
    def predict(self, weights): return weights[1:, 0], weights[1:, 0]

class Column(Fine):
    def predict(self, weights): return weights[:, :1], weights[:, :1]

class Nothing(Fine):
    def predict(self, weights): return None

class Words(Fine):
    def predict(self, weights): return ["a"] * len(weights), ["b"] * len(weights)

class Imaginary(Fine):
    def predict(self, weights): return weights[:, 0] + 1j, weights[:, 0]

class Means(Fine):
    def mean(self, weights): return weights

class Overwrites(Fine):
    def fit(self, weights, scores): weights[:] = scores[:] = 0
    def predict(self, weights):
        weights[:] = 0
        return super().predict(weights)

def made(): return 5
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_predictors.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Unfit", r"must have the methods fit\(weights, scores\) and .*, but has no fit"),
        ("Needs", r"is called with its options: missing a required argument: 'depth'"),
    ],
)
def test_what_a_class_lacks_is_said_before_a_search(name: str, words: str) -> None:
    with pytest.raises(UserError, match=f"redictor 'own_predictors:{name}' {words}"):
        ClimbOptions(predictor=f"own_predictors:{name}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("made", " must have the methods"),
        ("Broken", r" raised OSError\('no weights'\) while it was made"),
        ("Stops", r" raised SystemExit\(3\) in fit, on 12 mixtures"),
        ("Raises", r" raised KeyError\('boom'\) in predict, on 12 mixtures"),
        ("Alone", r": predict must return means and .*, but returned an array \(12,\)"),
        ("Short", r": predict must return .* \(12,\), but returned an array \(11,\) of float64"),
        ("Column", r": predict .* but returned an array \(12, 1\)"),
        ("Nothing", r": predict .* but returned None"),
        ("Words", r": predict .* but returned \['a', "),
        ("Imaginary", r": predict .* of complex128"),
        ("Means", r": mean must return a number for each mixture \(12,\), but"),
    ],
)
def test_what_it_does_wrong_names_it_and_what_is_asked(name: str, words: str) -> None:
    make = predictor_factory(f"own_predictors:{name}")
    with pytest.raises(UserError, match=f"Predictor 'own_predictors:{name}'{words}"):
        predictor = make()
        predictor.fit(WEIGHTS, SCORES)
        predictor.predict(WEIGHTS)
        expected(predictor, WEIGHTS)


def test_what_it_changes_in_place_is_its_own() -> None:
    weights, scores = WEIGHTS.copy(), SCORES.copy()
    predictor = predictor_factory("own_predictors:Overwrites")()
    predictor.fit(weights, scores)
    predictor.predict(weights)
    assert np.array_equal(weights, WEIGHTS) and np.array_equal(scores, SCORES)


def test_a_search_says_what_its_predictor_did() -> None:
    space = MixtureSpace({"web": 2, "code": 1})
    sampler = ClimbSampler(space, rounds=(2, 2), predictor="own_predictors:Raises", seed=0)
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(UserError, match="Predictor 'own_predictors:Raises' raised KeyError"):
        study.optimize(lambda trial: space.suggest(trial)["web"], n_trials=4)


def test_an_ablation_judges_it_with_the_options_of_its_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = {"name": "climb", "predictor": "own_predictors:Needs", "predictor_options": {"depth": 2}}
    arms = {"ours": {"sampler": own, "rounds": [5, 3]}, "random": None}
    recipe = {"objective": "mixing-law", "arms": arms, "reference": "random", "seeds": 1}
    Path("mine.yaml").write_text(json.dumps({**recipe, "budget": {"trials": 8}}))
    assert main(["ablate", "mine.yaml", "--output", "out", "--no-figures"]) == 0
    assert "TypeError" not in Path("out/ablation.md").read_text(), capsys.readouterr().err
