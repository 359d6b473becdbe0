"""The arms everyone will ask for, as data: add one with a line.

An arm overrides the ablation's base study: any key of a study recipe (sampler, rounds, proxy,
corpus, space ...), and the keys of `ArmOptions` that say how it is run and judged. `rounds` are
shares of the arm's trials, so `[4, 2, 1]` and `[64, 32, 16]` are the same arm under 112 trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from climb_opt import lookup, recipe_files, recipes
from climb_opt.errors import UserError
from climb_opt.recipes import Choice
from climb_opt.strict import ONE, POSITIVE, build, check_ranges


@dataclass(frozen=True)
class ArmOptions:
    """What an arm says beside its study recipe.

    `fixed` names a mixture that needs no search (`climb_opt.baselines`); `method` one that mixbench
    runs (`objective: mixbench`): a regression, a law, your own as "module:name". `final` is the
    rule that picks the mixture. `cost` is what one of its trials costs, in trials of the base
    (beside what a method that sets weights costs, which is counted); `share` its part of the
    budget.
    `objective` overrides options of what it searches on; it is judged like every other arm.
    `parallel` trials are asked for before the first is told (emulated; live: the workers decide).
    """

    fixed: Choice | None = None
    method: Choice | None = None
    final: Choice = field(default_factory=lambda: Choice("auto"))
    cost: float = 1.0
    share: float = 1.0
    objective: dict[str, Any] = field(default_factory=dict)
    parallel: int = 1
    note: str = ""

    RANGES: ClassVar = {"cost": POSITIVE, "share": POSITIVE, "parallel": ONE}


OPTION_KEYS = tuple(f.name for f in fields(ArmOptions))

ONE_ROUND = {"rounds": [1]}
ONE_PATH = {"sampler": "random", "rounds": [], "baselines": ["prior"], "final": "path-mean"}
CLIMB = {"rounds": [64, 32, 16]}
NEMO = {"sampler": {"name": "climb", "preset": "nemo"}}
PAPER = {"sampler": {"name": "climb", "preset": "paper"}}

STANDARD: dict[str, dict[str, Any]] = {
    "uniform": {"fixed": "uniform"},
    "proportional": {"fixed": "proportional"},
    "temperature": {"fixed": {"name": "temperature", "exponent": 0.5}},
    "unimax": {"fixed": {"name": "unimax", "epochs": 4}},
    # One trial from the prior, while a method sets the weights; the mean of its path is kept.
    "doremi": {**ONE_PATH, "proxy": {"reweight": "doremi"}},  # arXiv 2305.10429
    "ado": {**ONE_PATH, "proxy": {"reweight": "ado"}},  # arXiv 2410.11820
    # arXiv 2508.17677: measured once, at the end of a proxy of the prior; and at half of it.
    "tikmix": {
        **ONE_PATH,
        "final": "path-end",
        "proxy": {"reweight": {"name": "tikmix-stages", "at": 1.0}},
    },
    "tikmix-stages": {**ONE_PATH, "proxy": {"reweight": "tikmix-stages"}},
    # One mixture, the optimum of the ensemble of a trunk's branches (arXiv 2502.10510).
    "mixmin": {**ONE_PATH, "baselines": [], "final": "observed", "branches": {"read": ["mixmin"]}},
    # Random search and RegMix are the same draws, RegMix's sparse design, kept by another rule.
    "random": {**NEMO, **ONE_ROUND, "final": "observed"},
    # RegMix is CLIMB with one round; the mean of its top 128 is the authors' own rule
    # (arXiv 2407.01492), the argmin what CLIMB's comparison uses.
    "regmix": {**NEMO, **ONE_ROUND, "final": "mean-top"},
    "regmix-argmin": {**NEMO, **ONE_ROUND, "final": "argbest"},
    "climb": {**NEMO, **CLIMB, "final": "argbest"},
    "climb-paper": {**PAPER, **CLIMB, "final": "argbest"},
    "climb-mean-top": {**NEMO, **CLIMB, "final": "mean-top"},
    # Random mixtures at the size of the target model, so fewer of them (CLIMB, Section 5).
    "climb-best-at-n": {**NEMO, **ONE_ROUND, "final": "observed", "cost": 8.0},
    "dirichlet": {"sampler": "random", **ONE_ROUND, "final": "observed"},  # draws of the prior
    "tpe": {"sampler": "tpe", **ONE_ROUND, "final": "observed"},
    "cma-es": {"sampler": "cma-es", **ONE_ROUND, "final": "observed"},
    "qmc": {"sampler": "qmc", **ONE_ROUND, "final": "observed"},
    "nsga2": {"sampler": "nsga2", **ONE_ROUND, "final": "observed"},
    "gp-optuna": {"sampler": "gp-optuna", **ONE_ROUND, "final": "observed"},
    "botorch": {"sampler": "botorch", **ONE_ROUND, "final": "observed"},
    "simplex-gp": {"sampler": "simplex-gp", **ONE_ROUND},
    "simplex-gp-8": {"sampler": "simplex-gp", **ONE_ROUND, "parallel": 8},
    # Of `objective: mixbench`: each learns from the shared random mixtures.
    "marin": {"method": "marin", **ONE_ROUND},
    "olmix": {"method": "olmix", **ONE_ROUND},
    "regmix-trees": {"method": "regmix", **ONE_ROUND},
    "quadratic": {"method": "quadratic", **ONE_ROUND},
}


def arm_data(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The plain data of an arm: the standard arm of that name, or `like` one, with overrides."""
    over = dict(given or {})
    if "doremi" in over:  # as version 0.1.0 wrote it
        method = {"name": "doremi", **(over.pop("doremi") or {})}
        over = recipe_files.merge(STANDARD["doremi"], {"proxy": {"reweight": method}, **over})
    like = over.pop("like", name if name in STANDARD else None)
    if like is None:
        if not over:
            raise lookup.unknown("arm", name, STANDARD)
        return over
    if like not in STANDARD:
        raise UserError(f"Arm {name!r}: like: {lookup.unknown('standard arm', like, STANDARD)}")
    return recipe_files.merge(STANDARD[like], over)


def split(name: str, data: Mapping[str, Any]) -> tuple[ArmOptions, dict[str, Any]]:
    """The arm's own options, and its overrides of the study recipe."""
    own = {key: value for key, value in data.items() if key in OPTION_KEYS}
    for key in ("fixed", "final", "method"):
        if key in own:
            own[key] = recipes.choice_data(own[key], f"arm {name!r}.{key}")
    options = build(ArmOptions, own, f"arm {name!r}")
    check_ranges(options, f"arm {name!r}")
    if options.fixed is not None and options.method is not None:
        raise UserError(f"arm {name!r}: give either fixed or method, not both.")
    return options, {key: value for key, value in data.items() if key not in OPTION_KEYS}
