"""The space of schedules: sums of phases, bounds of each, the caps that couple them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt import MixtureSpace, UserError, recipes
from climb_opt.bounds import SUM_TOLERANCE
from climb_opt.phases import PhasedSpace, space_from_json, to_train
from climb_opt.plan import space_for
from climb_opt.schedules import Phase

TOKENS = {"web": 700.0, "code": 200.0, "math": 100.0}


@st.composite
def spaces(draw: st.DrawFn) -> PhasedSpace:
    k, count = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    names = [f"d{i}" for i in range(k)]
    tokens = 1e6 * (rng.dirichlet(np.full(k, draw(st.sampled_from([0.2, 1.0, 30.0])))) + 1e-9)
    shares = 0.9 * rng.dirichlet(np.ones(count)) + 0.1 / count
    shares /= shares.sum()
    inside = rng.dirichlet(np.ones(k), size=count)  # a schedule that every bound is around
    bounds: list[dict[str, Any]] = [{} for _ in range(count)]
    for given_bounds, w in zip(bounds, inside, strict=True):
        if draw(st.booleans()):
            given_bounds["lower"] = dict(zip(names, w * rng.random(k), strict=True))
        if draw(st.booleans()):
            given_bounds["upper"] = dict(zip(names, w + (1 - w) * rng.random(k), strict=True))
    more: dict[str, Any] = {}
    if draw(st.booleans()):
        slack = draw(st.sampled_from([1.0 + 1e-9, 1.001, 1.2, 3.0]))
        needed = float((shares @ inside / (tokens / tokens.sum())).max())
        more = {"max_epochs": slack * needed, "trial_tokens": float(tokens.sum())}
    pairs = zip(names, tokens, strict=True)
    return PhasedSpace(pairs, tuple(shares.tolist()), bounds=bounds, **more)


def inside(space: PhasedSpace, x: np.ndarray) -> bool:
    blocks = space.blocks(x)
    return bool(
        np.all(np.abs(blocks.sum(-1) - 1.0) <= 1e-9)
        and np.all(x >= space.lower - SUM_TOLERANCE)
        and np.all(x <= space.upper + SUM_TOLERANCE)
        and np.all(space.mean(x) <= space.cap + SUM_TOLERANCE)
        and np.all(x >= 0)
    )


@st.composite
def rows(draw: st.DrawFn, space: PhasedSpace) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, size = 12, len(space)
    kind = draw(st.sampled_from(["sparse", "flat", "vertices", "wild"]))
    if kind == "sparse":
        return rng.dirichlet(np.full(size, 0.02), size=n)
    if kind == "flat":
        return rng.dirichlet(np.ones(size), size=n)
    if kind == "vertices":
        return np.eye(size)[rng.integers(size, size=n)]
    return rng.choice([0.0, -1.0, np.nan, np.inf, 1e-300, 1e300, 1.0], size=(n, size))


@given(spaces(), st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_projected_is_a_schedule_of_the_space(space: PhasedSpace, data: Any) -> None:
    x = space.project(data.draw(rows(space)))
    assert inside(space, x) and np.all(space.contains(x))
    for row in x:
        space.check(row)


@given(spaces(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_schedule_of_the_space_is_projected_to_itself(space: PhasedSpace, data: Any) -> None:
    x = space.project(data.draw(rows(space)))
    assert np.allclose(space.project(x), x, rtol=0, atol=2e-9)


@given(spaces(), st.data())
@settings(max_examples=60, deadline=None)
def test_each_row_is_projected_whatever_the_others_are(space: PhasedSpace, data: Any) -> None:
    x = data.draw(rows(space))
    together = space.project(x)
    alone = np.stack([space.project(row) for row in x])
    assert np.allclose(together, alone, rtol=0, atol=1e-9)


@given(spaces(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_draws_are_schedules_of_the_space(space: PhasedSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for x in (space.sample(rng, 9), space.sample_mixed(rng, 9)):
        assert x.shape == (9, len(space)) and np.all(space.contains(x))


@given(spaces(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_parameters_mixtures_and_storage_say_the_same_schedule(
    space: PhasedSpace, seed: int
) -> None:
    for x in space.sample_mixed(np.random.default_rng(seed), 3):
        trial = optuna.trial.create_trial(
            value=0.0, params=space.params(x), distributions=space.distributions()
        )
        found = space.weights_of(trial)
        assert found is not None and np.allclose(found, x, rtol=0, atol=1e-12)
        assert np.allclose(space.weights(space.mixture(x)), x, rtol=0, atol=1e-12)
        again = PhasedSpace.from_json(json.loads(json.dumps(space.to_json())))
        assert again.domains == space.domains and bool(again.contains(x))
        assert np.allclose(again.project(x), space.project(x), rtol=0, atol=1e-12)


@given(st.integers(0, 2**32), st.sampled_from([1.01, 1.5, 4.0]), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_mixture_held_throughout_is_projected_as_one_mixture_is(
    seed: int, slack: float, count: int
) -> None:
    rng = np.random.default_rng(seed)
    tokens = dict(zip("abcdef", 1000 * rng.dirichlet(np.ones(6)), strict=True))
    limits = {"max_epochs": slack, "trial_tokens": 1000.0}
    space = PhasedSpace(tokens, tuple(np.full(count, 1.0 / count)), **limits)
    one = MixtureSpace(tokens, **limits)
    w = rng.dirichlet(np.full(6, 0.3), size=8)
    found = space.project(space.constant(w))
    assert np.allclose(found, space.constant(one.project(w)), rtol=0, atol=1e-12)


def test_proportions_stay_where_no_limit_stops_them() -> None:
    space = PhasedSpace(TOKENS, (0.8, 0.2))
    x = space.project(np.array([4.0, 4.0, 0.0, 1.0, 0.0, 3.0]))
    assert np.allclose(space.blocks(x), [[0.5, 0.5, 0.0], [0.25, 0.0, 0.75]])


def test_a_scarce_domain_may_be_kept_for_the_last_phase() -> None:
    space = PhasedSpace(TOKENS, (0.8, 0.2), max_epochs=2.0, trial_tokens=1000.0)
    last = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) * space.shares[:, None]
    found = space.blocks(space.project(last.ravel()))
    assert np.allclose(found, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # 200 tokens, 2 epochs of 100
    more = np.array([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]) * space.shares[:, None]
    mean = space.mean(space.project(more.ravel()))
    assert mean[2] == pytest.approx(0.2)


def test_every_other_draw_is_one_mixture_throughout() -> None:
    space = PhasedSpace(TOKENS, (0.6, 0.3, 0.1))
    drawn = space.blocks(space.sample_mixed(np.random.default_rng(0), 10))
    same = np.ptp(drawn, axis=1).max(axis=1) < 1e-12
    assert same.tolist() == [True, False] * 5


def test_weights_are_named_by_phase() -> None:
    space = PhasedSpace({"web": 3, "code": 1}, (0.8, 0.2))
    assert space.domains == ("1/web", "1/code", "2/web", "2/code")
    assert space.parameter_names == ("w1/web", "w1/code", "w2/web", "w2/code")
    assert list(space.distributions()) == list(space.parameter_names)
    x = space.weights({"1/web": 1.0, "w2/code": 1.0})
    assert space.params(x) == {"w1/web": 1.0, "w1/code": 0.0, "w2/web": 0.0, "w2/code": 1.0}
    assert space.mean(x).tolist() == pytest.approx([0.8, 0.2])


def test_a_trial_suggests_its_schedule() -> None:
    space = PhasedSpace({"web": 3, "code": 1}, (0.8, 0.2))
    trial = optuna.trial.FixedTrial(space.params(space.weights([{"web": 1}, {"code": 1}])))
    assert space.suggest(trial) == {"1/web": 1.0, "1/code": 0.0, "2/web": 0.0, "2/code": 1.0}
    off = optuna.trial.FixedTrial({"w1/web": 0.5, "w1/code": 0.5, "w2/web": 0.5, "w2/code": 0.2})
    with pytest.raises(UserError, match=r"Trial 0, phase 2: the weights sum to 0\.7, not to 1"):
        space.suggest(off)


@pytest.mark.parametrize(
    ("mixture", "what"),
    [
        ({"1/web": 1.0, "2/wep": 1.0}, "Unknown domain '2/wep'. Did you mean '2/web'"),
        ({"web": 0.5}, "the weights sum to 0.5, not to 1"),
        ({"1/web": 1.0}, "phase 2: the weights sum to 0, not to 1"),
        ({"1/web": 1.0, "2/web": 30, "2/code": 70}, "phase 2: the weights sum to 100"),
        ([{"web": 1.0}], "a mixture for each of 2 phases, but there are 1"),
        ([{"web": 1.0}, {"code": 1.0}], "over all phases domain 'code' weighs 0.2, but max_epochs"),
        ({"1/web": 1.0, "w1/web": 1.0, "2/web": 1.0}, "given twice"),
    ],
)  # fmt: skip
def test_a_schedule_that_is_none_is_refused(mixture: Any, what: str) -> None:
    space = PhasedSpace({"web": 900, "code": 100}, (0.8, 0.2), max_epochs=1.5, trial_tokens=1000.0)
    with pytest.raises(UserError) as raised:
        space.weights(mixture)
    assert what in str(raised.value)


@pytest.mark.parametrize(
    ("bounds", "more", "what"),
    [
        ([{}, {"upper": 0.2}], {}, "Phase 2 of 2: No mixture meets the bounds"),
        ([{"lower": {"web": 0.9, "code": 0.3}}, {}], {}, "Phase 1 of 2: No mixture meets"),
        ([{}, {"upper": {"wep": 0.2}}], {}, "Phase 2 of 2: upper: unknown domain 'wep'"),
        ([{}], {}, "one for each of 2 phases, but there are 1"),
        (
            [{}, {"upper": {"web": 0.0}}],
            {"max_epochs": 1.0, "trial_tokens": 2500.0},
            "Raise max_epochs",
        ),
        (
            [{"upper": {"web": 0.1}}, {}],
            {"max_epochs": 1.0, "trial_tokens": 1000.0},
            "Phase 1 of 2: within its bounds and max_epochs the domains fill 0.475",
        ),
        (
            [{"lower": {"math": 0.1}}, {"lower": {"math": 0.4}}],
            {"max_epochs": 1.2, "trial_tokens": 1000.0},
            "No schedule meets the bounds of all phases within max_epochs",
        ),
    ],
)
def test_bounds_that_no_schedule_meets_are_refused_by_phase(
    bounds: Any, more: Any, what: str
) -> None:
    with pytest.raises(UserError) as raised:
        PhasedSpace(TOKENS, (0.8, 0.2), bounds=bounds, **more)
    assert what.lower() in str(raised.value).lower()


def test_a_capped_space_keeps_its_phases() -> None:
    space = PhasedSpace(TOKENS, (0.8, 0.2), max_epochs=3.0, trial_tokens=1000.0)
    upper = space.upper.copy()
    upper[-1] = 0.0  # no math in the last phase
    capped = space.capped(upper)
    x = capped.sample_mixed(np.random.default_rng(0), 16)
    assert np.all(x[:, -1] <= 1e-12) and np.all(space.contains(x))
    assert space.upper[-1] > 0


# --- in a recipe -------------------------------------------------------------------------------

MINIMAL = {
    "corpus": "corpora/x",
    "proxy": {"tokens": 20_480, "batch_tokens": 1024},  # 20 steps
    "evaluators": ["heldout"],
    "score": ["a/bpb"],
}


def recipe(**keys: Any) -> recipes.StudyRecipe:
    return recipes.study_from({**MINIMAL, **keys})


def test_a_recipe_with_phases_searches_schedules() -> None:
    space = space_for(TOKENS, recipe(phases=["80%", 0.2]))
    assert isinstance(space, PhasedSpace) and space.shares.tolist() == [0.8, 0.2]
    again = space_from_json(json.loads(json.dumps(space.to_json())))
    assert again.to_json() == space.to_json()


def test_a_recipe_without_phases_is_stored_as_before_there_were_any() -> None:
    stored = json.loads(recipes.to_json(recipe()))
    assert "phases" not in stored and "phases" not in stored["space"]
    phased = recipe(phases=[0.5, 0.5], space={"phases": [{}, {"upper": 0.7}]})
    stored = json.loads(recipes.to_json(phased))
    assert stored["phases"] == [0.5, 0.5] and stored["space"]["phases"][1]["upper"] == 0.7
    assert recipes.study_from(stored, stored=True) == phased


def test_what_a_phase_says_of_a_domain_replaces_what_holds_in_all() -> None:
    bounds = {"lower": 0.05, "upper": {"web": 0.6}}
    own = [{"upper": {"code": 0.5}}, {"lower": {"math": 0.3}, "upper": 0.8}]
    space = space_for(TOKENS, recipe(phases=[0.5, 0.5], space={**bounds, "phases": own}))
    assert isinstance(space, PhasedSpace)
    lower, upper = space.blocks(space.lower), space.blocks(space.upper)
    assert np.allclose(lower, [[0.05, 0.05, 0.05], [0.05, 0.05, 0.3]])
    assert np.allclose(upper, [[0.6, 0.5, 1.0], [0.8, 0.8, 0.8]])


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"phases": [0.5, 0.6]}, "study.phases: the shares sum to 1.1, not to 1"),
        ({"phases": [0.96, 0.04]}, "Phase 2 of 2 is 0.04 of 20 steps: less than one"),
        ({"phases": [1.0]}, "a trial of one phase is the ordinary one; drop phases"),
        ({"phases": [1.0, 0.0]}, "study.phases[1] must be in (0, 1], but is 0"),
        ({"phases": [1.5, -0.5]}, "study.phases[0] must be in (0, 1], but is 1.5"),
        ({"space": {"phases": [{}, {}]}}, "bounds for each of 1 phases (study.phases), but"),
        ({"phases": [0.5, 0.5], "space": {"phases": [{}]}}, "for each of 2 phases"),
        (
            {"phases": [0.9, 0.1], "proxy": {"tokens": 20_480, "command": "x {trial}"}},
            "Phase 2 of 2 is 0.1 of 5 steps",
        ),
        (
            {"phases": [0.5, 0.5], "ladder": [{"tokens": 1024}, {}], "rungs": [0], "rounds": [4]},
            "Phase 1 of 2 is 0.5 of 1 steps",
        ),
    ],
)
def test_phases_that_no_trial_can_have_are_refused(keys: Any, what: str) -> None:
    with pytest.raises(UserError) as raised:
        recipe(**keys)
    assert what in str(raised.value)


def test_a_trial_trains_its_schedule_and_is_known_by_its_mean() -> None:
    space = PhasedSpace({"web": 3, "code": 1}, (0.75, 0.25))
    mixture, schedule = to_train(space, {"1/web": 1.0, "2/code": 1.0})
    assert mixture == pytest.approx({"web": 0.75, "code": 0.25})
    assert schedule == (
        Phase(0.75, {"web": 1.0, "code": 0.0}),
        Phase(0.25, {"web": 0.0, "code": 1.0}),
    )
    assert schedule is not None and np.allclose(
        space.weights(schedule), space.weights({"1/web": 1, "2/code": 1})
    )
    one = MixtureSpace({"web": 3, "code": 1})
    assert to_train(one, {"web": 1.0}) == ({"web": 1.0}, None)


def test_a_schedule_of_other_phases_is_refused() -> None:
    space = PhasedSpace({"web": 3, "code": 1}, (0.75, 0.25))
    with pytest.raises(UserError, match=r"phases are 0\.5 \+ 0\.5 of a run, but those of this"):
        space.weights((Phase(0.5, {"web": 1.0}), Phase(0.5, {"web": 1.0})))
