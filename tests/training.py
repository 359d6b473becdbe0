"""A small proxy and who watches its training, for tests that train."""

from __future__ import annotations

from typing import Any

from climb_opt.recipes import ModelRecipe, ProxyRecipe

SMALL = ProxyRecipe(
    model=ModelRecipe(hidden=16, layers=1, heads=2),
    tokens=16 * 512,
    sequence=16,
    batch_tokens=512,
    lr=1e-2,
)


class Watch:
    """Stops after so many looks, gives up at a step; both never by default."""

    def __init__(self, stop_after: int | None = None, hopeless_at: int | None = None) -> None:
        self.left, self.hopeless_at = stop_after, hopeless_at
        self.reports: list[int] = []

    def stop(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0

    def report(self, network: Any, step: int) -> bool:
        assert not network.training
        self.reports.append(step)
        return self.hopeless_at is not None and step >= self.hopeless_at
