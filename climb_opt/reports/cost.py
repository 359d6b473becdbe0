"""What a search cost: FLOPs, tokens, seconds, device hours; and how often domains are repeated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from optuna.trial import TrialState

from climb_opt.history import fact, facts_of, seconds_of
from climb_opt.ladder import ENDED
from climb_opt.reports.snapshot import Snapshot


@dataclass(frozen=True)
class Cost:
    """Totals over all trials, failed ones included, but for the FLOPs of those.

    `seconds` are of trials, added up over workers; `wall` from the first start to the last end;
    `devices` hours are seconds times the devices a trial ran on, on `kind`.
    """

    trials: int
    failed: int
    tokens: float
    seconds: float
    wall: float
    device_hours: float
    kind: str
    flops: float = 0.0  # 0: no trial states them


def cost_of(snapshot: Snapshot) -> Cost:
    """The cost of a study so far."""
    ended = [t for t in snapshot.taken if t.state.is_finished()]
    seconds = [seconds_of(t) for t in ended]
    devices = [fact(t, "devices") or 1.0 for t in ended]
    kinds = sorted({str(kind) for t in ended if (kind := facts_of(t).get("device"))})
    starts = [t.datetime_start.timestamp() for t in ended if t.datetime_start]
    ends = [t.datetime_complete.timestamp() for t in ended if t.datetime_complete]
    return Cost(
        trials=len(ended),
        failed=sum(t.state == TrialState.FAIL for t in ended),
        tokens=float(sum(fact(t, "tokens") for t in ended)),
        seconds=float(sum(seconds)),
        wall=max(0.0, max(ends) - min(starts)) if starts and ends else 0.0,
        device_hours=float(sum(s * d for s, d in zip(seconds, devices, strict=True))) / 3600,
        kind=", ".join(kinds) or "device",
        flops=_flops(snapshot),
    )


def _flops(snapshot: Snapshot) -> float:
    """What trials state, or their rungs cost."""
    if snapshot.ladder is not None:
        return snapshot.ladder.spent(snapshot.taken)
    return float(sum(fact(t, "flops") for t in snapshot.taken if t.state in ENDED))


def tokens_of(snapshot: Snapshot) -> np.ndarray | None:
    """Tokens of each domain (K,); None where the study does not know them."""
    if snapshot.corpus is None:
        return None
    return np.array([float(snapshot.corpus.tokens.get(d, 0)) for d in snapshot.domains])


def epochs_of(snapshot: Snapshot, weights: np.ndarray) -> np.ndarray | None:
    """Epochs of each domain (K,) when a proxy of the recipe trains on `weights` (K,)."""
    tokens = tokens_of(snapshot)
    if tokens is None or snapshot.recipe is None:
        return None
    used = weights * snapshot.recipe.proxy.tokens
    return np.where(tokens > 0, used / np.where(tokens > 0, tokens, 1.0), 0.0)


def longest_run(tokens: np.ndarray, weights: np.ndarray) -> tuple[float, int]:
    """The token budget at which the first domain runs out, and which domain (its index)."""
    used = weights > 0
    budgets = np.where(used, tokens / np.where(used, weights, 1.0), np.inf)
    first = int(np.argmin(budgets))
    return float(budgets[first]), first
