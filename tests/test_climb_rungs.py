"""CLIMB whose rounds train on different rungs: each learns from all before it, on one scale."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from climb_opt import ClimbSampler, MixtureSpace
from climb_opt.attributes import FORECAST, LADDER, RECIPE, RUNG, SLOT
from climb_opt.emulator import LadderObjective, MixingLaw, SimulatedLadder
from climb_opt.history import History
from climb_opt.recipes import study_from, to_json
from climb_opt.samplers.climb import climb_pick, fit_predictor
from climb_opt.samplers.levels import on_one_scale
from climb_opt.samplers.presets import ClimbOptions
from climb_opt.statistics import spearman
from climb_opt.storages import study_lock
from climb_opt.view import StudyView, read_history
from climb_opt.workers import Work
from climb_opt.workers import work as run_plan

SPACE = MixtureSpace({"web": 5, "code": 3, "math": 2})


def bowl(weights: np.ndarray) -> np.ndarray:
    return np.asarray(((np.sqrt(weights) - np.sqrt([0.2, 0.3, 0.5])) ** 2).sum(axis=1))


def history(
    rungs: list[int], values: list[np.ndarray], weights: list[np.ndarray], parts: bool = False
) -> History:
    numbers = np.concatenate([np.full(len(w), r) for r, w in zip(rungs, weights, strict=True)])
    y, w = np.concatenate(values), np.concatenate(weights)
    trial = optuna.trial.create_trial(value=0.0)
    components = np.stack([y, 2 * y], axis=1) if parts else None
    coefficients = np.array([-1.0, 1.0]) if parts else None
    return History(w, y, (trial,) * len(y), components, coefficients, rungs=numbers, target=1)


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize(("shift", "stretch"), [(-3.0, 0.4), (0.0, 1.0), (2.0, 3.0)])
def test_scores_of_a_lower_rung_land_on_the_scale_of_the_higher(
    shift: float, stretch: float, parts: bool
) -> None:
    rng = np.random.default_rng(3)
    low, high = SPACE.sample_mixed(rng, 30), SPACE.sample_mixed(rng, 12)
    given = history([0, 1], [shift + stretch * bowl(low), bowl(high)], [low, high], parts)
    found, truth = on_one_scale(given), np.concatenate([bowl(low), bowl(high)])
    assert found.rungs is None and len(found) == 42
    assert spearman(found.values, truth) > 0.8
    assert found.values[:30].mean() - truth[:30].mean() == pytest.approx(0.0, abs=0.1)
    if parts:
        assert found.components is not None and found.coefficients is not None
        np.testing.assert_allclose(found.components @ found.coefficients, found.values)


def test_what_is_of_one_rung_stays_as_it_is() -> None:
    low = SPACE.sample_mixed(np.random.default_rng(0), 20)
    trial = optuna.trial.create_trial(value=0.0)
    plain = History(low, bowl(low), (trial,) * 20)
    assert on_one_scale(plain) is plain
    alone = on_one_scale(history([0], [bowl(low)], [low]))
    assert spearman(alone.values, bowl(low)) > 0.99
    equal = on_one_scale(history([0, 1], [np.ones(2), np.full(3, 5.0)], [low[:2], low[:3]]))
    assert np.isfinite(equal.values).all()


def test_rounds_on_rungs_learn_from_the_rounds_below() -> None:
    source = SimulatedLadder(MixingLaw(4), correlation=0.95)
    study = optuna.create_study(
        sampler=ClimbSampler(
            source.space, rounds=(24, 12, 6), predictor="gp", pool_size=2000, seed=0
        )
    )
    rounds = [{"trials": m, "rung": r} for r, m in enumerate((24, 12, 6))]
    data = {"corpus": "none", "proxy": {"tokens": 3}, "evaluators": ["none"], "score": ["value"]}
    data |= {"ladder": [{"tokens": 1}, {"tokens": 2}, {"tokens": 3}], "rounds": rounds}
    study.set_user_attr(LADDER, source.ladder.to_data())
    study.set_user_attr(RECIPE, to_json(study_from(data | {"baselines": []})))
    plan = StudyView(study).plan
    run_plan(study, LadderObjective(source), study_lock(study), Work(plan, space=source.space))
    trials = study.get_trials(deepcopy=False)
    assert [t.user_attrs[RUNG] for t in trials] == [0] * 24 + [1] * 12 + [2] * 6
    assert [t.user_attrs[SLOT] for t in trials] == list(range(42))
    weights = np.array([source.space.weights_of(t) for t in trials])
    truth = source.truth(weights)
    assert np.median(truth[24:36]) < np.median(truth[:24])
    assert np.median(truth[36:]) < np.quantile(truth[:24], 0.25)
    # No round here learns from its own rung, so none foretells on the scale of its scores but by
    # the study's own process, which knows the target's.
    foretold = [t for t in trials if FORECAST in t.system_attrs]
    assert {t.user_attrs[RUNG] for t in foretold} <= {2} and len(foretold) <= 2
    every = read_history(study, source.space, rungs=True)
    merged = on_one_scale(every)
    assert len(merged) == 42
    own = ClimbOptions(predictor="linear", pool_size=2000)
    pick = climb_pick(source.space, merged, own, seed=0)
    predictor = fit_predictor(merged, own.make)
    assert np.isfinite(predictor.predict(pick[None])[0]).all()
