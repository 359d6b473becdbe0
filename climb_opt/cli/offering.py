"""What an option may be given, listed at the end of `--help` from the tables that are looked up.

The tables are read when help is asked for, not at each start: some come with heavy libraries.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from climb_opt.errors import UserError, did_you_mean

Table = Callable[[], Mapping[str, str]]
_WIDEST = 100


_NUMBERS = {int: "a whole number such as 4", float: "a number such as 0.5"}


class Parser(argparse.ArgumentParser):
    """A parser whose help ends with tables of names, and that says in one line what it cannot read;
    its sub-parsers are of the same kind."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.offered: list[tuple[str, Table]] = []

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Answer a misspelt command in one line; argparse lists them all, and guesses at none."""
        names = list(action.choices or ())
        if isinstance(action, argparse._SubParsersAction) and value not in names:
            hint = did_you_mean(value, names)
            known = f"`{self.prog} --help` lists them."
            raise UserError(f"There is no command {value!r}.{hint} {known}")
        super()._check_value(action, value)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Say which number an option takes; argparse says its type in Python."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            if action.type not in _NUMBERS:
                raise
        expected = _NUMBERS[action.type]
        raise argparse.ArgumentError(action, f"expected {expected}, but got {arg_string!r}")

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError`; argparse prints how each option is spelt, and ends the process."""
        command, known = self.prog, ""
        if self._subparsers is not None:
            command, known = f"{self.prog} COMMAND", f"`{self.prog} --help` lists the commands, "
        raise UserError(f"{message}. {known}`{command} --help` says what it takes.")

    def format_help(self) -> str:
        """The help, with the tables."""
        return super().format_help() + "".join(f"\n{t}" for t in map(_text, self.offered))


def offer(command: argparse.ArgumentParser, **tables: Table) -> None:
    """List what each table holds at the end of a command's help; "_" in its name is a blank.

    A table is a name -> what it is; where nothing is said of the names they share a line.
    """
    assert isinstance(command, Parser)
    command.offered += [(name.replace("_", " "), table) for name, table in tables.items()]


def _text(offered: tuple[str, Table]) -> str:
    title, table = offered[0], offered[1]()
    width = min(_WIDEST, shutil.get_terminal_size().columns) - 2
    if not any(table.values()):
        line = textwrap.fill(
            ", ".join(table), width, initial_indent="  ", subsequent_indent="  ",
            break_on_hyphens=False,
        )  # fmt: skip
        return f"{title}:\n{line}\n"
    longest = max(map(len, table)) + 2
    lines = [
        textwrap.fill(about, width, initial_indent=f"  {name:{longest}}",
                      subsequent_indent=" " * (longest + 2)) or f"  {name}"
        for name, about in table.items()
    ]  # fmt: skip
    return "\n".join([f"{title}:", *lines, ""])


# --- the tables -----------------------------------------------------------------------------------


def recipes_of(kind: str) -> Table:
    """The shipped recipes of a kind ("studies", "proxies"), each with its first line."""

    def table() -> dict[str, str]:
        from climb_opt import recipe_files

        return {name: recipe_files.summary(kind, name) for name in recipe_files.names(kind)}

    return table


def names_of(kind: str) -> Table:
    """The short names of a kind of `climb_opt.lookup`; your own as module:Name."""

    def table() -> dict[str, str]:
        from climb_opt import lookup

        known = {name: lookup.about(kind, name) for name in lookup.KINDS[kind]}
        return known | {"module:Name": "one of your own"}

    return table


def ablations() -> dict[str, str]:
    """The shipped ablations with their scales."""
    from climb_opt.ablation.recipe.reading import scales, shipped

    return {name: f"scales: {', '.join(scales(name))}" for name in shipped()}


def arms() -> dict[str, str]:
    """The arms that an ablation may name, with what each sets."""
    from climb_opt.ablation.recipe.arms import STANDARD

    return {name: json.dumps(data) for name, data in STANDARD.items()}


def encoders() -> dict[str, str]:
    """What makes vectors of documents."""
    from climb_opt.corpus.stages.embed import TFIDF

    return {TFIDF: "TF-IDF and SVD", "MODEL": "a sentence-transformers model: folder or hub name"}


def table_in(place: str, *, before: Sequence[str] = (), after: Sequence[str] = ()) -> Table:
    """The names that "module:NAME" holds, and what is said of each where it holds that too.

    Args:
        before: further names, to come first.
        after: those to come last.
    """

    def table() -> dict[str, str]:
        module, _, name = place.partition(":")
        held = getattr(importlib.import_module(module), name)
        said = held.items() if isinstance(held, dict) else ()
        about = {known: text for known, text in said if isinstance(text, str)}
        return dict.fromkeys((*before, *held, *after), "") | about

    return table
