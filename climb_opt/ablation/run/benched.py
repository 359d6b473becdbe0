"""Arms of `objective: mixbench`: each a method, run by mixbench's own protocol.

    {problem, law, noise, domains, at: [14, 28], examine: 48, limit: 60}

`law` is the seed of a simulated law; by default the run's own, so that every seed draws another
law, shared by all arms. An arm is a study recipe (its sampler proposes, its `final` rule
recommends), a `fixed` mixture, or a `method`: one of `mixbench/peers.py`, or your own as
"module:name".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from climb_opt import lookup
from climb_opt.ablation.recipe.resolve import Arm, Run
from climb_opt.ablation.run.contents import of_options, studies_of
from climb_opt.ablation.run.final import CLIMB_RULES, final_mixture
from climb_opt.ablation.run.results import RunResult, mixtures_digest
from climb_opt.ablation.run.searching import furnish
from climb_opt.baselines import fixed_mixture
from climb_opt.errors import UserError, listed
from climb_opt.mixbench.catalogue import PROBLEMS, problem
from climb_opt.mixbench.examine import examine
from climb_opt.mixbench.methods import Data, Method, Pick, Predict, method_of
from climb_opt.mixbench.problems import Problem
from climb_opt.mixbench.protocol import LIMIT, Outcome
from climb_opt.mixbench.protocol import run as run_method
from climb_opt.mixbench.tables import from_studies, table_problem
from climb_opt.predictors.base import informed
from climb_opt.predictors.own import predictor_factory
from climb_opt.selection import best_mixture
from climb_opt.strict import as_list, convert
from climb_opt.study import build_sampler
from climb_opt.threads import one_blas_thread

SKIPPED = "skipped"  # begins the error of a run that does not count against its arm
OWN = ("at", "examine", "limit")  # options of the protocol, not of a problem
COUNTS = ("off", "repeated", "slow", "slowest", "spent")  # of an outcome, among the facts


def problem_of(options: Mapping[str, Any], seed: int) -> Problem:
    """The problem that an objective's options name, for a run of this seed.

    Raises:
        UserError: no such problem, an unknown option, or whatever is wrong with a table.
    """
    given = {key: value for key, value in options.items() if key not in OWN}
    return _problem_of(json.dumps(given, sort_keys=True), tuple(of_options(given).items()), seed)


@lru_cache(maxsize=64)
def _problem_of(options: str, read: tuple[tuple[str, str], ...], seed: int) -> Problem:
    given = json.loads(options)
    name, tables = given.pop("problem", None), given.pop("tables", {})
    folder = given.pop("folder", ".")
    if name in tables:
        if not isinstance(table := tables[name], Mapping):
            raise UserError(
                f"objective.tables: {name} must say mixtures and results, runs, recipes and "
                f"results, or studies; it is {table!r}."
            )
        if "studies" in table:
            return _of_studies(name, **{**table, **given})
        return table_problem(name, **{"folder": folder, **table, **given})
    if name not in PROBLEMS:
        raise lookup.unknown("problem", str(name), [*PROBLEMS, *tables])
    return problem(name, **{"law": seed, **given})


def _of_studies(
    name: str,
    /,
    studies: Any,
    storage: str | None = None,
    noise: float | None = None,
    **others: Any,
) -> Problem:
    if others:
        raise UserError(
            f"Table {name!r}: unknown key {sorted(others)[0]!r}. Of studies it takes studies, "
            "storage and noise."
        )
    found, _ = studies_of(storage, tuple(map(str, as_list(studies))))
    return from_studies(name, found, noise)


@one_blas_thread()
def benched(run: Run) -> RunResult:
    """Problems of mixbench, searched under its own protocol.

    Does one run; an objective of this name is never asked for a single trial.

    Raises:
        UserError: an unknown problem, method or option, a table that cannot be read.
    """
    options = {**run.objective.options, **run.arm.options.objective}
    found, trials = problem_of(options, run.seed), _trials(run.arm)
    limit = convert(options.get("limit", LIMIT), float, "objective.limit")
    at = convert(options.get("at", []), list[float], "objective.at")
    if run.arm.study.ladder and len(found.ladder) == 1:
        return RunResult.of(run, error=f"{SKIPPED}: the problem has no rungs to choose from")
    method = method_of_arm(run.arm, found)
    outcome = run_method(method, found, seed=run.seed, trials=trials, at=at, limit=limit)
    exams: dict[str, float] = {}
    if examined := convert(options.get("examine") or 0, int, "objective.examine"):
        exams = examine(method, found, seed=run.seed, n=examined, limit=limit)
    return _result(run, found, outcome, exams)


def method_of_arm(arm: Arm, found: Problem) -> Method:
    """How an arm enters.

    Raises:
        UserError: its method, sampler or rule is unknown, or it names rungs in rounds.
    """
    fixed, own = arm.options.fixed, arm.options.method
    if fixed is not None:
        return Method(
            recommend=lambda p, d, s: fixed_mixture(p.space, fixed.name, **fixed.options), free=True
        )
    if own is not None:
        made = lookup.find("method", own.name)
        if own.options and isinstance(made, Method):
            raise UserError(f"method {own.name!r} takes no options; drop {listed(own.options)}.")
        if own.options:
            made = made(**lookup.check_options("method", own.name, own.options, set()))
        return method_of(made, f"method {own.name!r}")
    if arm.study.rungs:
        raise UserError(
            f"arm {arm.name!r}: under mixbench a sampler chooses its rungs; leave rounds that name "
            "rungs out."
        )
    return _Searcher(arm, found).method()


# --- private -------------------------------------------------------------------------------------


class _Searcher:
    """A study recipe as a method: its sampler, and its final rule on the trials so far."""

    def __init__(self, arm: Arm, found: Problem) -> None:
        self.arm, self.problem = arm, found

    def method(self) -> Method:
        build_sampler(self.arm.study, self.problem.space)  # whatever is wrong with it is said now
        return Method(
            sampler=self.sampler,
            recommend=self.recommend,
            predict=self.predict(),
            prepare=self.prepare,
            chooses=bool(self.arm.study.ladder),
        )

    def sampler(self, found: Problem, seed: int) -> BaseSampler:
        return build_sampler(self.arm.study, found.space)

    def prepare(self, study: optuna.Study) -> None:
        furnish(study, self.arm.study, self.problem.space, self.problem.ladder)
        self.study = study

    def recommend(self, found: Problem, data: Data, seed: int) -> Pick:
        study, rule = self._so_far(data), self.arm.options.final
        recipe, space = self.arm.study, found.space
        if rule.name in CLIMB_RULES or rule.name == "observed":
            return Pick(final_mixture(study, space, recipe, rule))
        chosen = best_mixture(study, rule=rule.name, space=space, seed=recipe.seed)
        weights, said = space.weights(chosen.mixture, normalise=True), chosen.predicted
        return Pick(weights) if said is None else Pick(weights, said.mean, said.low, said.high)

    def predict(self) -> Predict | None:
        """What guides its proposals, as a function of mixtures; None where nothing does."""
        name = self.arm.study.sampler.name
        if name not in ("climb", "simplex-gp"):
            return None
        options = self.arm.study.sampler.options
        guide = name if name == "simplex-gp" else str(options.get("predictor", lookup.PREDICTOR))

        def predict(found: Problem, data: Data, seed: int) -> Callable[[np.ndarray], np.ndarray]:
            model = informed(predictor_factory(guide), found.space)()
            model.fit(data.weights, data.scores)
            return lambda weights: np.asarray(model.predict(weights)[0])

        return predict

    def _so_far(self, data: Data) -> optuna.Study:
        study = optuna.create_study()
        furnish(study, self.arm.study, self.problem.space, self.problem.ladder)
        if hasattr(self, "study"):  # what its sampler stored of its own pick, among others
            for key, value in self.study.user_attrs.items():
                study.set_user_attr(key, value)
        study.add_trials(data.trials)
        return study


def _trials(arm: Arm) -> float:
    if arm.study.budget is not None:  # of an arm with a ladder: in trials of the target
        return float(arm.study.budget.flops)
    return float(sum(arm.study.rounds))


def _result(run: Run, found: Problem, outcome: Outcome, exams: Mapping[str, float]) -> RunResult:
    counts = {name: getattr(outcome, name) for name in COUNTS}
    costs = [cost for cost, _ in outcome.curve]
    weights = outcome.weights if outcome.judged else None
    return RunResult.of(
        run,
        mixture=None if weights is None else found.space.mixture(weights),
        final=None if weights is None else outcome.regret,
        best=outcome.curve[-1][1] if outcome.curve else None,
        curve=tuple(regret for _, regret in outcome.curve),
        rounds=run.arm.study.rounds,
        trials=outcome.trials,
        failed=outcome.failed,
        seconds=outcome.seconds,
        flops=outcome.spent * float(found.ladder.costs[-1]),
        mixtures=mixtures_digest(np.array(outcome.proposed)),
        error=f"{SKIPPED}: {outcome.skipped}" if outcome.skipped else outcome.error,
        facts={"quality": found.about(), **counts, "costs": costs, **exams},
        promises={part: _promise(judged) for part, judged in outcome.judged.items()},
    )


def _promise(judged: Mapping[str, float]) -> dict[str, float | None]:
    """The figures of a recommendation, named as `promises.py` names them."""
    of_score = ("held", "error", "half", "winkler")
    return {f"score {key}" if key in of_score else key: value for key, value in judged.items()}
