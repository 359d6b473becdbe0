"""`climb-opt status`: rounds, workers, failures, time left."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from climb_opt.cli.arguments import existing, study_command
from climb_opt.errors import listed
from climb_opt.text import score, strict_json

if TYPE_CHECKING:
    from climb_opt.workers import RoundStatus, RunningStatus, Status

FORMATS = ("text", "json", "yaml")


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `status` to the command line."""
    command = study_command(
        subparsers, "status", _status, help="rounds, workers, failures, time left"
    )
    command.add_argument("-f", "--format", choices=FORMATS, default="text",
                         help="for people, or for programs (default: text)")  # fmt: skip


def _status(args: argparse.Namespace) -> None:
    from climb_opt.study import status

    now = status(existing(args))
    if args.format == "text":
        print(describe(now))
    elif args.format == "json":
        print(strict_json(asdict(now)))
    else:
        import yaml

        plain = json.loads(strict_json(asdict(now)))
        print(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), end="")


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
            f"caution: no mixture of round 1 reads {listed(now.unread)}: too small for the "
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
    parts = [f"{now.finished} of {now.size} slots done", f"best score {score(now.best)}"]
    if now.trials_per_hour is not None and not now.done:
        parts.append(f"{now.trials_per_hour:.3g} trials an hour")
    if now.seconds_left:
        parts.append(f"about {duration(now.seconds_left)} left")
    return ", ".join(parts)
