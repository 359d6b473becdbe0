"""`climb-opt status`: rounds, workers, failures, time left."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from climb_opt.cli.arguments import existing, format_argument, show, study_command
from climb_opt.commands import command
from climb_opt.errors import listed
from climb_opt.progress import speed
from climb_opt.text import counted, duration, flops, score

if TYPE_CHECKING:
    from climb_opt.workers import RoundStatus, RunningStatus, Status


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `status` to the command line."""
    command = study_command(
        subparsers, "status", _status, help="rounds, workers, failures, time left"
    )
    format_argument(command)


def _status(args: argparse.Namespace) -> None:
    from climb_opt.study import status

    now = status(existing(args))
    show(describe(now), asdict(now), args.format)


def describe(now: Status) -> str:
    """The status, for a person."""
    lines = [f"{now.name}{' (paused)' if now.paused else ''}", ""]
    numbered = {str(index): r for index, r in enumerate(now.rounds, start=1)}
    named = "runs" if now.beside else "baselines"
    rounds = {"first": now.before, named: now.named, **numbered}
    wide = max(len("round"), *(len(name) for name, r in rounds.items() if r))
    lines.append(f"{'round':>{wide}}  slots   done  running  waiting   idle  given up")
    lines[-1] += "  rung" if any(r.rung for r in now.rounds) else ""
    for name, r in rounds.items():
        if r is None:
            continue
        lines.append(
            f"{name:>{wide}}  {r.size:>5}  {r.finished:>5}  {r.running:>7}  {r.waiting:>7}  "
            f"{r.idle:>5}  {len(r.given_up):>8}" + (f"  {r.rung}" if r.rung else "")
        )
    if outside := _outside(now.outside):
        lines.append(f"and {outside} outside the rounds")
    if now.before:
        lines.append("first: trunk, branches, and mixtures that check what is read off them")
    if now.rounds and now.rounds[-1].verifies:
        lines.append(
            f"round {len(now.rounds)}: measures the recommendation and its nearest rivals (verify)"
        )
    for name, value in now.methods.items():
        lines.append(
            f"{name}, a baseline whose weights a method set: score {score(value)}; the search "
            "learns nothing from it"
        )
    lines += [f"{'' if ' holds:' in text else 'caution: '}{text}" for text in now.verdicts]
    if now.rungs:
        lines += ["", *_rungs(now)]
    lines += ["", "running"] if now.running else []
    for one in now.running:
        rung = "" if one.rung is None else f"{one.rung}  "
        lines.append(
            f"  trial {one.number:>4}  slot {one.slot!s:<18}  {rung}"
            f"for {duration(one.seconds)}  {one.worker}  {_beat(one)}"
        )
    lines += [f"caution: {one.caution}" for one in now.running if one.caution]
    lines += ["", "failed"] if now.failures else []
    for lost in now.failures:
        mark = " (does not count)" if lost.interrupted else ""
        lines.append(f"  trial {lost.number:>4}  slot {lost.slot!s:<18}  {lost.reason}{mark}")
    if now.given_up:
        slots = ", ".join(map(str, now.given_up))
        lines += ["", f"given up: {slots}; `{command('retry', now.name)}` tries again"]
    if now.unread:
        lines += [
            "",
            f"caution: no mixture of round 1 reads {listed(now.unread)}: too small for the "
            "design; merge it with another domain, give a lower bound, or take design: mixed",
        ]
    lines += ["", _outlook(now)]
    return "\n".join(lines)


def _rungs(now: Status) -> list[str]:
    """What was spent on each rung, how far their rankings agree, what is left of the budget."""
    names = [f"{r.name} (target)" if r is now.rungs[-1] else r.name for r in now.rungs]
    wide = max(len("rung"), *map(len, names))
    lines = [f"{'rung':<{wide}}  {'a trial':>13}  done  running  {'spent':>13}  {'in':>11}"]
    for name, r in zip(names, now.rungs, strict=True):
        lines.append(
            f"{name:<{wide}}  {flops(r.flops):>13}  {r.finished:>4}  {r.running:>7}  "
            f"{flops(r.spent):>13}  {duration(r.seconds):>11}"
        )
    if now.agreement:
        lines += ["", "rank correlation of rungs [90 %], on mixtures run on both"]
    for one in now.agreement:
        pair = f"{now.rungs[one.lower].name} and {now.rungs[one.upper].name}"
        lines.append(f"  {pair}: {one}" + (f", {one.n} mixtures" if one.known else ""))
    lines += [f"caution: {text}" for text in now.distrusted]
    if now.budget is not None and now.left is not None:
        spent = now.budget - now.left - now.begun
        lines += ["", f"budget: {spending(now)}"]
        lines[-1] += f", {flops(now.begun)} in trials that run or wait" if now.begun else ""
        lines[-1] += f", {flops(max(now.left, 0.0))} left ({100 * spent / now.budget:.0f} % spent)"
    return lines


def spending(now: Status) -> str:
    """What is spent of the budget; of a ladder without one, in all."""
    if now.budget is None or now.left is None:
        return flops(sum(r.spent for r in now.rungs))
    return f"{flops(now.budget - now.left - now.begun)} of {flops(now.budget)}"


def _outside(r: RoundStatus) -> str:
    counts = {
        "finished": r.finished,
        "running": r.running,
        "waiting": r.waiting + r.idle,
        "given up": len(r.given_up),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


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
    parts = [slots_done(now), f"best score {score(now.best)}{at_target(now)}{_rests_on(now)}"]
    if now.trials_per_hour is not None and not now.done:
        parts.append(speed(now.trials_per_hour / 3600, "trials"))
    if now.seconds_left:
        parts.append(f"about {duration(now.seconds_left)} left")
    return ", ".join(parts)


def _rests_on(now: Status) -> str:
    """Where what is recommended was measured, while no trial of the target has finished."""
    reached = [r.name for r in now.rungs if r.finished]
    if not reached or now.rungs[-1].finished:
        return ""
    return f" (none has finished: `{command('best', now.name)}` rests on {reached[-1]})"


def slots_done(now: Status) -> str:
    """How many slots are done, of how many where that is known beforehand."""
    if now.budget is not None:
        return f"{counted(now.count, 'trial')} done"
    return f"{now.finished} of {now.size} slots done"


def at_target(now: Status) -> str:
    """Where the best score was measured, if there are several rungs."""
    return f" at {now.rungs[-1].name}" if len(now.rungs) > 1 else ""
