"""climb_opt: find the data mixture to pre-train a language model on.

CLIMB (arXiv 2504.13161) as an Optuna study. Importing this package loads no heavy library; names
are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from climb_opt import moved
from climb_opt.errors import TrialFailed, UserError

if TYPE_CHECKING:  # what `_LAZY` finds, for editors and type checkers
    from climb_opt.corpus.build import build_corpus as build_corpus
    from climb_opt.evaluators.base import Evaluator as Evaluator
    from climb_opt.exports.branches import export_model as export_model
    from climb_opt.exports.from_study import export as export
    from climb_opt.exports.from_study import materialise as materialise
    from climb_opt.history import History as History
    from climb_opt.history import report_components as report_components
    from climb_opt.history import set_aggregate as set_aggregate
    from climb_opt.influence.door import measure_influence as measure_influence
    from climb_opt.phases import PhasedSpace as PhasedSpace
    from climb_opt.predictors.base import Predictor as Predictor
    from climb_opt.recipes import StudyRecipe as StudyRecipe
    from climb_opt.reports.planned.plan_search import plan_search as plan_search
    from climb_opt.reports.report import report as report
    from climb_opt.retrain.confirm import confirm as confirm
    from climb_opt.retrain.noise import noise as noise
    from climb_opt.retrain.transfer import transfer as transfer
    from climb_opt.samplers.climb_sampler import ClimbSampler as ClimbSampler
    from climb_opt.samplers.gp import SimplexGPSampler as SimplexGPSampler
    from climb_opt.samplers.wrapped import SimplexSampler as SimplexSampler
    from climb_opt.selection import Recommendation as Recommendation
    from climb_opt.selection import best_mixture as best_mixture
    from climb_opt.selection import compare_rules as compare_rules
    from climb_opt.shards import Corpus as Corpus
    from climb_opt.simplex import MixtureSpace as MixtureSpace
    from climb_opt.study import enqueue as enqueue
    from climb_opt.study import open_study as open_study
    from climb_opt.study import pause as pause
    from climb_opt.study import resume as resume
    from climb_opt.study import retry as retry
    from climb_opt.study import status as status
    from climb_opt.study import work as work
    from climb_opt.study.rescoring import rescore as rescore
    from climb_opt.view import read_history as read_history

__version__ = "0.1.0"

moved.install()

# Module, imported when one of its names is first used -> the public names that it holds.
_HOLDS = {
    "corpus.build": ("build_corpus",),
    "evaluators.base": ("Evaluator",),
    "exports.branches": ("export_model",),
    "exports.from_study": ("export", "materialise"),
    "history": ("History", "report_components", "set_aggregate"),
    "influence.door": ("measure_influence",),
    "phases": ("PhasedSpace",),
    "predictors.base": ("Predictor",),
    "recipes": ("StudyRecipe",),
    "reports.planned.plan_search": ("plan_search",),
    "reports.report": ("report",),
    "retrain.confirm": ("confirm",),
    "retrain.noise": ("noise",),
    "retrain.transfer": ("transfer",),
    "samplers.climb_sampler": ("ClimbSampler",),
    "samplers.gp": ("SimplexGPSampler",),
    "samplers.wrapped": ("SimplexSampler",),
    "selection": ("Recommendation", "best_mixture", "compare_rules"),
    "shards": ("Corpus",),
    "simplex": ("MixtureSpace",),
    "study": ("enqueue", "open_study", "pause", "resume", "retry", "status", "work"),
    "study.rescoring": ("rescore",),
    "view": ("read_history",),
}
_LAZY = {name: f"climb_opt.{module}" for module, names in _HOLDS.items() for name in names}

__all__ = ["TrialFailed", "UserError", "__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
