"""A Gaussian process on the roots of the weights, with GPyTorch and BoTorch.

    score = constant + scale * (Matern52(x, x') + v x.x') + noise
    x = (sqrt(w) - mean of sqrt(w)) / largest range of a coordinate

The root (Hellinger) embedding ranks unseen mixtures far better than plain weights or log ratios
(docs/notes/searching.md#predictors). Length-scales are drawn to their common mean, so that a domain
differs from the others only where the runs say so: with one free length-scale per domain the fit
fails at 64 domains. The other constants are those of docs/notes/searching.md#the-process. All of it
is in double precision.
"""

from __future__ import annotations

import warnings

import numpy as np

from climb_opt.errors import UserError
from climb_opt.predictors.base import levelled
from climb_opt.written import number, whole_number

try:
    with warnings.catch_warnings(
        action="ignore"
    ):  # GPyTorch uses torch.jit, which torch deprecates
        import gpytorch
        import torch
        from botorch.exceptions.warnings import OptimizationWarning
        from botorch.models import SingleTaskGP
        from botorch.optim.fit import fit_gpytorch_mll_scipy
        from botorch.settings import validate_input_scaling
        from gpytorch.constraints import GreaterThan, Positive
        from gpytorch.kernels import Kernel, MaternKernel, ScaleKernel
        from gpytorch.priors import LogNormalPrior, NormalPrior
        from linear_operator.utils.errors import NotPSDError  # type: ignore[import-untyped]
        from linear_operator.utils.warnings import NumericalWarning  # type: ignore[import-untyped]
except ImportError as error:
    raise UserError(
        f"The predictor 'gp' needs BoTorch ({error}): pip install \"climb-opt[gp]\"."
    ) from error

ITERATIONS = 60  # of L-BFGS; more does not change the ranks
ENOUGH = 400  # runs that settle the few shared hyper-parameters; more only cost time (n^3)
# Standard deviation of a log length-scale around their mean. 0.4 is best for an aggregate, but one
# loss answers to few domains: with one model per component, .60/.94/.96 rank correlation at n = 16,
# 32, 64 with 0.4, .82/.96/.97 with 0.8, .89/.97/.97 with 1.5, where the aggregate loses .01.
SPREAD = 0.8
NOISE_FLOORS = (1e-6, 1e-4, 1e-2)  # of the noise variance, scores being standardised
CHUNK = 10_000  # candidates at a time, to bound memory


class GPPredictor:
    """SingleTaskGP on sqrt weights with hierarchical length-scales and a linear term.

    The spread is that of a new trial's score: posterior variance plus the fitted noise.

    Args:
        iterations: most L-BFGS iterations of a fit.
        spread: prior standard deviation of a log length-scale around the common mean.

    Raises:
        UserError: the extra `gp` is not installed; negative iterations; a spread of 0 or less.
    """

    def __init__(self, *, iterations: int = ITERATIONS, spread: float = SPREAD) -> None:
        self._iterations = whole_number(iterations, "iterations", least=0)
        self._spread = number(spread, "spread")
        if not self._spread > 0:
            raise UserError(f"spread must be positive, but is {spread}.")

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K) and `scores` (n,), n >= 1."""
        roots = np.sqrt(np.asarray(weights, dtype=float))
        y, self._shift, self._scale = levelled(scores)
        self._center = roots.mean(axis=0)
        self._range = max(float(np.ptp(roots, axis=0).max()), 1e-6)
        self._unknown = len(y) == 1
        if not self._scale:
            return
        x = torch.from_numpy((roots - self._center) / self._range)
        z = torch.from_numpy((y - self._shift) / self._scale)
        some = np.random.default_rng(0).permutation(len(y))[:ENOUGH]
        self._gp = _fit(x[some], z[some], self._iterations, self._spread)
        with torch.no_grad():
            self._x = x
            self._noise = float(self._gp.likelihood.noise)
            covariance = self._gp.covar_module(x).to_dense()
            self._prior_mean = float(self._gp.mean_module.constant)
            noisy = covariance + self._noise * torch.eye(len(x), dtype=x.dtype)
            self._factor = torch.linalg.cholesky(noisy)
            self._alpha = torch.cholesky_solve((z - self._prior_mean)[:, None], self._factor)[:, 0]

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """The mean (m,) of `predict` alone."""
        return self._posterior(weights, deviation=False)[0]

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) at `weights` (m, K).

        The deviation is 0 when all scores were equal, and infinite after a single score.
        """
        return self._posterior(weights, deviation=True)

    def _posterior(self, weights: np.ndarray, deviation: bool) -> tuple[np.ndarray, np.ndarray]:
        w = np.asarray(weights, dtype=float)
        mean, std = np.full(len(w), self._shift), np.full(len(w), np.inf)
        if not self._scale:
            return mean, std if self._unknown else np.zeros(len(w))
        with torch.no_grad():
            for start in range(0, len(w), CHUNK):
                part = slice(start, start + CHUNK)
                x = torch.from_numpy((np.sqrt(w[part]) - self._center) / self._range)
                cross = self._gp.covar_module(x, self._x).to_dense()
                mean[part] += self._scale * (self._prior_mean + cross @ self._alpha).numpy()
                if deviation:
                    known = torch.linalg.solve_triangular(self._factor, cross.T, upper=False)
                    own = self._gp.covar_module(x, diag=True)
                    left = (own - known.square().sum(0)).clamp_min(0.0)
                    std[part] = self._scale * (left + self._noise).sqrt().numpy()
        return mean, std


class _Linear(Kernel):  # type: ignore[misc]
    """v x.x', dense. GPyTorch's own turns a sum with it into low-rank updates, which fail here."""

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("raw_variance", torch.nn.Parameter(torch.zeros(1)))
        self.register_constraint("raw_variance", Positive())

    @property
    def variance(self) -> torch.Tensor:
        return self.raw_variance_constraint.transform(self.raw_variance)

    def forward(
        self, x1: torch.Tensor, x2: torch.Tensor, diag: bool = False, **_: object
    ) -> torch.Tensor:
        return self.variance * ((x1 * x2).sum(-1) if diag else x1 @ x2.transpose(-2, -1))


def _fit(x: torch.Tensor, z: torch.Tensor, iterations: int, spread: float) -> SingleTaskGP:
    for floor in NOISE_FLOORS:
        try:
            return _fitted(x, z, iterations, spread, floor)
        except NotPSDError:
            continue  # L-BFGS tried a scale that dwarfs the noise: 1 fit in 195
    return _fitted(x, z, 0, spread, NOISE_FLOORS[-1])  # where it starts is still a usable model


def _fitted(
    x: torch.Tensor, z: torch.Tensor, iterations: int, spread: float, floor: float
) -> SingleTaskGP:
    matern, linear = MaternKernel(nu=2.5, ard_num_dims=x.shape[1]), _Linear()
    matern.register_prior(
        "spread",
        NormalPrior(0.0, spread),
        lambda k: k.lengthscale.log() - k.lengthscale.log().mean(),
    )
    matern.register_prior("level", NormalPrior(0.7, 1.0), lambda k: k.lengthscale.log().mean())
    linear.register_prior("size", NormalPrior(0.0, 1.5), lambda k: k.variance.log())
    matern.lengthscale = 2.0
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_prior=LogNormalPrior(-4.0, 2.0),
        noise_constraint=GreaterThan(floor, initial_value=0.02),
    )
    with warnings.catch_warnings(), validate_input_scaling(False):
        # Our scaling keeps the simplex's shape instead of BoTorch's unit cube; a fit that stops at
        # the iteration limit, or with jitter on a singular matrix, is good enough to rank with.
        warnings.simplefilter("ignore", OptimizationWarning)
        warnings.simplefilter("ignore", NumericalWarning)
        gp = SingleTaskGP(
            x,
            z[:, None],
            likelihood=likelihood,
            covar_module=ScaleKernel(matern + linear),
            outcome_transform=None,
        )
        fitted = gpytorch.mlls.ExactMarginalLogLikelihood(gp.likelihood, gp)
        if iterations > 0:
            with gpytorch.settings.max_cholesky_size(ENOUGH + 1):
                fit_gpytorch_mll_scipy(fitted, options={"maxiter": iterations})
    return gp.eval()
