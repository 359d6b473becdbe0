"""DoReMi moves weight to the domains in which a proxy trails its reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from climb_opt.errors import Interrupted, UserError
from climb_opt.proxy import checkpoint
from climb_opt.proxy.doremi import Reweighting, move_weights, train_doremi
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import ProxyRecipe
from climb_opt.shards import Corpus
from training import SMALL, Watch

RECIPE = replace(SMALL, lr=ProxyRecipe().lr, compile=False, precision="fp32")


def trainer(corpus: Corpus, directory: Path) -> Trainer:
    return Trainer(corpus, RECIPE, ProxyGroup("fp32"), directory=directory)


def test_weights_follow_the_algorithm() -> None:
    alpha = move_weights(np.array([0.5, 0.25, 0.25]), np.array([0.0, np.log(2.0), 0.0]))
    expected = 0.999 * np.array([0.5, 0.5, 0.25]) / 1.25 + 0.001 / 3
    assert np.allclose(alpha, expected)
    steady = move_weights(np.full(4, 0.25), np.full(4, 3.0))
    assert np.allclose(steady, 0.25)


def test_smoothing_keeps_every_domain_alive() -> None:
    alpha = np.full(3, 1 / 3)
    for _ in range(500):
        alpha = move_weights(alpha, np.array([10.0, 0.0, 0.0]))
    assert alpha.min() >= 1e-3 / 3 * 0.999
    assert alpha.sum() == pytest.approx(1.0)


def test_a_run_gives_an_averaged_mixture_of_the_corpus(tiny_corpus: Corpus, tmp_path: Path) -> None:
    prior = tiny_corpus.tokens()
    result = train_doremi(trainer(tiny_corpus, tmp_path), Watch(), reference=prior)
    assert set(result.mixture) == set(prior)
    assert sum(result.mixture.values()) == pytest.approx(1.0)
    assert result.path.shape == (16, 3)
    assert np.allclose(result.path.mean(0), list(result.mixture.values()))
    assert np.ptp(result.path[-1]) > 0, "the weights moved"
    assert result.facts["tokens"] == 2 * RECIPE.tokens
    assert not list(tmp_path.rglob("*.pt"))


def test_a_stopped_run_resumes_to_the_same_weights(tiny_corpus: Corpus, tmp_path: Path) -> None:
    prior = tiny_corpus.tokens()
    whole = train_doremi(trainer(tiny_corpus, tmp_path / "a"), Watch(), reference=prior)
    again = trainer(tiny_corpus, tmp_path / "b")
    for patience in (5, 25):  # in the reference, then in the proxy
        with pytest.raises(Interrupted):
            train_doremi(again, Watch(patience), reference=prior)
    result = train_doremi(again, Watch(), reference=prior)
    assert np.array_equal(result.path, whole.path)


def test_a_checkpoint_that_does_not_fit_starts_its_run_afresh(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prior = tiny_corpus.tokens()
    whole = train_doremi(trainer(tiny_corpus, tmp_path / "a"), Watch(), reference=prior)
    again = trainer(tiny_corpus, tmp_path / "b")
    with pytest.raises(Interrupted):
        train_doremi(again, Watch(25), reference=prior)
    proxy = tmp_path / "b" / "doremi" / checkpoint.FILE
    state = torch.load(proxy, weights_only=True)
    torch.save({**state, "alpha": state["alpha"][:2]}, proxy)
    result = train_doremi(again, Watch(), reference=prior)
    assert np.array_equal(result.path, whole.path)
    assert "does not fit this trial" in caplog.text


def test_a_proxy_reading_what_the_reference_never_saw_gets_more_weight_there(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    # The reference knows "math" best, so the proxy trails it there.
    only_math = {"web": 0.0, "code": 0.0, "math": 1.0}
    result = train_doremi(trainer(tiny_corpus, tmp_path), Watch(), reference=only_math)
    assert max(result.mixture, key=result.mixture.__getitem__) == "math"


def test_bad_options_are_refused() -> None:
    with pytest.raises(UserError, match="eta must be positive"):
        Reweighting(eta=0.0)
