"""Write from the code what the docs say of it.

docs/reference.md   commands, recipe keys, names, stored attributes, public docstrings
README.md           the tree of rooms between its marks, from their docstrings and the floors
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from pathlib import Path

import climb_opt
from climb_opt import cli, lookup, recipes
from climb_opt.attributes import ATTRIBUTES
from climb_opt.corpus_recipe import CorpusRecipe

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "reference.md"
README = ROOT / "README.md"
MARKS = ("<!-- by docs/build.py -->\n", "<!-- end -->")
RECIPES = (
    recipes.StudyRecipe,
    recipes.ScoreRecipe,
    recipes.SpaceRecipe,
    recipes.Choice,
    recipes.ProxyRecipe,
    recipes.ModelRecipe,
    CorpusRecipe,
)


def reference() -> str:
    """The whole page."""
    parts = [
        "# Reference",
        "Written from the code by `python docs/build.py`; do not edit.",
        "## Commands",
        *_commands(),
        "## Recipe keys",
        *(_recipe(cls) for cls in RECIPES),
        "## Names",
        *_names(),
        "## What a study holds",
        _attributes(),
        "## Python",
        *_public(),
        "## Files",
        "Every file by its own first line, from the roof down.",
        *_files_of_rooms(),
    ]
    return "\n\n".join(parts) + "\n"


def _commands() -> list[str]:
    parts = []
    for words, parser in _leaves(cli.parser()):
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        parts.append(f"### {' '.join(words)}\n\n```text\n{textwrap.fill(usage, 96)}\n```")
        rows = [
            f"| `{_cell(_spelling(action))}` | {_default(action)} | {_cell(action.help or '')} |"
            for action in parser._actions
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
        ]
        if rows:
            parts.append("\n".join(["| argument | default | meaning |", "|---|---|---|", *rows]))
    return parts


def _spelling(action: argparse.Action) -> str:
    """How an argument is written, with what it takes: its name there, or its choices."""
    taken = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
    if not action.option_strings:
        return str(taken or action.dest)
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    return f"{', '.join(action.option_strings)} {taken or action.dest.upper()}"


def _default(action: argparse.Action) -> str:
    if action.required and action.nargs != "*":  # Python 3.13 requires what may be nothing
        return "required"
    if action.nargs == 0:
        return "off"
    default = getattr(action, "shown_default", action.default)  # of what is None where not given
    return f"`{default}`" if default not in (None, [], (), "") else "none"


def _leaves(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ("climb-opt",)
) -> list[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        return [(words, parser)]
    return [
        leaf for name, inner in groups[0].choices.items() for leaf in _leaves(inner, (*words, name))
    ]


def _recipe(cls: type) -> str:
    comments = _comments(cls)
    rows = []
    for field in dataclasses.fields(cls):
        default = "required"
        if field.default is not dataclasses.MISSING:
            default = f"`{field.default!r}`"
        elif field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
            default = "see below" if dataclasses.is_dataclass(made) else f"`{made!r}`"
        kind = _cell(str(field.type))
        about = _cell(field.metadata.get("about") or comments.get(field.name, ""))
        rows.append(f"| `{field.name}` | `{kind}` | {default} | {about} |")
    text = inspect.cleandoc(cls.__doc__ or "")
    head = "| key | type | default | meaning |\n|---|---|---|---|"
    return "\n".join([f"### {cls.__name__}", "", text, "", head, *rows])


def _comments(cls: type) -> dict[str, str]:
    """What stands behind `#` on a field's line."""
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    comments = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            found = [line.partition("  # ")[2] for line in text.splitlines() if "  # " in line]
            inner = [line.partition("# ")[2] for line in text.splitlines() if "# " in line]
            comments[node.target.id] = _cell("; ".join(found or inner))
    return comments


def _names() -> list[str]:
    parts = []
    for kind, known in lookup.KINDS.items():
        rows = [
            f"| `{name}` | {_cell(lookup.about(kind, name))} | `{target}` |"
            for name, target in sorted(known.items())
        ]
        if rows:
            head = ["| name | what it is | object |", "|---|---|---|"]
            parts.append("\n".join([f"### {kind}", "", *head, *rows]))
    return parts


def _attributes() -> str:
    rows = [
        f"| `{name}` | {about.owner} | {_cell(about.shape)} | {_files(about.written)} | "
        f"{_files(about.read)} |"
        for name, about in ATTRIBUTES.items()
    ]
    head = "| attribute | of | shape | written by | read by |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def _files(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "people"


def _public() -> list[str]:
    parts = []
    for name in climb_opt.__all__:
        thing = getattr(climb_opt, name)
        if name == "__version__":
            continue
        text = inspect.cleandoc(thing.__doc__ or "")
        parts.append(f"### {name}\n\n```text\n{name}{_signature(thing)}\n\n{text}\n```")
    return parts


def _signature(thing: object) -> str:
    try:
        text = str(inspect.signature(thing))  # type: ignore[arg-type]
    except ValueError:
        return ""
    return re.sub(r"<\w+ .*? at 0x[0-9a-f]+>", "...", text)  # their addresses change with each run


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("%%", "%").split())


def readme() -> str:
    """README.md with its tree as the code has it."""
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    return f"{before}{MARKS[0]}```text\n{tree()}\n```\n{MARKS[1]}{after}"


def tree() -> str:
    """The rooms of climb_opt, each with the first line of its docstring, from the roof down.

    Those on the floors below `simplex` know no mixture; they are named only.
    """
    rows, floors = [], _floors()
    ground = next(index for index, floor in enumerate(floors) if "simplex" in floor)
    for room in (room for floor in reversed(floors[ground:]) for room in floor):
        path = _place(room)
        name = f"{room}/" if path.name == "__init__.py" else path.name
        rows.append(f"├── {name:<14} {_first_line(path)}")
    names = ", ".join(f"{room}.py" for floor in reversed(floors[:ground]) for room in floor)
    below = textwrap.wrap(f"The ground: {names}", 92)
    rows += [f"{sign}{line}" for sign, line in zip(["└── ", *["    "] * 9], below, strict=False)]
    return "\n".join(["climb_opt/", *rows])


def _files_of_rooms() -> list[str]:
    """A table for each floor: all its files."""
    tables = []
    for floor in reversed(_floors()):
        places = [p for room in floor for p in (_place(room), *_inside(room))]
        rows = [
            f"| `{path.relative_to(ROOT / 'climb_opt').as_posix().removesuffix('__init__.py')}` "
            f"| {_cell(_first_line(path))} |"
            for path in places
        ]
        tables.append("\n".join(["| file | what it holds |", "|---|---|", *rows]))
    return tables


def _place(room: str) -> Path:
    """The file that says what a room holds."""
    path = ROOT / "climb_opt" / room
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _inside(room: str) -> list[Path]:
    files = (ROOT / "climb_opt" / room).rglob("*.py")
    return sorted(path for path in files if path != _place(room))


def _first_line(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return said.partition("\n")[0].removesuffix(".")


def _floors() -> list[list[str]]:
    """`FLOORS` of the test that keeps imports going down."""
    test = ast.parse((ROOT / "tests" / "test_floors.py").read_text(encoding="utf-8"))
    for node in test.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            return list(ast.literal_eval(node.value))
    raise LookupError("tests/test_floors.py has no FLOORS")


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
    print(f"Wrote {TARGET} and {README}", file=sys.stderr)
