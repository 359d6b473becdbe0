"""Predictors by name, and one of somebody's own: what is wrong with it is said by its name.

A search asks its predictor when a whole round is trained: an error of Python that names neither it
nor what was wanted would be all that comes of the round.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import numpy as np

from climb_opt import lookup
from climb_opt.errors import Interrupted, UserError, options_of
from climb_opt.predictors.base import Predictor, expected, informed
from climb_opt.simplex import MixtureSpace

ENOUGH = 56  # scores to try a predictor with: LightGBM keeps a tenth of 50 or more aside
METHODS = {"fit": "fit(weights, scores)", "predict": "predict(weights)"}


def predictor_factory(
    predictor: str | Callable[..., Predictor], options: Mapping[str, Any] | None = None
) -> Callable[[], Predictor]:
    """Makes untrained predictors of a short name, "module:Name" or a class, with its options.

    Raises:
        UserError: no such predictor or option; one of somebody's own needs more arguments, or lacks
            a method.
    """
    given = dict(options or {})
    if not isinstance(predictor, str):
        if not callable(predictor):
            raise UserError(
                f'predictor: a name, "module:Name" or a class is wanted, not {predictor!r:.60}.'
            )
        if isinstance(predictor, type):
            _check_methods(predictor.__name__, predictor)
        return partial(predictor, **given)
    make = lookup.find("predictor", predictor)
    given = lookup.check_options("predictor", predictor, given, set())
    if ":" not in predictor:
        return partial(make, **given)
    try:
        inspect.signature(make).bind(**given)
    except TypeError as error:
        raise UserError(f"predictor {predictor!r} is called with its options: {error}.") from None
    if isinstance(make, type):
        _check_methods(predictor, make)
    return partial(Own, predictor, partial(make, **given))


def try_predictor(
    name: str, options: Mapping[str, Any], make: Callable[[], Predictor], space: MixtureSpace
) -> None:
    """Fit one of ours to made-up scores: LightGBM and others look at options only then.

    Raises:
        UserError: an option's value with which it cannot be fitted.
    """
    weights = space.sample_mixed(np.random.default_rng(0), ENOUGH)
    # LightGBM prints what is wrong before it raises it.
    with options_of("predictor", name, options), redirect_stdout(io.StringIO()):
        predictor = informed(make, space)()
        predictor.fit(weights, weights.max(axis=1))
        expected(predictor, weights)


class Own:
    """A predictor of somebody's own, held to what is asked of one.

    Raises:
        UserError: it cannot be made, or lacks a method; later, it raises an error or returns
            something else than is asked.
    """

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self._name = name
        self._inner = self._call("raised {error} while it was made", make)
        _check_methods(name, self._inner)

    def know(self, space: MixtureSpace) -> None:
        """Tell it of the space, where it wants to know."""
        know = getattr(self._inner, "know", None)
        if callable(know):
            self._call("raised {error} in know(space)", know, space)

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn, from copies: what it changes in place is nobody else's."""
        said = f"raised {{error}} in fit, on {len(weights)} mixtures"
        self._call(said, self._inner.fit, weights.copy(), scores.copy())

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """The mean (m,) alone."""
        if not callable(getattr(self._inner, "mean", None)):
            return self.predict(weights)[0]
        said = f"raised {{error}} in mean, on {len(weights)} mixtures"
        found = self._call(said, expected, self._inner, weights.copy())
        return self._numbers(found, "mean must return a number for each mixture", len(weights))

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,)."""
        said = f"raised {{error}} in predict, on {len(weights)} mixtures"
        found = self._call(said, self._inner.predict, weights.copy())
        asked = "predict must return means and standard deviations, a number of each for a mixture"
        if not isinstance(found, (tuple, list, np.ndarray)) or len(found) != 2:
            raise UserError(f"Predictor {self._name!r}: {asked}, but returned {_shown(found)}.")
        mean, std = (self._numbers(part, asked, len(weights)) for part in found)
        return mean, std

    def _call(self, said: str, ask: Callable[..., Any], *given: Any) -> Any:
        try:
            return ask(*given)
        except (UserError, Interrupted):
            raise
        except (Exception, SystemExit) as error:  # the user's own code: anything
            raise UserError(
                f"Predictor {self._name!r} {said.format(error=repr(error))}."
            ) from error

    def _numbers(self, given: Any, asked: str, m: int) -> np.ndarray:
        found = self._call(f"returned what is no array ({{error}}): {asked}", np.asarray, given)
        if found.shape != (m,) or found.dtype.kind not in "biuf":
            raise UserError(
                f"Predictor {self._name!r}: {asked} ({m},), but returned {_shown(given)}."
            )
        return np.asarray(found, dtype=float)


def _check_methods(name: str, made: Any) -> None:
    for method in METHODS:
        if not callable(getattr(made, method, None)):
            raise UserError(
                f"Predictor {name!r} must have the methods {' and '.join(METHODS.values())}, but "
                f"has no {method}."
            )


def _shown(given: Any) -> str:
    if isinstance(given, np.ndarray):
        return f"an array {given.shape} of {given.dtype}"
    return f"{given!r:.100}"
