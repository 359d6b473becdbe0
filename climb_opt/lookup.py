"""A short name or "module:Name" -> the object, and what is said of each name.

The tables below are strings, so that naming or listing a sampler loads no library. An entry of
one's own is a line here, or needs none: users name theirs as "my_package.my_module:MySampler".
What there is to know of an entry stands with the object: its first line is what `climb-opt ls` and
`--help` say.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from climb_opt.errors import UserError, brief, check_number, did_you_mean, unloadable
from climb_opt.strict import check_keys, typed

T = TypeVar("T")
SEEDS, MOST_SEED = ("seed", "random_state"), 2**32 - 1  # what NumPy and scikit-learn take
OWN = '; or your own as "module:Name"'  # after all that there is of a kind
PREDICTOR = "lightgbm"  # where nothing else is said: the paper's

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
    "encoding": {
        "softmax": "climb_opt.samplers.encodings:SoftmaxEncoding",
        "gamma": "climb_opt.samplers.encodings:GammaEncoding",
        "stick-breaking": "climb_opt.samplers.encodings:StickBreakingEncoding",
    },
    "design": {
        "regmix": "climb_opt.samplers.design:regmix",
        "dirichlet": "climb_opt.samplers.design:dirichlet_draws",
        "mixed": "climb_opt.samplers.design:mixed",
    },
    "preset": {
        "nemo": "climb_opt.samplers.presets:NEMO",
        "paper": "climb_opt.samplers.presets:PAPER",
    },
    "predictor": {
        "lightgbm": "climb_opt.predictors.lgbm:LightGBMPredictor",
        "extra-trees": "climb_opt.predictors.lgbm:ExtraTreesPredictor",
        "epochs": "climb_opt.predictors.epochs:EpochsPredictor",
        "gp": "climb_opt.predictors.gp:GPPredictor",
        "linear": "climb_opt.predictors.linear:LinearPredictor",
        "loglinear": "climb_opt.predictors.loglinear:LogLinearPredictor",
        "simplex-gp": "climb_opt.predictors.simplex_gp:SimplexGP",
    },
    "evaluator": {
        "heldout": "climb_opt.evaluators.heldout:HeldOutLoss",
        "lm-eval": "climb_opt.evaluators.harness:LMEval",
    },
    "reader": {  # of documents; of others an input names `module:Name:where`
        "jsonl": "climb_opt.corpus.read.jsonl:JSONL",
        "parquet": "climb_opt.corpus.read.arrow:PARQUET",
        "arrow": "climb_opt.corpus.read.arrow:ARROW",
        "tables": "climb_opt.corpus.read.tables:TABLES",
        "json": "climb_opt.corpus.read.jsonl:JSON",
        "texts": "climb_opt.corpus.read.texts:TEXTS",
        "installed": "climb_opt.corpus.read.installed:INSTALLED",
        "domains": "climb_opt.corpus.read.domains:DOMAINS",
        "weborganizer": "climb_opt.corpus.read.weborganizer:WEBORGANIZER",
        "hub": "climb_opt.corpus.read.hub:HUB",
    },
    "reweighter": {
        "doremi": "climb_opt.proxy.reweight.doremi:DoReMi",
        "ado": "climb_opt.proxy.reweight.ado:ADO",
        "tikmix": "climb_opt.influence.reweighters:TiKMiX",
        "tikmix-stages": "climb_opt.influence.reweighters:TiKMiXStages",
    },
    "tracker": {  # of training curves
        "tensorboard": "climb_opt.proxy.trackers:tensorboard",
        "wandb": "climb_opt.proxy.trackers:wandb",
        "mlflow": "climb_opt.proxy.trackers:mlflow",
    },
    "pruner": {
        "median": "optuna.pruners:MedianPruner",
        "percentile": "optuna.pruners:PercentilePruner",
        "successive-halving": "optuna.pruners:SuccessiveHalvingPruner",
        "hyperband": "optuna.pruners:HyperbandPruner",
        "threshold": "optuna.pruners:ThresholdPruner",
        "wilcoxon": "optuna.pruners:WilcoxonPruner",
    },
    "baseline": {
        "prior": "climb_opt.baselines:proportional",
        "uniform": "climb_opt.baselines:uniform",
        "proportional": "climb_opt.baselines:proportional",
        "temperature": "climb_opt.baselines:temperature",
        "unimax": "climb_opt.baselines:unimax",
        "given": "climb_opt.baselines:given",
        "influence": "climb_opt.baselines:influence",
    },
    "rule": {
        "observed": "climb_opt.selection.rules:observed",
        "path-mean": "climb_opt.selection.rules:path_mean",
        "path-end": "climb_opt.selection.rules:path_end",
        "evaluated": "climb_opt.selection.rules:evaluated",
        "guarded": "climb_opt.selection.rules:guarded",
        "predicted": "climb_opt.selection.rules:predicted",
        "supported": "climb_opt.selection.rules:supported",
        "top": "climb_opt.selection.rules:top",
        "optimum": "climb_opt.selection.rules:optimum",
        "argbest": "climb_opt.selection.rules:argbest",
        "mean-top": "climb_opt.selection.rules:mean_top",
        "auto": "climb_opt.selection.rules:auto",
    },
    "format": {
        "json": "climb_opt.exports.configs:as_json",
        "yaml": "climb_opt.exports.configs:as_yaml",
        "megatron": "climb_opt.exports.blends:megatron",
        "nemo": "climb_opt.exports.blends:nemo",
        "nanotron": "climb_opt.exports.configs:nanotron",
        "olmo-core": "climb_opt.exports.configs:olmo_core",
        "mosaicml": "climb_opt.exports.configs:mosaicml",
        "torchtitan": "climb_opt.exports.code:torchtitan",
        "huggingface": "climb_opt.exports.code:hugging_face",
        "materialise": "climb_opt.exports.materialise:materialise",
        "model": "climb_opt.exports.branches:export_model",
    },
    "method": {  # of mixbench
        "marin": "climb_opt.mixbench.peers:MARIN",
        "olmix": "climb_opt.mixbench.peers:OLMIX",
        "quadratic": "climb_opt.mixbench.peers:QUADRATIC",
        "random": "climb_opt.mixbench.peers:RANDOM",
        "prior": "climb_opt.mixbench.peers:PRIOR",
        "regmix": "climb_opt.mixbench.peers:REGMIX",
        "olmix-public": "climb_opt.mixbench.public:olmix",
        "regmix-public": "climb_opt.mixbench.public:regmix",
    },
    "objective": {  # of ablations
        "live": "climb_opt.ablation.run.live:run_live",
        "mixing-law": "climb_opt.ablation.run.surfaces:mixing_law",
        "phased-law": "climb_opt.ablation.run.phased:phased_law",
        "table": "climb_opt.ablation.run.surfaces:table_of",
        "ladder": "climb_opt.ablation.run.laddered:simulated",
        "ladder-tables": "climb_opt.ablation.run.laddered:tables",
        "rows": "climb_opt.ablation.run.laddered:rows",
        "mixbench": "climb_opt.ablation.run.benched:benched",
    },
    "scorer": {},  # of documents: users name their own
}


class NotHere(UserError):
    """What a name stands for cannot be imported on this machine."""


def check_name(kind: str, name: str) -> str:
    """The "module:Name" that `name` stands for, without importing it.

    Raises:
        UserError: no such short name; near names and all names are given.
    """
    if not isinstance(name, str):
        raise UserError(f'{kind}: a name or "module:Name" is wanted, not {name!r:.60}.')
    target = KINDS[kind].get(name, name)
    if ":" not in target:
        raise unknown(kind, name, KINDS[kind], OWN)
    return target


def find(kind: str, name: str) -> Any:
    """The object that `name` stands for.

    Raises:
        UserError: as of `check_name`; the module or the attribute of "module:Name" does not exist,
            or the module cannot be imported.
    """
    module_name, _, attribute = check_name(kind, name).partition(":")
    if not all(module_name.split(".")):  # Python takes it for a relative import, or for nothing
        raise UserError(
            f"{kind} {name!r}: {module_name!r} is no module. Write it as Python imports it, such "
            f'as "my_module:Name" of a file my_module.py in a folder of PYTHONPATH.'
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise NotHere(
            f"{kind} {name!r} cannot be imported: {error}. Install it, or name its folder in "
            f"PYTHONPATH (export PYTHONPATH=$PWD)."
        ) from error
    except (Exception, SystemExit) as error:  # the user's own code: anything
        if ":" not in name and isinstance(error, OSError):
            raise NotHere(f"{kind} {name!r} cannot be imported: {unloadable(error)}") from error
        if ":" not in name:
            raise
        said = f"{brief(error)}{_where(error)}"
        raise UserError(f"{kind} {name!r} cannot be imported: {said}. Mend that module.") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        hint = did_you_mean(attribute, vars(module))
        raise UserError(f"{kind} {name!r}: {module_name} has no {attribute!r}.{hint}") from None


def _where(error: BaseException) -> str:
    """The place in which an error was raised; of one of syntax its own words say it."""
    if isinstance(error, SyntaxError):
        return ""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({Path(last.filename).name}, line {last.lineno})"


def unknown(kind: str, name: str, known: Iterable[str], own: str = "") -> UserError:
    """What to raise for a name that no table holds; `own` is what else could be given."""
    known = list(known)
    hint = did_you_mean(name, known)
    return UserError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known)}{own}.")


def facts(**known: Any) -> Callable[[T], T]:
    """Say of a function what there is to know of it as an entry; a class has attributes for that.
    They are read with `getattr` and a default, so that an entry of one's own need not say any."""

    def say(made: T) -> T:
        for name, value in known.items():
            setattr(made, name, value)
        return made

    return say


def default(kind: str, name: str, option: str) -> Any:
    """What the object takes for an option that is not given; None where it has no such option."""
    parameter = inspect.signature(find(kind, name)).parameters.get(option)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def about(kind: str, name: str) -> str:
    """The first line that the object says of itself, read without importing it; often heavy."""
    module, _, attribute = KINDS[kind].get(name, name).partition(":")
    return _first_line(module, attribute)


@functools.cache
def _first_line(module: str, attribute: str) -> str:
    file = file_of(module)
    body = ast.parse(file.read_text(encoding="utf-8")).body if file is not None else []
    for node, after in pairwise([*body, None]):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if attribute in (alias.name, alias.asname):
                    return _first_line(node.module, alias.name)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute:
            given = node.value.args if isinstance(node.value, ast.Call) else []
            said = [getattr(after, "value", None), *given[:1]]  # a string below it, or its first
            texts = [s.value for s in said if isinstance(s, ast.Constant)]
            return next((t.partition("\n")[0] for t in texts if isinstance(t, str)), "")
    return ""


def file_of(module: str) -> Path | None:
    """The file of a module, which is not imported; None where it has none."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)  # of a sub-module it would import the modules above
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    if rest:
        path = path.parent.joinpath(*rest)
        path = path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")
    return path if path.is_file() else None


def check_options(
    kind: str, name: str, options: Mapping[str, Any], given: set[str]
) -> dict[str, Any]:
    """The options, of ours as annotated; raise if what is named cannot be called with them.
    `given` are arguments that climb_opt itself passes and a recipe must not."""
    for key in SEEDS:
        if isinstance(seed := options.get(key), int):
            check_number(f"{kind} {name!r}: {key}", seed, 0, MOST_SEED)
    made = find(kind, name)
    if not callable(made):
        raise UserError(f"{kind} {name!r} must be a class or a function, but is {made!r:.200}.")
    parameters = inspect.signature(made).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        check_keys(options, sorted({p.name for p in parameters} - given), (), f"{kind} {name!r}")
    return typed(made, options, f"{kind} {name!r}") if name in KINDS[kind] else dict(options)
