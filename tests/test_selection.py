"""Which mixture to keep: the rules, what goes with them, and studies that give little to go on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial

import climb_opt
from climb_opt import MixtureSpace, UserError, lookup
from climb_opt.attributes import FACTS, SLOT, SPACE
from climb_opt.emulator import MixingLaw, NoisyObjective
from climb_opt.history import MOST, set_aggregate
from climb_opt.measures import effective_domains
from climb_opt.samplers import climb
from climb_opt.selection import Recommendation, best_mixture, compare_rules, rules
from climb_opt.selection.recommendation import Estimate, doubts
from climb_opt.selection.rules import PATH_RULES
from climb_opt.view import read_history

LAW = MixingLaw(5, 3, seed=0)
SPACE5 = LAW.space


def study_of(
    values: object, weights: np.ndarray, space: MixtureSpace = SPACE5, **options: object
) -> optuna.Study:
    directions = options.pop("directions", ["minimize"])
    study = optuna.create_study(directions=directions)  # type: ignore[arg-type]
    study.set_user_attr(SPACE, space.to_json())
    for w, value in zip(weights, np.atleast_2d(np.array(values).T).T, strict=True):
        study.add_trial(
            create_trial(
                params=space.params(w),
                distributions=space.distributions(),
                values=value.tolist(),
                **options,  # type: ignore[arg-type]
            )
        )
    return study


def finished(n: int = 40, noise: float = 0.0, sign: float = 1.0) -> optuna.Study:
    rng = np.random.default_rng(0)
    weights = SPACE5.sample_mixed(rng, n)
    values = sign * LAW.score(weights) + noise * rng.standard_normal(n)
    return study_of(values, weights, directions=["minimize" if sign > 0 else "maximize"])


def test_a_prior_that_nobody_stored_is_said_to_be_none() -> None:
    study = optuna.create_study()
    study.add_trials(finished(9).trials)
    found, told = best_mixture(study), best_mixture(study, space=SPACE5)
    assert found.warnings[0].startswith("no space is stored: the uniform mixture stands for the")
    assert not any("no space is stored" in warning for warning in told.warnings)
    assert told.mixture == best_mixture(finished(9)).mixture


def regret(mixture: Recommendation) -> float:
    return float(LAW.score(SPACE5.weights(mixture)[None])[0] - LAW.optimum()[1])


# --- rules ---------------------------------------------------------------------------------------


def test_every_rule_recommends_a_mixture_of_the_space() -> None:
    found = compare_rules(finished(noise=0.05))
    assert list(found) == [rule for rule in lookup.KINDS["rule"] if rule not in PATH_RULES]
    typical = np.median(LAW.score(SPACE5.sample_mixed(np.random.default_rng(1), 500)))
    for rule, recommendation in found.items():
        assert bool(SPACE5.contains(SPACE5.weights(recommendation)))
        assert recommendation.rule == ("optimum" if rule == "auto" else rule)
        assert regret(recommendation) < typical - LAW.optimum()[1]


def test_rules_side_by_side_fit_climbs_predictor_and_seek_the_optimum_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called = []

    def counted(place: Any, name: str) -> None:
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, **k: called.append(name) or real(*a, **k))

    counted(climb, "fit_predictor")
    counted(rules, "mean_optimum")
    found = compare_rules(finished(noise=0.05))
    assert sorted(called) == ["fit_predictor", "mean_optimum"]
    assert found["auto"] == found["optimum"] == best_mixture(finished(noise=0.05))


def test_a_promise_far_beyond_what_was_measured_is_doubted() -> None:
    class Flat:
        def __init__(self, mean: float) -> None:
            self.mean = mean

        def moments(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.full(len(roots), self.mean), np.zeros(len(roots))

    history = read_history(finished(), SPACE5)
    best, middle = float(history.values.min()), float(np.median(history.values))
    for times, doubted in ((1.5, False), (3.0, True)):
        surrogate: Any = Flat(best - times * (middle - best))
        found = doubts(history, history, surrogate, history.weights[0])
        assert any("3.0 times" in doubt for doubt in found) is doubted


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_runs_that_diverged_do_not_bend_the_recommendation(sign: float) -> None:
    rng = np.random.default_rng(0)
    weights = SPACE5.sample_mixed(rng, 40)
    values = LAW.score(weights) + 1e-3 * rng.standard_normal(40)
    worst = np.argsort(values)[-4:]
    values[worst] += [8.0, 30.0, 11.0, 300.0]
    study = study_of(sign * values, weights, directions=["minimize" if sign > 0 else "maximize"])
    found = best_mixture(study)
    assert regret(found) < np.sort(LAW.score(weights))[4] - LAW.optimum()[1]
    assert found.predicted is not None
    assert sign * found.predicted.mean > LAW.optimum()[1] - 0.2


@pytest.mark.parametrize(("n", "huge"), [(16, 1e160), (40, 1e6), (40, 1e308)])
def test_a_score_of_any_size_bends_no_rule(n: int, huge: float) -> None:
    weights = SPACE5.sample_mixed(np.random.default_rng(0), n)
    values = LAW.score(weights)
    worst = int(np.argmax(values))
    values[worst] = huge
    without = np.delete(values, worst)
    found = compare_rules(study_of(values, weights))
    alone = compare_rules(study_of(without, np.delete(weights, worst, axis=0)))
    for rule, recommendation in found.items():
        assert regret(recommendation) < max(2 * regret(alone[rule]), np.ptp(without) / 3), rule
        said = "1 of" in " ".join(recommendation.warnings)
        assert said == (huge > MOST)


@pytest.mark.parametrize("name", ["simplex-gp", "climb", "tpe", "cma-es", "gp-optuna"])
@pytest.mark.parametrize("huge", [math.inf, 1e155, -1e308])
def test_every_sampler_goes_on_after_a_score_of_any_size(name: str, huge: float) -> None:
    options: dict[str, Any] = {"simplex-gp": {"n_startup": 4}, "climb": {"rounds": (4, 40)}}
    sampler = lookup.find("sampler", name)(SPACE5, seed=0, **options.get(name, {}))
    study = finished(12)
    study.sampler = sampler
    row = SPACE5.params(SPACE5.prior)
    study.add_trial(create_trial(params=row, distributions=SPACE5.distributions(), value=huge))
    mixture = SPACE5.suggest(study.ask())
    assert bool(SPACE5.contains(SPACE5.weights(mixture)))


def test_without_noise_the_model_finds_better_than_was_measured() -> None:
    study = finished()
    assert best_mixture(study).rule == "predicted"
    assert regret(best_mixture(study)) < 0.5 * regret(best_mixture(study, rule="observed"))


def test_direction_changes_signs_and_nothing_else() -> None:
    down, up = best_mixture(finished()), best_mixture(finished(sign=-1.0))
    assert down.mixture == pytest.approx(up.mixture, abs=1e-6)
    assert down.predicted is not None and up.predicted is not None
    assert up.predicted.mean == pytest.approx(-down.predicted.mean)
    assert up.gain is not None and up.gain.mean > 0


def test_recommendations_are_a_function_of_study_and_seed() -> None:
    study = finished(noise=0.2)
    assert best_mixture(study).mixture == best_mixture(study).mixture
    assert best_mixture(study, seed=1).mixture != best_mixture(study, seed=2).mixture
    with pytest.raises(UserError, match="seed must be a whole number, at least 0, but is None"):
        best_mixture(study, seed=None)


def test_bounds_are_respected_by_every_rule() -> None:
    space = MixtureSpace({f"d{i}": 1.0 for i in range(5)}, lower=0.05, upper=0.4)
    law = MixingLaw(tasks=3, seed=0, space=space)
    weights = space.sample_mixed(np.random.default_rng(0), 30)
    study = study_of(law.score(weights), weights, space)
    for recommendation in compare_rules(study).values():
        assert bool(space.contains(np.array([recommendation[d] for d in space.domains])))


def test_components_can_be_modelled_one_by_one() -> None:
    study = optuna.create_study(sampler=climb_opt.SimplexGPSampler(SPACE5, seed=0))
    set_aggregate(study, dict(zip(LAW.names, LAW.coefficients.tolist(), strict=True)))
    study.optimize(NoisyObjective(LAW, components=True), n_trials=16)
    parts, whole = best_mixture(study, components=True), best_mixture(study)
    assert parts.mixture != whole.mixture
    assert regret(parts) < 0.1 and regret(whole) < 0.1


# --- what goes with a mixture --------------------------------------------------------------------


def test_intervals_hold_the_truth() -> None:
    recommendation = best_mixture(finished(60))
    weights = SPACE5.weights(recommendation)
    prior = float(LAW.score(SPACE5.prior[None])[0])
    truth = float(LAW.score(weights[None])[0])
    for estimate, value in (
        (recommendation.predicted, truth),
        (recommendation.gain, prior - truth),
    ):
        assert isinstance(estimate, Estimate)
        wide = 3 * (estimate.high - estimate.low) + 1e-3
        assert abs(estimate.mean - value) < wide
        assert estimate.low < estimate.mean < estimate.high


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_gain_counts_from_the_priors_own_score_once_a_search_has_concentrated(
    sign: float,
) -> None:
    law = MixingLaw(12, seed=0)
    rng = np.random.default_rng(0)
    root = law.optimum()[0] + 0.002
    near = rng.dirichlet(400 * root / root.sum(), 60)
    start = law.space.sample_mixed(rng, 15)
    weights = np.concatenate([law.space.project(law.space.prior)[None], start, near])
    directions = ["minimize" if sign > 0 else "maximize"]
    study = study_of(sign * law.score(weights), weights, law.space, directions=directions)
    best = best_mixture(study)
    assert best.gain is not None and best.predicted is not None
    prior, chosen = law.score(np.stack([weights[0], law.space.weights(best)]))
    assert best.gain.mean == pytest.approx(prior - chosen, rel=0.01)
    assert best.predicted.mean == pytest.approx(sign * chosen, rel=0.01)


def test_the_printed_recommendation_says_what_a_person_needs() -> None:
    recommendation = best_mixture(finished(noise=0.3))
    text = str(recommendation)
    for needed in ("effective domains", "from the prior", "gain over the prior", "90 %", "noise"):
        assert needed in text
    assert sum(recommendation.values()) == pytest.approx(1.0)
    assert set(recommendation) == set(SPACE5.domains) and len(recommendation) == 5
    assert "confirm the gain with fresh seeds" in text


def test_the_best_baseline_is_compared_with() -> None:
    study = finished()
    assert best_mixture(study).gain_over_baseline is None
    for name, weights in (("prior", SPACE5.prior), ("uniform", np.full(5, 0.2))):
        value = float(LAW.score(weights[None])[0])
        study.add_trial(
            create_trial(
                params=SPACE5.params(weights),
                distributions=SPACE5.distributions(),
                values=[value],
                user_attrs={SLOT: f"baseline/{name}"},
            )
        )
    found = best_mixture(study)
    assert found.gain is not None and found.gain_over_baseline is not None
    assert 0 < found.gain_over_baseline.mean <= found.gain.mean + 1e-9


def test_effective_domains_count_an_even_split() -> None:
    assert effective_domains(np.array([0.25, 0.25, 0.25, 0.25, 0.0])) == pytest.approx(4.0)
    assert effective_domains(np.array([1.0, 0.0])) == pytest.approx(1.0)


def test_extrapolation_and_few_trials_are_warned_of() -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.array([60.0, 60.0, 60.0, 60.0, 60.0]), 8)
    study = study_of(1.0 - weights[:, 0], weights)
    warnings = " ".join(best_mixture(study, rule="predicted").warnings)
    assert "extrapolates" in warnings and "few trials: 8 for 5 domains" in warnings


def railed(
    weights: np.ndarray, values: np.ndarray, over: np.ndarray, space: MixtureSpace = SPACE5
) -> optuna.Study:
    """A study of mixtures, of which each is beyond a guard-rail by `over`."""
    study = study_of([], weights[:0], space)
    for w, value, excess in zip(weights, values.tolist(), over.tolist(), strict=True):
        shape = {"params": space.params(w), "distributions": space.distributions()}
        study.add_trial(create_trial(**shape, value=value, constraints={"rail": excess}))
    return study


def test_guard_rails_are_kept_by_the_recommendation() -> None:
    weights = SPACE5.sample_mixed(np.random.default_rng(0), 60)
    # The score wants the first domain, the guard-rail caps it at a third.
    study = railed(weights, 1.0 - weights[:, 0], weights[:, 0] - 1 / 3)
    first = SPACE5.domains[0]
    for rule in ("observed", "evaluated", "predicted", "supported", "optimum"):
        assert best_mixture(study, rule=rule)[first] < 0.36
    assert best_mixture(study, rule="predicted")[first] > 0.25


@pytest.mark.parametrize("seed", [3, 4])
def test_guard_rails_are_likely_kept_after_few_noisy_trials(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = SPACE5.sample_mixed(rng, 8)
    values = LAW.score(weights) + 0.05 * rng.standard_normal(8)
    found = compare_rules(
        railed(weights, values, 0.3 - weights[:, 0]), rules=["optimum", "predicted", "auto"]
    )
    assert any("hold with probability" in warning for warning in found["optimum"].warnings)
    assert found["auto"] == found["predicted"] != found["optimum"]


def test_guard_rails_are_kept_where_nothing_is_noisy() -> None:
    space = MixtureSpace({"a": 1.0, "b": 2.0, "c": 3.0})
    w = space.sample_mixed(np.random.default_rng(0), 50)
    study = railed(w, (w[:, 0] - 0.95) ** 2 + 0.01 * w[:, 1], w[:, 0] - 0.5, space)
    for rule in ("predicted", "supported", "optimum", "auto"):
        assert best_mixture(study, rule=rule)[space.domains[0]] < 0.53


def test_a_study_without_a_feasible_trial_says_so() -> None:
    weights = SPACE5.sample_mixed(np.random.default_rng(0), 12)
    study = study_of(LAW.score(weights), weights, constraints={"never": 1.0})
    assert any("no trial kept every guard-rail" in w for w in best_mixture(study).warnings)


def test_a_run_that_is_an_earlier_one_again_makes_nothing_more_certain() -> None:
    weights = SPACE5.sample_mixed(np.random.default_rng(0), 10)
    values = LAW.score(weights) + 0.3 * np.random.default_rng(1).standard_normal(10)
    seeded = {"user_attrs": {FACTS: {"seed": 0}}}
    once = best_mixture(study_of(values, weights, **seeded), rule="evaluated")
    study = study_of(np.tile(values, 3), np.tile(weights, (3, 1)), **seeded)
    again = best_mixture(study, rule="evaluated")
    assert again.predicted == once.predicted and again.gain == once.gain
    assert any("10 trials: intervals are" in word for word in again.warnings)


def test_several_objectives_give_the_pareto_set() -> None:
    weights = SPACE5.sample_mixed(np.random.default_rng(0), 30)
    losses = LAW.components(weights)[:, :2] * np.array([1.0, -1.0])
    study = study_of(losses, weights, directions=["minimize", "maximize"])
    chosen = best_mixture(study)
    assert chosen.rule == "pareto" and chosen.front
    everything = [dict(chosen), *map(dict, chosen.front)]
    kept = LAW.components(np.array([SPACE5.weights(m) for m in everything]))[:, :2]
    below = np.all(kept[:, None] < kept[None] - 1e-2, axis=2)
    assert not below.any()
    assert f"one of {len(everything)} mixtures of the Pareto set" in chosen.warnings[0]
    own = np.prod(kept.max(axis=0) + 0.1 * np.ptp(kept, axis=0) - kept, axis=1)
    assert own[0] > 0.98 * own.max()
    with pytest.raises(UserError, match="needs one objective"):
        compare_rules(study)


# --- little to go on -----------------------------------------------------------------------------


def test_one_trial_or_equal_scores_fall_back_to_what_was_observed_until_others_come() -> None:
    weights = SPACE5.sample_mixed(np.random.default_rng(0), 20)
    for n, reason in ((1, "one finished trial"), (5, "all scores are equal")):
        found = best_mixture(study_of(np.ones(n), weights[:n]), rule="predicted")
        assert found.rule == "observed" and reason in found.warnings[0]
        assert found.predicted is None and str(found)
    found = best_mixture(study_of(np.r_[np.full(16, 9.0), LAW.score(weights[16:])], weights))
    assert found.predicted is not None and found.predicted.mean < 9.0


def test_a_study_without_mixtures_is_refused() -> None:
    study = optuna.create_study(study_name="empty")
    with pytest.raises(UserError, match=r"'empty' has no trial yet.*sampler of climb_opt"):
        best_mixture(study)
    study.set_user_attr(SPACE, SPACE5.to_json())
    with pytest.raises(UserError, match="'empty' has no finished trial with a mixture"):
        best_mixture(study)


def test_an_unknown_rule_is_refused_with_a_near_one() -> None:
    with pytest.raises(UserError, match=r"Unknown rule 'predict'\. Did you mean 'predicted'"):
        best_mixture(finished(3), rule="predict")
    with pytest.raises(UserError, match="Known: observed"):
        compare_rules(finished(3), rules=["predicted", "zzz"])


def test_domains_are_found_from_the_trials_where_no_space_is_stored() -> None:
    stored = finished()
    bare = optuna.create_study()
    bare.add_trials(stored.get_trials(deepcopy=False))
    assert set(best_mixture(bare)) == set(SPACE5.domains)


def test_a_malformed_stored_space_is_refused() -> None:
    with pytest.raises(UserError, match="needs prior, lower and upper"):
        MixtureSpace.from_json({"prior": {"a": 1.0}})


@pytest.mark.parametrize("n", [2, 3])
def test_two_or_three_trials_are_modelled(n: int) -> None:
    weights = SPACE5.sample_mixed(np.random.default_rng(0), n)
    for rule in ("auto", "predicted", "optimum", "top"):
        found = best_mixture(study_of(LAW.score(weights), weights), rule=rule)
        assert sum(found.values()) == pytest.approx(1.0)


def test_a_thousand_identical_trials_are_survived() -> None:
    weights = np.tile(SPACE5.prior, (1000, 1))
    values = np.random.default_rng(0).standard_normal(1000)
    found = best_mixture(study_of(values, weights))
    assert sum(found.values()) == pytest.approx(1.0)
