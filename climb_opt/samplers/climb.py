"""CLIMB (arXiv 2504.13161): rounds of proxies, each chosen by a predictor fitted on all before.

Notation of the paper: A is the pool of candidate mixtures, S_k the mixtures scored before round
k + 1, f_k the predictor fitted on them, M the size of a round.

    round 1   S_1 = M draws of the initial design                             `design.py`
    Eq. 4     f_k = argmin_f sum over s in S_k of L(f(s), l(s))               `fit_predictor`
    Eq. 3     P_k = {f_k(s) | s in A \\ S_k};  S_M drawn at random from TopN(P_k)   `next_round`
              S_(k+1) = S_M u S_k
    result    argbest over A of the last predictor                            `climb_pick`

The paper leaves A, N and the predictor's constants open; the presets fill them in:

    nemo    the public code's constants (NVIDIA-NeMo/Curator): A is 100,000 draws of Dir(prior), the
            same in every round; N = max(M*M, 128); candidates may be tried twice
    paper   the equations: A \\ S_k, and a plain Dirichlet on token counts to start

Everything here is a pure function of its arguments; `climb_sampler.py` is the Optuna side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from climb_opt import lookup
from climb_opt.gp.outliers import ABSURD, tamed
from climb_opt.history import History, say_whole
from climb_opt.predictors.base import Predictor, expected, informed
from climb_opt.predictors.components import ComponentPredictor
from climb_opt.samplers.design import initial_design
from climb_opt.samplers.presets import ClimbOptions, ClimbRules
from climb_opt.samplers.reach import apart, distinct, within_evidence
from climb_opt.simplex import MixtureSpace

logger = logging.getLogger(__name__)

POOL_WEIGHTS = 2**25  # 256 MiB: all of the published 100,000 candidates of up to 335 domains
LOOK, VARIED = 4096, 64  # of so many candidates so many must be no copies of another
RULES = ("argbest", "mean-top")
SAME = 1e-5  # L1 distance below which two mixtures are one, as in the public code


# --- the algorithm ---------------------------------------------------------------------------


def candidate_pool(space: MixtureSpace, rules: ClimbRules, seed: int) -> np.ndarray:
    """A (pool_size, K): the same for every round of a search.

    A pool of hardly anything but copies is mixed draws, without copies and therefore smaller; one
    of more than `POOL_WEIGHTS` weights, several of which are in memory at a time, is cut to them.
    """
    rng = np.random.default_rng([seed, 0])
    size = min(rules.pool_size, max(LOOK, POOL_WEIGHTS // len(space)))
    if size < rules.pool_size:
        logger.info(
            "A pool of %d candidates, not %d: %d domains.", size, rules.pool_size, len(space)
        )
    pool = space.sample(rng, size, temperature=rules.pool_temperature, strength=rules.pool_strength)
    head = pool[:LOOK]
    if len(apart(head)) >= min(VARIED, len(head) / 16):
        return pool
    pool = np.concatenate([pool, space.sample_mixed(rng, size)])
    return pool[apart(pool)]


def fit_predictor(
    history: History, make: Callable[[], Predictor], per_component: bool | None = None
) -> Predictor:
    """f_k of Eq. 4, on the aggregate or, where trials store components, on each of them.

    Args:
        per_component: None decides by whether the history has several components.
    """
    history = tamed(history, ABSURD)  # CLIMB as published, but for runs that diverged
    several = history.components is not None and len(history.names) > 1
    if several and per_component is not False:
        assert history.components is not None and history.coefficients is not None
        parts = ComponentPredictor(make, history.coefficients)
        parts.fit(history.weights, history.components)
        return parts
    if per_component and history.components is None:
        say_whole(history.trials)
    predictor = make()
    predictor.fit(history.weights, history.values)
    return predictor


def next_round(
    pool: np.ndarray,
    history: History,
    rules: ClimbRules,
    predictor: Predictor | None,
    *,
    m: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """S_M of Eq. 3: m mixtures (m, K) drawn from TopN(f_k(A)), distinct where possible.

    Args:
        pool: A (pool_size, K).
        history: S_k with its scores, lower being better.
        predictor: f_k, Eq. 4; None where S_k teaches nothing.
    """
    if predictor is not None:
        n = rules.n_top(m)
        ranked = best = _ranked(pool, predictor)
        if rules.exclude:
            best = _untried(best[: n + len(history)], history.weights, m)
    else:
        logger.warning("Nothing to learn from %s: drawing from the pool.", _describe(history))
        n = max(10 * m, 1000)
        ranked = best = pool
    top = distinct(best[:n])
    if len(apart(top, SAME)) < m:  # copies but for a rounding: look further down for others
        best = ranked[apart(ranked, SAME)]
        top = (_untried(best, history.weights, m) if rules.exclude else best)[:n]
    return top[rng.choice(len(top), size=m, replace=len(top) < m)]


def first_round(space: MixtureSpace, rules: ClimbRules, *, m: int, seed: int) -> np.ndarray:
    """S_1: m mixtures (m, K) of the initial design."""
    return initial_design(space, rules.design, np.random.default_rng([seed, 2]), m)


def climb_pick(
    space: MixtureSpace,
    history: History,
    options: ClimbOptions | None = None,
    *,
    seed: int = 0,
    rule: str = "argbest",
    top: int = 128,
) -> np.ndarray:
    """The mixture (K,) that CLIMB itself recommends after a search.

    Args:
        history: all finished trials.
        options, seed: as the search's `ClimbSampler` has them, for the same pool and f.
        rule: "argbest", the paper's and the public code's best predicted candidate; or "mean-top",
            the mean of the `top` best (DeMix's reading of CLIMB, safer under noise).

    Where nothing can be learnt it is the best observed mixture, or the prior without any.
    """
    if rule not in RULES:
        raise lookup.unknown("rule", rule, RULES)
    return climb_picks(space, history, options, seed=seed, top=top)[rule]


def climb_picks(
    space: MixtureSpace,
    history: History,
    options: ClimbOptions | None = None,
    *,
    seed: int = 0,
    top: int = 128,
) -> dict[str, np.ndarray]:
    """The same for both rules, by name: they rank one pool by one predictor."""
    options = options or ClimbOptions()
    rules = options.rules
    if not can_learn(history):
        logger.warning("Nothing to learn from %s: no prediction.", _describe(history))
        if not len(history):
            return dict.fromkeys(RULES, space.project(space.prior))
        return dict.fromkeys(RULES, np.array(history.weights[int(np.argmin(history.values))]))
    predictor = fit_predictor(history, informed(options.make, space), options.per_component)
    pool, tried = candidate_pool(space, rules, seed), within_evidence(space, history.weights)
    if tried is not space:
        pool, space = tried.project(pool), tried
    ranked = _ranked(pool, predictor)
    best = np.array(ranked[0])
    if rules.decimals is not None:
        best = space.project(np.round(best, rules.decimals))
    return {"argbest": best, "mean-top": space.project(ranked[:top].mean(axis=0))}


def can_learn(history: History) -> bool:
    """Whether there are at least two mixtures and two scores to tell apart."""
    return len(history) >= 2 and bool(
        np.ptp(history.values) > 0 and np.ptp(history.weights, axis=0).max() > 0
    )


def _ranked(pool: np.ndarray, predictor: Predictor) -> np.ndarray:
    # Stable: trees give many candidates the same score, and every worker must order them alike.
    scores = expected(predictor, pool)
    return pool[np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")]


def _untried(candidates: np.ndarray, tried: np.ndarray, m: int) -> np.ndarray:
    seen = np.zeros(len(candidates), dtype=bool)
    for mixture in tried:
        seen |= np.abs(candidates - mixture).sum(axis=1) < SAME
    # With one or two domains everything may have been tried; then try again rather than stop.
    return candidates[~seen] if np.sum(~seen) >= m else candidates


def _describe(history: History) -> str:
    if len(history) < 2:
        return f"{len(history)} finished trials"
    what = "scores" if np.ptp(history.values) == 0 else "mixtures"
    return f"{len(history)} trials with equal {what}"
