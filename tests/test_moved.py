"""What version 0.1.0 called otherwise: its imports work, and say the new name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from climb_opt.moved import MOVED


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=False
    )


def test_every_old_name_imports_what_is_under_the_new_one() -> None:
    lines = ["import importlib"]
    for old, new in MOVED.items():
        lines.append(f"old = vars(importlib.import_module('climb_opt.{old}'))")
        lines.append(f"new = vars(importlib.import_module('climb_opt.{new}'))")
        lines.append("assert {k for k in new if not k.startswith('_')} <= set(old)")
    done = python("\n".join(lines))
    assert done.returncode == 0, done.stderr
    for old, new in MOVED.items():
        assert f"climb_opt.{old} is climb_opt.{new} now." in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "from climb_opt.corpus.readers import ReadOptions, read",
        "from climb_opt.corpus.inputs import find_sources",
        "from climb_opt.export import prepare, render",
        "from climb_opt.export.handover import Handover",
        "from climb_opt.fixed import fixed_mixture",
        "from climb_opt.slots import SLOT, Plan",
        "from climb_opt.corpus import sentences",
    ],
)
def test_a_line_of_an_old_program_works(line: str) -> None:
    done = python(line)
    assert done.returncode == 0, done.stderr


def test_what_is_set_in_an_old_module_is_set_in_the_new_one() -> None:
    code = """
import climb_opt.gaussian.process as old, climb_opt.gp.model as new
from climb_opt.rounds import worker
import climb_opt.workers.worker
assert old is new and worker is climb_opt.workers.worker
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_an_old_module_can_be_called_as_the_function_of_its_name() -> None:
    code = """
import climb_opt.export, climb_opt, optuna
space = climb_opt.MixtureSpace({"web": 1, "code": 1})
study = optuna.create_study(sampler=climb_opt.ClimbSampler(space, rounds=(4,), seed=0))
study.optimize(lambda trial: space.suggest(trial)["code"], n_trials=4)
assert "web" in climb_opt.export(study, "yaml")
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_what_never_was_is_still_not_found() -> None:
    assert "No module named 'climb_opt.nonsense'" in python("import climb_opt.nonsense").stderr
