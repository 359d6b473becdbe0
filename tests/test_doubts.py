"""What is to be doubted of a recommendation, and what is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial

from climb_opt.attributes import FACTS
from climb_opt.emulator import MixingLaw
from climb_opt.gp.fit import fit
from climb_opt.gp.mixed import Mixed
from climb_opt.gp.model import GaussianProcess
from climb_opt.history import History
from climb_opt.measures import distance
from climb_opt.selection.recommendation import BOLD, doubts, one_seed_doubt, shared_seed

SPACE = MixingLaw(4, seed=1).space
WEIGHTS = SPACE.sample_mixed(np.random.default_rng(0), 12)
VALUES = ((WEIGHTS - [0.4, 0.3, 0.2, 0.1]) ** 2).sum(axis=1)
LEAD = float(np.median(VALUES) - VALUES.min())
BEST = WEIGHTS[int(np.argmin(VALUES))]


def history(seeds: tuple[int | None, ...] = (None,) * 12, **more: Any) -> History:
    """Scores of mixtures whose trials trained with these seeds."""
    state = optuna.trial.TrialState.COMPLETE
    facts: list[dict[str, Any]] = [{} if s is None else {FACTS: {"seed": s}} for s in seeds]
    trials = tuple(create_trial(state=state, value=0.0, user_attrs=f) for f in facts)
    return History(WEIGHTS[: len(seeds)], VALUES[: len(seeds)], trials, **more)


def expecting(value: float) -> Any:
    """A model that expects this score of every mixture."""
    return SimpleNamespace(moments=lambda roots: (np.full(len(roots), value), np.ones(len(roots))))


def missing(by: np.ndarray) -> Any:
    """A process whose left-out scores miss by so many (n,) of the deviations that it states."""
    process = fit(np.sqrt(WEIGHTS), VALUES)
    assert isinstance(process, GaussianProcess)
    std = np.full(len(by), 0.01)
    scores = np.resize(VALUES, len(by))
    object.__setattr__(process, "left_out", lambda: (scores - by * std, std))
    return process


def told(words: str, found: list[str]) -> bool:
    return any(words in doubt for doubt in found)


def test_only_a_mixture_far_from_all_that_were_evaluated_extrapolates() -> None:
    now, still = history(), expecting(float(VALUES.min()))
    assert doubts(now, now, still, BEST) == []
    apart = [float(distance(WEIGHTS, corner).min()) for corner in np.eye(4)]
    far = int(np.argmax(apart))
    said = f"extrapolates: {100 * apart[far]:.0f} % of its tokens differ"
    assert told(said, doubts(now, now, still, np.eye(4)[far]))


@pytest.mark.parametrize(("times", "bold"), [(-1.0, False), (0.9, False), (1.1, True)])
def test_only_what_promises_far_more_than_was_measured_is_bold(times: float, bold: bool) -> None:
    now = history()
    model = expecting(float(VALUES.min()) - times * BOLD * LEAD)
    found = doubts(now, now, model, BEST)
    assert told("promises more than was ever measured", found) == bold
    assert not bold or told(f"is {times * BOLD:.1f} times that trial's over the median", found)


@pytest.mark.parametrize(("by", "bold"), [(1.0, False), (-3.0, True), (3.0, True)])
def test_only_a_model_that_misses_by_more_than_it_says_is_over_confident(
    by: float, bold: bool
) -> None:
    now, process = history(), missing(np.full(12, by))
    for model in (process, Mixed([missing(np.full(12, 1.0)), process])):
        found = doubts(now, now, model, BEST)
        assert told(f"left-out scores miss by {abs(by):.1f}", found) == bold


def test_a_model_of_several_rungs_is_as_confident_as_it_is_of_the_highest() -> None:
    judged = history()
    lower = np.zeros(12, dtype=int)
    learnt = History(
        np.tile(WEIGHTS, (2, 1)),
        np.tile(VALUES, 2),
        judged.trials * 2,
        rungs=np.concatenate([lower, lower + 1]),
    )
    for below, above in ((9.0, 1.0), (1.0, 9.0)):
        model = missing(np.repeat([below, above], 12))
        found = doubts(learnt, judged, model, BEST)
        assert told("left-out scores miss by 9.0", found) == (above > below)


def test_few_trials_are_fewer_than_two_a_weight() -> None:
    enough, few = history((None,) * 8), history((None,) * 7)
    model = expecting(float(VALUES.min()))
    assert not told("few trials", doubts(enough, enough, model, WEIGHTS[0]))
    assert told("few trials: 7 for 4 domains", doubts(few, few, model, WEIGHTS[0]))


@pytest.mark.parametrize(
    ("seeds", "shared"),
    [
        ((3,) * 9 + (4,), (3, 9)),
        ((3,) * 8 + (4, 5), None),
        ((3,), None),  # one trial shares nothing
        ((None,) * 10, None),
        ((3,) + (None,) * 9, None),
    ],
)
def test_a_seed_is_shared_where_nine_in_ten_trials_have_it(
    seeds: tuple[int | None, ...], shared: tuple[int, int] | None
) -> None:
    now = history(seeds)
    assert shared_seed(now) == shared
    assert bool(one_seed_doubt(now, 0.0)) == bool(shared)
    if shared:
        said = f"one seed: {shared[1]} of {len(seeds)} trials trained with seed {shared[0]}"
        assert all(told(said, one_seed_doubt(now, others)) for others in (0.0, 0.1))
