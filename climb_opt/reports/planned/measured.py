"""How noisy scores are and how well cheap rungs rank: given, measured by a study, or assumed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import optuna

from climb_opt.emulator.simulated import spaced
from climb_opt.errors import UserError
from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.outliers import tame
from climb_opt.ladder.agreement import rank_agreement
from climb_opt.retrain.noise import noise_beside
from climb_opt.view import StudyView

NOISE = 0.1  # assumed: of one run, in spreads of the target's scores over typical mixtures
CORRELATION = 0.8  # assumed: the cheapest rung's rank correlation with the target
LEAST = 0.2  # rank correlation below which a rung ranks by chance
ENOUGH = 8  # results of the target, from which its noise can be told


@dataclass(frozen=True)
class Evidence:
    """What searches are emulated with; each figure with where it is from.

    Attributes:
        noise: of one run, in spreads of the target's scores over typical mixtures.
        correlation: rank correlation of each rung below the target with it, (R - 1,).
    """

    noise: float
    noise_from: str
    correlation: tuple[float, ...]
    correlation_from: str


@dataclass(frozen=True)
class Given:
    """What a person states; None: measured or assumed."""

    noise: float | None = None
    correlation: float | tuple[float, ...] | None = None

    def checked(self, below: int) -> tuple[float, ...] | None:
        """The correlation of each of the `below` rungs; None where none is given.

        Raises:
            UserError: not a noise, or not rank correlations of these rungs.
        """
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise UserError(f"--noise must be a number of at least 0, but is {self.noise}.")
        if self.correlation is None or below == 0:
            return None
        given = self.correlation
        each = spaced(given, below) if isinstance(given, (int, float)) else tuple(given)
        if not all(LEAST <= rho <= 1 for rho in each) or len(each) != below:
            raise UserError(
                f"--correlation must lie between {LEAST:g} and 1, one number for the cheapest rung "
                f"or one for each of the {below} below the target, but is {given}."
            )
        if list(each) != sorted(each):
            raise UserError(
                f"--correlation must not fall from a rung to the next dearer one, but is {given}."
            )
        return each


def evidence_for(given: Given, study: optuna.Study | None, below: int) -> Evidence:
    """What is given, else what a study measured, else what is assumed.

    Args:
        below: rungs below the target.

    Raises:
        UserError: anything given that cannot be.
    """
    rho = given.checked(below)
    noise = _noise_of(study) if given.noise is None else (given.noise, "given")
    ranks = _correlation_of(study, below) if rho is None else (rho, "given")
    return Evidence(*noise, *ranks)


# --- private -------------------------------------------------------------------------------------


def _noise_of(study: optuna.Study | None) -> tuple[float, str]:
    if study is None:
        return NOISE, "assumed"
    beside = noise_beside(study)
    if beside is not None and math.isfinite(beside.before.relative):
        return beside.before.relative, f"measured by {study.study_name}-noise"
    view = StudyView(study)
    history = view.history()
    if len(history) >= ENOUGH and len(view.maximize) == 1:
        problem = Beliefs(view.space).problem(history)
        spread = float(tame(history.values).std())
        if problem is not None and spread > 0:
            return problem.objectives[0].noise / spread, f"estimated from {study.study_name}"
    why = "too few to tell" if len(history) < ENOUGH else "of which no noise can be told"
    return NOISE, f"assumed: {study.study_name} has {len(history)} results of its target, {why}"


def _correlation_of(study: optuna.Study | None, below: int) -> tuple[tuple[float, ...], str]:
    assumed = spaced(CORRELATION, below)
    if study is None or not below:
        return assumed, "assumed"
    view = StudyView(study)
    rungs = 1 if view.ladder is None else len(view.ladder)
    if rungs != below + 1:
        own = "no ladder" if rungs == 1 else f"a ladder of {rungs} rungs, not of {below + 1}"
        return assumed, f"assumed: {study.study_name} has {own}"
    found = {
        one.lower: one for one in rank_agreement(view.history(rungs=True), rungs)
        if one.upper == below
    }  # fmt: skip
    unknown = [r for r in range(below) if r not in found or not found[r].known]
    if unknown:
        names = ", ".join(view.ladder.rungs[r].name for r in unknown if view.ladder is not None)
        return assumed, f"assumed: {study.study_name} has too few mixtures on {names} and target"
    measured = np.clip([found[r].estimate for r in range(below)], LEAST, 1.0)
    told = ", ".join(str(found[r]) for r in range(below))
    rising = tuple(float(x) for x in np.maximum.accumulate(measured))
    other = rising != tuple(found[r].estimate for r in range(below))
    changed = f"; taken for rising with cost, from {LEAST:g} to 1" if other else ""
    return rising, f"measured by {study.study_name}: {told}; noise lowers it{changed}"
