"""Retraining finalists: pairing, verdicts, races, joining and resuming."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

from climb_opt.attributes import CONFIRM
from climb_opt.errors import TrialFailed, UserError
from climb_opt.reports.draw.terminal import confirmed
from climb_opt.retrain import Finals, choose, open_confirmation, run, wanted
from climb_opt.retrain.finals import race_seeds
from climb_opt.retrain.paired import Confirmation, half_width, read_confirmation, read_slot
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import study_lock
from climb_opt.workers import Pace, Work, work

SPACE = MixtureSpace({"web": 70, "code": 20, "math": 10})
FOUND = {"web": 0.3, "code": 0.4, "math": 0.3}
PRIOR = SPACE.mixture(SPACE.prior)
UNIFORM = dict.fromkeys(SPACE.domains, 1 / 3)
QUICK = Pace(beat=5.0, grace=30.0, poll=0.05)


class Proxy:
    """A made-up trainer: better near FOUND, a seed effect that all share, a little noise."""

    def __init__(self, noise: float = 0.002, fail: Any = None) -> None:
        self.noise, self.fail = noise, fail
        self.calls: list[tuple[str, int]] = []

    def __call__(self, trial: optuna.Trial) -> float:
        weights = SPACE.weights(SPACE.suggest(trial))
        seed = trial.user_attrs["climb/seed"]
        self.calls.append((trial.user_attrs["climb/slot"], seed))
        if self.fail is not None and self.fail(trial):
            raise TrialFailed("made to fail")
        rng = np.random.default_rng([seed, int(1e6 * weights[0])])
        shared = np.random.default_rng(seed).normal(0, 0.05)
        far = float(np.abs(weights - SPACE.weights(FOUND)).sum())
        return 2.0 + 0.1 * far + shared + self.noise * rng.normal()


def runner(objective: Any) -> Any:
    def call(study: optuna.Study, wanted: Work) -> None:
        work(study, objective, study_lock(study), replace(wanted, pace=QUICK))

    return call


def finals(**changes: Any) -> Finals:
    settings: dict[str, Any] = {
        "of": "demo",
        "mixtures": {"found": FOUND, "prior": PRIOR, "uniform": UNIFORM},
        "finalists": ("found",),
        "references": ("prior", "uniform"),
        "seeds": 3,
        "first_seed": 1001,
        "unit": "bits per byte",
    }
    return Finals(**{**settings, **changes})


def demo(direction: str = "minimize") -> optuna.Study:
    return optuna.create_study(study_name="demo", direction=direction)


def test_every_mixture_is_retrained_with_the_same_fresh_seeds() -> None:
    study, _ = open_confirmation(demo(), finals(), None)
    proxy = Proxy()
    found = run(study, runner(proxy))
    assert study.study_name == "demo-confirm"
    assert [slot for slot, _ in proxy.calls[:3]] == [
        "found/seed-1",
        "prior/seed-1",
        "uniform/seed-1",
    ]
    assert {seed for _, seed in proxy.calls} == {1001, 1002, 1003}
    assert {len(scores) for scores in found.scores.values()} == {3}
    assert len(proxy.calls) == 9


def test_pairing_removes_the_noise_that_mixtures_share() -> None:
    study, _ = open_confirmation(demo(), finals(seeds=4), None)
    found = run(study, runner(Proxy()))
    difference = found.difference("found", "prior")
    assert difference is not None and difference.half is not None
    assert difference.verdict == "better"
    assert difference.half < found.spread("found")
    assert difference.gain == pytest.approx(0.08, abs=0.01)
    assert "found is better than prior by 0.0" in found.verdict()
    assert "bits per byte (4 seeds)" in found.verdict()


def test_a_gain_within_the_noise_is_not_claimed() -> None:
    study, _ = open_confirmation(demo(), finals(), None)
    found = run(study, runner(Proxy(noise=0.5)))
    assert "not distinguishable from" in found.verdict()


def test_maximised_scores_turn_the_sign() -> None:
    study, _ = open_confirmation(demo("maximize"), finals(), None)
    found = run(study, runner(lambda trial: -Proxy()(trial)))
    assert {d.verdict for d in found.differences()} == {"better"}


def test_one_seed_gives_no_interval_and_says_so() -> None:
    study, _ = open_confirmation(demo(), finals(seeds=1), None)
    found = run(study, runner(Proxy()))
    assert "with one seed: too few for an interval" in found.verdict()


def test_it_resumes_and_trains_nothing_twice() -> None:
    base = demo()
    study, _ = open_confirmation(base, finals(seeds=2), None)
    run(study, runner(Proxy()))
    again, stored = open_confirmation(base, finals(seeds=3), None)
    assert stored.seeds == 3
    proxy = Proxy()
    found = run(again, runner(proxy))
    assert sorted(slot for slot, _ in proxy.calls) == [
        "found/seed-3",
        "prior/seed-3",
        "uniform/seed-3",
    ]
    assert {len(scores) for scores in found.scores.values()} == {3}
    idle = Proxy()
    run(again, runner(idle))
    assert idle.calls == []


def test_a_lost_slot_leaves_its_pair_out() -> None:
    def broken(trial: optuna.Trial) -> bool:
        return trial.user_attrs["climb/slot"] == "prior/seed-2"

    study, _ = open_confirmation(demo(), finals(), None)
    found = run(study, runner(Proxy(fail=broken)))
    assert found.failed == 3
    difference = found.difference("found", "prior")
    assert difference is not None and difference.seeds == 2


def test_other_mixtures_are_refused_with_a_remedy() -> None:
    base = demo()
    open_confirmation(base, finals(), None)
    moved = {**FOUND, "web": 0.2, "code": 0.5}
    with pytest.raises(UserError, match="--as NAME"):
        open_confirmation(
            base, finals(mixtures={"found": moved, "prior": PRIOR, "uniform": UNIFORM}), None
        )
    other, _ = open_confirmation(base, finals(), None, name="another")
    assert other.study_name == "another"


def test_rounding_of_a_mixture_is_the_same_mixture() -> None:
    base = demo()
    open_confirmation(base, finals(), None)
    rounded = {"web": 0.3001, "code": 0.3999, "math": 0.3}
    _, stored = open_confirmation(
        base, finals(mixtures={"found": rounded, "prior": PRIOR, "uniform": UNIFORM}), None
    )
    assert stored.mixtures["found"] == FOUND


def test_a_baseline_that_is_what_was_found_is_trained_once() -> None:
    same = finals(mixtures={"found": PRIOR, "prior": PRIOR, "uniform": UNIFORM},
                  twins={"prior": "found"}, seeds=5, budget=9)  # fmt: skip
    study, _ = open_confirmation(demo(), same, None)
    proxy = Proxy()
    found = run(study, runner(proxy))
    assert {slot.partition("/")[0] for slot, _ in proxy.calls} == {"found", "uniform"}
    assert len(proxy.calls) == 6  # beaten by no noise: the twin does not keep a race going
    assert found.scores["prior"] == found.scores["found"]
    assert "found and prior score the same with each of 3 seeds" in found.verdict()
    assert str(found.as_good()).startswith("The proportional mixture is as good")
    assert found.remarks() == ["prior is the same mixture as found, trained once."]
    assert found.remarks()[0] in confirmed(found, SPACE)
    assert replace(found, scores=read_confirmation(study).scores) == found


def test_rules_that_agree_are_one_finalist() -> None:
    near = {"web": 0.301, "code": 0.399, "math": 0.3}
    mixtures, finalists, references = choose(
        {"found": FOUND, "observed": near, "top": UNIFORM}, {"prior": PRIOR, "uniform": UNIFORM}
    )
    assert finalists == ("found", "top")
    assert references == ("prior", "uniform")
    assert list(mixtures) == ["found", "top", "prior", "uniform"]


def race(**changes: Any) -> Finals:
    worse = {"web": 0.9, "code": 0.05, "math": 0.05}
    near = {"web": 0.32, "code": 0.38, "math": 0.3}
    mixtures = {
        "found": FOUND,
        "near": near,
        "worse": worse,
        "prior": PRIOR,
        "uniform": UNIFORM,
    }
    settings = {"mixtures": mixtures, "finalists": ("found", "near", "worse"), "seeds": 6}
    return finals(**{**settings, "budget": 26, **changes})


def test_a_race_spends_its_seeds_on_who_may_still_win() -> None:
    study, stored = open_confirmation(demo(), race(), None)
    found = run(study, runner(Proxy(noise=0.002)))
    runs = {name: len(scores) for name, scores in found.scores.items()}
    assert sum(runs.values()) <= 26
    assert runs["worse"] < runs["found"] == runs["prior"]
    assert "worse" in found.dropped
    assert found.level == pytest.approx(0.05 / (3 * stored.looks))


def test_a_race_never_exceeds_its_budget() -> None:
    study, stored = open_confirmation(demo(), race(budget=19), None)
    found = run(study, runner(Proxy(noise=0.5)))
    runs = {name: len(scores) for name, scores in found.scores.items()}
    assert sum(runs.values()) == len(wanted(study, stored)) == 19
    assert runs["found"] == runs["prior"] == runs["uniform"] == 4  # and one more finalist's


def test_a_race_may_spend_all_of_its_budget() -> None:
    assert race_seeds(30, finalists=3, references=2) == 8
    assert race_seeds(10, finalists=3, references=2) == 3  # too few: it is refused by that
    most = finals(seeds=race_seeds(24, finalists=1, references=2), budget=24)
    study, _ = open_confirmation(demo(), most, None)
    found = run(study, runner(Proxy(noise=0.5)))
    assert {len(scores) for scores in found.scores.values()} == {24 // 3}


def test_workers_agree_on_the_next_slots_of_a_race() -> None:
    base = demo()
    study, stored = open_confirmation(base, race(), None)
    first = wanted(study, stored)
    assert len(first) == 15  # three seeds each, whoever asks
    run(study, runner(Proxy()))
    assert wanted(study, stored) == wanted(study, stored)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"budget": 3}, "--budget 3 is too small"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        finals(**changes)


def test_names_with_slashes_and_seeds_in_them_survive_as_slots() -> None:
    assert read_slot("web/news/seed-12") == ("web/news", 12)
    assert read_slot("x/seed-1/seed-2") == ("x/seed-1", 2)
    assert read_slot("baseline/prior") is None
    assert read_slot(3) is None


def test_the_interval_is_students() -> None:
    assert half_width([1.0]) is None
    # t(0.975, 2) = 4.303
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)


def test_an_ordinary_study_is_no_confirm_study() -> None:
    assert read_confirmation(demo()) is None


def test_the_table_fits_a_terminal_and_ends_with_the_verdict() -> None:
    study, _ = open_confirmation(demo(), finals(), None)
    found = run(study, runner(Proxy()))
    text = confirmed(found, SPACE)
    assert max(len(line) for line in text.splitlines()) <= 98
    assert text.splitlines()[-1].startswith("found is better than uniform by")
    assert "±" in text and "uniform" in text.splitlines()[0]


def test_a_study_without_results_has_nothing_to_compare() -> None:
    study, _ = open_confirmation(demo(), finals(), None)
    empty = read_confirmation(study)
    assert isinstance(empty, Confirmation)
    assert empty.verdict() == "nothing to compare yet"
    assert confirmed(empty, SPACE) == "Nothing has been retrained yet."
    assert study.user_attrs[CONFIRM]["seeds"] == 3
