"""The command line: one file per command, named like it, each with `add(subparsers)`.

A command is a function of the parsed arguments that returns an exit status. Bad input (`UserError`)
is one line on standard error and status 2; Ctrl-C and SIGTERM leave everything resumable.
"""

from __future__ import annotations

import argparse
import codecs
import errno
import importlib
import io
import logging
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import climb_opt
from climb_opt.cli.arguments import typed
from climb_opt.cli.machine import one_openmp
from climb_opt.cli.offering import Parser
from climb_opt.cli.stopping import leads, speaks
from climb_opt.cli.stopping import member as is_member
from climb_opt.commands import typed_with
from climb_opt.errors import Interrupted, UserError
from climb_opt.files import is_full, no_space
from climb_opt.signals import handling
from climb_opt.text import escape_rest, printable

COMMANDS = (
    "corpus", "search", "status", "retry", "enqueue", "pause_resume", "best", "report", "confirm",
    "noise", "export", "dashboard", "ablate", "predictors", "transfer", "ls", "plan", "influence",
    "rescore",
)  # fmt: skip
EPILOG = """examples:
  climb-opt corpus build docs/*.jsonl.zst --output corpora/web
  climb-opt search demo
  climb-opt ls studies
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status: 0 done, 2 bad input, 130 interrupted, 141 nobody
    reads what it prints."""
    log = logging.getLogger("climb_opt")
    one_openmp()
    _print_any_name()
    try:
        # SIGTERM stops every command as Ctrl-C does: half a file is removed, and it is said.
        with handling({signal.SIGTERM: signal.default_int_handler}):
            args = parser().parse_args(argv)
            args.words = list(sys.argv[1:] if argv is None else argv)  # for workers it may start
            level = logging.DEBUG if args.verbose else logging.INFO if speaks() else logging.WARNING
            logging.basicConfig(level=logging.WARNING, format="%(message)s")
            log.setLevel(level)
            # What a database refuses, the process that leads has found out and said.
            refused = logging.NOTSET if leads() else logging.ERROR
            logging.getLogger("climb_opt.storages.mysql").setLevel(refused)
            with typed_with(typed(getattr(args, "storage", None) or "") or None):
                return _run(args)
    except UserError as error:
        print(f"climb-opt: {printable(str(error))}", file=sys.stderr)  # a name may hold line ends
        return 2
    except (KeyboardInterrupt, Interrupted):
        if not is_member():
            print("\nStopped; run the same command again to continue.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `climb-opt ... | head`: nothing is wrong, but it is not done either
        return 141  # 128 + SIGPIPE, which Windows has not
    except OSError as error:  # a path that cannot be, a disk that is full or fails
        if log.level == logging.DEBUG or error.strerror is None:
            raise
        print(f"climb-opt: {printable(_said(error))}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    try:
        return int(args.run(args) or 0)
    except SystemExit as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if Path(last.filename).is_relative_to(Path(climb_opt.__file__).parent):
            raise  # a rank that ends its group
        raise UserError(  # somebody's own code, which nothing nearer to it has named
            f"{last.filename}, line {last.lineno}, called sys.exit({error.code!r}), which ended "
            "the command; have it raise an error."
        ) from error


def _said(error: OSError) -> str:
    name = "" if error.filename is None else f"{str(error.filename)!r}: "
    if is_full(error):
        return f"{error.strerror}: {no_space(error.filename or '.')}"
    remedy = ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = " Raise the limit (ulimit -Hn) and run the same command again."
    return f"{name}{error.strerror}.{remedy}"


def _print_any_name() -> None:
    """Let names be printed whatever they are and whatever the terminal takes."""
    codecs.register_error("storable", escape_rest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="storable")


def parser() -> argparse.ArgumentParser:
    """The whole command line; the tests read it too."""
    top = Parser(
        prog="climb-opt",
        description="Find the data mixture to pre-train a language model on.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=climb_opt.__version__)
    top.add_argument("-v", "--verbose", action="store_true", help="log more")
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        importlib.import_module(f"climb_opt.cli.{command}").add(subparsers)
    return top
