"""H^-1 v for four kinds of curvature of the training loss; `solve` is all that is asked of one.

identity       H = I: gradients are compared as they are
fisher         the diagonal of the Fisher matrix
ekfac          eigenvalue-corrected Kronecker factors of it (arXiv 2308.03296), by kronfluence
gauss-newton   all of it, by conjugate gradients: exact, for small models

Fisher and Gauss-Newton are one matrix for a softmax with cross-entropy: J^T (diag(q) - q q^T) J a
token, J the Jacobian of its logits and q the model's own probabilities. All are means over tokens
of the mixture that the model was trained on, and damped by a share of their mean diagonal entry.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from climb_opt.doubles import in_double
from climb_opt.influence.gradients import Differentiator, Sample, dot

log = logging.getLogger(__name__)


RAISED = (1, 10, 100, 1000)  # times the damping, until conjugate gradients converge


class Curvature(Protocol):
    """A damped curvature of the training loss."""

    def solve_all(self, vectors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """(H + lambda I)^-1 v for each v (P,), on the CPU."""


class OneByOne(Curvature, Protocol):
    """A curvature of which one solve needs to know no other."""

    def solve(self, vector: torch.Tensor) -> torch.Tensor:
        """(H + lambda I)^-1 v for v (P,)."""

    def solve_all(self, vectors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """See `Curvature`."""
        return [self.solve(vector).cpu() for vector in vectors]


class Identity(OneByOne):
    """H = I."""

    def solve(self, vector: torch.Tensor) -> torch.Tensor:
        """See `OneByOne`."""
        return vector


class DiagonalFisher(OneByOne):
    """The Fisher matrix's diagonal (P,), estimated with labels that the model itself draws.

    Gradients of drawn labels have mean 0 and are independent from token to token, so the square of
    a batch's summed gradient is, in the mean, the sum of its tokens' squares.
    """

    def __init__(
        self, model: Differentiator, sample: Sample, *, damping: float, seed: int = 0
    ) -> None:
        total = torch.zeros(model.size, device=model.group.device)
        generator = torch.Generator(device=total.device).manual_seed(seed + model.group.rank)
        for part in model.batches(sample):
            for few in part.split(SMALL):
                total += _own(model, few, generator) ** 2
        self.diagonal = model.add_up(total) / sample.tokens
        self.mean = float(in_double(self.diagonal).mean())
        self.damping = damping * self.mean

    def solve(self, vector: torch.Tensor) -> torch.Tensor:
        """See `OneByOne`."""
        return vector / (self.diagonal + max(self.damping, 1e-30))


SMALL = 4  # sequences whose gradients are squared together: fewer are more draws, and dearer


def drawn_loss(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The summed loss of labels (n,) that a model with these logits (n, V) draws."""
    drawn = torch.multinomial(torch.softmax(logits.detach(), 1), 1, generator=generator).flatten()
    return F.cross_entropy(logits, drawn, reduction="sum")


def _own(model: Differentiator, tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """This rank's gradient (P,) of the summed loss of labels that the model draws."""
    logits = model.network(input_ids=tokens[:, :-1], use_cache=False).logits.flatten(0, 1)
    loss = drawn_loss(logits, generator)
    return model.flat(torch.autograd.grad(loss, model.parameters, allow_unused=True))


class GaussNewton:
    """The damped Gauss-Newton matrix, solved by conjugate gradients on sampled sequences.

    Args:
        damping: lambda itself.
        iterations, tolerance: of a solve; the residual relative to the right-hand side.

    Attributes:
        raised: how many times the damping was used.
    """

    def __init__(
        self,
        model: Differentiator,
        sample: Sample,
        *,
        damping: float,
        iterations: int,
        tolerance: float,
    ) -> None:
        self.model, self.tokens = model, sample.tokens
        self.parts = list(model.batches(sample))
        self.damping = damping
        self.iterations, self.tolerance = iterations, tolerance
        self.products, self.raised = 0, 1

    def product(self, vector: torch.Tensor) -> torch.Tensor:
        """H v (P,), without damping."""
        self.products += 1
        total = torch.zeros_like(vector)
        for part in self.parts:
            total += _product(self.model, part, vector)
        return self.model.add_up(total) / self.tokens

    def solve_all(self, vectors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """See `Curvature`; all by one damping, the least raised of which every solve converges."""

        def damped(v: torch.Tensor) -> torch.Tensor:
            return self.product(v) + self.damping * v

        shifts = [(times - 1) * self.damping for times in RAISED]
        solved, left = [], []
        for vector in vectors:
            found, residuals = conjugate_gradients(
                damped, vector, shifts, iterations=self.iterations, tolerance=self.tolerance
            )
            solved.append([each.cpu() for each in found])
            left.append(residuals)
        worst = [max(each) for each in zip(*left, strict=True)]
        place = next((n for n, r in enumerate(worst) if r <= self.tolerance), len(worst) - 1)
        self.raised = RAISED[place]
        if place or worst[place] > self.tolerance:
            log.warning(
                "Conjugate gradients stopped after %d products with a residual of %.1g (asked: "
                "%.1g); with %d times the damping, which is taken, it is %.1g. Raise iterations to "
                "keep damping as it is.",
                *(self.iterations, worst[0], self.tolerance, self.raised, worst[place]),
            )
        return [each[place] for each in solved]


def _product(model: Differentiator, tokens: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """This rank's J^T (diag(q) - q q^T) J v, summed over the tokens of (b, T + 1)."""
    frozen = {name: p.detach() for name, p in zip(model.names, model.parameters, strict=True)}

    def logits(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        given = {"input_ids": tokens[:, :-1], "use_cache": False}
        found: Any = torch.func.functional_call(model.network, parameters, (), given)
        return found.logits.flatten(0, 1)

    with sdpa_kernel(SDPBackend.MATH):  # the fast kernels have no forward-mode derivative
        with warnings.catch_warnings():
            # torch compiles its own rules in a way that it deprecates
            warnings.filterwarnings("ignore", message=".*torch.jit")
            values, pushed = torch.func.jvp(logits, (frozen,), (model.shaped(vector),))
        q = torch.softmax(values, 1)
        pulled = q * pushed - q * (q * pushed).sum(1, keepdim=True)
        del values, pushed, q
        output = model.network(input_ids=tokens[:, :-1], use_cache=False).logits.flatten(0, 1)
        found = torch.autograd.grad(output, model.parameters, pulled, allow_unused=True)
    return model.flat(found)


def conjugate_gradients(
    product: Callable[[torch.Tensor], torch.Tensor],
    right: torch.Tensor,
    shifts: Sequence[float] = (0.0,),
    *,
    iterations: int,
    tolerance: float,
) -> tuple[list[torch.Tensor], list[float]]:
    """x with (A + shift I) x = right for each shift, from 0, and the relative residuals they leave.

    All are found in the one space that the products with A span, at no further product: a residual
    for a shift is a multiple `zeta` of that for none (Jegerlehner, arXiv hep-lat/9612014).

    Args:
        product: with A, positive definite.
        shifts: ascending, the first 0.
    """
    residual, direction = right.clone(), right.clone()
    squared = first = dot(residual, residual)
    found = [torch.zeros_like(right) for _ in shifts]
    directions = [right.clone() for _ in shifts]
    zetas, before = [1.0] * len(shifts), [1.0] * len(shifts)
    step, ratio = 1.0, 0.0
    for _ in range(iterations):
        if squared <= tolerance**2 * first:
            break
        image = product(direction)
        last, step = step, squared / dot(direction, image)
        residual -= step * image
        after = dot(residual, residual)
        for n, shift in enumerate(shifts):
            zeta = zetas[n]
            if zeta * zeta * squared <= (tolerance / 10) ** 2 * first:
                continue  # it has converged; going on would divide 0 by 0
            moved = step * ratio * (before[n] - zeta) + before[n] * last * (1 + shift * step)
            zetas[n], before[n] = zeta * before[n] * last / moved, zeta
            found[n] += step * (zetas[n] / zeta) * directions[n]
            turn = after / squared * (zetas[n] / zeta) ** 2
            directions[n] = zetas[n] * residual + turn * directions[n]
        ratio = after / squared
        direction = residual + ratio * direction
        squared = after
    size = math.sqrt(squared / first) if first > 0 else 0.0
    return found, [abs(zeta) * size for zeta in zetas]
