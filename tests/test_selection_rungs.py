"""Recommendations of studies with rungs: learnt from all of them, stated of the target."""

from __future__ import annotations

import numpy as np
import optuna

from climb_opt import MixtureSpace, best_mixture, compare_rules
from climb_opt.attributes import LADDER, SLOT
from climb_opt.ladder import Ladder
from climb_opt.ladder.branches.slots import OPTIMUM
from climb_opt.selection.choosing import evidence_of, learnt
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
