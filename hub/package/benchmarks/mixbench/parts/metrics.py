# Written by hub/build.py from climb_opt: change it there.
"""What the end of a component's name says: "prose/bpb" is in bits per byte, and lower is better.

A metric of your own needs no line here: its unit is "score", and its better side the study's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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


def scores_of(components: Mapping[str, float]) -> dict[str, float]:
    """The components that are scores, without their standard errors."""
    return {name: value for name, value in components.items() if not name.endswith(STDERR)}


def _metric(component: str) -> str:
    return component.rpartition("/")[2]
