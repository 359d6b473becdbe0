"""Recommendations of studies with rungs: learnt from all of them, stated of the target."""

from __future__ import annotations

import dataclasses

import numpy as np
import optuna

from climb_opt import MixtureSpace, best_mixture, compare_rules
from climb_opt.attributes import LADDER, RUNG, SLOT
from climb_opt.emulator import MixingLaw, SimulatedLadder
from climb_opt.gp.ladder import LadderProcess
from climb_opt.gp.mixed import Mixed
from climb_opt.gp.outliers import tamed
from climb_opt.ladder import Ladder
from climb_opt.ladder.branches.slots import OPTIMUM
from climb_opt.selection.choosing import evidence_of, learnt
from climb_opt.selection.promise import LEAD_STD, UNSEEN
from climb_opt.selection.recommendation import WIDTH
from climb_opt.view import rung_attributes

SPACE = MixtureSpace({"web": 5, "code": 3, "math": 2})
LADDER_OF = Ladder.of((1.0, 10.0))
BEST = np.array([0.2, 0.3, 0.5])


def bowl(weights: np.ndarray) -> np.ndarray:
    return np.asarray(((np.sqrt(weights) - np.sqrt(BEST)) ** 2).sum(axis=-1))


def study_of(below: np.ndarray, target: np.ndarray, last: str = "") -> optuna.Study:
    """Trials (n, K) on the lower rung, whose scores are 5 higher, then on the target; the last in
    the slot of that name."""
    study = optuna.create_study()
    study.set_user_attr(LADDER, LADDER_OF.to_data())
    for rung, rows in enumerate((below, target)):
        for place, weights in enumerate(rows, start=1):
            stored = rung_attributes(rung, LADDER_OF.target)
            ours = {k: v for k, v in stored.items() if k.startswith("climb/")}
            if last and rung == LADDER_OF.target and place == len(rows):
                ours[SLOT] = last
            study.add_trial(
                optuna.trial.create_trial(
                    params=SPACE.params(weights),
                    distributions=SPACE.distributions(),
                    value=float(bowl(weights)) + (5.0 if rung == 0 else 0.0),
                    user_attrs=ours,
                    system_attrs={k: v for k, v in stored.items() if k not in ours},
                )
            )
    return study


def test_a_few_trials_of_the_target_are_read_with_the_many_below() -> None:
    rng = np.random.default_rng(0)
    below, target = SPACE.sample_mixed(rng, 40), SPACE.sample_mixed(rng, 5)
    found = best_mixture(study_of(below, target), space=SPACE)
    alone = best_mixture(study_of(below[:0], target), space=SPACE)
    kept, without = (np.array([m[d] for d in SPACE.domains]) for m in (found, alone))
    assert bowl(kept) < 0.01 and bowl(kept) < bowl(without)
    assert found.trials == 5 and found.rung == LADDER_OF.rungs[-1].name
    assert found.predicted is not None and found.predicted.mean < 1.0  # of the target's scale
    assert found.noise is not None and found.gain is not None
    unseen = [any("rests on cheaper rungs" in w for w in m.warnings) for m in (found, alone)]
    assert unseen == [True, False]


def test_every_rule_takes_a_mixture_where_lower_rungs_know_more() -> None:
    rng = np.random.default_rng(1)
    study = study_of(SPACE.sample_mixed(rng, 30), SPACE.sample_mixed(rng, 6))
    for rule, found in compare_rules(study, space=SPACE).items():
        assert sum(found.values()) == 1.0 or abs(sum(found.values()) - 1.0) < 1e-9, rule
        assert found.trials == 6, rule
    observed = compare_rules(study, rules=["observed"], space=SPACE)["observed"]
    best = SPACE.weights_of(min(study.trials[30:], key=lambda t: t.value))
    assert best is not None and dict(observed) == SPACE.mixture(best)


def test_beside_a_trained_optimum_nothing_untrained_is_kept_on_a_guess() -> None:
    rng = np.random.default_rng(3)
    below, target = SPACE.sample_mixed(rng, 30), SPACE.sample_mixed(rng, 6)
    target = np.concatenate([target, [[0.25, 0.3, 0.45]]])
    free = best_mixture(study_of(below, target), space=SPACE)
    assert free.rule in ("predicted", "optimum") and free.lead is not None
    assert free.lead.low < 0
    held = best_mixture(study_of(below, target, last=OPTIMUM), space=SPACE)
    assert held.rule == "guarded" and held.lead is None
    trained = [SPACE.mixture(weights) for weights in target]
    assert dict(held) in trained


def test_what_a_lower_rung_alone_has_seen_is_not_evaluated() -> None:
    rng = np.random.default_rng(4)
    below = np.concatenate([SPACE.sample_mixed(rng, 20), [BEST]])
    target = SPACE.sample_mixed(rng, 5)
    kept = compare_rules(study_of(below, target), rules=["evaluated", "guarded"], space=SPACE)
    trained = [SPACE.mixture(weights) for weights in target]
    assert dict(kept["evaluated"]) in trained
    lead = kept["guarded"].lead
    assert dict(kept["guarded"]) in trained or (lead is not None and lead.low > 0)


def test_what_no_rung_read_is_kept_as_it_was_tried() -> None:
    rng = np.random.default_rng(2)
    below = SPACE.sample_mixed(rng, 20)
    target = np.array([[0.5, 0.5, 0.0], [0.7, 0.3, 0.0], [0.2, 0.8, 0.0]])
    view, space, history = learnt(study_of(below, target), SPACE)
    evidence = evidence_of(view, space, history, False, 0)
    assert evidence is not None and evidence.problem.space.upper.tolist() == [1.0, 1.0, 1.0]
    assert len(evidence.history) == 3 and len(evidence.learnt) == 23


def test_scores_of_a_rung_that_are_no_tail_of_another_are_none_of_the_target_for_promises() -> None:
    """The target runs little but good mixtures, so all others look like a tail of it."""
    rng = np.random.default_rng(5)
    near, far = rng.dirichlet(40 * BEST, 14), np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]])
    everywhere = SPACE.sample_mixed(rng, 30)
    prior = SPACE.project(SPACE.prior)
    study = study_of(np.concatenate([prior[None], everywhere]), np.concatenate([far, near]))
    view, space, history = learnt(study, SPACE)
    evidence = evidence_of(view, space, history, False, 0)
    assert evidence is not None
    every = evidence.learnt
    assert not np.array_equal(tamed(every).values, every.values)
    assert np.array_equal(tamed(every, against=prior[None]).values, every.values)
    gain = best_mixture(study, space=SPACE).gain
    assert gain is not None and gain.low < bowl(prior) - bowl(BEST) < gain.high


def test_a_mixture_that_only_lower_rungs_ran_is_doubted_more() -> None:
    rng = np.random.default_rng(6)
    below, target = SPACE.sample_mixed(rng, 30), SPACE.sample_mixed(rng, 6)
    prior = SPACE.project(SPACE.prior)

    def doubts(*of_target: np.ndarray) -> tuple[float, float]:
        rows = np.stack([*of_target, *target])
        evidence = evidence_of(*learnt(study_of(np.stack([prior, *below]), rows), SPACE), False, 0)
        assert evidence is not None
        promise = dataclasses.replace(evidence.promised(target[0]), misfit=1e-12)
        _, covariance = promise.surrogate.joint(np.sqrt(np.stack([target[0], prior])))
        apart = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        lead = LEAD_STD * promise.lead
        spread = promise.gain(prior).half / WIDTH / promise.widening
        return float(np.sqrt(spread**2 - lead**2)), float(apart)

    for ran, times in (((), UNSEEN), ((prior,), 1.0)):
        stated, apart = doubts(*ran)
        np.testing.assert_allclose(stated, times * apart)
        rows = np.stack([*ran, *target])
        found = best_mixture(study_of(np.stack([prior, *below]), rows), space=SPACE)
        said = [w for w in found.warnings if w.startswith("the target has not run ")]
        assert len(said) == (not ran)


def drawn_on(ladder: SimulatedLadder, counts: tuple[int, ...]) -> optuna.Study:
    """So many mixed draws on each rung, the cheapest first."""
    study = optuna.create_study()
    study.set_user_attr(LADDER, ladder.ladder.to_data())
    rungs = np.repeat(np.arange(len(counts)), counts)
    rows = ladder.space.sample_mixed(np.random.default_rng(0), len(rungs))
    for place, (rung, weights) in enumerate(zip(rungs.tolist(), rows, strict=True)):
        study.add_trial(
            optuna.trial.create_trial(
                params=ladder.space.params(weights),
                distributions=ladder.space.distributions(),
                value=float(ladder.score(weights[None], rung, [ladder.seed, place])[0]),
                user_attrs={RUNG: rung},
            )
        )
    return study


def test_noisy_scores_of_several_rungs_are_judged_by_two_processes_too() -> None:
    ladder = SimulatedLadder(MixingLaw(6, seed=2), correlation=0.9, noise=1.0, seed=0)
    evidence = evidence_of(*learnt(drawn_on(ladder, (24, 0, 24)), ladder.space), False, 0)
    assert evidence is not None and isinstance(evidence.promise, Mixed)
    searching, judging = evidence.promise.parts
    assert isinstance(judging, LadderProcess) and evidence.learnt.rungs is not None
    assert judging.noise > searching.noise


def test_nine_of_ten_intervals_of_small_ladders_hold() -> None:
    """A coverage far off fails; tests/bench/bench_ladder.py measures it."""
    held: dict[str, list[bool]] = {"score": [], "gain": []}
    for seed in range(16):
        law = MixingLaw(6, seed=seed)
        noise = (0.0, 0.1)[seed % 2]
        ladder = SimulatedLadder(law, correlation=0.9, noise=noise, seed=seed)
        best = best_mixture(drawn_on(ladder, (32, 0, 10)), space=ladder.space)
        pair = np.stack([ladder.space.weights(best), ladder.space.project(ladder.space.prior)])
        pick, prior = ladder.truth(pair)
        for name, stated, true in (
            ("score", best.predicted, pick),
            ("gain", best.gain, prior - pick),
        ):
            assert stated is not None
            held[name].append(bool(stated.low <= true <= stated.high))
    assert np.mean(held["score"]) >= 0.75 and np.mean(held["gain"]) >= 0.75, held


def test_of_a_target_that_was_never_reached_no_gain_is_doubted() -> None:
    ladder = SimulatedLadder(MixingLaw(6, seed=0), correlation=0.9)
    study = drawn_on(ladder, (20, 6, 0))
    evidence = evidence_of(*learnt(study, ladder.space), False, 0)
    assert evidence is not None
    assert evidence.promised(evidence.history.weights[0]).unseen(evidence.compared[0])
    found = best_mixture(study, space=ladder.space)
    assert found.gain is None and not any("has not run" in w for w in found.warnings)
    assert any(w.startswith("no trial of the target") for w in found.warnings)
