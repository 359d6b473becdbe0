"""`climb-opt dashboard`: optuna-dashboard on the study, with its cards and note."""

from __future__ import annotations

import argparse
import errno
import socket
import threading
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING

from climb_opt.cli.arguments import existing, study_command
from climb_opt.errors import UserError, check_number

if TYPE_CHECKING:
    import optuna


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `dashboard` to the command line."""
    command = study_command(
        subparsers, "dashboard", _dashboard, help="optuna-dashboard on the study"
    )
    command.add_argument("--host", default="localhost", help="address to serve on; 0.0.0.0: all")
    command.add_argument("--port", type=int, default=8080, help="default: 8080")
    command.add_argument("--artifacts", metavar="FOLDER", help="of the trials (default: stored)")


def _dashboard(args: argparse.Namespace) -> None:
    from climb_opt.reports.dashboard import server as board
    from climb_opt.reports.dashboard.notebook import artifact_store
    from climb_opt.view import StudyView

    check_number("--port", args.port, 0, 65535)
    if args.artifacts and not Path(args.artifacts).is_dir():
        raise UserError(
            f"--artifacts {args.artifacts}: no such folder; leave it out for the stored one."
        )
    study = existing(args, write=True)
    view = StudyView(study)
    app = board.application(view.storage, artifact_store(study, args.artifacts))
    # The cards of a large study take some seconds: the browser need not wait for them.
    cards = threading.Thread(target=copy_context().run, args=(_refresh, study), daemon=True)

    def ready(port: int) -> None:
        url = f"http://{args.host}:{port}/dashboard/studies/{view.number}"
        print(f"{study.study_name}: {url}\nCtrl-C stops the dashboard, not the search.", flush=True)
        cards.start()

    try:
        board.serve(app, host=args.host, port=args.port, ready=ready)
    except OSError as error:
        other = "--host" if _is_of_host(error) else "--port"
        raise UserError(
            f"Port {args.port} of {args.host} cannot be used: {error.strerror}. "
            f"Give another {other}."
        ) from None
    cards.join()


def _is_of_host(error: OSError) -> bool:
    """Whether no other port would do: the address has no number, or is another machine's."""
    return isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL


def _refresh(study: optuna.Study) -> None:
    from climb_opt.reports.dashboard import notebook
    from climb_opt.reports.report import contents_of

    try:
        notebook.show(study, contents_of(study, every_rule=False))
    except UserError as error:
        print(f"No cards yet: {error}", flush=True)
