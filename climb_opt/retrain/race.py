"""Which slots to run now, and running them.

Without a budget, every mixture gets every seed. Under one it is a race: three seeds for everyone,
then one more at a time for the baselines and the finalists not yet clearly behind the leader, until
the leader's verdict is clear or the budget is spent; where it does not reach for all of them, the
best ones go on. Each look costs confidence: the level is split among the looks as it is among the
finalists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import optuna

from climb_opt.plan import Plan
from climb_opt.retrain.finals import Finals, read_finals
from climb_opt.retrain.paired import SEED_SLOT, Confirmation, read_confirmation
from climb_opt.retrain.sibling import Runner, some_orders
from climb_opt.view import all_trials


def run(study: optuna.Study, runner: Runner, *, max_attempts: int = 3) -> Confirmation:
    """Retrain until every slot that is wanted is finished.

    Args:
        runner: the worker loop with its objective, which takes a trial's seed from `climb/seed`.
        max_attempts: failures after which a slot is given up.
    """
    finals = read_finals(study)
    while True:
        slots = wanted(study, finals, max_attempts)
        places = [slot.rpartition("/")[::2] for slot in slots]
        mixtures, labels, methods = finals.trained, finals.labels, finals.methods
        runner(study, some_orders(places, mixtures, labels, max_attempts, methods))
        if set(wanted(study, finals, max_attempts)) <= set(slots):
            return confirmation_of(study)


def confirmation_of(study: optuna.Study) -> Confirmation:
    """The result so far, with the finalists that a race left behind."""
    finals = read_finals(study)
    found = read_confirmation(study)
    assert found is not None  # read_finals raised otherwise
    return replace(found, dropped=tuple(f for f in finals.finalists if _behind(found, f)))


def longest_plan(study: optuna.Study, max_attempts: int = 3) -> Plan:
    """Every mixture with every seed: what is run without a budget, and at most with one."""
    finals = read_finals(study)
    return Plan((), _slots(finals.trained, range(1, finals.seeds + 1)), max_attempts)


def wanted(study: optuna.Study, finals: Finals, max_attempts: int = 3) -> tuple[str, ...]:
    """The slots to run now: a pure function of the finished ones, so all workers agree.

    Seed by seed, so that a search stopped early has pairs to compare.
    """
    if finals.budget is None:
        return _slots(finals.trained, range(1, finals.seeds + 1))
    slots = list(_slots(finals.trained, range(1, finals.first_look + 1)))
    found = read_confirmation(study)
    trials = all_trials(study)
    plan = Plan((), tuple(slots), max_attempts)
    for number in range(finals.first_look + 1, finals.seeds + 1):
        if found is None or not plan.ended(slots, trials):
            break  # look again when everyone has run this far
        until = {n: {s: v for s, v in of.items() if s < number} for n, of in found.scores.items()}
        view = replace(found, scores=until)
        left = [f for f in finals.finalists if not _behind(view, f)]
        references = [r for r in finals.references if r not in finals.twins]
        reach = finals.budget - len(slots) - len(references)
        if _decided(view, left, references) or reach < 1:
            break
        means = {f: view.sign * view.mean(f) for f in left}
        means[finals.finalists[0]] = -np.inf  # the one to report goes on whatever happens
        ahead = sorted(left, key=lambda f: means[f])[:reach]
        slots += _slots([*(f for f in left if f in ahead), *references], [number])
    return tuple(slots)


def _slots(names: Iterable[str], numbers: Iterable[int]) -> tuple[str, ...]:
    order = list(names)
    return tuple(f"{name}{SEED_SLOT}{number}" for number in numbers for name in order)


def _behind(found: Confirmation, finalist: str) -> bool:
    """Whether the finalist is clearly worse than the one that leads."""
    means = {f: found.sign * found.mean(f) for f in found.finalists}
    known = {f: m for f, m in means.items() if np.isfinite(m)}
    if len(known) < 2 or finalist not in known or finalist == found.finalists[0]:
        return False
    leader = min(known, key=lambda f: known[f])
    against = found.difference(finalist, leader)
    return leader != finalist and against is not None and against.verdict == "worse"


def _decided(found: Confirmation, left: Sequence[str], references: Sequence[str]) -> bool:
    """Whether one finalist is left and clearly differs from every baseline."""
    if len(left) != 1:
        return False
    verdicts = [found.difference(left[0], r) for r in references]
    return all(d is not None and d.verdict in ("better", "worse") for d in verdicts)
