"""Adapters of other people's code: what it is given, what is kept from the screen, what it needs.

Stand-ins of our own have the names that adapters call; where Olmix itself is installed, it runs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb_opt.errors import UserError
from climb_opt.mixbench import problem, public
from climb_opt.mixbench.examine import measured
from climb_opt.mixbench.peers import OLMIX

OLMIX_STAND_IN = """
import os
import numpy as np

class cp:
    class Problem:
        def solve(self, solver, verbose):
            if verbose:
                os.write(1, b"pages of a C library")
            return verbose

def mixing_law(x, param, **kwargs):
    return np.exp(param[0]) + np.exp(x @ np.asarray(param[1:]))

class ScalingLaw:
    def __init__(self, func):
        self.func = func

    def fit(self, x, y, init_params, workers=-1, **options):
        print("loss", options)
        self.seen = (len(init_params), workers, x.shape, y.shape)
        seen.append(self.seen)
        return [0.0, *(-float(i) for i in range(x.shape[1]))]

seen = []

class LogLinearRegressor:
    def fit(self, x, y, idx):
        self.model = self.model.fit(x, y[:, idx], iter(np.zeros((300, 1 + x.shape[1]))), delta=0.02)

    def predict(self, x):
        return mixing_law(x, self.model)

class LogLinearExactProposer:
    def propose(self, predictor, prior_distributions, token_counts, kl_reg):
        assert cp.Problem().solve(solver="ECOS", verbose=True) is False
        seen.append((list(prior_distributions), kl_reg))
        lowest = np.argmin(predictor[0].model[1:])
        return np.eye(len(prior_distributions))[lowest]
"""


@pytest.fixture
def olmix_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "olmix" / "fit"
    folder.mkdir(parents=True)
    for path in (folder.parent / "__init__.py", folder / "__init__.py"):
        path.touch()
    (folder / "utils.py").write_text(OLMIX_STAND_IN, encoding="utf-8")
    for name in [name for name in sys.modules if name.split(".")[0] == "olmix"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "olmix"]:
        sys.modules.pop(name)


def test_olmix_gets_its_starts_our_runs_and_the_prior_and_says_nothing(
    olmix_stand_in: None, capfd: pytest.CaptureFixture[str]
) -> None:
    found = problem("interactions", domains=4)
    data = measured(found, found.design(0, 9), 0)
    pick = public.olmix(kl=0.1, starts=30).pick(found, data, 0)
    assert capfd.readouterr() == ("", "")
    assert pick.weights.argmax() == 3 and pick.weights.sum() == pytest.approx(1)
    assert pick.mean == pytest.approx(1 + np.exp(-3.0 * pick.weights[3]), rel=0.1)
    seen = sys.modules["olmix.fit.utils"].seen
    assert seen == [(30, 1, (9, 4), (9,)), (list(found.space.domains), 0.1)]
    for starts in (0, 301):
        with pytest.raises(UserError, match=r"starts must lie in 1\.\.300"):
            public.olmix(starts=starts)


def test_what_is_not_there_is_the_reason_to_be_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "olmix", None)
    assert "olmix.fit.utils cannot be imported" in public.olmix().needs
    monkeypatch.delenv(public.REPO, raising=False)
    assert "names no clone" in public.regmix().needs
    monkeypatch.setenv(public.REPO, str(tmp_path))
    assert "regression.ipynb cannot be used (FileNotFoundError" in public.regmix().needs
    (tmp_path / "regression_fitting").mkdir()
    for text in ("{}", "no JSON", json.dumps({"cells": []})):
        (tmp_path / public.NOTEBOOK).write_text(text, encoding="utf-8")
        assert "cannot be used" in public.regmix().needs


def test_a_notebooks_cells_run_on_our_runs_without_its_pictures_and_its_prior(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    cells = [
        "import matplotlib_that_nobody_has",
        "predictor = []\nprint(X_train.shape, X_test.shape)\n"
        "class Mean:\n    def predict(self, x): return np.full(len(x), y_train.mean())\n"
        "# lgb.LGBMRegressor(\npredictor.append(Mean())\nplt.show()",
        "prior_dist = [1, 0, 0, 0]\n"
        "samples = np.random.RandomState(0).dirichlet(prior_dist * 4, 50)\n"
        "# np.random.dirichlet(\nsimulation = predictor[selected].predict(samples)",
        "optimal_data_mixture = samples.mean(axis=0)",
    ]
    notebook = {"cells": [{"cell_type": "code", "source": [cell]} for cell in cells]}
    (tmp_path / "regression_fitting").mkdir()
    (tmp_path / public.NOTEBOOK).write_text(json.dumps(notebook), encoding="utf-8")
    monkeypatch.setenv(public.REPO, str(tmp_path))
    found = problem("interactions", domains=4)
    data = measured(found, found.design(0, 16), 0)
    method = public.regmix()
    assert method.needs == ""
    pick = method.pick(found, data, 0)
    train = np.arange(16) % 8 != 7
    assert pick.mean == pytest.approx(data.scores[train].mean())
    wanted = np.random.RandomState(0).dirichlet(found.space.prior * 4, 50).mean(axis=0)
    assert pick.weights == pytest.approx(found.space.project(wanted))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_olmix_itself_stays_where_ours_does() -> None:
    pytest.importorskip("olmix.fit.utils")
    found = problem("interactions", domains=4, noise=0.1)
    data = measured(found, found.design(0, 24), 0)
    theirs, ours = public.olmix(starts=10).pick(found, data, 0), OLMIX.pick(found, data, 0)
    assert np.abs(theirs.weights - ours.weights).sum() < 1e-3
