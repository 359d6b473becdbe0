"""Everything climb_opt stores in a study beside weights and scores: each name once.

Whoever looks at a study with another tool, or adds something to what it holds, begins here; the
table of docs/reference.md is made of this file. An attribute is Optuna's *user* attribute unless it
says *system*; names are stored, so a changed name is a study that no longer opens.

>>> from climb_opt.attributes import ATTRIBUTES, SLOT
>>> ATTRIBUTES[SLOT].shape
"the place in the plan: a number, or a named slot's name"
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Owner = Literal["study", "trial", "study system", "trial system"]


class Attribute(NamedTuple):
    """One stored name: on what, of what shape, which files write and which read it."""

    owner: Owner
    shape: str
    written: tuple[str, ...]
    read: tuple[str, ...]


ATTRIBUTES: dict[str, Attribute] = {}


def _stored(owner: Owner, name: str, shape: str, *, written: str, read: str = "") -> str:
    ATTRIBUTES[name] = Attribute(owner, shape, tuple(written.split()), tuple(read.split()))
    return name


# --- what a search is, on the study ---------------------------------------------------------------

RECIPE = _stored(
    "study",
    "climb/recipe",
    "the recipe as JSON text; written last, so that a study that has it is whole",
    written="study/opening retrain/sibling ablation/run/searching",
    read="view retrain/sibling reports/parts/sections",
)
CORPUS = _stored(
    "study",
    "climb/corpus",
    "{name, digest, tokens: {domain: count}} of the corpus",
    written="study/opening retrain/sibling",
    read="view reports/cost warmstart/studies",
)
SPACE = _stored(
    "study",
    "climb/space",
    "`MixtureSpace.to_json()`",
    written="view",
    read="view",
)
AGGREGATE = _stored(
    "study",
    "climb/aggregate",
    "{component: coefficient}; a trial's value is the sum of coefficient x component",
    written="view study/opening retrain/sibling",
    read="view warmstart/tables",
)
PICK = _stored(
    "study",
    "climb/pick",
    "the seed and the `ClimbOptions` of the search's own ClimbSampler, for its pick",
    written="samplers/climb_sampler",
    read="selection/choosing selection/rules ablation/run/final",
)
UNREAD = _stored(
    "study",
    "climb/unread",
    "[domain] of which no mixture of round 1 reads anything: too small for the design",
    written="samplers/climb_sampler",
    read="workers/status",
)
VERIFY = _stored(
    "study",
    "climb/verify",
    "[{domain: weight}]: what the plan's last slots measure, in their order",
    written="selection/verifying",
    read="selection/verifying",
)
PAUSED = _stored(
    "study",
    "climb/paused",
    "true while no new trial may start",
    written="study/steering",
    read="workers/claims workers/status",
)
WARM = _stored(
    "study",
    "climb/warm",
    "[source]: studies and tables that were imported",
    written="warmstart/studies warmstart/tables",
    read="warmstart/studies warmstart/tables",
)
ARTIFACTS = _stored(
    "study",
    "climb/artifacts",
    "the folder of its artifacts",
    written="reports/dashboard/notebook",
    read="reports/dashboard/notebook",
)
SHOWN = _stored(
    "study",
    "climb/rounds-shown",
    "how many rounds' ends the dashboard's cards show",
    written="reports/dashboard/notebook",
    read="reports/dashboard/notebook",
)

# --- studies beside a search ----------------------------------------------------------------------

CONFIRM = _stored(
    "study",
    "climb/confirm",
    "{mixtures, seeds, ...}: what is being confirmed; its plan is not the recipe's",
    written="retrain/finals",
    read="view retrain/finals retrain/paired study/working",
)
CONFIRMED_IN = _stored(
    "study",
    "climb/confirmed-in",
    "[study name] of its confirm studies, latest last",
    written="retrain/confirm",
    read="retrain/confirm",
)
TRANSFER = _stored(
    "study",
    "climb/transfer",
    "{study, trials}: the search that a transfer retrains, and which of its trials",
    written="retrain/transfer",
    read="retrain/transfer cli/transfer",
)
ABLATION = _stored(
    "study",
    "climb/ablation",
    "{key, digest, owner} of the ablation's run it belongs to",
    written="ablation/run/searching ablation/run/sharing",
    read="ablation/run/searching ablation/run/sharing",
)
RESULT = _stored(
    "study",
    "climb/result",
    "the finished run's `RunResult`, as JSON text",
    written="ablation/run/sharing",
    read="ablation/run/sharing",
)

# --- what a trial is, and what became of it -------------------------------------------------------

SLOT = _stored(
    "trial",
    "climb/slot",
    "the place in the plan: a number, or a named slot's name",
    written="workers/claims study/steering samplers/ledger ablation/run/searching",
    read="plan workers/worker workers/status samplers/gp reports/snapshot",
)
SEED = _stored(
    "trial",
    "climb/seed",
    "the proxy's seed where it is not the recipe's; a retry keeps it",
    written="workers/claims retrain/sibling",
    read="objective study/working workers/claims",
)
BEAT = _stored(
    "trial",
    "climb/beat",
    "{worker, count}: the last sign of life of its worker",
    written="workers/claims workers/beats",
    read="workers/beats workers/status",
)
ERROR = _stored(
    "trial",
    "climb/error",
    "why it failed, one line",
    written="workers/claims study/steering ablation/run/searching",
    read="workers/status workers/worker reports/parts/sections",
)
INTERRUPTED = _stored(
    "trial",
    "climb/interrupted",
    "true where it was stopped on request: no attempt of its slot",
    written="workers/claims workers/worker study/steering",
    read="plan workers/status reports/snapshot",
)
RETRY = _stored(
    "trial",
    "climb/retry",
    "true where the slot was started anew on request: earlier failures are forgiven",
    written="study/steering",
    read="plan",
)
COMPONENTS = _stored(
    "trial",
    "climb/components",
    "{component: value}: task scores and losses",
    written="history warmstart/studies",
    read="history reports/dashboard/notebook ablation/run/judge retrain/transfer",
)
FACTS = _stored(
    "trial",
    "climb/facts",
    "{recipe, corpus, torch, seed, seconds, ...}: what was trained on what, how fast",
    written="history",
    read="history reports/dashboard/notebook ablation/run/judge",
)
IMPORTED = _stored(
    "trial",
    "climb/imported",
    "{study or file, trial or row}: where an imported trial comes from",
    written="warmstart/studies",
)
DOREMI = _stored(
    "trial",
    "climb/doremi",
    "{domain: weight}: the mixture that DoReMi ended with",
    written="ablation/run/live",
    read="ablation/run/live",
)
EXTRAPOLATED = _stored(
    "trial",
    "climb/extrapolated",
    "true where an emulator was asked beyond its table",
    written="emulator/objective",
)

# --- what a sampler remembers ---------------------------------------------------------------------

SAMPLER_SEED = _stored(
    "study system",
    "climb:seed",
    "the seed that ClimbSampler drew for want of one",
    written="samplers/ledger",
    read="samplers/ledger",
)
BASIS = _stored(
    "trial system",
    "climb:basis",
    "numbers of the trials that its round learns from",
    written="samplers/ledger",
    read="samplers/ledger",
)
PROPOSAL = _stored(
    "trial system",
    "simplex_gp:weights",
    "[weight], before they are parameters: other workers count them as pending; none under the "
    "worker loop, which writes a trial with its parameters",
    written="samplers/gp",
    read="samplers/gp",
)
FORECAST = _stored(
    "trial system",
    "climb:forecast",
    "{mean, std, measured}: what its sampler's model, or else the study's, expected of its score "
    "before it ran, and the standard deviations of the true score (null: unknown) and of a "
    "measurement; none before the fourth result, of equal scores, and of several objectives",
    written="samplers/forecasts",
    read="reports/quality",
)
FREE = _stored(
    "trial system",
    "simplex:free",
    "the free coordinates that a stock sampler's mixture was decoded from",
    written="samplers/wrapped",
    read="samplers/wrapped",
)

# --- beginnings of named plan --------------------------------------------------------------------

OURS = "climb/"  # every user attribute of ours begins so
BASELINE = "baseline/"  # plan of the recipe's baselines
ENQUEUED = "enqueued/"  # plan of mixtures that a person put in line, outside the rounds
