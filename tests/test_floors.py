"""The floors of the house: imports go down only, and the light things load no heavy library."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "climb_opt"

FLOORS = {
    "errors": 0.0,
    "files": 0.05,
    "attributes": 0.0,
    "written": 0.02,
    "strict": 0.05,
    "reading": 0.05,
    "mixtures": 0.06,
    "simplex": 0.1,
    "shards": 0.1,
    "indexed": 0.2,
    "recipes": 0.1,
    "lookup": 0.1,
    "provenance": 0.1,
    "text": 0.1,
    "progress": 0.15,
    "threads": 0.1,
    "tokenizer": 0.1,
    "plan": 1.0,
    "history": 1.0,
    "view": 1.05,
    "gp": 1.08,
    "predictors": 1.1,
    "corpus": 1.1,
    "proxy": 1.1,
    "evaluators": 1.1,
    "emulator": 1.1,
    "baselines": 1.1,
    "storages": 1.1,
    "samplers": 2.0,
    "workers": 2.0,
    "objective": 2.0,
    "study": 3.0,
    "measures": 0.1,
    "extras": 0.05,
    "statistics": 0.1,
    "selection": 3.0,
    "retrain": 3.1,
    "reports": 3.2,
    "exports": 3.0,
    "warmstart": 3.0,
    "ablation": 4.0,
    "cli": 5.0,
}
SEARCH = {"gp", "predictors", "samplers", "workers", "emulator"}
TRAINING = {"corpus", "proxy", "evaluators"}
HEAVY = [
    "accelerate", "botorch", "datasets", "faiss", "gpytorch", "lightgbm", "lm_eval", "matplotlib",
    "pandas", "plotly", "sentence_transformers", "sklearn", "torch", "transformers",
]  # fmt: skip


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Rooms of climb_opt that a file imports, at the top or inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "climb_opt":
                names = [f"climb_opt.{alias.name}" for alias in node.names]
        rooms |= {n.split(".")[1] for n in names if n.startswith("climb_opt.")}
    return rooms & set(FLOORS)


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or _room(p) in FLOORS)


def test_every_room_has_a_floor() -> None:
    rooms = {_room(p) for p in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms <= set(FLOORS), "give a new file or folder its floor here"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = _room(path)
    for other in _imports(path) - {room}:
        assert FLOORS[other] < FLOORS[room], f"{room} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_search_and_training_meet_only_above(path: Path) -> None:
    sides = [(SEARCH, TRAINING), (TRAINING, SEARCH)]
    for mine, theirs in sides:
        if _room(path) in mine:
            assert not _imports(path) & theirs


@pytest.mark.parametrize(
    "code",
    [
        "import climb_opt; climb_opt.MixtureSpace({'a': 1, 'b': 2})",
        "import climb_opt.cli; climb_opt.cli.parser()",
        "from climb_opt.cli import main; main(['ls', 'studies'])",
        "from climb_opt import recipes as r; [r.read_study(n) for n in r.names('studies')]",
    ],
)
def test_light_things_load_no_heavy_library(code: str) -> None:
    check = f"import sys\n{code}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# Where Optuna's private names may be called: they are what may change under us.
PRIVATE = {"view.py", "samplers/wrapped.py"}  # a stock sampler's view of its study is a storage


def test_only_storages_workers_and_the_view_touch_what_is_private_to_optuna() -> None:
    private = re.compile(r"(?<!self)\._(?:storage|study_id|trial_id)\b")
    touching = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert {p for p in touching if not p.startswith(("storages/", "workers/"))} <= PRIVATE
