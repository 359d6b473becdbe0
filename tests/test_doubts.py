"""What is said of a recommendation: its weights, what is to be doubted of it, and what is not."""

from __future__ import annotations

from dataclasses import replace
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
from climb_opt.selection.recommendation import (
    BOLD,
    Estimate,
    Recommendation,
    component_doubts,
    doubts,
    one_seed_doubt,
    shared_seed,
    unread_doubt,
)

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


def test_only_components_that_say_nothing_of_mixtures_are_named() -> None:
    rising = np.linspace(0.0, 1.0, 12)
    parts = {"big": 1e4 * rising, "fair": 100 * rising, "tiny": rising, "still": 0 * rising}
    of: dict[str, Any] = {"components": np.stack([*parts.values()], axis=1), "names": tuple(parts)}
    same, drowned = component_doubts(history(**of, coefficients=np.array([1.0, -1.0, 1.0, 1.0])))
    assert same == "the same in every trial, so no reason for any mixture: 'still'"
    assert (
        drowned.startswith("next to nothing in the score beside 'big'") and ": 'tiny';" in drowned
    )
    (alone,) = component_doubts(history(**of, coefficients=np.array([0.0, 1.0, 1.0, 1.0])))
    assert alone == same and component_doubts(history()) == []


def test_domains_that_no_trial_read_are_counted_in_words() -> None:
    assert unread_doubt([]) == []
    assert unread_doubt(["web"]) == ["no trial read 'web': its weight is kept at what was tried"]
    assert told(": their weights are kept at what was tried", unread_doubt(["web", "code"]))


def test_a_recommendation_is_printed_with_its_largest_weights_first() -> None:
    found = Estimate(1.2, 1.1, 1.3)
    best = Recommendation({"web": 0.2, "code": 0.8, "law": 1e-5}, "auto", found, trials=9)
    assert found.half == pytest.approx(0.1)
    first, second, *others = str(best).splitlines()
    assert (first, second) == ("code  0.8000", "web   0.2000")
    assert others[0].startswith("rule auto, 9 trials; 1.0 effective domains of 3")
    assert others[1:] == ["expected score 1.2 [1.1, 1.3]  (90 % interval)"]
    more = str(replace(best, rung="60m", as_good="The prior is as good")).splitlines()
    assert more[0] == "The prior is as good." and "9 trials at 60m; " in more[3]


def test_a_notebook_shows_a_recommendation_as_it_is_printed() -> None:
    best = Recommendation({"web": 0.75, "code": 0.25}, "observed", Estimate(1.2, 1.1, 1.3))
    shown: list[str] = []
    printer = SimpleNamespace(text=shown.append, break_=lambda: shown.append("\n"))
    best._repr_pretty_(printer, False)  # what IPython calls
    assert "".join(shown) == str(best)


def test_a_recommended_schedule_is_printed_phase_by_phase() -> None:
    weights = {"1/web": 0.3, "1/code": 0.7, "2/web": 1.0, "2/code": 0.0}
    lines = str(Recommendation(weights, "auto", phases=(0.75, 0.25))).splitlines()
    first = ["phase 1, 0.75 of the run", "1/code  0.7000", "1/web   0.3000"]
    assert lines[:5] == [*first, "phase 2, 0.25 of the run", "2/web   1.0000"]
    assert "effective domains of 2, " in lines[5] and len(lines) == 6
