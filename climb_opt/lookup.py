"""A short name or "module:Name" -> the object, imported on use.

The tables below are strings, so that naming a sampler loads no library. Add a line here to add a
sampler, predictor or evaluator; users name their own as "my_package.my_module:MySampler".
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from climb_opt.errors import UserError, did_you_mean

KINDS: dict[str, dict[str, str]] = {
    "sampler": {
        "climb": "climb_opt.samplers.climb_sampler:ClimbSampler",
        "simplex-gp": "climb_opt.samplers.gp:SimplexGPSampler",
        "random": "climb_opt.samplers.stock:random",
        "tpe": "climb_opt.samplers.stock:tpe",
        "cma-es": "climb_opt.samplers.stock:cma_es",
        "qmc": "climb_opt.samplers.stock:qmc",
        "gp-optuna": "climb_opt.samplers.stock:gp_optuna",
        "botorch": "climb_opt.samplers.stock:botorch",
        "nsga2": "climb_opt.samplers.stock:nsga2",
    },
    "predictor": {
        "lightgbm": "climb_opt.predictors.lgbm:LightGBMPredictor",
        "extra-trees": "climb_opt.predictors.lgbm:ExtraTreesPredictor",
        "gp": "climb_opt.predictors.gp:GPPredictor",
        "linear": "climb_opt.predictors.linear:LinearPredictor",
        "loglinear": "climb_opt.predictors.loglinear:LogLinearPredictor",
    },
    "evaluator": {
        "heldout": "climb_opt.evaluators.heldout:HeldOutLoss",
        "lm-eval": "climb_opt.evaluators.harness:LMEval",
    },
    "reader": {  # of documents; of others an input names `module:Name:where`
        "jsonl": "climb_opt.corpus.read.jsonl:JSONL",
        "parquet": "climb_opt.corpus.read.parquet:PARQUET",
        "texts": "climb_opt.corpus.read.texts:TEXTS",
        "installed": "climb_opt.corpus.read.installed:INSTALLED",
        "domains": "climb_opt.corpus.read.domains:DOMAINS",
        "weborganizer": "climb_opt.corpus.read.weborganizer:WEBORGANIZER",
        "hub": "climb_opt.corpus.read.hub:HUB",
    },
    "pruner": {
        "median": "optuna.pruners:MedianPruner",
        "percentile": "optuna.pruners:PercentilePruner",
        "successive-halving": "optuna.pruners:SuccessiveHalvingPruner",
        "hyperband": "optuna.pruners:HyperbandPruner",
        "threshold": "optuna.pruners:ThresholdPruner",
        "wilcoxon": "optuna.pruners:WilcoxonPruner",
    },
    "scorer": {},  # of documents: users name their own
}


def find(kind: str, name: str) -> Any:
    """The object that `name` stands for.

    Raises:
        UserError: no such short name (near names and all names are given), or the module or the
            attribute of "module:Name" does not exist.
    """
    known = KINDS[kind]
    target = known.get(name, name)
    if ":" not in target:
        hint = did_you_mean(name, known)
        raise UserError(
            f"Unknown {kind} {name!r}.{hint} Known: {', '.join(sorted(known))}; "
            'or your own as "module:Name".'
        )
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"{kind} {name!r} cannot be imported: {error}.") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UserError(f"{kind} {name!r}: {module_name} has no {attribute!r}.") from None


def check_options(kind: str, name: str, options: dict[str, Any], given: set[str]) -> None:
    """Raise if `options` holds a key that the object does not take.

    Args:
        given: arguments that climb_opt itself passes and a recipe must not.
    """
    parameters = inspect.signature(find(kind, name)).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = sorted({p.name for p in parameters} - given)
    for key in options:
        if key not in known:
            raise UserError(
                f"{kind} {name!r}: unknown key {key!r}.{did_you_mean(key, known)} Known keys: "
                f"{', '.join(known) or 'none'}."
            )
