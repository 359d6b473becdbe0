# Written by hub/build.py from climb_opt: change it there.
"""Everything climb_opt stores in a study beside weights and scores: each name once.

Whoever looks at a study with another tool, or adds something to what it holds, begins here; the
table of docs/reference.md is made of this file. An attribute is Optuna's *user* attribute unless it
says *system*; names are stored, so a changed name is a study that no longer opens.

>>> from climb_opt.attributes import ATTRIBUTES, SLOT
>>> ATTRIBUTES[SLOT].shape
"the place in the plan: a number, or a named slot's name"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Owner = Literal["study", "trial", "study system", "trial system"]


class Attribute(NamedTuple):
    """One stored name: on what, of what shape, which files write and which read it."""

    owner: Owner
    shape: str
    written: tuple[str, ...]
    read: tuple[str, ...]


ATTRIBUTES: dict[str, Attribute] = {}


def _stored(owner: Owner) -> Callable[[str, str, str], str]:
    """Names a thing stored on `owner`, of some shape, by "files that write -> files that read"."""

    def names(name: str, shape: str, files: str) -> str:
        written, _, read = files.partition("-> ")
        ATTRIBUTES[name] = Attribute(owner, shape, tuple(written.split()), tuple(read.split()))
        return name

    return names


_of_study, _of_trial = _stored("study"), _stored("trial")
_in_study, _in_trial = _stored("study system"), _stored("trial system")


# --- what a search is, on the study ---------------------------------------------------------------

RECIPE = _of_study(
    "climb/recipe",
    "the recipe as JSON text; written last, so that a study that has it is whole",
    "study/opening retrain/sibling ablation/run/searching "
    "-> view retrain/sibling reports/parts/sections",
)
CORPUS = _of_study(
    "climb/corpus",
    "{name, digest, tokens: {domain: count}} of the corpus",
    "study/opening retrain/sibling -> view warmstart/studies",
)
SPACE = _of_study(
    "climb/space", "`MixtureSpace.to_json()`", "view -> view mixbench/tables ablation/run/contents"
)
AGGREGATE = _of_study(
    "climb/aggregate",
    "{component: coefficient}; a trial's value is the sum of coefficient x component",
    "view study/opening retrain/sibling -> view warmstart/tables",
)
IDENTITY = _of_study(
    "climb/identity", "also in its folder's `study.json`", "study/own_folder -> study/own_folder"
)
PICK = _of_study(
    "climb/pick",
    "the seed and the `ClimbOptions` of the search's own ClimbSampler, for its pick",
    "samplers/climb_sampler -> selection/choosing selection/rules ablation/run/final",
)
ROUNDS = _of_study(
    "climb/rounds",
    "[slots] of each round of a ClimbSampler, in a study without a recipe",
    "samplers/climb_sampler -> view",
)
UNREAD = _of_study(
    "climb/unread",
    "[domain] of which no mixture of round 1 reads anything: too small for the design",
    "samplers/climb_sampler -> workers/status",
)
VERIFY = _of_study(
    "climb/verify",
    "[{domain: weight}]: what the plan's last slots measure, in their order",
    "selection/verifying -> selection/verifying",
)
LADDER = _of_study(
    "climb/ladder",
    "[{name, flops, tokens, parameters}]: rungs, cheapest first; FLOPs of a trial. None: one rung",
    "study/opening -> view",
)
PAUSED = _of_study(
    "climb/paused",
    "true while no new trial may start",
    "study/steering -> workers/claims workers/status",
)
WARM = _of_study(
    "climb/warm",
    "[source]: studies and tables that were imported",
    "warmstart/studies warmstart/tables -> warmstart/studies warmstart/tables",
)
ARTIFACTS = _of_study(
    "climb/artifacts",
    "the folder of its artifacts",
    "reports/dashboard/notebook -> reports/dashboard/notebook",
)
SHOWN = _of_study(
    "climb/rounds-shown",
    "how many rounds' ends the dashboard's cards show",
    "reports/dashboard/notebook -> reports/dashboard/notebook",
)

# --- studies beside a search ----------------------------------------------------------------------

CONFIRM = _of_study(
    "climb/confirm",
    "{mixtures, seeds, ...}: what is being confirmed; its plan is not the recipe's",
    "retrain/finals -> retrain/confirm retrain/finals retrain/paired",
)
CONFIRMED_IN = _of_study(
    "climb/confirmed-in",
    "[study name] of its confirm studies, latest last",
    "retrain/confirm -> retrain/confirm",
)
TRANSFER = _of_study(
    "climb/transfer",
    "{study, trials}: the search that a transfer retrains, and which of its trials",
    "retrain/transfer -> retrain/transfer cli/transfer",
)
NOISE = _of_study(
    "climb/noise",
    "{of, mixtures, places, seeds, corner}: mixtures run again and again, in named slots",
    "retrain/repeats -> retrain/noise retrain/repeats selection/advice",
)
WEIGHTS = _of_study(
    "climb/weights",
    "{score, before, after}: the coefficients that noise runs found, relative noise of the score "
    "before and with them; of a search by `score: auto` also {from}, the study that found them",
    "retrain/noise study/opening -> study/asked",
)
REPEATED = _of_study(
    "climb/repeated",
    "{growth, std, freedom}: of the score's noise by noise runs, the growth of its log variance "
    "from the prior to where all tokens differ, and its deviation at the prior with its degrees of "
    "freedom; of these runs themselves {score, reweighed}: as it is, and by the weights they found",
    "retrain/noise study/opening -> selection/reached study/asked",
)
# Such a study has one of these, by the command that makes it and goes on with it.
BESIDE = {CONFIRM: "confirm", NOISE: "noise", TRANSFER: "transfer"}
ABLATION = _of_study(
    "climb/ablation",
    "{key, digest, owner} of the ablation's run it belongs to",
    "ablation/run/searching ablation/run/sharing -> ablation/run/searching ablation/run/sharing",
)
RUN_BEAT = _of_study(
    "climb/run-beat",
    "{worker, count}: the last sign of life of the worker that does the ablation's run",
    "ablation/run/sharing workers/beats -> ablation/run/sharing",
)
RESULT = _of_study(
    "climb/result",
    "the finished run's `RunResult`, as JSON text",
    "ablation/run/sharing -> ablation/run/sharing",
)

# --- what a trial is, and what became of it -------------------------------------------------------

SLOT = _of_trial(
    "climb/slot",
    "the place in the plan: a number, or a named slot's name",
    "workers/claims study/steering samplers/ledger ablation/run/searching "
    "-> plan workers/worker workers/status samplers/gp reports/snapshot",
)
SEED = _of_trial(
    "climb/seed",
    "the proxy's seed where it is not the recipe's; a retry keeps it",
    "study/seeds workers/claims retrain/sibling "
    "-> objective study/seeds study/working workers/claims",
)
BEAT = _of_trial(
    "climb/beat",
    "{worker, count}: the last sign of life of its worker",
    "workers/claims workers/beats -> workers/claims workers/beats workers/running",
)
ERROR = _of_trial(
    "climb/error",
    "why it failed, one line",
    "workers/claims study/steering ablation/run/searching "
    "-> workers/status workers/worker reports/parts/sections",
)
INTERRUPTED = _of_trial(
    "climb/interrupted",
    "true where it was stopped on request: no attempt of its slot",
    "workers/claims workers/worker study/steering -> plan workers/status reports/snapshot",
)
RETRY = _of_trial(
    "climb/retry",
    "true where the slot was started anew on request: earlier failures are forgiven",
    "study/steering -> plan",
)
RUNG = _of_trial(
    "climb/rung",
    "the rung that scored it, from 0, the cheapest; none: the target. A constraint of this name "
    "(target - rung, kept at 0) tells Optuna which trials may be the best",
    "workers/claims -> ladder/__init__ view history gp/beliefs",
)
COMPONENTS = _of_trial(
    "climb/components",
    "{component: value}: task scores and losses",
    "history warmstart/studies "
    "-> history reports/dashboard/notebook ablation/run/judge retrain/transfer",
)
FACTS = _of_trial(
    "climb/facts",
    "{recipe, corpus, torch, seed, seconds, flops, ...}: what was trained on what, how fast",
    "history -> history ladder/__init__ reports/dashboard/notebook",
)
IMPORTED = _of_trial(
    "climb/imported",
    "{study or file, trial or row}: where an imported trial comes from",
    "warmstart/studies",
)
PATH = _of_trial(
    "climb/path",
    "{domains, steps, weights, mean, end}: of a proxy with `reweight`, the mean weights of the "
    "steps up to each of these, and of all; what was set after the last, if anything was",
    "history -> selection/rules exports/from_study reports/parts/paths reports/dashboard/notebook",
)
METHOD = _of_trial(
    "climb/method",
    "the baseline of this name, of which a method sets the weights: it has a path and a score, and "
    "no mixture; so it ends as pruned, with its score as its last report",
    "study/given retrain/sibling -> history objective workers/status reports/dashboard/notebook",
)
DOREMI = _of_trial(
    "climb/doremi",
    "{domain: weight}: the mixture that DoReMi ended with, in an ablation of version 0.1.0",
    "ablation/run/live -> ablation/run/live",
)
EXTRAPOLATED = _of_trial(
    "climb/extrapolated", "true where an emulator was asked beyond its table", "emulator/objective"
)

# --- what a sampler remembers ---------------------------------------------------------------------

SAMPLER_SEED = _in_study(
    "climb:seed", "drawn by ClimbSampler for want of one", "samplers/ledger -> samplers/ledger"
)
BASIS = _in_trial(
    "climb:basis", "numbers of trials its round learns from", "samplers/ledger -> samplers/ledger"
)
PROPOSAL = _in_trial(
    "simplex_gp:weights",
    "[weight], before they are parameters: other workers count them as pending; none under the "
    "worker loop, which writes a trial with its parameters",
    "samplers/gp -> samplers/gp",
)
FORECAST = _in_trial(
    "climb:forecast",
    "{mean, std, measured}: what its sampler's model, or else the study's, expected of its score "
    "before it ran, and the standard deviations of the true score (null: unknown) and of a "
    "measurement; none before the fourth result, of equal scores, and of several objectives",
    "samplers/forecasts -> reports/quality",
)
FREE = _in_trial(
    "simplex:free",
    "the free coordinates that a stock sampler's mixture was decoded from",
    "samplers/wrapped -> samplers/wrapped",
)

# --- beginnings of named plan --------------------------------------------------------------------

OURS = "climb/"  # every user attribute of ours begins so
BASELINE = "baseline/"  # plan of the recipe's baselines
RETRAINED = "trial-"  # plan of a transfer, and the number of the search's trial
ENQUEUED = "enqueued/"  # plan of mixtures that a person put in line, outside the rounds
BRANCH = "branch/"  # the trunk and its branches, which score no mixture
CHECK = "check/"  # mixtures that are trained to check a read-out of the branches
READ = "read/"  # the same mixtures as a read-out scores them


def by_owner(stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is stored with a trial: user attributes (ours, "climb/...") and system ones."""
    ours = {k: v for k, v in stored.items() if k.startswith(OURS)}
    return ours, {k: v for k, v in stored.items() if k not in ours}


def slots_beside(attributes: Mapping[str, Any]) -> list[str]:
    """The slots that a study of `BESIDE` is to run, as far as it says: a race decides later."""
    slots = [f"{name}/{label}" for name, label in attributes.get(NOISE, {}).get("places", ())]
    slots += [f"{RETRAINED}{n}" for n in attributes.get(TRANSFER, {}).get("trials", ())]
    finals = attributes.get(CONFIRM, {})
    trained = [name for name in finals.get("mixtures", ()) if name not in finals.get("twins", ())]
    seeds = range(0 if finals.get("budget") is not None else finals.get("seeds", 0))
    return slots + [f"{name}/seed-{k + 1}" for k in seeds for name in trained]
