"""Which mixture to keep, with how much confidence.

rules.py           the rules, each a function of what a study has learnt
recommendation.py  what goes with a mixture: gain, interval, spread, warnings
promise.py         what it should score and gain, less the luck of being picked
choosing.py        `best_mixture`, `compare_rules`
advice.py          what all rules recommend, and which is followed
reached.py         what a search with rungs is judged by: its target, or the highest it reached
trusting.py        which rungs a search buys no more, and why
verifying.py       what the last slots of a plan measure: the recommendation and its rivals
"""

from __future__ import annotations

from climb_opt.selection.advice import Advice, advise, advised
from climb_opt.selection.choosing import best_mixture, compare_rules
from climb_opt.selection.recommendation import Estimate, Recommendation, in_words
from climb_opt.selection.rules import AUTO

__all__ = [
    "AUTO",
    "Advice",
    "Estimate",
    "Recommendation",
    "advise",
    "advised",
    "best_mixture",
    "compare_rules",
    "in_words",
]
