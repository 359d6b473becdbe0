"""Measure the house: the sizes, shares and circles of docs/architecture.md, as Markdown.

    python docs/measure.py                    this checkout
    python docs/measure.py FOLDER [--tests F] another project's package, for the columns beside ours
    python docs/measure.py --write            put this checkout's figures into docs/architecture.md

Counted with `ast` and `tokenize`. A line is a line of a file, empty ones included. A function is a
`def`, from it to its last line, nested ones too. A public thing is a module, class, function or
method whose name, and that of all it lies in, begins with no underscore; it is documented if it has
a docstring. Parameters are all but `self`, `cls`, `*args` and `**kwargs`.
"""

from __future__ import annotations

import argparse
import ast
import re
import statistics
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
MARKS = ("<!-- measured by docs/measure.py -->", "<!-- end -->")
MANY = 5  # parameters; more are hard to read at a call
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class File:
    """One file: lines; of each function lines and parameters; public things, and what is said."""

    path: Path
    lines: int
    functions: list[tuple[int, int]]
    public: int
    documented: int
    docstrings: int
    comments: int


def read(path: Path) -> File:
    """Count one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    things = list(_public(tree))
    with path.open("rb") as source:
        kinds = [token.type for token in tokenize.tokenize(source.readline)]
    return File(
        path,
        text.count("\n"),
        [(_length(node), _parameters(node)) for node in functions],
        len(things),
        sum(ast.get_docstring(thing) is not None for thing in things),
        sum(_docstring_lines(thing) for thing in ast.walk(tree)),
        kinds.count(tokenize.COMMENT),
    )


def _public(node: ast.Module | ast.ClassDef) -> Iterator[ast.Module | ast.ClassDef | Function]:
    yield node
    for child in node.body:
        if isinstance(child, ast.ClassDef | Function) and not child.name.startswith("_"):
            if isinstance(child, ast.ClassDef):
                yield from _public(child)
            else:
                yield child


def _docstring_lines(node: ast.AST) -> int:
    if not isinstance(node, ast.Module | ast.ClassDef | Function):
        return 0
    return (ast.get_docstring(node) or "").count("\n") + (ast.get_docstring(node) is not None)


def _length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _parameters(node: Function) -> int:
    given = node.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def needs(package: Path, late: bool) -> dict[str, set[str]]:
    """Which modules of a package each imports, on load or (`late`) inside functions, too."""
    modules = {_module(path, package): path for path in package.rglob("*.py")}
    return {
        name: {
            full if full in modules else base
            for base, full in _imports(ast.parse(path.read_text(encoding="utf-8")), late)
        }
        & (set(modules) - {name})
        for name, path in modules.items()
    }


def _module(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(node: ast.AST, late: bool) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield from ((child.module, f"{child.module}.{a.name}") for a in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif late or not isinstance(child, Function):
            yield from _imports(child, late)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that need one another, largest first."""
    reach = {name: _reached(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in there if name in reach[other]))
        for name, there in reach.items()
        if name in there
    }
    return sorted(map(list, groups), key=len, reverse=True)


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def figures(package: Path, tests: Path | None) -> dict[str, str]:
    """The rows of the table of measures."""
    files = [read(path) for path in sorted(package.rglob("*.py"))]
    sizes = [file.lines for file in files]
    lengths = [length for file in files for length, _ in file.functions]
    many = sum(count > MANY for file in files for _, count in file.functions)
    public = sum(file.public for file in files)
    rows = {
        "files / lines": f"{len(files)} / {sum(sizes):,}",
        "file median / p90 / longest": spread(sizes),
        "functions": f"{len(lengths):,}",
        "function median / p90 / longest": spread(lengths),
        "public things documented": f"{sum(f.documented for f in files) / public:.0%}",
        "lines of docstrings": f"{sum(f.docstrings for f in files) / sum(sizes):.1%}",
        "comments a line": f"{sum(f.comments for f in files) / sum(sizes):.1%}",
        "functions of more than five parameters": f"{many} ({many / len(lengths):.1%})",
        "circles of files on load / with late imports": " / ".join(
            str(len(circles(needs(package, late)))) for late in (False, True)
        ),
    }
    if tests is not None:
        tested = sum(p.read_text(encoding="utf-8").count("\n") for p in tests.rglob("*.py"))
        rows["lines of tests / of code"] = f"{tested / sum(sizes):.2f}"
    return rows


def spread(values: list[int]) -> str:
    """Median / 90 % quantile / largest."""
    ordered = sorted(values)
    tenth = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return f"{statistics.median_low(ordered)} / {tenth} / {ordered[-1]:,}"


def rooms(package: Path) -> str:
    """The table of rooms: files, lines, share of all lines."""
    sizes: dict[str, list[int]] = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0]
        room = f"{room}/" if (package / room).is_dir() else "single files"
        sizes.setdefault(room, []).append(path.read_text(encoding="utf-8").count("\n"))
    total = sum(map(sum, sizes.values()))
    rows = [
        f"| {room} | {len(lines)} | {sum(lines):,} | {sum(lines) / total:.0%} |"
        for room, lines in sorted(sizes.items(), key=lambda item: -sum(item[1]))
    ]
    return "\n".join(["| room | files | lines | share |", "|---|---:|---:|---:|", *rows])


def table(now: dict[str, str], page: str) -> str:
    """Our figures in the first column; the others stay as they are on the page."""
    head, *rest = re.findall(r"^\|.*\|$", page, re.MULTILINE)
    cells = [row.strip("|").split("|") for row in rest[1:]]
    older = {row[0].strip(): [cell.strip() for cell in row[2:]] for row in cells}
    width = head.count("|") - 3
    rows = [
        " | ".join([f"| {name}", value, *older.get(name, [""] * width)]) + " |"
        for name, value in now.items()
    ]
    return "\n".join([head, rest[0], *rows])


def main() -> None:
    """Print, or write into the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("package", nargs="?", type=Path, default=ROOT / "climb_opt")
    parser.add_argument("--tests", type=Path, help="the folder of its tests")
    parser.add_argument("--write", action="store_true", help="into docs/architecture.md")
    args = parser.parse_args()
    ours = args.package == ROOT / "climb_opt"
    now = figures(args.package, args.tests or (ROOT / "tests" if ours else None))
    if ours:
        now["lines of README.md"] = str((ROOT / "README.md").read_text().count("\n"))
    if not args.write:
        print("\n".join(f"{name:<46} {value}" for name, value in now.items()))
        print(f"\n{rooms(args.package)}")
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    inside, _, after = rest.partition(MARKS[1])
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    measures = inside.partition("| room |")[0]
    text = (
        f"{MARKS[0]}\n\n{date.today()}, commit {commit}:\n\n{table(now, measures)}\n\n"
        f"{rooms(args.package)}\n\n{MARKS[1]}"
    )
    PAGE.write_text(before + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()
