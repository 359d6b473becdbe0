"""climb_opt: find the data mixture to pre-train a language model on.

CLIMB (arXiv 2504.13161) as an Optuna study. Importing this package loads no heavy library; names
are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from climb_opt.errors import TrialFailed, UserError
from climb_opt.simplex import MixtureSpace

__version__ = "0.1.0"

# Public name -> the module that holds it, imported when the name is first used.
_LAZY = {
    "ClimbSampler": "climb_opt.samplers.climb_sampler",
    "Corpus": "climb_opt.shards",
    "SimplexGPSampler": "climb_opt.samplers.gp",
    "SimplexSampler": "climb_opt.samplers.wrapped",
    "best_mixture": "climb_opt.selection",
    "compare_rules": "climb_opt.selection",
    "open_study": "climb_opt.study",
    "report_components": "climb_opt.history",
    "read_history": "climb_opt.view",
    "set_aggregate": "climb_opt.view",
    "work": "climb_opt.study",
}

__all__ = ["MixtureSpace", "TrialFailed", "UserError", "__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
