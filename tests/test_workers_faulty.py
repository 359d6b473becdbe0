"""A worker at fault beside healthy ones: a slot's last attempt is left to one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import pytest

from climb_opt.attributes import ENQUEUED, INTERRUPTED, SLOT
from climb_opt.plan import Plan
from climb_opt.storages import study_lock
from climb_opt.workers import Claims, Pace, Work
from climb_opt.workers.claims import fail
from one_worker import in_line, study_of

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Fleet:
    """Workers of one study, told apart by name, on a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.me = 100.0, ""
        for module in ("beats", "claims"):
            monkeypatch.setattr(f"climb_opt.workers.{module}.worker_name", lambda: self.me)
        monkeypatch.setattr("climb_opt.workers.claims.time.monotonic", lambda: self.now)

    def begin(self, plan: Plan) -> None:
        self.study = study_of(plan)
        wanted = Work(plan, pace=Pace(poll=10.0))
        self.claims = {w: Claims(self.study, study_lock(self.study), wanted) for w in "ab"}

    @contextmanager
    def acting(self, worker: str) -> Iterator[Claims]:
        self.me = f"node-{worker}:1"
        yield self.claims[worker]

    def take(self, worker: str) -> optuna.Trial:
        with self.acting(worker) as claims:
            trial = claims.claim()
        assert isinstance(trial, optuna.Trial), trial
        return trial

    def fail(self, worker: str, slot: object) -> None:
        trial = self.take(worker)
        assert trial.user_attrs[SLOT] == slot
        fail(self.study, trial._trial_id, "CUDA error")

    def is_left(self, worker: str) -> bool:
        with self.acting(worker) as claims:
            return claims.claim() == claims.look() == "wait"


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(monkeypatch)


def test_a_worker_cannot_use_up_a_slot_alone_while_another_is_at_work(fleet: Fleet) -> None:
    fleet.begin(Plan((2, 1), max_attempts=3))
    busy = fleet.take("b")
    fleet.fail("a", 1)
    fleet.fail("a", 1)
    fleet.now += 10_000  # a trial of hours
    assert fleet.is_left("a")
    fleet.study.tell(busy, 1.0)
    assert fleet.is_left("a"), "the other tells before it takes what is next"
    assert fleet.take("b").user_attrs[SLOT] == 1


def test_it_is_tried_by_the_same_worker_where_the_others_left_or_there_are_none(
    fleet: Fleet,
) -> None:
    fleet.begin(Plan((2, 1), max_attempts=2))
    fleet.study.tell(fleet.take("b"), 1.0)
    fleet.fail("a", 1)
    assert fleet.is_left("a")
    fleet.now += 19
    assert fleet.is_left("a"), "one that waits looks every ten seconds"
    fleet.now += 2
    assert fleet.take("a").user_attrs[SLOT] == 1
    fleet.begin(Plan((1,), max_attempts=2))
    fleet.fail("a", 0)
    assert fleet.take("a").user_attrs[SLOT] == 0


def test_who_failed_only_among_others_or_died_on_this_machine_is_waited_for_by_nobody(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.begin(Plan((1,), max_attempts=3))
    fleet.fail("b", 0)
    fleet.fail("a", 0)
    trial = fleet.take("a")
    fail(fleet.study, trial._trial_id, "asked to stop", {INTERRUPTED: True})
    fleet.begin(Plan((2,), max_attempts=2))
    fleet.study.tell(fleet.take("b"), 1.0)
    fleet.fail("a", 1)
    ended = "climb_opt.workers.claims.ended_here"
    monkeypatch.setattr(ended, lambda beat: beat["worker"] == "node-b:1")
    assert fleet.take("a").user_attrs[SLOT] == 1


def test_a_mixture_in_line_that_is_left_to_others_holds_up_nothing_and_is_not_forgotten(
    fleet: Fleet,
) -> None:
    fleet.begin(Plan((2,), max_attempts=2))
    busy = fleet.take("b")
    in_line(fleet.study, "mine")
    fleet.fail("a", f"{ENQUEUED}mine")
    fleet.study.tell(fleet.take("a"), 1.0)  # slot 1
    assert fleet.is_left("a"), "and not done"
    fleet.study.tell(busy, 1.0)
    assert fleet.take("b").user_attrs[SLOT] == f"{ENQUEUED}mine"
