"""A sampler of somebody's own: what is wrong with it is said by its name.

Optuna takes what a sampler returns as it is. What is no mapping ends in an error of Python that
names no sampler; for a weight that is left out or outside [0, 1] Optuna draws another, unsaid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from climb_opt.errors import Interrupted, UserError
from climb_opt.ladder import BudgetSpent
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import is_outage
from climb_opt.written import float_or_nan

ASKED = ("infer_relative_search_space", "sample_relative", "sample_independent")
BESIDE = ("before_trial", "after_trial")  # of no trial alone: an error ends the search


def own_sampler(name: str, space: MixtureSpace, make: Callable[[], Any]) -> BaseSampler:
    """The sampler that `make` makes, which fails trials by its name and is held to weights.

    Raises:
        UserError: it cannot be made, or is no sampler of Optuna's kind.
    """
    try:
        sampler = make()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code: anything
        raise UserError(f"Sampler {name!r} raised {error!r} while it was made.") from error
    if not isinstance(sampler, BaseSampler):
        raise UserError(
            f"Sampler {name!r} must be an optuna.samplers.BaseSampler, but is {sampler!r:.200}."
        )
    for method in ASKED:
        setattr(sampler, method, _named(name, getattr(sampler, method), RuntimeError))
    for method in BESIDE:
        setattr(sampler, method, _named(name, getattr(sampler, method), UserError))
    ask = sampler.sample_relative

    def proposed(study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Any:
        _check_whole(name, space, "infer_relative_search_space", search_space)
        found = ask(study, trial, search_space)
        _check_whole(name, space, "sample_relative", found)
        _check_weights(name, space, found)
        return found

    sampler.sample_relative = proposed  # type: ignore[method-assign]
    return sampler


def _named(name: str, ask: Callable[..., Any], wrong: type[Exception]) -> Callable[..., Any]:
    @wraps(ask)
    def named(*given: Any, **more: Any) -> Any:
        try:
            return ask(*given, **more)
        except (UserError, Interrupted, BudgetSpent, OptunaError):
            raise
        except (Exception, SystemExit) as error:  # the user's own code: anything
            if is_outage(error):
                raise
            raise wrong(f"sampler {name!r} raised {error!r}") from error

    return named


def _check_whole(name: str, space: MixtureSpace, method: str, given: Any) -> None:
    which = {"sample_relative": "params(weights)"}.get(method, "distributions()")
    asked = f"Sampler {name!r}: {method} must return all weights, such as space.{which}"
    if not isinstance(given, Mapping):
        raise UserError(f"{asked}, but returned {given!r:.200}.")
    missing = [n for n in space.parameter_names if n not in given]
    if len(missing) == len(space):
        raise UserError(f"{asked}, but returned none of them.")
    if missing:
        raise UserError(f"{asked}, but left out {missing[0]!r}.")


def _check_weights(name: str, space: MixtureSpace, found: Mapping[str, Any]) -> None:
    for weight in space.parameter_names:
        if not 0 <= float_or_nan(found[weight]) <= 1:
            raise UserError(
                f"Sampler {name!r}: a weight must be a number from 0 to 1, but {weight!r} is "
                f"{found[weight]!r}."
            )
