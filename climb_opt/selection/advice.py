"""What the rules recommend, and which of them is followed: what `best`, `report` and all act on."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from climb_opt.attributes import NOISE
from climb_opt.errors import UserError
from climb_opt.history import History
from climb_opt.progress import counting, progress
from climb_opt.selection.choosing import best_mixture, compare_rules
from climb_opt.selection.reached import judged
from climb_opt.selection.recommendation import Recommendation
from climb_opt.selection.rules import AUTO, fitting_rules
from climb_opt.storages import command_on
from climb_opt.view import StudyView


@dataclass(frozen=True)
class Advice:
    """What the rules recommend (rule -> mixture, never empty), and the rule to follow."""

    recommended: dict[str, Recommendation]
    followed: str

    @property
    def chosen(self) -> Recommendation:
        """The mixture of the rule to follow."""
        return self.recommended[self.followed]


def advise(
    study: optuna.Study,
    rule: str | None = None,
    *,
    every: bool = True,
    history: History | None = None,
) -> Advice | None:
    """What each rule recommends, and which is followed; None before any trial has finished.

    Args:
        rule: the one to follow; the one that loses least for the study's noise when None.
        every: False for that rule alone, which takes a fraction of the time.
        history: what the study has learnt, where it was read already.
    """
    view, wanted = StudyView(study), rule or AUTO
    space = view.space
    history = judged(view, space) if history is None else history
    if not len(history):
        return None
    rules = fitting_rules(history)
    asked = [*(r for r in rules if r != AUTO), *([wanted] if wanted not in rules else [AUTO])]
    with progress(None, "rules", "rule", brief=True) as bar:
        if len(view.maximize) > 1 or not every:
            # Several objectives: one balanced pick of the Pareto set, whatever the rule.
            one = best_mixture(study, rule=wanted, space=space)
            return Advice({one.rule: one}, one.rule)
        found = compare_rules(study, rules=asked, space=space, on_rule=counting(bar))
    followed = found.pop(AUTO).rule if wanted == AUTO else wanted
    if followed not in found:  # one trial, or equal scores: every rule falls back to the same
        followed = next(iter(found))
    return Advice(found, followed)


def advised(
    study: optuna.Study,
    purpose: str,
    rule: str | None = None,
    *,
    every: bool = True,
    history: History | None = None,
) -> Advice:
    """The same where there must be something "to export", or another `purpose`.

    Raises:
        UserError: no trial has finished, or they measure noise: of draws, without a search.
    """
    if (facts := StudyView(study).attributes.get(NOISE)) is not None:
        raise UserError(
            f"Study {study.study_name!r} holds runs that measure the noise of {facts['of']!r}, no "
            f"search: it has nothing {purpose}. Give the search, {facts['of']!r}."
        )
    advice = advise(study, rule, every=every, history=history)
    if advice is None:
        shows = f"`{command_on(study, 'status')}` shows how far it is."
        next_step = "Run it first." if StudyView(study).stated is None else shows
        raise UserError(
            f"Study {study.study_name!r} has nothing {purpose} yet: no trial has finished. "
            f"{next_step}"
        )
    return advice
