"""ADO reads most of the domains whose loss falls fastest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from climb_opt.choices import Choice
from climb_opt.errors import UserError
from climb_opt.paths import path_mean
from climb_opt.proxy.cost import shape_size, trial_cost
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.reweight.ado import ADO, speed
from climb_opt.proxy.train import Trainer
from climb_opt.shards import Corpus
from training import SMALL, Watch


@given(
    st.floats(0.5, 3.0),
    st.floats(0.5, 20.0),
    st.sampled_from([0.1, 0.3, 0.5, 0.8]),
    st.integers(5, 40),
)
def test_the_speed_of_a_law_is_found(floor: float, scale: float, alpha: float, n: int) -> None:
    tokens = 1000.0 * np.arange(1, n + 1)
    losses = floor + scale * tokens**-alpha
    exact = alpha * scale * tokens[-1] ** -alpha / tokens[-1]
    assert speed(tokens, losses) == pytest.approx(exact, rel=0.05)


def test_losses_that_do_not_fall_have_no_speed_and_few_are_unknown() -> None:
    tokens = np.arange(1.0, 9.0)
    assert speed(tokens, np.linspace(1.0, 2.0, 8)) == 0.0
    assert np.isnan(speed(tokens, np.where(tokens > 5, 1.0, np.nan)))
    gaps = np.where(tokens == 3, np.nan, 1 + tokens**-0.5)
    assert speed(tokens, gaps) == pytest.approx(speed(tokens, 1 + tokens**-0.5), rel=0.05)


def run(
    losses: Any, steps: int = 320, mixture: Any = (0.5, 0.3, 0.2), **options: Any
) -> np.ndarray:
    """The path (changes, K) that losses(step) (K,) lead to."""
    method, mixture = ADO(**options), np.array(mixture)
    training: Any = SimpleNamespace(domains=("a", "b", "c"), mixture=mixture, steps=steps)
    weights, path = method.start(training).reading, []
    for step in range(steps):
        if step in method.when(steps):
            training.step, training.losses = step, losses(step)
            training.read = mixture * step * 100
            weights = method.weigh(training).reading
            path.append(weights)
    return np.array(path)


def test_it_moves_to_what_falls_fastest_and_begins_with_the_trials_mixture() -> None:
    path = run(lambda t: np.array([2.0, 2 + 9 * t**-0.5, 2 + 3 * t**-0.5]))
    assert np.allclose(path.sum(axis=1), 1) and (path > 0).all()
    assert np.array_equal(path[0], [0.5, 0.3, 0.2]) and np.array_equal(path[4], path[0])
    assert (np.diff(path[6:, 1]) > 0).all() and path[-1, 1] > 0.33
    assert path[-1, 0] < 0.5


def test_what_a_trial_leaves_out_stays_out() -> None:
    path = run(lambda t: np.array([2.0, np.nan, 2 + 9 * t**-0.5]), mixture=(0.6, 0.0, 0.4))
    assert (path[:, 1] == 0).all() and path[-1, 2] > 0.4


def test_nothing_moves_where_no_loss_falls() -> None:
    path = run(lambda t: np.array([1.0, 2.0, 3.0]) + t / 1000)
    assert np.allclose(path, [0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": 0}, "changes must be at least 1"),
        ({"start": 1.0}, "start < 1"),
        ({"ignore": 0.3, "start": 0.2}, "ignore <= start"),
        ({"gamma": (0.1, 0.0)}, r"gamma must be two numbers in \(0, 1\]"),
        ({"gamma": (0.1,)}, "gamma must be two numbers"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ADO(**options)


def test_a_proxy_is_trained_by_it_at_the_cost_of_any_other(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    recipe = replace(SMALL, compile=False, reweight=Choice("ado", {"changes": 16}))
    trainer = Trainer(tiny_corpus, recipe, ProxyGroup("fp32"), directory=tmp_path)
    facts = trainer.train(Job("slot", tiny_corpus.tokens(), seed=0), Watch()).facts
    mean = path_mean(facts["path"])
    assert sum(mean.values()) == pytest.approx(1)
    assert facts["path"]["weights"][0] != facts["path"]["weights"][-1]
    size = shape_size(SMALL.model, tiny_corpus.vocab_size)
    assert facts["flops"] == trial_cost(SMALL, size).flops
