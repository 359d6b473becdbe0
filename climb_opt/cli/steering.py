"""What steers a search: status, retry, enqueue, pause, resume."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from climb_opt.cli.naming import existing, stem, study_arguments
from climb_opt.text import strict_json

if TYPE_CHECKING:
    from climb_opt.workers import RoundStatus, RunningStatus, Status

FORMATS = ("text", "json", "yaml")


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands to the command line."""
    status = subparsers.add_parser("status", help="rounds, workers, failures, time left")
    study_arguments(status)
    status.add_argument("-f", "--format", choices=FORMATS, default="text",
                        help="for people, or for programs (default: text)")  # fmt: skip
    status.set_defaults(run=_status)

    retry = subparsers.add_parser("retry", help="try again what was given up")
    study_arguments(retry)
    retry.add_argument("slots", nargs="*", help="slots; all that were given up by default")
    retry.set_defaults(run=_retry)

    enqueue = subparsers.add_parser("enqueue", help="put mixtures of your own in line")
    study_arguments(enqueue)
    enqueue.add_argument(
        "files", nargs="+", metavar="FILE", help="YAML, domain: weight; - is stdin"
    )
    enqueue.add_argument(
        "--prefix", default="", metavar="TEXT", help="cut from the names in the files, e.g. train_"
    )
    enqueue.set_defaults(run=_enqueue)

    for verb, what in (("pause", "start no new trials"), ("resume", "go on after pause")):
        command = subparsers.add_parser(verb, help=what)
        study_arguments(command)
        command.set_defaults(run=_pause if verb == "pause" else _resume)


def _status(args: argparse.Namespace) -> None:
    from climb_opt import study as studies

    now = studies.status(existing(args))
    if args.format == "text":
        print(describe(now))
    elif args.format == "json":
        print(strict_json(asdict(now)))
    else:
        import yaml

        print(
            yaml.safe_dump(
                json.loads(strict_json(asdict(now))), sort_keys=False, allow_unicode=True
            ),
            end="",
        )


def _retry(args: argparse.Namespace) -> None:
    from climb_opt import study as studies

    slots = [int(slot) if slot.lstrip("-").isdigit() else slot for slot in args.slots]
    again = studies.retry(existing(args, write=True), slots)
    listed = ", ".join(map(str, again))
    print(f"To be tried again: {listed}." if again else "No slot was given up.")


def _enqueue(args: argparse.Namespace) -> None:
    from climb_opt import study as studies
    from climb_opt.mixtures import read_mixture
    from climb_opt.view import StudyView

    study = existing(args, write=True)
    space = StudyView(study).space
    mixtures = [(stem(file), read_mixture(file, args.prefix)) for file in args.files]
    for name, mixture in mixtures:  # all or none are put in line
        space.weights(mixture, what=f"Mixture {name!r}")
    for name, mixture in mixtures:
        print(f"In line: {studies.enqueue(study, name, mixture)}")


def _pause(args: argparse.Namespace) -> None:
    from climb_opt import study as studies

    study = existing(args, write=True)
    studies.pause(study)
    print(f"{study.study_name}: no new trials start; `climb-opt resume` lets the workers go on.")


def _resume(args: argparse.Namespace) -> None:
    from climb_opt import study as studies

    study = existing(args, write=True)
    studies.resume(study)
    print(f"{study.study_name}: workers go on.")


# --- text --------------------------------------------------------------------------------------


def describe(now: Status) -> str:
    """The status, for a person."""
    lines = [f"{now.name}{' (paused)' if now.paused else ''}", ""]
    lines.append("round  slots   done  running  waiting   idle  given up")
    for index, r in enumerate(now.rounds, start=1):
        lines.append(
            f"{index:>5}  {r.size:>5}  {r.finished:>5}  {r.running:>7}  {r.waiting:>7}  "
            f"{r.idle:>5}  {len(r.given_up):>8}"
        )
    if outside := _outside(now.outside):
        lines.append(f"and {outside} outside the rounds")
    if now.running:
        lines += ["", "running"]
        for one in now.running:
            lines.append(
                f"  trial {one.number:>4}  slot {one.slot!s:<18}  for {duration(one.seconds)}  "
                f"{one.worker}  {_beat(one)}"
            )
    if now.failures:
        lines += ["", "failed"]
        for failure in now.failures:
            mark = " (does not count)" if failure.interrupted else ""
            lines.append(
                f"  trial {failure.number:>4}  slot {failure.slot!s:<18}  {failure.reason}{mark}"
            )
    if now.given_up:
        slots = ", ".join(map(str, now.given_up))
        lines += ["", f"given up: {slots}; `climb-opt retry {now.name}` tries again"]
    if now.unread:
        lines += [
            "",
            f"caution: no mixture of round 1 reads {', '.join(now.unread)}: too small for the "
            "design; merge it with another domain, give a lower bound, or take design: mixed",
        ]
    lines += ["", _outlook(now)]
    return "\n".join(lines)


def _outside(r: RoundStatus) -> str:
    counts = {
        "finished": r.finished,
        "running": r.running,
        "waiting": r.waiting + r.idle,
        "given up": len(r.given_up),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def duration(seconds: float) -> str:
    """Seconds in the unit a person would use."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _beat(one: RunningStatus) -> str:
    age = one.age
    if one.ended:
        return "its process has ended; the next worker takes its slot"
    if age is None:
        return "no sign of life yet"
    if age < -5:
        return f"its clock is {duration(-age)} ahead of this one"
    return f"last sign of life {duration(max(0.0, age))} ago"


def _outlook(now: Status) -> str:
    parts = [f"{now.finished} of {now.size} slots done", f"best score {number(now.best)}"]
    if now.trials_per_hour is not None and not now.done:
        parts.append(f"{now.trials_per_hour:.3g} trials an hour")
    if now.seconds_left:
        parts.append(f"about {duration(now.seconds_left)} left")
    return ", ".join(parts)


def number(value: float | None) -> str:
    """A score, or a dash."""
    return "-" if value is None else f"{value:.6g}"
