"""Where a run goes on that does not start afresh: a trunk's mixture, steps and state.

The run's data are those of a schedule whose first phase is the trunk: a domain's sequences go on
where the trunk left off, and its epochs count over both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Start:
    """The trunk that a run goes on from: its steps, what it read, who it is, and its state."""

    steps: int
    mixture: Mapping[str, float]
    fingerprint: str
    load: Callable[[], dict[str, Any]]
