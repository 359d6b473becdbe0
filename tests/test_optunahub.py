"""The packages for OptunaHub load, run their examples and pass Optuna's tests."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml

optunahub = pytest.importorskip("optunahub")

REGISTRY = Path(__file__).parents[1] / "hub" / "package"
SAMPLERS = sorted(f"samplers/{p.name}" for p in (REGISTRY / "samplers").iterdir() if p.is_dir())
PACKAGES = [*SAMPLERS, "benchmarks/mixbench"]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_the_registrys_layout(name: str) -> None:
    folder = REGISTRY / name
    for file in ("README.md", "LICENSE", "__init__.py", "example.py", "requirements.txt"):
        assert (folder / file).is_file(), file
    _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(front)
    assert set(facts) >= {"author", "title", "description", "tags", "optuna_versions", "license"}
    example = (folder / "example.py").read_text(encoding="utf-8").strip()
    assert example in body


@pytest.mark.parametrize("name", PACKAGES)
def test_the_example_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def local(package: str) -> object:
        return optunahub.load_local_module(package=package, registry_root=str(REGISTRY))

    monkeypatch.setattr(optunahub, "load_module", local)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    runpy.run_path(str(REGISTRY / name / "example.py"), run_name="__main__")
    assert ("w/web" if name in SAMPLERS else "w/d0") in capsys.readouterr().out


def test_the_benchmark_is_written_from_the_code_as_it_is() -> None:
    command = [sys.executable, str(REGISTRY.parent / "build.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run python hub/build.py: {done.stdout}"


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_optunas_tests_pass(name: str) -> None:
    tests = REGISTRY / name / "tests"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
