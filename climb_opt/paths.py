"""The path that a method's weights took while one proxy trained, short enough to store.

Of a run of S steps at most 64 spans are kept, of equal length to within a step: the mean weights
over each. The mean over the whole run is exact. A path can be trained or exported as a schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from climb_opt.errors import UserError
from climb_opt.schedules import Phase, Schedule

SPANS = 64  # at most; of many domains fewer
NUMBERS = 4096  # weights stored at most: a column of MySQL holds 64 KB


class Path:
    """Sums the weights of K domains over the steps of a run.

    Attributes:
        sums: (spans, K), the weights of each step added to those of its span.
    """

    def __init__(self, domains: Sequence[str], steps: int) -> None:
        self.domains, self.steps = tuple(domains), steps
        spans = max(1, min(SPANS, NUMBERS // len(self.domains), steps))
        self.ends = -(-steps * np.arange(1, spans + 1) // spans)  # each span's last step, plus 1
        self.sums = np.zeros((spans, len(self.domains)))

    def add(self, step: int, weights: np.ndarray) -> None:
        """The weights (K,) of a step, from 0."""
        self.sums[np.searchsorted(self.ends, step, side="right")] += weights

    def data(self, done: int, end: np.ndarray | None = None) -> dict[str, Any]:
        """What a trial stores of its first `done` steps, and the weights (K,) set at the end."""
        used = int(np.searchsorted(self.ends, done)) + 1
        ends = np.minimum(self.ends[:used], done)
        lengths = np.diff(ends, prepend=0)
        mean = self.sums.sum(axis=0) / done
        return {
            "domains": list(self.domains),
            "steps": ends.tolist(),
            "weights": [[_short(w) for w in row] for row in self.sums[:used] / lengths[:, None]],
            "mean": [float(w) for w in mean / mean.sum()],
            **({} if end is None else {"end": [float(w) for w in end / end.sum()]}),
        }


def path_mean(data: Mapping[str, Any]) -> dict[str, float]:
    """The mean mixture, domain -> weight, of a stored path."""
    return dict(zip(data["domains"], data["mean"], strict=True))


def path_end(data: Mapping[str, Any]) -> dict[str, float]:
    """The mixture, domain -> weight, that a path ends with: what the method asked for after the
    last step, or else the mean weights of the last span."""
    last = np.array(data.get("end", data["weights"][-1]))
    return dict(zip(data["domains"], (last / last.sum()).tolist(), strict=True))


def path_schedule(data: Mapping[str, Any], phases: int | None = None) -> Schedule:
    """A stored path as phases of equal length.

    Args:
        phases: how many; None: as many as are stored. Borders are those of stored spans.

    Raises:
        UserError: none, or more phases than are stored.
    """
    ends, weights = np.array(data["steps"]), np.array(data["weights"])
    count = len(ends) if phases is None else phases
    if not 1 <= count <= len(ends):
        raise UserError(
            f"The path is stored at {len(ends)} points; give 1 to {len(ends)} phases, not {phases}."
        )
    lengths = np.diff(ends, prepend=0)
    found = []
    for rows in np.array_split(np.arange(len(ends)), count):
        mean = lengths[rows] @ weights[rows]
        share = float(lengths[rows].sum() / ends[-1])
        mixture = dict(zip(data["domains"], (mean / mean.sum()).tolist(), strict=True))
        found.append(Phase(share, mixture))
    return tuple(found)


def path_columns(data: Mapping[str, Any], most: int) -> dict[str, Mapping[str, float]]:
    """A stored path for a table, head -> mixture: at most so many parts of the run, the mean over
    it, and what was set after its last step, if anything was."""
    columns: dict[str, Mapping[str, float]] = {}
    done = 0.0
    for part in path_schedule(data, min(most, len(data["steps"]))):
        done += part.share
        columns[f"to {done:.0%}"] = part.mixture
    columns["mean"] = path_mean(data)
    return columns | ({"at the end": path_end(data)} if "end" in data else {})


def _short(weight: float) -> float:
    return float(f"{weight:.5g}")
