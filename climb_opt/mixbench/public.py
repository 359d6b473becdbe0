"""The real public code of RegMix and Olmix as methods, where the user has it; skipped otherwise.

    regmix   the notebook of github.com/sail-sg/regmix: its cells that fit and that simulate, run as
             they are on our data. $REGMIX_REPO names a clone.
    olmix    the package of github.com/allenai/olmix: its log-linear regression and exact proposer.

Nothing of either is copied here. `peers.py` holds our reimplementations; docs/mixbench.md says how
well they agree.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.errors import UserError, brief
from climb_opt.mixbench.methods import Data, Method, Pick, missing
from climb_opt.mixbench.peers import ASIDE
from climb_opt.mixbench.problems import Problem

REPO = "REGMIX_REPO"
NOTEBOOK = "regression_fitting/regression.ipynb"
FITS = "LGBMRegressor("
SIMULATES = ("np.random.dirichlet(", "predictor[selected].predict(samples)")
TOP = "optimal_data_mixture"
STARTS = 300  # of Olmix's fit
GIVEN = {"prior_dist", "selected"}  # what it says of the Pile: ours instead


def regmix() -> Method:
    """RegMix's own notebook on the shared random mixtures, from a clone that $REGMIX_REPO names."""
    folder = os.environ.get(REPO, "")
    if not folder:
        return Method(needs=f"${REPO} names no clone of github.com/sail-sg/regmix")
    try:
        cells = _cells(Path(folder) / NOTEBOOK)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        return Method(needs=f"{Path(folder) / NOTEBOOK} cannot be used ({brief(error)})")
    for module in ("lightgbm", "pandas", "sklearn"):
        if needs := missing(module, "RegMix's notebook"):
            return Method(needs=needs)
    return Method(recommend=_regmix_of(cells))


def olmix(kl: float = 0.05, starts: int = STARTS) -> Method:
    """Olmix's own log-linear regression and exact proposer on the shared random mixtures.

    Args:
        starts: how many of its 300 fits, evenly spread. Each takes about a second, since it begins
            its optimiser a hundred times and stops at no tolerance; they run in this process, not
            in its four.

    Raises:
        UserError: no start, or more than there are.
    """
    if not 1 <= starts <= STARTS:
        raise UserError(f"olmix-public: starts must lie in 1..{STARTS}, but is {starts}.")
    try:
        utils = importlib.import_module("olmix.fit.utils")
    except Exception as error:  # somebody else's package: whatever keeps it from loading
        return Method(needs=f"olmix.fit.utils cannot be imported ({brief(error)})")
    return Method(recommend=_olmix_of(utils, kl, starts))


# --- private -------------------------------------------------------------------------------------


def _cells(path: Path) -> list[str]:
    """The notebook's cells that fit, that draw, and that average."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    found = [next(c for c in code if text in c) for text in [FITS, *SIMULATES, TOP]]
    return [_without_given(cell) for cell in dict.fromkeys(found)]


def _without_given(cell: str) -> str:
    """The cell less its assignments of what we give, and of what it draws."""
    tree = ast.parse(cell)
    body = []
    for node in tree.body:
        targets = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        plots = "plt." in ast.unparse(node)
        if not (GIVEN & set(targets)) and not plots:
            body.append(node)
    return ast.unparse(ast.Module(body, []))


def _regmix_of(cells: list[str]) -> Callable[[Problem, Data, int], Pick]:
    def recommend(problem: Problem, data: Data, seed: int) -> Pick:
        aside = np.arange(len(data)) % ASIDE == ASIDE - 1
        names: dict[str, Any] = {"np": np, "lgb": importlib.import_module("lightgbm")}
        names["spearmanr"] = importlib.import_module("scipy.stats").spearmanr
        names |= {"X_train": data.weights[~aside], "y_train": data.scores[~aside, None]}
        names |= {"X_test": data.weights[aside], "y_test": data.scores[aside, None]}
        names |= {"KEY_METRICS": ["score"], "selected": 0, "prior_dist": problem.space.prior}
        with _quiet():
            for cell in cells:
                exec(compile(cell, NOTEBOOK, "exec"), names)
        weights = problem.space.project(np.asarray(names[TOP], dtype=float))
        return Pick(weights, float(names["predictor"][0].predict(weights[None])[0]))

    return recommend


def _olmix_of(utils: Any, kl: float, starts: int) -> Callable[[Problem, Data, int], Pick]:
    class FewerStarts(utils.ScalingLaw):  # type: ignore[misc]
        def fit(self, x: Any, y: Any, init_params: Any, **options: Any) -> Any:
            chosen = list(init_params)[:: STARTS // starts][:starts]
            return super().fit(x, y, chosen, **{**options, "workers": 1})

    def recommend(problem: Problem, data: Data, seed: int) -> Pick:
        regression = utils.LogLinearRegressor()
        regression.model = FewerStarts(utils.mixing_law)
        prior = dict(zip(problem.space.domains, problem.space.prior.tolist(), strict=True))
        with _quiet(), _unsaid(utils):
            regression.fit(data.weights, data.scores[:, None], 0)
            found = utils.LogLinearExactProposer().propose(
                predictor=[regression], prior_distributions=prior, token_counts={}, kl_reg=kl
            )
        weights = problem.space.project(np.asarray(found, dtype=float))
        return Pick(weights, float(np.ravel(regression.predict(weights[None]))[0]))

    return recommend


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What others' code prints and warns of is not ours to show; our progress, on stderr, is."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        yield


@contextlib.contextmanager
def _unsaid(utils: Any) -> Iterator[None]:
    """Olmix without bars, and cvxpy without the pages that a C library prints where it is asked."""
    law: Any = sys.modules[utils.ScalingLaw.__module__]
    problem, solve = utils.cp.Problem, utils.cp.Problem.solve

    def unasked(self: Any, *args: Any, **options: Any) -> Any:
        return solve(self, *args, **{**options, "verbose": False})

    logging.getLogger("__cvxpy__").setLevel(logging.WARNING)  # it tells of every solution
    with contextlib.ExitStack() as after:
        for owner, name in ((law, "tqdm"), (problem, "solve")):
            after.callback(setattr, owner, name, getattr(owner, name, None))
        law.tqdm, problem.solve = lambda starts, **_: starts, unasked
        yield
