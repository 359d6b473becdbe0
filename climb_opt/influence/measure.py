"""S at the end of a trained proxy: target gradients, one solve each, then domain after domain.

Only the targets' solved gradients are kept, on the CPU, with one domain's at a time: memory is the
model, n vectors of its size and a few more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from climb_opt.errors import Interrupted, TrialFailed, UserError, listed
from climb_opt.evaluators.base import Differentiable, Evaluator
from climb_opt.influence.curvature import Curvature, DiagonalFisher, GaussNewton, Identity
from climb_opt.influence.gradients import Differentiator, Sample, dot, of_mixture, single_precision
from climb_opt.influence.options import InfluenceOptions
from climb_opt.proxy.data import Sequences
from climb_opt.proxy.group import ProxyGroup

log = logging.getLogger(__name__)

Targets = dict[str, Differentiable]  # component -> who scores it


@dataclass(frozen=True)
class Place:
    """Where influence is measured: what was trained on `mixture`, and on what.

    `stop` is asked between two vectors, on rank 0.
    """

    network: Any
    group: ProxyGroup
    sequences: Sequences
    mixture: dict[str, float]
    seed: int = 0
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Measured:
    """S (n, K) by target and domain, and each domain's two halves of it (2, n, K).

    `products` with the Gauss-Newton matrix were made; `mixtures` (2, n, m) holds the halves of S w
    of mixtures that were measured by themselves; `damping` is a share of the mean diagonal, as it
    was used.
    """

    lowers: np.ndarray
    halves: np.ndarray
    products: int
    seconds: float
    mixtures: np.ndarray
    damping: float

    @property
    def reliability(self) -> list[float | None]:
        """Of each target: how far two measurements of half the tokens agree over the domains."""
        first, second = self.halves
        return [correlation(a, b) for a, b in zip(first, second, strict=True)]


def targets_of(evaluators: Sequence[Evaluator], score: Mapping[str, float]) -> Targets:
    """Who has a gradient of each component of a score.

    Raises:
        UserError: a component that nobody gives, or that has no gradient.
    """
    found: Targets = {}
    every = [e for e in evaluators if isinstance(e, Differentiable)]
    smooth = {n: e for e in every for n in e.smooth()}
    for name in (name for name, coefficient in score.items() if coefficient):
        if name not in smooth:
            known = [n for e in evaluators for n in e.components()]
            why = "has no gradient" if name in known else "is given by no evaluator of the study"
            raise UserError(
                f"influence: component {name!r} {why}; influence is measured on held-out text and "
                f"on answers' bits per byte. Of this study: {listed(smooth) or 'none'}."
            )
        found[name] = smooth[name]
    return found


def measure(
    place: Place,
    targets: Targets,
    options: InfluenceOptions,
    mixtures: Sequence[dict[str, float]] = (),
) -> Measured:
    """S at the end of `place.network`, the same on every rank.

    Args:
        mixtures: further ones to measure as if each were a domain.

    Raises:
        TrialFailed: an influence that is not a finite number.
        Interrupted: `place.stop()` said so.
    """
    begun, tokens = time.perf_counter(), options.tokens
    assert tokens is not None
    with single_precision():
        model = Differentiator(place.network, place.group)
        curvature = _curvature(place, model, options)
        solved = curvature.solve_all(_gradients(place, model, targets))
        found = np.stack([_halves(place, model, solved, s) for s in _of_domains(place, tokens)])
        seeded = enumerate(mixtures, place.seed + 1)  # each with a seed of its own
        own = (of_mixture(place.sequences, mixed, tokens, seed) for seed, mixed in seeded)
        measured = [_halves(place, model, solved, sample) for sample in own]
    found = np.moveaxis(found, 0, 2)
    lowers = found.mean(axis=0)
    if not np.isfinite(lowers).all():
        raise TrialFailed("influence: a gradient of the proxy is not finite; it has diverged")
    products, raised = getattr(curvature, "products", 0), getattr(curvature, "raised", 1)
    seconds = time.perf_counter() - begun
    own_s = np.stack(measured, axis=2) if measured else np.empty((2, len(targets), 0))
    return Measured(lowers, found, products, seconds, own_s, options.damping * raised)


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's, or None where it says nothing: fewer than three values, or equal ones."""
    if len(a) < 3 or not a.std() > 0 or not b.std() > 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


# --- private -------------------------------------------------------------------------------------


def _gradients(place: Place, model: Differentiator, targets: Targets) -> Iterator[torch.Tensor]:
    """Of each target (P,), one after the other."""
    for name, evaluator in targets.items():
        _check_stop(place)
        log.info("influence: solving for %s.", name)
        yield model.of(evaluator.terms(name, place.network, model.accelerator))


def _of_domains(place: Place, tokens: int) -> Iterator[Sample]:
    """What is read of each domain: what a run of it reads first, none twice."""
    sequences = place.sequences
    for name, size in zip(sequences.domains, sequences.sizes.tolist(), strict=True):
        most = min(tokens, size * sequences.length)
        yield of_mixture(sequences, {name: 1.0}, most, place.seed)


def _halves(
    place: Place, model: Differentiator, solved: Sequence[torch.Tensor], sample: Sample
) -> np.ndarray:
    """What a sample lowers each target by, from each of its halves: (2, n)."""
    _check_stop(place)
    gradients = (model.of(model.terms(half)).cpu() for half in sample.halves())
    return np.array([[dot(gradient, vector) for vector in solved] for gradient in gradients])


def _curvature(place: Place, model: Differentiator, options: InfluenceOptions) -> Curvature:
    if options.hessian == "identity":
        return Identity()
    assert options.curvature_tokens is not None
    # Of the mixture it was trained on, but not what a run of it reads first.
    tokens = options.curvature_tokens
    sample = of_mixture(place.sequences, place.mixture, tokens, place.seed + 1)
    fisher = DiagonalFisher(model, sample, damping=options.damping, seed=place.seed)
    if options.hessian == "fisher":
        return fisher
    if options.hessian == "ekfac":
        from climb_opt.influence.ekfac import EKFAC  # needs a library of its own

        return EKFAC(model, sample, rest=fisher)
    return GaussNewton(
        model,
        sample,
        damping=fisher.damping,
        iterations=options.iterations,
        tolerance=options.tolerance,
    )


def _check_stop(place: Place) -> None:
    if place.group.share(place.stop() if place.group.is_main else None):
        raise Interrupted("influence: stopped between two gradients")
