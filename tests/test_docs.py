"""The documentation cannot rot: its Python runs, its commands parse, its recipes load."""

from __future__ import annotations

import argparse
import functools
import re
import runpy
import shlex
import textwrap
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from climb_opt import recipe_files, recipes
from climb_opt.ablation.recipe.reading import read_ablation
from climb_opt.cli import main, parser
from climb_opt.errors import UserError
from climb_opt.proxy.ladders import ladder_of
from climb_opt.study.asked import check_choices
from printed import difference, pairs

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if p.name != "reference.md")
FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = FENCE.findall(text)
    return [textwrap.dedent(body) for language, body in found if language in languages]


def commands(page: Path) -> list[str]:
    """Every command of ours on a page, without prompt and pipes, arguments of launchers cut."""
    found = []
    for body in blocks(page, "console", "sh", "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            for part in line.removeprefix("$ ").split(" | "):
                words = part.split("  #")[0].strip()
                if words.startswith("climb-opt "):
                    found.append(words)
                elif "-m climb_opt " in words:
                    found.append("climb-opt " + words.partition("-m climb_opt ")[2])
    return found


COMMANDS = [(page.name, command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: str(value)[:60])
def test_every_command_parses(page: str, command: str) -> None:
    try:
        args = parser().parse_args(shlex.split(command)[1:])
    except UserError:
        pytest.fail(f"{page}: {command}")
    assert callable(args.run)


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-])")
# Of other programs that pages name: pip, Slurm, Megatron-LM.
FOREIGN = {"--no-deps", "--array", "--phase-transition-iterations", "--logdir"}


@functools.cache
def options_there_are() -> set[str]:
    """Of our commands, of the benchmarks and of the scripts beside the pages."""

    def of(command: argparse.ArgumentParser) -> set[str]:
        found = {option for action in command._actions for option in action.option_strings}
        below = [a for a in command._actions if isinstance(a, argparse._SubParsersAction)]
        return found.union(*(of(one) for a in below for one in a.choices.values()))

    scripts = [*DOCS.glob("*.py"), *Path(__file__).parent.glob("bench/*.py")]
    return of(parser()).union(*(OPTION.findall(s.read_text("utf-8")) for s in scripts))


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda p: p.name)
def test_every_option_that_is_named_exists(page: Path) -> None:
    named = OPTION.findall(re.sub(r"^#SBATCH.*$", "", page.read_text("utf-8"), flags=re.MULTILINE))
    assert set(named) <= options_there_are() | FOREIGN


BENCH = re.compile(r"python (tests/bench/\w+\.py)((?: [^`#\n|>]+)?)")


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "CHANGELOG.md"], ids=lambda p: p.name)
def test_every_benchmark_that_is_named_takes_its_options(page: Path) -> None:
    usual = re.findall(r'"([a-z-]+)": ', (DOCS.parent / "tests/bench/harness.py").read_text())
    text = page.read_text("utf-8").replace("\\\n", " ")
    for file, words in BENCH.findall(text):
        takes = {*OPTION.findall((DOCS.parent / file).read_text("utf-8"))}
        takes |= {f"--{name}" for name in usual}
        assert {*OPTION.findall(words)} <= takes, file


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_runs_and_prints_what_is_said(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scope: dict[str, Any] = {"__name__": "__docs__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        said = dict(pairs(page.read_text(encoding="utf-8"), "python"))
        for body in blocks(page, "python"):
            capsys.readouterr()
            exec(compile(body, str(page), "exec"), scope)
            printed = capsys.readouterr().out
            assert body not in said or not difference(printed, said[body]), difference(
                printed, said[body]
            )


QUICK = ("climb-opt ls ", "climb-opt --version")  # commands that need no study and no corpus


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_quick_commands_print_what_is_said(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for body, said in pairs(page.read_text(encoding="utf-8"), "console"):
        words = [line.removeprefix("$ ") for line in body.splitlines()]
        assert all(line.startswith(QUICK) for line in words), "its output cannot be checked"
        for line in words:
            assert main(shlex.split(line)[1:]) == 0
        printed = capsys.readouterr().out
        assert not difference(printed, said), difference(printed, said)


@pytest.mark.parametrize(
    ("printed", "said", "differ"),
    [
        ("loss 0.512 [0.4, 0.6]\n", "loss   0.513 [0.4, 0.6]\n", False),
        ("loss 0.512\n", "loss 0.612\n", True),
        ("gain 0.5\n", "loss 0.5\n", True),
        ("1\n2\n", "1\n", True),
        ("1, 2\n", "1\n", True),
        ("-0.3\n", "0.3\n", True),
        ("web 700\n", "web 701\n", False),
    ],
)
def test_outputs_are_compared_by_words_and_numbers(printed: str, said: str, differ: bool) -> None:
    assert bool(difference(printed, said)) == differ


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_recipes_load(page: Path, tmp_path: Path) -> None:
    for index, body in enumerate(blocks(page, "yaml")):
        data = yaml.safe_load(body)
        if not {"include", "corpus", "arms"} & set(data):
            continue  # a lineage
        file = tmp_path / f"recipe-{index}.yaml"
        file.write_text(body, encoding="utf-8")
        if "arms" in data:
            assert read_ablation(str(file)).arms.keys() >= set(data["arms"])
            continue
        recipe = recipes.read_study(str(file))
        assert recipe.rounds or recipe.budget or recipe.baselines
        check_choices(recipe)  # whose names and options exist
        if recipe.ladder:
            target = ladder_of(recipe.ladder, 32_000).costs[-1]  # in order of cost, else it raises
            assert recipe.budget is None or recipe.budget.flops > target
        assert recipe_files.summary("studies", str(file))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)?(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
        if target and "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_anchors_exist(page: Path) -> None:
    for file, anchor in re.findall(r"\]\(([\w./-]*\.md)?#([\w-]+)\)", page.read_text("utf-8")):
        text = (page.parent / file if file else page).read_text(encoding="utf-8")
        heads = [
            re.sub(r"[^\w\- ]", "", h).strip().lower() for h in re.findall(r"^#+ (.*)$", text, re.M)
        ]
        assert anchor in {h.replace(" ", "-") for h in heads}


def test_no_cell_of_the_reference_is_empty() -> None:
    """Each flag has a help, each key of a recipe a comment, each attribute its shape."""
    rows = [
        line.replace("\\|", "/").strip("|").split("|")
        for line in (DOCS / "reference.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    assert len(rows) > 200
    assert not [row for row in rows if not all(cell.strip() for cell in row)]


def test_the_reference_is_what_the_code_says() -> None:
    built = runpy.run_path(str(DOCS / "build.py"))["reference"]()
    stored = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert stored == built, "run `python docs/build.py`"
