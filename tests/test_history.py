"""What counts as learnt: which trials a study's history holds, and in which direction."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from climb_opt import MixtureSpace, TrialFailed, UserError, report_components, set_aggregate
from climb_opt.attributes import COMPONENTS, FACTS, IMPORTED
from climb_opt.history import History, distinct
from climb_opt.view import read_history

SPACE = MixtureSpace({"web": 3.0, "code": 1.0})


def add(
    study: optuna.Study,
    weights: tuple[float, float] = (0.5, 0.5),
    value: float | None = 1.0,
    state: TrialState = TrialState.COMPLETE,
    **attrs: Any,
) -> None:
    params = SPACE.params(np.array(weights))
    given = {} if value is None else {"value": value}
    study.add_trial(
        create_trial(
            params=params,
            distributions=SPACE.distributions(),
            state=state,
            user_attrs=attrs,
            **given,
        )
    )


def test_values_are_turned_so_that_lower_is_better() -> None:
    for direction, sign in (("minimize", 1.0), ("maximize", -1.0)):
        study = optuna.create_study(direction=direction)
        add(study, (0.2, 0.8), 3.0)
        add(study, (0.9, 0.1), 5.0)
        history = read_history(study, SPACE)
        np.testing.assert_array_equal(history.values, sign * np.array([3.0, 5.0]))
        np.testing.assert_array_equal(history.weights, [[0.2, 0.8], [0.9, 0.1]])


def test_each_of_several_objectives_is_turned() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trial(
        create_trial(
            params=SPACE.params(np.array([1.0, 0.0])),
            distributions=SPACE.distributions(),
            values=[1.0, 2.0],
        )
    )
    np.testing.assert_array_equal(read_history(study, SPACE).values, [[1.0, -2.0]])


def test_only_finished_trials_with_a_mixture_and_finite_values_count() -> None:
    study = optuna.create_study()
    add(study)  # imported: counts
    add(study, value=None, state=TrialState.FAIL)
    add(study, state=TrialState.PRUNED)
    add(study, value=math.inf)
    add(study, (0.5, 0.4))  # not a mixture
    study.add_trial(  # another study's parameters
        create_trial(params={"x": 1.0}, distributions={"x": FloatDistribution(0, 1)}, value=1.0)
    )
    study.add_trial(  # our names, another kind
        create_trial(
            params={"w/web": "all", "w/code": "none"},
            distributions={
                "w/web": CategoricalDistribution(["all"]),
                "w/code": CategoricalDistribution(["none"]),
            },
            value=1.0,
        )
    )
    study.enqueue_trial({"w/web": 1.0, "w/code": 0.0})
    study.ask()  # running
    assert [t.number for t in read_history(study, SPACE).trials] == [0]


def test_an_enqueued_trial_counts_once_it_is_finished() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"w/web": 1.0, "w/code": 0.0})
    study.optimize(lambda trial: SPACE.suggest(trial)["web"], n_trials=1)
    np.testing.assert_array_equal(read_history(study, SPACE).weights, [[1.0, 0.0]])


def test_a_nan_score_fails_its_trial_and_is_left_out() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"w/web": 1.0, "w/code": 0.0})
    study.optimize(lambda trial: SPACE.suggest(trial)["web"] * math.nan, n_trials=1)
    history = read_history(study, SPACE)
    assert len(history) == 0 and history.weights.shape == (0, 2) and history.values.shape == (0,)


def test_keep_narrows_the_history() -> None:
    study = optuna.create_study()
    for value in (1.0, 2.0, 3.0):
        add(study, value=value)
    assert read_history(study, SPACE, lambda t: t.number != 1).values.tolist() == [1.0, 3.0]


def test_components_add_up_to_the_value_in_either_direction() -> None:
    for direction in ("minimize", "maximize"):
        study = optuna.create_study(direction=direction)
        set_aggregate(study, {"piqa": 0.25, "arc": 0.75})
        for piqa, arc in ((0.6, 0.3), (0.5, 0.5)):
            study.enqueue_trial({"w/web": 1.0, "w/code": 0.0})
            trial = study.ask()
            SPACE.suggest(trial)
            report_components(trial, {"piqa": piqa, "arc": arc, "extra": 9.0})
            study.tell(trial, 0.25 * piqa + 0.75 * arc)
        history = read_history(study, SPACE)
        assert history.names == ("arc", "piqa")
        assert history.components is not None and history.coefficients is not None
        np.testing.assert_array_equal(history.components, [[0.3, 0.6], [0.5, 0.5]])
        np.testing.assert_allclose(history.components @ history.coefficients, history.values)


@pytest.mark.parametrize("components", [None, {"piqa": 1.0}, {"piqa": 1.0, "arc": math.nan}])
def test_components_are_used_only_when_every_trial_has_all_of_them(components: Any) -> None:
    study = optuna.create_study()
    set_aggregate(study, {"piqa": 0.5, "arc": 0.5})
    add(study, **{COMPONENTS: {"piqa": 1.0, "arc": 1.0}})
    assert read_history(study, SPACE).components is not None
    add(study, **({} if components is None else {COMPONENTS: components}))
    history = read_history(study, SPACE)
    assert len(history) == 2 and history.components is None and history.names == ()


def test_a_component_that_is_nan_fails_its_trial_by_name() -> None:
    study = optuna.create_study()
    set_aggregate(study, {"piqa": 0.5, "arc": 0.5})
    trial = study.ask()
    with pytest.raises(TrialFailed, match=r"^component 'arc' is nan, not a number$"):
        report_components(trial, {"piqa": 1.0, "arc": math.nan})
    assert COMPONENTS not in trial.user_attrs
    report_components(trial, {"piqa": 1.0, "arc": 2.0, "arc_stderr": math.nan})  # of no score
    assert math.isnan(trial.user_attrs[COMPONENTS]["arc_stderr"])


def test_components_of_another_score_are_left_aside_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = optuna.create_study(direction="maximize")
    set_aggregate(study, {"piqa": 0.5, "arc": 0.5})
    add(study, value=1.0, **{COMPONENTS: {"piqa": 1.0, "arc": 1.0 + 1e-9}})
    assert read_history(study, SPACE).components is not None
    add(study, value=7.0, **{COMPONENTS: {"piqa": 0.25, "arc": 0.5}})
    for _ in range(2):  # said once
        assert read_history(study, SPACE).components is None
    assert caplog.text.count("those of trial 1 add up to 0.375 by climb/aggregate, but its sc") == 1


@pytest.mark.parametrize("coefficient", [0.5, -0.5])
@pytest.mark.parametrize("size", [1.0, -1.0])
def test_components_are_apart_from_the_score_on_either_side(
    coefficient: float, size: float
) -> None:
    parts, total = {"piqa": size, "arc": 3 * size}, 4 * size * coefficient
    for beside, used in ((1e-9, True), (-1e-9, True), (0.01, False), (-0.01, False)):
        study = optuna.create_study()
        set_aggregate(study, dict.fromkeys(parts, coefficient))
        add(study, value=total + beside, **{COMPONENTS: parts})
        assert (read_history(study, SPACE).components is not None) == used


def test_what_a_schedule_reads_in_all_is_the_sum_of_what_its_phases_read() -> None:
    weights, trials = np.array([[0.35, 0.15, 0.2, 0.3]]), (create_trial(value=1.0),)
    phased = History(weights, np.ones(1), trials, shares=(0.5, 0.5))
    assert phased.mixtures == pytest.approx(np.array([[0.55, 0.45]]))
    np.testing.assert_array_equal(replace(phased, shares=()).mixtures, weights)


@pytest.mark.parametrize("coefficients", [{}, {"piqa": math.inf}])
def test_an_aggregate_needs_finite_coefficients(coefficients: dict[str, float]) -> None:
    with pytest.raises(UserError, match="finite coefficients"):
        set_aggregate(optuna.create_study(), coefficients)


def test_a_bracket_of_hyperband_hides_nothing() -> None:
    seen = []

    class Watching(optuna.samplers.RandomSampler):
        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            seen.append(len(read_history(study, SPACE)))
            return SPACE.params(SPACE.prior)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return SPACE.distributions()

    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    study = optuna.create_study(sampler=Watching(seed=0), pruner=pruner)
    set_aggregate(study, {"piqa": 1.0})
    study.optimize(lambda trial: SPACE.suggest(trial)["web"], n_trials=6)
    assert seen == list(range(6))


OLDER = {IMPORTED: {"study": "older", "trial": 3}}


@pytest.mark.parametrize(
    ("attributes", "scores", "left"),
    [
        ([{FACTS: {"seed": 0}}] * 3, [1.0, 1.0, 1.0], 1),
        ([{FACTS: {"seed": 0}}] * 3, [1.0, 1.0, 1.5], 2),  # other scores: no copies
        ([{FACTS: {"seed": 0}}, {FACTS: {"seed": 1}}], [1.0, 1.0], 2),
        ([{}, {}, {}], [1.0, 1.0, 1.0], 3),  # a function that has no noise
        ([OLDER, OLDER, {FACTS: {"seed": 0}}], [1.0, 1.0, 1.0], 1),
        ([{IMPORTED: {"file": "runs.csv", "line": n}} for n in (2, 3)], [1.0, 1.0], 2),
    ],
)
def test_a_run_that_is_an_earlier_one_again_is_told_by_mixture_seed_and_score(
    attributes: list[dict[str, Any]], scores: list[float], left: int
) -> None:
    study = optuna.create_study()
    for row, (attrs, score) in enumerate(zip(attributes, scores, strict=True)):
        add(study, (0.4 + row * 1e-12, 0.6 - row * 1e-12), score, **attrs)
    history = read_history(study, SPACE)
    assert len(history) == len(scores) and len(distinct(history)) == left
    assert distinct(history).trials[0].number == 0
