"""`best_mixture` and `compare_rules`: from a study to a recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import optuna

from climb_opt import lookup
from climb_opt.attributes import BASELINE, PICK, SLOT
from climb_opt.errors import UserError
from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.hypervolume import front, reference_point
from climb_opt.gp.mixed import Mixed
from climb_opt.gp.outliers import tamed
from climb_opt.gp.penalties import JUDGING, SEARCHING
from climb_opt.history import History, distinct, kept
from climb_opt.ladder.branches.slots import OPTIMUM
from climb_opt.measures import distance, effective_domains
from climb_opt.phases import over_run, shares_of
from climb_opt.samplers.reach import unread, within_evidence
from climb_opt.selection.promise import PRIOR, UNIFORM, as_good, small_doubt, unseen_doubt
from climb_opt.selection.reached import highest_rung, judged, learnt_from, left_out, unreached
from climb_opt.selection.recommendation import (
    Estimate,
    Recommendation,
    component_doubts,
    diverged_doubt,
    doubts,
    noise_doubt,
    one_seed_doubt,
    prior_doubt,
    unread_doubt,
)
from climb_opt.selection.rules import (
    AUTO,
    PATH_RULES,
    QUIET,
    Evidence,
    default_rule,
    fitting_rules,
    observed_row,
    path_row,
)
from climb_opt.simplex import MixtureSpace
from climb_opt.threads import one_blas_thread
from climb_opt.view import StudyView
from climb_opt.written import whole_number


@one_blas_thread()
def best_mixture(
    study: optuna.Study,
    *,
    rule: str = AUTO,
    space: MixtureSpace | None = None,
    components: bool = False,
    seed: int = 0,
) -> Recommendation:
    """The mixture to keep from `study`: domain -> weight, with its expected gain and doubts.

    Args:
        rule: a rule's name (`climb-opt ls rules`), or "module:Name" of a function from `Evidence`
            to weights (K,); "auto" takes the one that loses least for the noise of the study.
        space: by default the one the study stores, else its trials' domains with a uniform prior.
        components: model each stored component of the score, then their sum.
        seed: of the rule's own draws.

    Raises:
        UserError: no finished trial with a mixture, or an unknown rule.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 7, "code": 2, "math": 1})
    >>> study = optuna.create_study(sampler=climb_opt.SimplexGPSampler(space, seed=0))
    >>> study.optimize(lambda trial: (space.suggest(trial)["code"] - 0.5) ** 2, n_trials=24)
    >>> best = best_mixture(study)
    >>> round(best["code"], 2), best.trials
    (0.5, 24)
    """
    lookup.find("rule", rule)
    of = learnt(study, space)
    if len(study.directions) > 1:
        return _balanced(of, components)
    return _recommend(of, evidence_of(*of, components, seed), rule)


@one_blas_thread()
def compare_rules(
    study: optuna.Study,
    *,
    rules: Sequence[str] | None = None,
    space: MixtureSpace | None = None,
    components: bool = False,
    seed: int = 0,
    on_rule: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Recommendation]:
    """What each rule would keep, judged by the same model: rule -> recommendation.

    Args:
        rules: names as in `best_mixture`; by default all of `climb-opt ls rules` that the study
            has something for.
        space, components, seed: as in `best_mixture`.
        on_rule: called before the first rule and after each, with how many are done of how many.

    Raises:
        UserError: no finished trial with a mixture, several objectives, or an unknown rule.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 7, "code": 2, "math": 1})
    >>> study = optuna.create_study(sampler=climb_opt.SimplexGPSampler(space, seed=0))
    >>> study.optimize(lambda trial: (space.suggest(trial)["code"] - 0.5) ** 2, n_trials=24)
    >>> found = compare_rules(study, rules=["observed", "top"])
    >>> {rule: round(mixture["code"], 1) for rule, mixture in found.items()}
    {'observed': 0.5, 'top': 0.5}
    """
    for rule in rules or ():
        lookup.find("rule", rule)
    of = learnt(study, space)
    rules = fitting_rules(of.history) if rules is None else list(rules)
    if len(study.directions) > 1:
        raise UserError(
            "compare_rules needs one objective; for several, best_mixture gives the Pareto set."
        )
    evidence = evidence_of(*of, components, seed)
    found: dict[str, Recommendation] = {}
    on_rule(0, len(rules))
    for done, rule in enumerate(rules, start=1):
        name = default_rule(evidence) if rule == AUTO and evidence is not None else rule
        found[rule] = found[name] if name in found else _recommend(of, evidence, name)
        on_rule(done, len(rules))
    return found


class Learnt(NamedTuple):
    """What a recommendation rests on: a study, its space, and the trials it is judged by."""

    view: StudyView
    space: MixtureSpace
    history: History


def learnt(study: optuna.Study, space: MixtureSpace | None) -> Learnt:
    """The study, its space and what it has learnt, at its target or below: a trial at least."""
    view = StudyView(study, space)
    history = judged(view, view.space)
    if not len(history):
        raise UserError(
            f"Study {study.study_name!r} has no finished trial with a mixture of "
            f"{len(view.space)} domains and a finite score, so there is nothing to choose from."
        )
    return Learnt(view, view.space, history)


def evidence_of(
    view: StudyView, space: MixtureSpace, history: History, components: bool, seed: int
) -> Evidence | None:
    """What a rule may look at, under noise of two processes; None where nothing can be modelled."""
    learnt, compared = distinct(learnt_from(view, space, history)), _compared(space, history)
    reach = within_evidence(space, learnt.weights)
    slots = [trial.user_attrs.get(SLOT) for trial in history.trials]
    # Whether what a model found best was measured, not only what designs and samplers ask for.
    verified = any(slot == OPTIMUM or view.plan.verifies(slot) for slot in slots)
    stored, parts, judging = view.attributes.get(PICK, {}), [], distinct(history)
    seed = whole_number(seed, "seed", 0)
    for penalties in (SEARCHING, JUDGING):
        beliefs = Beliefs(space, components=components, penalties=penalties)
        if (problem := beliefs.problem(learnt)) is None:
            return None
        parts.append(beliefs.promise(learnt, compared))
        promise = Mixed(parts) if parts[1:] else parts[0]
        problem = replace(problem.trusted, space=reach)
        found = Evidence(judging, learnt, problem, promise, compared, seed, stored, verified)
        if found.relative_noise < QUIET:
            break
    return found


# --- private -------------------------------------------------------------------------------------


def _recommend(of: Learnt, evidence: Evidence | None, rule: str) -> Recommendation:
    view, space, history = of
    prior = PRIOR if view.prior_known else UNIFORM
    if evidence is None:  # one trial, or all scores equal
        reason = "one finished trial" if len(history) == 1 else "all scores are equal"
        kept_by, nothing = "observed", f"{reason}: nothing to model"
        weights = observed_row(history)
        if rule in PATH_RULES:  # which model nothing
            kept_by, weights = rule, path_row(rule, history, space)
        plain = _plain(of, weights, kept_by, (nothing,))
        return replace(plain, as_good=as_good(None, prior, unreached(view, history) or nothing))
    name = default_rule(evidence) if rule == AUTO else rule
    weights = space.made_by(f"rule {name!r}", evidence.taken_by(name))
    promise = evidence.promised(weights)
    compared, baseline = evidence.compared, _best_baseline(history)
    gains = {prior: promise.gain(compared[0])}
    if baseline is not None:
        gains[baseline] = promise.gain(compared[1])
    gains |= {moved.name: promise.gain_over_score(moved.value) for moved in history.methods}
    tame = tamed(evidence.history, against=compared)
    warnings = doubts(evidence.learnt, tame, evidence.promise, weights)
    warnings += noise_doubt(evidence.promise.noise, evidence.spread)
    warnings += one_seed_doubt(history, evidence.learnt.other_seeds) + component_doubts(history)
    warnings += unread_doubt(unread(space, evidence.learnt.weights))
    warnings += _guard_rails(evidence, weights)
    best = evidence.taken_by("evaluated")
    plain = _plain(of, weights, name, warnings)
    if below := unreached(view, history):  # what a lower rung lets expect is on another scale
        return replace(plain, as_good=as_good(None, prior, below))
    return replace(
        plain,
        warnings=(
            *plain.warnings,
            *small_doubt(promise),
            *unseen_doubt(promise, compared[0], prior),
        ),
        predicted=promise.score(view.sign),
        gain=gains[prior],
        gain_over_baseline=None if baseline is None else gains[baseline],
        noise=float(evidence.promise.noise_at(np.sqrt(weights[None]))[0]),
        as_good=_as_good(gains, evidence),
        lead=None if np.array_equal(best, weights) else promise.gain(best, picked=True),
    )


def _as_good(gains: Mapping[str, Estimate], evidence: Evidence) -> str:
    """Which of the mixtures that were to be beaten is as good; empty where none is."""
    for name, gain in gains.items():
        if found := as_good(gain, name):
            return "; ".join(filter(None, [found, evidence.pays]))
    return ""


def _plain(of: Learnt, weights: np.ndarray, rule: str, warnings: Sequence[str]) -> Recommendation:
    view, space, history = of
    doubted = (*prior_doubt(view.prior_known), *left_out(view, space))
    doubted += (*filter(None, [unreached(view, history)]), *warnings)
    return Recommendation(
        mixture=space.mixture(weights),
        rule=rule,
        effective_domains=effective_domains(over_run(space, weights)),
        phases=shares_of(space),
        distance_from_prior=float(distance(weights, space.prior)),
        trials=len(history),
        warnings=(*doubted, *diverged_doubt(history)),
        rung=highest_rung(view, history),
    )


def _compared(space: MixtureSpace, history: History) -> np.ndarray:
    """The mixtures (m, K) that a pick is compared with: the prior and the best baseline."""
    best = _best_baseline(history)
    rows = [] if best is None else [history.weights[_baselines(history)[best]]]
    return np.stack([space.project(space.prior), *rows])


def _best_baseline(history: History) -> str | None:
    """The best of the baselines that were run, by name."""
    rows = _baselines(history)
    return min(rows, key=lambda name: float(history.values[rows[name]])) if rows else None


def _baselines(history: History) -> dict[str, int]:
    """Baseline -> its row of the history, the last one."""
    slots = [(row, str(t.user_attrs.get(SLOT))) for row, t in enumerate(history.trials)]
    return {s.removeprefix(BASELINE): row for row, s in slots if s.startswith(BASELINE)}


def _guard_rails(evidence: Evidence, weights: np.ndarray) -> list[str]:
    if not kept(evidence.history.trials).any():
        return ["no trial kept every guard-rail: this is the least unlikely to keep them"]
    if not evidence.problem.constraints:
        return []
    chance = evidence.chance(weights)
    said = f"the guard-rails hold with probability {100 * chance:.0f} % only"
    return [] if chance >= 0.9 else [said]


def _balanced(of: Learnt, components: bool) -> Recommendation:
    """Of the Pareto set by expected values, the mixture with the largest hypervolume of its own."""
    _, space, history = of
    fine = kept(history.trials)
    rows = np.flatnonzero(fine) if fine.any() else np.arange(len(history))
    values = history.values[rows]
    problem = Beliefs(space, components=components).problem(history)
    if problem is not None:
        roots = np.sqrt(history.weights[rows])
        values = np.stack([o.mean(roots) for o in problem.objectives], axis=1)
    best = np.flatnonzero(front(values))
    own = np.prod(np.maximum(reference_point(values) - values[best], 0.0), axis=1)
    order = best[np.argsort(-own, kind="stable")]
    mixtures = [space.mixture(history.weights[rows[i]]) for i in order]
    warnings = [f"one of {len(mixtures)} mixtures of the Pareto set: no single best"]
    warnings += [] if fine.any() else ["no trial kept every guard-rail"]
    plain = _plain(of, history.weights[rows[order[0]]], "pareto", warnings)
    return replace(plain, front=tuple(mixtures[1:]))
