"""The built wheel, installed in an empty environment, works from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from climb_opt import recipe_files

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_recipes_are_shipped_as_package_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for kind in recipe_files.SHIPPED:
        for recipe in (ROOT / kind).glob("*.yaml"):
            assert f"climb_opt/{kind}/{recipe.name}" in names
    beside = ("tests/", *(f"{kind}/" for kind in recipe_files.SHIPPED))
    assert not [n for n in names if n.startswith(beside)]


def test_an_installed_wheel_lists_its_studies_from_another_folder(
    wheel: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    # Dependencies come from this environment; climb_opt itself only from the wheel.
    site = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "env")})
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    run = [str(python), "-m", "climb_opt", "ls", "studies"]
    done = subprocess.run(
        run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "demo" in done.stdout
    where = subprocess.run(
        [str(python), "-c", "import climb_opt; print(climb_opt.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(tmp_path))
