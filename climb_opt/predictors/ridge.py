"""Ridge regression whose coefficients are not negative."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls


def non_negative(x: np.ndarray, y: np.ndarray, ridge: float) -> tuple[float, np.ndarray, float]:
    """Constant, coefficients (p,) of features x (n, p), and the leave-one-out mean square.

    Args:
        y: values (n,) with a mean of 0.
        ridge: added to the squares of the features.

    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [3.0, 1.0]])
    >>> constant, b, error = non_negative(x, x[:, 0] - 1.5, 1e-9)
    >>> round(constant, 6), b.round(6).tolist(), error < 1e-12
    (-1.5, [1.0, 0.0], True)
    """
    middle = x.mean(axis=0)
    centred = x - middle
    # Ridge as p more rows, whose targets are 0.
    rows = np.concatenate([centred, np.sqrt(ridge) * np.eye(x.shape[1])])
    b, _ = nnls(rows, np.concatenate([y, np.zeros(x.shape[1])]), maxiter=50 * x.shape[1])
    used = centred[:, b > 0]
    inverse = np.linalg.inv(used.T @ used + ridge * np.eye(used.shape[1]))
    leverage = 1 / len(y) + np.einsum("ij,jk,ik->i", used, inverse, used)
    left_out = (y - centred @ b) / np.maximum(1.0 - leverage, 1e-2)
    return -float(middle @ b), b, float(np.mean(left_out**2))
