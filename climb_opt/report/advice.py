"""What the report needs to know of a recommended mixture, whoever recommends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Advice:
    """A mixture that a rule recommends.

    Args:
        rule: the rule's name.
        mixture: domain -> weight.
        mean, std: predicted score and its standard deviation, in the study's units; None if the
            rule predicts nothing.
        gain, gain_std: predicted improvement over the prior (positive is better) and its standard
            deviation, errors shared by both cancelled out; None likewise.
        note: what to know about this rule's pick, one line.
        default: the rule that `climb-opt best` follows.
    """

    rule: str
    mixture: Mapping[str, float]
    mean: float | None = None
    std: float | None = None
    gain: float | None = None
    gain_std: float | None = None
    note: str = ""
    default: bool = False


def effective_domains(weights: np.ndarray) -> float:
    """exp(entropy): how many domains a mixture uses, were they used equally."""
    positive = weights[weights > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Half the L1 distance: the share of tokens that differ between two mixtures, 0 to 1."""
    return float(np.abs(a - b).sum() / 2)
