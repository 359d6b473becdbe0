"""Modules under the names they had in version 0.1.0: they import as before, with a warning.

Code of one's own that was written for 0.1.0 goes on working for a release. `climb_opt.export` and
`climb_opt.report` are functions now, so their old modules can be called like them.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old name -> new one, below climb_opt; a package's modules follow it unless they are named too.
MOVED = {
    "confirm": "retrain",
    "corpus.edit": "corpus.after.edit",
    "corpus.engines": "corpus.run.local",
    "corpus.inputs": "corpus.read.inputs",
    "corpus.layouts": "corpus.after.layouts",
    "corpus.megatron": "corpus.after.megatron",
    "corpus.readers": "corpus.read",
    "corpus.sentences": "corpus.stages.sentences",
    "corpus.tokenise": "corpus.stages.tokenise",
    "export": "exports",
    "fixed": "baselines",
    "gaussian": "gp",
    "gaussian.process": "gp.model",
    "report": "reports",
    "report.paired": "retrain.paired",
    "rounds": "workers",
    "slots": "plan",
}
CALLED = ("confirm", "export", "report")


class _Called(ModuleType):
    """An old module whose name is a function's now: it is called as that function."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return importlib.import_module("climb_opt").__getattr__(name)(*args, **options)


class _Finder(MetaPathFinder, Loader):
    """Stands first: a moved package's folder would give its modules a second time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if _new(fullname) is None else ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Called(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        new = _new(module.__name__)
        assert new is not None  # find_spec found it
        warnings.warn(f"{module.__name__} is {new} now.", DeprecationWarning, stacklevel=2)
        found = importlib.import_module(new)
        if module.__name__.removeprefix("climb_opt.") in CALLED:
            vars(module).update({k: v for k, v in vars(found).items() if not k.startswith("__")})
        else:
            sys.modules[module.__name__] = found  # the very same: what is set there is set here


def _new(fullname: str) -> str | None:
    package, _, old = fullname.partition(".")
    if package != "climb_opt":
        return None
    if old in MOVED:
        return f"climb_opt.{MOVED[old]}"
    parent, _, name = old.rpartition(".")
    return f"climb_opt.{MOVED[parent]}.{name}" if parent in MOVED else None


def install() -> None:
    """Let the old names be found; once a process is enough."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
