"""Write the package `benchmarks/mixbench` from climb_opt, so that it needs optuna, numpy and scipy.

    python hub/build.py           write hub/package/benchmarks/mixbench anew
    python hub/build.py --check   say what differs, exit status 1 if anything does

Its code is `climb_opt/mixbench` and what that imports of climb_opt, with imports made relative:
mixbench's own files at the top, the rest in `parts/`. README.md, LICENSE, example.py and tests/ are
written by hand.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "climb_opt"
TARGET = ROOT / "hub" / "package" / "benchmarks" / "mixbench"
ROOM = "climb_opt.mixbench"
PARTS = "parts"
LEFT_OUT = {f"{ROOM}.public"}  # runs other people's programs; climb-opt's own page uses it
NOTE = "# Written by hub/build.py from climb_opt: change it there.\n"
_IMPORT = re.compile(r"^(\s*)from (climb_opt[\w.]*) import", re.MULTILINE)


def files() -> dict[str, str]:
    """Every file that is written: its path in the package -> its text."""
    wanted = closure()
    found = {f"{PARTS}/__init__.py": NOTE}
    for module in sorted(wanted):
        found[place(module)] = NOTE + relative(module, path_of(module).read_text(encoding="utf-8"))
    return found


def closure() -> set[str]:
    """mixbench's modules, and every module of climb_opt that they need."""
    todo = [
        f"{ROOM}.{p.stem}".removesuffix(".__init__") for p in (SOURCE / "mixbench").glob("*.py")
    ]
    found: set[str] = set()
    while todo:
        module = todo.pop()
        if module not in found | LEFT_OUT:
            found.add(module)
            todo += imported(module)
    return found


def imported(module: str) -> list[str]:
    """Modules of climb_opt that a module imports."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    return [str(n.module) for n in nodes if str(n.module).startswith("climb_opt.")]


def path_of(module: str) -> Path:
    """The file of a module."""
    path = SOURCE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def place(module: str) -> str:
    """Where a module lies in the package."""
    if module == ROOM:
        return "__init__.py"
    if module.startswith(f"{ROOM}."):
        return f"{module.removeprefix(f'{ROOM}.')}.py"
    return f"{PARTS}/{flat(module)}.py"


def flat(module: str) -> str:
    """A module's name among the parts."""
    return module.removeprefix("climb_opt.").replace(".", "_")


def relative(module: str, text: str) -> str:
    """The text with imports of climb_opt made relative to where it lies."""
    inside = not module.startswith(ROOM)

    def moved(match: re.Match[str]) -> str:
        blank, name = match[1], match[2]
        if name == ROOM or name.startswith(f"{ROOM}."):
            return f"{blank}from .{name.removeprefix(ROOM).lstrip('.')} import"
        return f"{blank}from .{'' if inside else f'{PARTS}.'}{flat(name)} import"

    return _IMPORT.sub(moved, text)


def main() -> int:
    """Write the package, or say what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    new = files()
    old = {
        str(p.relative_to(TARGET)): p for p in [*TARGET.glob("*.py"), *TARGET.glob(f"{PARTS}/*.py")]
    }
    stale = [name for name in old if name not in new and name != "example.py"]
    differ = [n for n, text in new.items() if n not in old or old[n].read_text("utf-8") != text]
    if check:
        print("\n".join(sorted([*stale, *differ])) or "up to date")
        return 1 if stale or differ else 0
    for name in stale:
        old[name].unlink()
    for name in differ:
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(new[name], encoding="utf-8")
    print(f"Wrote {len(differ)} of {len(new)} files, removed {len(stale)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
