# Written by hub/build.py from climb_opt: change it there.
"""What the end of a component's name says: "prose/bpb" is in bits per byte, and lower is better.

A metric of your own needs no line here: its unit is "score", and its better side the study's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import UserError

STDERR = "_stderr"  # ends the name of a score's standard error


@dataclass(frozen=True)
class Metric:
    """How a metric is told, and which side of it is good."""

    unit: str
    higher_is_better: bool


METRICS = {
    "bpb": Metric("bits per byte", higher_is_better=False),
    "loss": Metric("score", higher_is_better=False),
    "ppl": Metric("score", higher_is_better=False),
    "acc": Metric("accuracy", higher_is_better=True),
    "acc_norm": Metric("accuracy", higher_is_better=True),
}

# Words in the names of a table's results, which are whoever made it's.
LOWER = ("loss", "nll", "bpb", "ppl", "perplexity", "ce", "error", "bits_per_byte")
HIGHER = ("acc", "acc_norm", "accuracy", "f1", "em", "exact_match", "pass", "reward", "win_rate")


def unit_of(components: Iterable[str]) -> str:
    """The common unit of components; "score" when they differ."""
    found = [METRICS.get(_metric(name)) for name in components]
    units = {"score" if metric is None else metric.unit for metric in found}
    return units.pop() if len(units) == 1 else "score"


def searchable(components: Iterable[str]) -> list[str]:
    """What `score: auto` adds up: all in bits per byte; where none is, the first of each task."""
    names = list(components)
    tasks = {name.rpartition("/")[0]: name for name in reversed(names)}
    return [n for n in names if _metric(n) == "bpb"] or [n for n in names if n in tasks.values()]


def higher_is_better(component: str, *, default: bool) -> bool:
    """Which side of a component is good: accuracies rise, losses fall, others as the study."""
    metric = METRICS.get(_metric(component))
    return default if metric is None else metric.higher_is_better


def side_of(name: str) -> int:
    """Which side of a table's result is better by its name: 1 the lower, -1 the higher, 0 none."""
    words = set(name.lower().replace("/", " ").replace(":", " ").replace("-", " ").split())
    words |= {part for word in words for part in word.split("_")} | {
        end for word in words for end in (*LOWER, *HIGHER) if word.endswith(f"_{end}")
    }
    low, high = bool(words & set(LOWER)), bool(words & set(HIGHER))
    return 0 if low == high else 1 if low else -1


def better_low(names: Sequence[str]) -> Sequence[str]:
    """A table's results that are averaged as they are, the lower the better.

    Raises:
        UserError: one that is better high: it would be searched for where it is worst.
    """
    for name in names:
        if side_of(name) < 0:
            raise UserError(
                f"The lower a score of a table, the better it is taken to be, but {name!r} is "
                f"better high. Name others under score, or give coefficients: {{{name}: -1}}."
            )
    return names


def check_direction(where: str, coefficients: Mapping[str, float], direction: str) -> None:
    """Raise a `UserError` where a score would be searched for where one of its metrics is worst.

    A negative coefficient says which way is meant.
    """
    high = direction == "maximize"
    for name, coefficient in coefficients.items():
        better_high = higher_is_better(name, default=high)
        if coefficient > 0 and better_high != high:
            side, other = ("high", "maximize") if better_high else ("low", "minimize")
            raise UserError(
                f"{where}: {name!r} is better {side}, but direction is {direction}, which finds "
                f"its worst. Say direction: {other}, or a negative coefficient: {{{name}: -1}}."
            )


def scores_of(components: Mapping[str, float]) -> dict[str, float]:
    """The components that are scores, without their standard errors."""
    return {name: value for name, value in components.items() if not name.endswith(STDERR)}


def _metric(component: str) -> str:
    return component.rpartition("/")[2]
