"""Optuna's own samplers by short name, each on the simplex: `sampler: tpe` in a recipe.

Each takes the space, a seed, an encoding (`encodings.py`) and the options of the Optuna sampler.
Some need an extra, which is checked here, not in the middle of a search.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from optuna import samplers
from optuna.samplers import BaseSampler

from climb_opt.errors import UserError
from climb_opt.extras import installed
from climb_opt.lookup import facts
from climb_opt.samplers.encodings import Encoding
from climb_opt.samplers.wrapped import SimplexSampler
from climb_opt.simplex import MixtureSpace

AnyEncoding = str | Callable[[MixtureSpace], Encoding]


def _on_simplex(
    about: str,
    make: Callable[..., BaseSampler],
    *,
    encoding: AnyEncoding = "softmax",
    needs: Callable[[], None] = lambda: None,
    one_objective: bool = False,
) -> Callable[..., SimplexSampler]:
    """A sampler of this file: (space, seed, encoding, options of the Optuna sampler) -> sampler.

    Args:
        about: its first line in lists.
        make: the Optuna sampler.
        needs: raises where an extra is missing.
        one_objective: it takes no more.
    """

    @facts(one_objective=one_objective, __doc__=about)
    def sampler(
        space: MixtureSpace,
        *,
        seed: int | None = None,
        encoding: AnyEncoding = encoding,
        **options: Any,
    ) -> SimplexSampler:
        needs()
        return SimplexSampler(space, make(seed=seed, **options), encoding=encoding)

    return sampler


def _need(sampler: str, **extras: str) -> Callable[[], None]:
    """Look for modules, each of an extra."""

    def look() -> None:
        for module, extra in extras.items():
            if not installed(module):
                raise UserError(
                    f'The sampler {sampler!r} needs {module}: pip install "climb-opt[{extra}]".'
                )

    return look


def _botorch(**options: Any) -> BaseSampler:
    with warnings.catch_warnings(
        action="ignore"
    ):  # GPyTorch uses torch.jit, which torch deprecates
        from optuna_integration import BoTorchSampler

    return BoTorchSampler(**options)


random = _on_simplex(
    "Random search; with the gamma encoding its draws are exactly Dirichlet(prior).",
    samplers.RandomSampler,
    encoding="gamma",
)
tpe = _on_simplex("Tree-structured Parzen estimator, Optuna's default.", samplers.TPESampler)
cma_es = _on_simplex(
    "Covariance matrix adaptation; needs the extra `samplers`.",
    samplers.CmaEsSampler,
    needs=_need("cma-es", cmaes="samplers"),
    one_objective=True,
)
qmc = _on_simplex(
    "Scrambled Sobol points; several workers need one seed, given here.",
    partial(samplers.QMCSampler, scramble=True, warn_asynchronous_seeding=False),
)
gp_optuna = _on_simplex(
    "Optuna's Gaussian process; needs PyTorch.",
    samplers.GPSampler,
    needs=_need("gp-optuna", torch="gp"),
)
botorch = _on_simplex(
    "BoTorch through optuna-integration; needs the extras `gp` and `samplers`.",
    _botorch,
    needs=_need("botorch", botorch="gp", optuna_integration="samplers"),
)
nsga2 = _on_simplex(
    "NSGA-II, a genetic algorithm for one objective or several.", samplers.NSGAIISampler
)
