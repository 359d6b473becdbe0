"""Arguments that commands share: which study, and opening it; what a comparison changes."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb_opt.text import redact, strict_json

if TYPE_CHECKING:
    import optuna


def format_argument(command: argparse.ArgumentParser, plain: str = "text") -> None:
    """`plain`, what is for people, or data for programs; `show` prints either."""
    command.add_argument("-f", "--format", choices=(plain, "json", "yaml"), default=plain,
                         help=f"for people, or for programs (default: {plain})")  # fmt: skip


def show(text: str, data: dict[str, Any], kind: str) -> None:
    """Print the text, or the data where `kind` is json or yaml."""
    print((text if kind == "text" else formatted(data, kind)).removesuffix("\n"))


def formatted(data: dict[str, Any], kind: str) -> str:
    """Plain data as text for programs: `kind` is json or yaml."""
    text = strict_json(data)
    if kind == "json":
        return f"{text}\n"
    import yaml

    return str(yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True))


def study_command(
    subparsers: argparse._SubParsersAction, name: str, run: Callable[..., Any], **about: Any
) -> argparse.ArgumentParser:
    """Add a command on a study: which one, and where it is; `about` is its help."""
    command: argparse.ArgumentParser = subparsers.add_parser(name, **about)
    command.add_argument("name", help="the study's name, or its recipe's")
    storage_arguments(command)
    command.set_defaults(run=run)
    return command


def storage_arguments(command: argparse.ArgumentParser) -> None:
    """Where the study is, and its name."""
    storage_argument(command)
    command.add_argument("--study-name", help="the study's name (default: the recipe's)")


def storage_argument(command: argparse.ArgumentParser) -> None:
    """Where studies are."""
    command.add_argument(
        "--storage",
        help="postgresql://, mysql://, grpc://host:port, sqlite:///, or the path of a journal "
        "(default: OPTUNA_STORAGE, else runs/climb.journal)",
    )


def typed(word: str) -> str:
    """A word of the command line as it may be shown: without the password in a URL."""
    return redact(word, "PASSWORD")


def folder(text: str) -> Path:
    """A folder to write; "-", which stands for printing elsewhere, is none."""
    if text == "-":
        raise argparse.ArgumentTypeError("a folder is written, which cannot be printed (-)")
    return Path(text)


def comparison_arguments(command: argparse.ArgumentParser) -> None:
    """What changes the recipe of a comparison, and where its tables go."""
    command.add_argument("--seeds", type=int, help="how many, instead of the recipe's")
    set_argument(command, "change a key of the recipe, e.g. budget.trials=14; as often as needed")
    command.add_argument("--output", type=folder, help="folder for the tables and figures")


def set_argument(command: argparse.ArgumentParser, text: str) -> None:
    """What changes a recipe."""
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def overrides(args: argparse.Namespace, *, tables: str) -> list[str]:
    """The options of `comparison_arguments` and `--tables`, as a recipe's KEY=VALUE.

    Args:
        tables: the key of the folder that `--tables` names.
    """
    given = list(args.set)
    if args.seeds is not None:
        given.append(f"seeds={args.seeds}")
    if args.tables:
        given.append(f"{tables}={args.tables}")
    return given


def existing(args: argparse.Namespace, *, write: bool = False, works: bool = False) -> optuna.Study:
    """The study that a command names, by its own name or its recipe's.

    Args:
        works: wait for its storage as long as it takes; else a minute (`storages.open_storage`).
    """
    from climb_opt.storages import never, open_storage
    from climb_opt.study import open_study

    quieten_optuna()
    name = args.study_name or stem(args.name)
    stop = never if works else None  # Ctrl-C ends the command itself until it trains
    storage = open_storage(args.storage, write=write or works, stop=stop)
    return open_study(study_name=name, storage=storage, create=False, stop=stop)


def quieten_optuna() -> None:
    """Leave out Optuna's own line a trial, and that some of its samplers may change one day."""
    import optuna
    from optuna.exceptions import ExperimentalWarning

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)


def stem(name: str) -> str:
    """`my-study` of `folder/my-study.yaml`; other names are left alone."""
    path = Path(name)
    return path.stem if path.suffix in (".yaml", ".yml") else name
