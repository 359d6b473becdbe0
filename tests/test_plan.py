"""The plan of a search: who may start which slot, whatever has happened so far."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from climb_opt import UserError
from climb_opt.attributes import INTERRUPTED, SLOT
from climb_opt.plan import Plan, attempts_by_slot

COMPLETE, FAIL, PRUNED = TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING


def trial(slot: int | str | None, state: TrialState = COMPLETE, **attrs: Any) -> FrozenTrial:
    values = [0.0] if state == COMPLETE else None
    slots = {} if slot is None else {SLOT: slot}
    return create_trial(state=state, values=values, user_attrs={**slots, **attrs})


def numbered(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    for number, each in enumerate(trials):
        each.number = number
    return trials


plans = st.builds(
    Plan,
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    named=st.sampled_from([(), ("baseline/prior",)]),
    max_attempts=st.integers(1, 3),
    barrier=st.booleans(),
)


@settings(max_examples=150)
@given(plans, st.data())
def test_any_course_of_events_ends_with_every_slot_finished_or_given_up(
    plan: Plan, data: st.DataObject
) -> None:
    trials: list[FrozenTrial] = []
    running: list[FrozenTrial] = []
    for _ in range(400):
        step = plan.next(trials)
        if step.kind == "done":
            break
        if step.kind == "go" and (not running or data.draw(st.booleans())):
            # What a step promises: the slot is idle and, with a barrier, its round is open.
            mine = [t for t in trials if t.user_attrs[SLOT] == step.slot]
            assert [t.number for t in step.attempts] == [t.number for t in mine]
            assert all(t.state == FAIL for t in mine) and len(mine) < plan.max_attempts
            if plan.barrier:
                earlier = plan.round_of(step.slot)
                assert all(plan.round_of(t.user_attrs[SLOT]) >= earlier for t in running)
            started = trial(step.slot, RUNNING)
            started.number = len(trials)
            trials.append(started)
            running.append(started)
        else:
            ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            ended.state = data.draw(st.sampled_from([COMPLETE, FAIL, PRUNED]))
    else:
        pytest.fail("the plan never ends")
    attempts = attempts_by_slot(trials)
    slots = [slot for index in range(len(plan.rounds)) for slot in plan.slots(index)]
    assert sorted(map(str, attempts)) == sorted(map(str, slots))
    assert all(plan.state(each) in ("finished", "given up") for each in attempts.values())
    assert all(sum(t.state != FAIL for t in each) <= 1 for each in attempts.values())


def test_slots_are_numbered_through_the_rounds() -> None:
    plan = Plan((3, 2), named=("baseline/prior",))
    assert plan.slots(0) == ("baseline/prior", 0, 1, 2) and plan.slots(1) == (3, 4)
    assert plan.size == 5 and plan.start_of(1) == 3
    assert [plan.round_of(s) for s in ("baseline/prior", 0, 2, 3, 4, 5)] == [0, 0, 0, 1, 1, 2]


def test_a_list_of_rounds_is_the_plan_that_a_tuple_is() -> None:
    rounds: Any = [3, 2]
    assert Plan(rounds) == Plan((3, 2)) and Plan(rounds).rounds == (3, 2)


def test_as_much_is_done_at_once_as_the_largest_round_has_slots() -> None:
    assert Plan((3, 5)).widest == 5
    assert Plan((3, 5), named=("a", "b", "c")).widest == 6


@pytest.mark.parametrize(("first_round", "pruned"), [(False, [3, 4]), (True, [0, 1, 2, 3, 4])])
def test_what_is_compared_and_what_is_verified_is_not_pruned(
    first_round: bool, pruned: list[int]
) -> None:
    plan = Plan((3, 2, 1), named=("baseline/prior",), verify=1)
    slots = ("baseline/prior", None, *range(6))
    assert [s for s in slots if plan.may_prune(s, first_round=first_round)] == pruned


def test_a_round_waits_for_the_one_before_it() -> None:
    trials = numbered([trial(0), trial(1, RUNNING)])
    assert Plan((2, 1)).next(trials).kind == "wait"
    assert Plan((2, 1), barrier=False).next(trials).slot == 2


def test_pruned_trials_finish_a_slot_and_given_up_ones_block_nothing() -> None:
    trials = numbered([trial(0, PRUNED), trial(1, FAIL), trial(1, FAIL)])
    assert Plan((2, 1), max_attempts=2).next(trials).slot == 2
    assert Plan((2, 1), max_attempts=3).next(trials).slot == 1


def test_an_interrupted_trial_is_not_an_attempt() -> None:
    trials = numbered([trial(0, FAIL, **{INTERRUPTED: True}) for _ in range(5)])
    step = Plan((1,), max_attempts=1).next(trials)
    assert step.kind == "go" and step.slot == 0 and len(step.attempts) == 5


def test_trials_without_a_slot_are_outside_the_plan() -> None:
    trials = numbered([trial(None), trial(None, RUNNING), trial(None, FAIL)])
    assert Plan((2,)).next(trials).slot == 0
    assert attempts_by_slot(trials) == {}


def test_a_waiting_retry_keeps_its_slot_busy() -> None:
    assert Plan((1,)).next(numbered([trial(0, FAIL), trial(0, WAITING)])).kind == "wait"


@pytest.mark.parametrize("rounds", [(), (0,), (4, -1), (2.5,), "64", 64, None])
def test_rounds_must_be_positive_whole_numbers(rounds: Any) -> None:
    with pytest.raises(UserError, match="positive whole numbers"):
        Plan(rounds)


def test_a_slot_needs_at_least_one_attempt() -> None:
    with pytest.raises(
        UserError, match="max_attempts must be a whole number, at least 1, but is 0"
    ):
        Plan((1,), max_attempts=0)
