"""One BLAS thread while a search computes, and the user's own number afterwards."""

import numpy as np
import optuna
import pytest
from threadpoolctl import threadpool_limits

from climb_opt import MixtureSpace, SimplexGPSampler, best_mixture
from climb_opt.gp.model import draw
from climb_opt.threads import _controller, one_blas_thread

OWN = 2


def blas_threads() -> set[int]:
    """Of numpy's and scipy's libraries: faiss, say, may have loaded one of its own."""
    return {pool["num_threads"] for pool in _controller().info()}


@pytest.fixture(autouse=True)
def own_threads():
    if not _controller().info():
        pytest.skip("no BLAS that threadpoolctl knows")
    with threadpool_limits(OWN, user_api="blas"):
        yield


def test_nested_and_after_an_error():
    with one_blas_thread():
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {OWN}
    with pytest.raises(RuntimeError), one_blas_thread():
        raise RuntimeError
    assert blas_threads() == {OWN}


def test_searches_compute_on_one_thread(monkeypatch):
    seen = []

    def spy(*args, **kwargs):
        seen.append(blas_threads())
        return draw(*args, **kwargs)

    for module in ("climb_opt.gp.proposal.draw", "climb_opt.gp.optima.draw"):
        monkeypatch.setattr(module, spy)
    space = MixtureSpace({"a": 1, "b": 1, "c": 1})
    study = optuna.create_study(sampler=SimplexGPSampler(space, n_startup=4, seed=0))
    noise = np.random.default_rng(0)
    study.optimize(lambda t: space.suggest(t)["a"] + float(noise.normal()), n_trials=8)
    assert seen and set.union(*seen) == {1}
    seen.clear()
    best_mixture(study, rule="optimum")
    assert seen and set.union(*seen) == {1}
    assert blas_threads() == {OWN}
