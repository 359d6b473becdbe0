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
        mean, half: expected score and half its 90 % interval, in the study's units; None where
            nothing could be modelled.
        gain, gain_half: expected improvement over the prior (positive is better), likewise.
        warnings: what to doubt about this mixture, a line each.
        default: the rule that is followed.
    """

    rule: str
    mixture: Mapping[str, float]
    mean: float | None = None
    half: float | None = None
    gain: float | None = None
    gain_half: float | None = None
    warnings: tuple[str, ...] = ()
    default: bool = False


def effective_domains(weights: np.ndarray) -> float:
    """exp(entropy): how many domains a mixture uses, were they used equally."""
    positive = weights[weights > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Half the L1 distance: the share of tokens that differ between two mixtures, 0 to 1."""
    return float(np.abs(a - b).sum() / 2)
