"""What a measurement of influence is a function of, and what it costs before it is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from climb_opt.errors import UserError
from climb_opt.gains.program import Program

# FLOPs in units of one training token's (forward and backward, 3 forward passes): a product with
# the Gauss-Newton matrix pushes a tangent forward and goes back once more.
PRODUCT = 5.0 / 3.0
FEWEST = 3  # mixtures: a correlation of fewer says nothing
LEAST, MOST = 4_096, 131_072  # tokens of a gradient; two halves of 8,192 agree to .9 or better


@dataclass(frozen=True)
class InfluenceOptions:
    """How the influence of domains is measured at the end of a proxy of the prior.

    >>> options = InfluenceOptions().for_proxy(1_048_576, domains=8)
    >>> options.tokens, options.curvature_tokens
    (65536, 65536)
    >>> options.gradient_tokens([1_000], domains=8)
    590824.0
    """

    hessian: Literal["identity", "fisher", "ekfac", "gauss-newton"] = "fisher"  # the curvature
    tokens: int | None = None  # of each domain; None: 131,072, in all at most half a proxy's
    curvature_tokens: int | None = None  # of the prior; None: 65,536, at most 1/8 of a proxy's
    damping: float = 0.1  # added to the curvature, as a share of its mean diagonal entry
    iterations: int = 50  # gauss-newton: products of a solve, at most
    tolerance: float = 1e-3  # gauss-newton: residual of a solve, relative
    program: Program = field(default_factory=Program)  # what makes a mixture of it
    mixtures: int = 0  # TiKMiX-M: measure as many mixtures too, and search them; 0: none

    RANGES: ClassVar = {
        **dict.fromkeys(("tokens", "curvature_tokens", "iterations"), (1,)),
        "damping": (0, 2**53, "least"),
        "tolerance": (0, 1, "least"),
        "mixtures": (0,),
    }

    def check(self, tokens: int) -> None:
        """Refuse what a corpus of that many tokens cannot give, or what nothing is told by.

        Raises:
            UserError: more tokens than there are, or too few mixtures.
        """
        for key in ("tokens", "curvature_tokens"):
            given = getattr(self, key)
            if given is not None and given > max(tokens, LEAST):
                raise UserError(
                    f"influence.{key} must be at most the {tokens:,} tokens of the corpus, but is "
                    f"{given:,}."
                )
        if 0 < self.mixtures < FEWEST:
            raise UserError(
                f"influence.mixtures must be 0, for none, or at least {FEWEST}, but is "
                f"{self.mixtures}: fewer correlate with nothing."
            )

    def for_proxy(self, tokens: int, domains: int) -> InfluenceOptions:
        """The options with nothing left open, for a proxy that trains on that many tokens."""
        share = min(max(tokens // (2 * domains), LEAST), MOST)
        of_prior = min(max(tokens // 8, LEAST), MOST // 2)
        return replace(
            self,
            tokens=share if self.tokens is None else self.tokens,
            curvature_tokens=of_prior if self.curvature_tokens is None else self.curvature_tokens,
        )

    def gradient_tokens(
        self, read: Iterable[int], domains: float, products: int | None = None
    ) -> float:
        """What the measurement costs beside the proxy, in tokens of training.

        Args:
            read: tokens of each target.
            domains: how many; one that holds less than `tokens` counts as its share of them.
            products: with the Gauss-Newton matrix, where it is known; else the most there may be.
        """
        assert self.tokens is not None and self.curvature_tokens is not None
        read = list(read)
        curvature = {"identity": 0.0, "fisher": 1.0, "ekfac": 3.0, "gauss-newton": 1.0}
        found = sum(read) + self.tokens * (domains + self.mixtures)
        found += curvature[self.hessian] * self.curvature_tokens
        if self.hessian == "gauss-newton":
            most = self.iterations * len(read) if products is None else products
            found += PRODUCT * most * self.curvature_tokens
        return found
