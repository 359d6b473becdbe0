"""Optuna's own samplers by short name, each on the simplex: `sampler: tpe` in a recipe.

Each takes the space, a seed, an encoding (`encodings.py`) and the options of the Optuna sampler.
Some need an extra, which is checked here, not in the middle of a search.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import optuna

from climb_opt.errors import UserError
from climb_opt.lookup import facts
from climb_opt.samplers.encodings import Encoding
from climb_opt.samplers.wrapped import SimplexSampler
from climb_opt.simplex import MixtureSpace

AnyEncoding = str | Callable[[MixtureSpace], Encoding]


def random(
    space: MixtureSpace,
    *,
    seed: int | None = None,
    encoding: AnyEncoding = "gamma",
    **options: Any,
) -> SimplexSampler:
    """Random search; with the gamma encoding its draws are exactly Dirichlet(prior)."""
    base = optuna.samplers.RandomSampler(seed=seed, **options)
    return SimplexSampler(space, base, encoding=encoding)


def tpe(
    space: MixtureSpace,
    *,
    seed: int | None = None,
    encoding: AnyEncoding = "softmax",
    **options: Any,
) -> SimplexSampler:
    """Tree-structured Parzen estimator, Optuna's default."""
    base = optuna.samplers.TPESampler(seed=seed, **options)
    return SimplexSampler(space, base, encoding=encoding)


@facts(one_objective=True)
def cma_es(
    space: MixtureSpace,
    *,
    seed: int | None = None,
    encoding: AnyEncoding = "softmax",
    **options: Any,
) -> SimplexSampler:
    """Covariance matrix adaptation; needs the extra `samplers`."""
    _need("cma-es", "cmaes", "samplers")
    base = optuna.samplers.CmaEsSampler(seed=seed, **options)
    return SimplexSampler(space, base, encoding=encoding)


def qmc(
    space: MixtureSpace,
    *,
    seed: int | None = None,
    encoding: AnyEncoding = "softmax",
    **options: Any,
) -> SimplexSampler:
    """Scrambled Sobol points; several workers need one seed, given here."""
    options = {"scramble": True, "warn_asynchronous_seeding": False, **options}
    base = optuna.samplers.QMCSampler(seed=seed, **options)
    return SimplexSampler(space, base, encoding=encoding)


def gp_optuna(
    space: MixtureSpace,
    *,
    seed: int | None = None,
    encoding: AnyEncoding = "softmax",
    **options: Any,
) -> SimplexSampler:
    """Optuna's Gaussian process; needs PyTorch."""
    _need("gp-optuna", "torch", "gp")
    base = optuna.samplers.GPSampler(seed=seed, **options)
    return SimplexSampler(space, base, encoding=encoding)


def botorch(
    space: MixtureSpace,
    *,
    seed: int | None = None,
    encoding: AnyEncoding = "softmax",
    **options: Any,
) -> SimplexSampler:
    """BoTorch through optuna-integration; needs the extras `gp` and `samplers`."""
    _need("botorch", "botorch", "gp")
    _need("botorch", "optuna_integration", "samplers")
    with warnings.catch_warnings():  # GPyTorch 1.15 warns of torch.jit when it is imported
        warnings.simplefilter("ignore", DeprecationWarning)
        from optuna_integration import BoTorchSampler

    base = BoTorchSampler(seed=seed, **options)
    return SimplexSampler(space, base, encoding=encoding)


def nsga2(
    space: MixtureSpace,
    *,
    seed: int | None = None,
    encoding: AnyEncoding = "softmax",
    **options: Any,
) -> SimplexSampler:
    """NSGA-II, a genetic algorithm for one objective or several."""
    base = optuna.samplers.NSGAIISampler(seed=seed, **options)
    return SimplexSampler(space, base, encoding=encoding)


def _need(sampler: str, module: str, extra: str) -> None:
    try:
        missing = importlib.util.find_spec(module) is None
    except ValueError:  # imported, as a lazy module without a spec: optuna_integration
        missing = False
    if missing:
        raise UserError(
            f'The sampler {sampler!r} needs {module}: pip install "climb-opt[{extra}]".'
        )
