# Written by hub/build.py from climb_opt: change it there.
"""Random points of a simplex, before any bounds: Dirichlet draws of one or of mixed concentration.

Notation: K domains, n draws, `p` the prior (K,).
"""

from __future__ import annotations

import numpy as np

# RegMix's sampler, as CLIMB's public code uses it: prior^0.5, strength from 15 log-spaced values.
SPARSE_TEMPERATURE = 0.5
SPARSE_STRENGTHS = np.geomspace(0.1, 5.0, 15)
# (temperature, strength) of sparse draws: from few domains near the prior to several anywhere.
SPARSE = ((1.0, 0.5), (1.0, 1.0), (0.5, 1.0), (0.5, 3.0))


def dirichlet(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    """One Dirichlet draw per row of `alpha` (n, K); exact zeros where alpha is 0."""
    draws = rng.standard_gamma(alpha)
    totals = draws.sum(axis=1)
    # Small concentrations (0.1 over 240 domains) may underflow in every weight. A Dirichlet is
    # independent of its gammas' total, so drawing such rows again, in logs, biases nothing.
    lost = totals < 1e-290
    if lost.any():
        draws[lost] = _log_gamma_draws(rng, alpha[lost])
        totals = draws.sum(axis=1)
    draws /= totals[:, None]
    return draws


def powered(p: np.ndarray, temperature: float) -> np.ndarray:
    """p^temperature normalised; what is 0 stays 0."""
    base = np.where(p > 0, np.where(p > 0, p, 0.0) ** temperature, 0.0)
    return np.asarray(base / base.sum())


def mixed(rng: np.random.Generator, n: int, p: np.ndarray) -> np.ndarray:
    """n draws (n, K), shuffled: see `MixtureSpace.sample_mixed`."""
    sparse, flat, k = n - n // 2, n // 4, len(p)
    strength = rng.choice(SPARSE_STRENGTHS, size=sparse)
    root = np.sqrt(p)
    drawn = np.empty((n, k))  # 720 MB for 30,000 draws of 3,000 domains: no copy that need not be
    drawn[:sparse] = dirichlet(rng, np.multiply.outer(strength, powered(p, SPARSE_TEMPERATURE)))
    drawn[sparse : sparse + flat] = dirichlet(rng, np.broadcast_to(1.0, (flat, k)))
    rest = n - sparse - flat
    drawn[sparse + flat :] = dirichlet(rng, np.broadcast_to(k * root / root.sum(), (rest, k)))
    return drawn[rng.permutation(n)]


def _log_gamma_draws(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    # log G(a) = log G(a + 1) + log(U) / a, scaled so that a row's largest draw is 1.
    positive = alpha > 0
    safe = np.where(positive, alpha, 1.0)
    logs = np.log(rng.standard_gamma(safe + 1.0)) + np.log1p(-rng.random(alpha.shape)) / safe
    logs = np.where(positive, logs, -np.inf)
    return np.asarray(np.exp(logs - logs.max(axis=1, keepdims=True)))
