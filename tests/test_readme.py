"""The README cannot rot: its commands parse, its snippets run, its tree exists."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from climb_opt.cli import parser
from printed import difference, pairs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def _commands() -> list[str]:
    lines = [
        line.partition(" #")[0].strip()
        for block in _blocks("(?:bash|sh|yaml)")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    found = (re.search(r"(?:climb-opt|-m climb_opt) .*", line) for line in lines)
    return sorted({match.group() for match in found if match})


@pytest.mark.parametrize("command", _commands())
def test_every_command_parses(command: str) -> None:
    words = shlex.split(command.rstrip("\"']"))
    start = 1 if words[0] == "climb-opt" else 2
    parser().parse_args(words[start:])


SNIPPETS = {**dict.fromkeys(_blocks("python")), **dict(pairs(README, "python"))}


@pytest.mark.parametrize("block", SNIPPETS, ids=lambda b: b.split("\n")[0][:40])
def test_every_snippet_runs_and_prints_what_is_said(block: str, tmp_path: Path) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(block, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = SNIPPETS[block]
    assert said is None or not difference(done.stdout, said), difference(done.stdout, said)


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`make (\w+)`", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_make_bench_runs_what_needs_no_argument() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = re.search(r"^BENCHES := (.+)$", makefile, flags=re.MULTILINE)
    assert listed
    for name in listed.group(1).split():
        code = (ROOT / f"tests/bench/bench_{name}.py").read_text(encoding="utf-8")
        called = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        added = [ast.unparse(c) for c in called if ast.unparse(c.func).endswith("add_argument")]
        needed = r"required=True|argument\('[^-](?!.*nargs='[?*])"  # an option, or a positional
        assert not [each for each in added if re.search(needed, each)], name


def test_the_tree_is_what_docstrings_and_floors_say() -> None:
    built = runpy.run_path(str(ROOT / "docs" / "build.py"))["readme"]()
    assert built == README, "run `python docs/build.py`"


def test_the_tree_fits_a_page() -> None:
    tree = next(block for block in _blocks("text") if block.startswith("climb_opt/"))
    wide = [line for line in tree.splitlines() if len(line) > 102]
    assert not wide, "the first line of a room's docstring says in 80 characters what it holds"


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 250


def test_there_is_help_for_every_command() -> None:
    for action in parser()._subparsers._group_actions:  # type: ignore[union-attr]
        helped = {choice.dest for choice in action._choices_actions}  # type: ignore[attr-defined]
        assert helped == set(action.choices)  # type: ignore[arg-type]
