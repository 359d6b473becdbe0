# Written by hub/build.py from climb_opt: change it there.
"""Two examinations of what a method believes, which need no search.

censored    the best of its data are hidden: how much better than the truth is what it claims of
            the mixture that it recommends? (Marin's test; extrapolation is where laws fail.)
selection   proposals were trained, once each: does it keep the best of them, or the luckiest?
"""

from __future__ import annotations

import numpy as np
from optuna.trial import create_trial

from .parts.errors import UserError, brief
from .limits import TooLong, within
from .methods import Data, Method, believe
from .problems import Problem
from .protocol import LIMIT, judge

HIDDEN = 0.25  # of the data, the best measured
PROPOSALS = 12  # trained mixtures to select from
NEAR = (0.05, 0.3)  # how far proposals lie from the problem's optimum: a share of a random mixture
STREAM = 0x6578616D  # "exam"
Found = dict[str, float]


def examine(
    method: Method, problem: Problem, *, seed: int = 0, n: int = 48, limit: float = LIMIT
) -> Found:
    """Both examinations on `n` random mixtures of the problem, measured once each at the target.

    A method that has a sampler is examined by what it recommends of these data.

    Returns:
        censored regret     true, of what it recommends without the best quarter
        censored optimism   claimed minus true score there, in regrets; below 0 promises too much;
                            only of a method that promises anything
        selection regret    of the trained proposal that it keeps, above the best of them

    Raises:
        UserError: fewer than 8 mixtures.
    """
    if n < 8:
        raise UserError(f"An examination needs 8 mixtures or more, not {n}.")
    if method.needs:
        return {}
    found: Found = {}
    for part in (_censored, _selection):
        try:
            found |= within(limit, lambda part=part: part(method, problem, seed, n))  # type: ignore[misc]
        except TooLong:
            continue
        except Exception as error:  # somebody else's code: what it could not do is left out
            if not brief(error):
                raise
    return found


# --- private -----------------------------------------------------------------------------------


def _censored(method: Method, problem: Problem, seed: int, n: int) -> Found:
    data = measured(problem, problem.design(seed, n), seed)
    kept = np.sort(np.argsort(data.scores, kind="stable")[int(HIDDEN * n) :])
    pick = method.pick(problem, _rows(data, kept), seed)
    judged = judge(problem, pick)
    found = {"censored regret": judged["regret"]}
    return found | ({"censored optimism": judged["error"]} if "error" in judged else {})


def _selection(method: Method, problem: Problem, seed: int, n: int) -> Found:
    rng = np.random.default_rng([seed, STREAM])
    best, _ = problem.source.optimum()
    share = rng.uniform(*NEAR, (PROPOSALS, 1))
    proposals = problem.space.project(
        (1.0 - share) * best + share * problem.design(seed + 1, PROPOSALS)
    )
    data = measured(problem, np.concatenate([problem.design(seed, n - PROPOSALS), proposals]), seed)
    scores = data.scores[-PROPOSALS:]
    if method.predict is not None:
        seen, told = method.told(problem, data)
        scores = believe(method.predict(seen, told, seed))(told.weights[-PROPOSALS:])[0]
    true = problem.regret(proposals)
    return {"selection regret": float(true[int(np.argmin(scores))] - true.min())}


def measured(problem: Problem, weights: np.ndarray, seed: int) -> Data:
    """The mixtures (n, K) measured at the target with the noise of a run's first n trials."""
    target = problem.ladder.target
    scores = np.array(
        [problem.source.score(w[None], None, [seed, i])[0] for i, w in enumerate(weights)]
    )
    space = problem.space
    trials = tuple(
        create_trial(params=space.params(w), distributions=problem.search_space, value=float(y))
        for w, y in zip(weights, scores, strict=True)
    )
    return Data(weights, scores, np.full(len(scores), target), trials)


def _rows(data: Data, rows: np.ndarray) -> Data:
    trials = tuple(data.trials[i] for i in rows.tolist())
    return Data(data.weights[rows], data.scores[rows], data.rungs[rows], trials)
