"""Measures of mixtures: how far apart two are, over how many domains one is spread.

One unit everywhere: a distance is the *share of tokens that differ* (total variation, half the L1
distance), 0 for equal mixtures and 1 for mixtures without a common domain.

>>> import numpy as np
>>> distance(np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.2, 0.3])).item()
0.3
>>> round(effective_domains(np.array([0.25, 0.25, 0.25, 0.25])), 3)
4.0
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The share of tokens that differ between mixtures (..., K) and (..., K): (...), 0 to 1."""
    return np.asarray(np.abs(a - b).sum(axis=-1) / 2)


def apart(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """The share of tokens that differ between two mixtures by name; an absent domain weighs 0."""
    return sum(abs(a.get(d, 0.0) - b.get(d, 0.0)) for d in {*a, *b}) / 2


def effective_domains(weights: np.ndarray) -> float:
    """exp of the entropy of the weights (K,): how many domains it uses, were they used equally."""
    positive = weights[weights > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))
