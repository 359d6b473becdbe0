"""The floors of the house: imports go down only, and the light things load no heavy library."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from climb_opt import cli
from climb_opt.storages import open_storage
from synthetic_study import Shape, build_study

PACKAGE = Path(__file__).parents[1] / "climb_opt"

# From the ground up; a room imports from floors below its own, and nothing from its own.
FLOORS = [
    [
        "errors",
        "apportion",
        "attributes",
        "bits",
        "commands",
        "corpus_recipe",
        "doubles",
        "draws",
        "moved",
        "signals",
    ],
    ["written", "files", "extras", "metrics", "choices"],
    ["bounds", "proxy_recipe", "strict", "unpacking"],
    ["streams", "study_recipe", "sums"],
    ["reading", "schedules"],
    ["yamls"],
    ["mixtures", "paths"],
    [
        "lookup",
        "simplex",
        "shards",
        "measures",
        "statistics",
        "provenance",
        "text",
        "threads",
        "recipe_files",
    ],
    ["ladder", "phases", "gains"],
    ["recipes", "tokenizer", "progress", "indexed"],
    ["plan", "history"],
    ["view"],
    ["gp"],
    ["predictors", "corpus", "proxy", "evaluators", "emulator", "baselines", "storages"],
    ["samplers", "workers", "objective", "mixbench"],
    ["selection"],
    ["study"],
    ["retrain", "warmstart", "influence"],
    ["exports"],
    ["reports"],
    ["ablation"],
    ["cli"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SEARCH = {"gp", "predictors", "samplers", "workers", "emulator"}
TRAINING = {"corpus", "proxy", "evaluators"}
HEAVY = [
    "accelerate", "botorch", "datasets", "faiss", "gpytorch", "lightgbm", "lm_eval", "matplotlib",
    "pandas", "plotly", "sentence_transformers", "sklearn", "torch", "transformers",
]  # fmt: skip


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _module(path: Path) -> str:
    return ".".join(["climb_opt", *path.relative_to(PACKAGE).with_suffix("").parts])


MODULES = {_module(path).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")}


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, without what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        only_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not only_types:
            yield child
            yield from _statements(child)


def _imported(path: Path, types: bool = False) -> set[str]:
    """Modules of climb_opt that a file imports, at the top or inside functions."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if types else _statements(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in MODULES else node.module for full in inner.values()}
    return found & set(MODULES)


def _imports(path: Path) -> set[str]:
    """Rooms of climb_opt that a file imports."""
    return {name.split(".")[1] for name in _imported(path) if name != "climb_opt"}


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or _room(p) in FLOOR_OF)


def test_every_room_has_a_floor() -> None:
    rooms = {_room(p) for p in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms == set(FLOOR_OF), "give a new file or folder its floor here"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = _room(path)
    for other in _imports(path) - {room}:
        assert FLOOR_OF[other] < FLOOR_OF[room], f"{room} must not import {other}"


@pytest.mark.parametrize("types", [False, True])
def test_no_two_files_need_each_other(types: bool) -> None:
    needs = {name: _imported(path, types) - {name} for name, path in MODULES.items()}
    if types:
        needs["climb_opt"] = set()  # it names what it offers, for editors
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" needs ".join(reversed(error.args[1])))


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
        "from climb_opt import recipe_files as f, recipes as r\n"
        "[r.read_study(n) for n in f.names('studies')]",
    ],
)
def test_light_things_load_no_heavy_library(code: str) -> None:
    check = f"import sys\n{code}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_study_is_opened_without_scipy() -> None:
    check = "import sys, climb_opt.study; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_searches_by_a_process_and_their_promises_need_no_scipy_stats() -> None:
    check = "import sys, climb_opt.samplers.gp, climb_opt.selection.choosing\n"  # which takes 2 s
    check += "print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_command_line_is_read_without_the_files_of_a_build_or_libraries() -> None:
    check = "import sys, climb_opt.cli; climb_opt.cli.parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "climb_opt.cli.corpus_build" in loaded
    assert not {"yaml", "numpy", "optuna"} & set(loaded)
    assert not [name for name in loaded if name.startswith("climb_opt.corpus.")]


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [("status", "scipy sqlalchemy lightgbm"), ("best", "sqlalchemy climb_opt.exports.formats")],
)
def test_a_study_in_a_journal_is_read_without_what_its_command_needs_not(
    command: str, unneeded: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "x.journal")
    build_study(Shape(domains=3, rounds=(6,)), open_storage(path))
    check = "import sys\nfrom climb_opt.cli import main\nassert main(sys.argv[1:]) == 0\n"
    check += "print(*sys.modules)"
    words = [sys.executable, "-c", check, command, "synthetic", "--storage", path]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert not set(unneeded.split()) & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_takes_a_private_name_of_another(path: Path) -> None:
    taken = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("climb_opt")
        for alias in node.names
        if re.match("_[^_]", alias.name)
    ]
    assert taken == []


def test_each_command_has_a_file_named_like_it_that_is_listed() -> None:
    top = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    files = {p.stem for p in (PACKAGE / "cli").glob("*.py")}
    assert {word for word in top.choices if word not in files} == {"pause", "resume"}
    adding = {f for f in files if "def add(subparsers" in (PACKAGE / f"cli/{f}.py").read_text()}
    assert adding == set(cli.COMMANDS)


# Where Optuna's private names may be called: they are what may change under us.
PRIVATE = {"view.py"}


def test_only_storages_workers_and_the_view_touch_what_is_private_to_optuna() -> None:
    private = re.compile(
        r"(?<!self)\._(?:storage|study_id|trial_id|distributions|system_attrs|filter_study)\b"
    )
    touching = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert {p for p in touching if not p.startswith(("storages/", "workers/"))} <= PRIVATE


# Doors with keywords for people, and what is still to be shortened; nothing joins them.
WIDE = {
    "ablation/run/runner.py:run_ablation",
    "ablation/run/surfaces.py:mixing_law",
    "corpus/after/layouts.py:_write_side_files",
    "corpus/after/megatron.py:import_megatron",
    "corpus/after/megatron.py:_import",
    "corpus/build.py:build",
    "corpus/build.py:build_corpus",
    "corpus/folder.py:prepared",
    "corpus/stages/domains.py:make_domains",
    "corpus/stages/domains.py:_describe",
    "corpus/stages/gather.py:gather",
    "corpus/stages/gather.py:_distribute",
    "corpus/stages/near.py:find_near",
    "corpus/stages/scores.py:score",
    "corpus/stages/tokenise.py:tokenise",
    "emulator/oracle.py:Emulator.__init__",
    "emulator/oracle.py:Emulator.fit",
    "evaluators/documents.py:_sifted",
    "evaluators/harness.py:LMEval.__init__",
    "exports/from_study.py:handover_of",
    "mixbench/protocol.py:run",
    "mixbench/tables.py:of_runs",
    "predictors/lgbm.py:LightGBMPredictor.__init__",
    "progress.py:progress",
    "progress.py:Lines.__init__",
    "reports/planned/plan_search.py:plan_search",
    "reports/report.py:report",
    "retrain/confirm.py:confirm",
    "retrain/noise.py:noise",
    "retrain/transfer.py:transfer",
    "samplers/climb.py:next_round",
    "samplers/climb.py:climb_pick",
    "samplers/climb_sampler.py:ClimbSampler.__init__",
    "samplers/climb_sampler.py:ClimbSampler._next",
    "samplers/gp.py:SimplexGPSampler.__init__",
    "selection/choosing.py:compare_rules",
    "study/opening.py:open_study",
    "study/working.py:work",
}


def test_functions_take_five_parameters_at_most() -> None:
    wide = {
        f"{path.relative_to(PACKAGE)}:{name}"
        for path in PACKAGE.rglob("*.py")
        for name, given in _functions(ast.parse(path.read_text(encoding="utf-8")))
        if len({a.arg for a in given} - {"self", "cls"}) > 5
    }
    assert wide <= WIDE, "hand on a noun"


def _functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, list[ast.arg]]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            given = child.args
            yield within + child.name, [*given.posonlyargs, *given.args, *given.kwonlyargs]
        name = f"{child.name}." if isinstance(child, ast.ClassDef) else ""
        yield from _functions(child, within + name)


@pytest.mark.parametrize(("folder", "most"), [("climb_opt", 300), ("tests", 400)])
def test_files_are_short_enough_to_read(folder: str, most: int) -> None:
    files = (PACKAGE.parent / folder).rglob("*.py")
    lines = {str(p): p.read_text(encoding="utf-8").count("\n") for p in files}
    assert {path: n for path, n in lines.items() if n > most} == {}


def test_no_name_in_a_package_is_taken_away_by_a_module_of_it() -> None:
    taken = []  # loading `package.name` sets `package.name`, whatever it was
    for file in PACKAGE.rglob("__init__.py"):
        modules = {p.stem for p in file.parent.iterdir()} - {"__init__"}
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                package = ".".join(file.parent.relative_to(PACKAGE.parent).parts)
                names = {a.asname or a.name for a in node.names if node.module != package}
                taken += [
                    f"{file}: {n}" for n in names & modules if node.module != f"{package}.{n}"
                ]
    assert not taken
