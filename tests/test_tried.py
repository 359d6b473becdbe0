"""Values of options that show their fault late are refused before anything is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from climb_opt import ClimbSampler, MixtureSpace, lookup
from climb_opt.errors import UserError
from climb_opt.proxy.reweight.base import made
from climb_opt.recipes import Choice, StudyRecipe, study_from, to_json
from climb_opt.study import build_pruner, build_sampler, open_study, work
from climb_opt.study.asked import check_choices
from studying import PACE, finished, journal, recipe, score  # noqa: F401

SPACE = MixtureSpace({"web": 4, "code": 2, "math": 1})


@pytest.mark.parametrize(
    ("predictor", "options", "said"),
    [
        ("lightgbm", {"num_leaves": -3}, r"\(num_leaves\) > \(1\)\. .* options: num_leaves: -3\.$"),
        ("lightgbm", {"max_depth": "deep"}, "should be of type int, got .* max_depth: 'deep'"),
        ("lightgbm", {"learning_rate": -1}, r"\(learning_rate\) > .* learning_rate: -1"),
        ("lightgbm", {"iterations": "many"}, "iterations: expected a number, but got 'many'"),
        ("lightgbm", {"min_leaf": -1}, "min_leaf must be a whole number, at least 0, but is -1"),
        ("lightgbm", {"stop_after": -1}, "stop_after must be .* at least 0, but is -1"),
        ("extra-trees", {"bagging_fraction": 3}, "predictor 'extra-trees': .* bagging_fraction: 3"),
        ("epochs", {"epochs": [1, 2]}, "epochs has 2 entries, but mixtures 3 domains"),
        ("epochs", {"epochs": {"web": 1}}, "predictor 'epochs': TypeError: .* {'web': 1}"),
        ("gp", {"iterations": -1}, "iterations must be a whole number, at least 0"),
        ("gp", {"spread": 0}, "spread must be positive, but is 0"),
        ("gp", {"spread": "wide"}, "spread: expected a number, but got 'wide'"),
    ],
)
def test_a_predictor_is_fitted_once_where_it_is_given_options(
    predictor: str, options: dict[str, Any], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if predictor == "gp":
        pytest.importorskip("botorch")
    with pytest.raises(UserError, match=said):
        ClimbSampler(SPACE, predictor=predictor, predictor_options=options)
    assert not capfd.readouterr().out


def test_a_parameter_that_lightgbm_does_not_know_is_told_once(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {"num_leafs": 7, "n_estimators": 20, "reg_alpha": 0.5, "extra_trees": True}
    for _ in range(2):
        ClimbSampler(SPACE, predictor="lightgbm", predictor_options=options)
    ClimbSampler(SPACE, predictor="extra-trees", predictor_options={"num_leaves": 4})
    assert caplog.messages == ["LightGBM has no parameter 'num_leafs': it changes nothing."]
    assert not capfd.readouterr().out


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("tpe", {"n_ei_candidates": 0}),
        ("tpe", {"n_startup_trials": 30, "prior_weight": -1}),
        ("tpe", {"constraints_func": "none"}),
        ("cma-es", {"popsize": "large"}),
        ("qmc", {"qmc_type": "sobol2"}),
        ("nsga2", {"population_size": 1}),
        ("gp-optuna", {"n_startup_trials": "few"}),
    ],
)
def test_a_sampler_of_optuna_proposes_once_where_it_is_given_options(
    recipe: StudyRecipe,  # noqa: F811
    sampler: str,
    options: dict[str, Any],
) -> None:
    key, value = list(options.items())[-1]
    with pytest.raises(UserError, match=f"sampler '{sampler}': .*options: .*{key}: {value!r}"):
        build_sampler(replace(recipe, sampler=Choice(sampler, options)), SPACE)


def test_options_that_work_are_taken(recipe: StudyRecipe) -> None:  # noqa: F811
    for name, options in (
        ("tpe", {"multivariate": True, "n_ei_candidates": 4}),
        ("climb", {"predictor": "lightgbm", "predictor_options": {"num_leaves": 4}}),
    ):
        sampler = build_sampler(replace(recipe, sampler=Choice(name, options)), SPACE)
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda trial: SPACE.suggest(trial)["web"], n_trials=2)
    assert build_pruner(Choice("hyperband", {"min_resource": 2})).__class__.__name__.startswith("H")


@pytest.mark.parametrize(
    "options", [{"min_resource": 0}, {"max_resource": 0}, {"reduction_factor": 1}]
)
def test_a_pruner_judges_a_trial_once(options: dict[str, Any]) -> None:
    key, value = next(iter(options.items()))
    with pytest.raises(UserError, match=f"pruner 'hyperband': .* {key}: {value!r}"):
        build_pruner(Choice("hyperband", options))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"evaluators": [{"name": "heldout", "max_tokens": "x"}]}, "max_tokens: expected a number"),
        ({"evaluators": [{"name": "heldout", "target": 3}]}, "target: expected str, but got 3"),
        ({"evaluators": [{"name": "heldout", "domains": "no"}]}, "domains: expected bool.* 'no'"),
        ({"evaluators": [{"name": "lm-eval", "tasks": ["x"], "files": "x"}]}, "expected a mapping"),
        ({"proxy": {"reweight": {"name": "ado", "changes": 2.5}}}, "changes: expected int.* 2.5"),
        (
            {"proxy": {"reweight": {"name": "tikmix-stages", "at": "end"}}},
            "at.*: expected a number",
        ),
        ({"baselines": [{"reweight": "doremi", "reference": 3}]}, "reference: expected a mapping"),
        (
            {"pruner": {"name": "median", "interval_steps": "x"}},
            "interval_steps: expected a number",
        ),
        ({"sampler": {"name": "climb", "top_n": "many"}}, "'climb': top_n: expected a number"),
    ],
)
def test_an_option_of_another_type_is_refused_before_a_corpus_is_looked_for(
    recipe: StudyRecipe,  # noqa: F811
    keys: dict[str, Any],
    said: str,
) -> None:
    data = json.loads(to_json(recipe)) | keys
    with pytest.raises(UserError, match=said):
        check_choices(study_from(data))


def test_an_option_is_passed_on_as_its_type() -> None:
    method = made(Choice("doremi", {"eta": "3e-3", "reference": {"web": "30%"}}))
    assert (method.eta, method.given) == (0.003, {"web": 0.3})  # type: ignore[attr-defined]
    options = {"predictor": "gp", "exclude": 1, "pool_size": "1_000"}
    assert lookup.check_options("sampler", "climb", options, set()) == {
        "predictor": "gp",
        "exclude": True,
        "pool_size": 1000,
    }


def test_no_trial_runs_for_a_predictor_that_cannot_be_fitted(
    recipe: StudyRecipe,  # noqa: F811
    journal: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    options = {"pool_size": 200, "predictor_options": {"num_leaves": -3}}
    recipe = replace(recipe, sampler=Choice("climb", options))
    study = open_study(recipe, storage=journal, study_name="s")
    with pytest.raises(UserError, match="num_leaves: -3"):
        work(study, objective=score, directory=tmp_path, pace=PACE)
    assert not study.trials and not finished(study)
