"""From an Optuna study to all that a report says: `best`, `report`, `confirm`, `export`, notes."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from climb_opt import lookup
from climb_opt.attributes import CONFIRM, CONFIRMED_IN
from climb_opt.progress import counting, progress
from climb_opt.reports.contents import Atlas, Contents, gather
from climb_opt.reports.snapshot import Snapshot, take
from climb_opt.retrain import confirmation_of
from climb_opt.retrain.finals import SUFFIX
from climb_opt.retrain.paired import Confirmation
from climb_opt.selection import AUTO, Recommendation, best_mixture, compare_rules
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
    study: optuna.Study, snapshot: Snapshot, rule: str | None = None, *, every: bool = True
) -> Advice | None:
    """What each rule recommends, and which is followed; None before any trial has finished.

    Args:
        rule: the one to follow; the one that loses least for the study's noise when None.
        every: False for that rule alone, which takes a fraction of the time.
    """
    if not len(snapshot.history):
        return None
    wanted = rule or AUTO
    if len(snapshot.directions) > 1 or not every:
        # Several objectives: one balanced pick of the Pareto set, whatever the rule.
        one = best_mixture(study, rule=wanted, space=snapshot.space)
        return Advice({one.rule: one}, one.rule)
    rules = lookup.KINDS["rule"]
    asked = [*(r for r in rules if r != AUTO), *([wanted] if wanted not in rules else [AUTO])]
    with progress(None, "rules", "rule", brief=True) as bar:
        found = compare_rules(study, rules=asked, space=snapshot.space, on_rule=counting(bar))
    followed = found.pop(AUTO).rule if wanted == AUTO else wanted
    if followed not in found:  # one trial, or equal scores: every rule falls back to the same
        followed = next(iter(found))
    return Advice(found, followed)


def confirmation_beside(study: optuna.Study) -> Confirmation | None:
    """What the study's latest confirm study with a verdict holds, else the latest one, if any."""
    view, found = StudyView(study), []
    for name in reversed([f"{view.name}{SUFFIX}", *view.attributes.get(CONFIRMED_IN, [])]):
        confirm = view.sibling(name)
        if confirm is not None and CONFIRM in confirm.user_attrs:
            found.append(confirmation_of(confirm))
            if found[-1].differences():
                return found[-1]
    return found[0] if found else None


def contents_of(
    study: optuna.Study,
    *,
    rule: str | None = None,
    predictor: str | None = None,
    every_rule: bool = True,
    atlas: Atlas | None = None,
) -> Contents:
    """Everything a report says of the study.

    Args:
        every_rule: False for the recommended mixture alone, which takes a fraction of the time.
        atlas: the map of the study's corpus, to show the mixture on.
    """
    snapshot = take(study)
    advice = advise(study, snapshot, rule, every=every_rule)
    return gather(
        snapshot,
        {} if advice is None else advice.recommended,
        followed=None if advice is None else advice.followed,
        predictor=predictor,
        confirmation=confirmation_beside(study),
        atlas=atlas,
    )
