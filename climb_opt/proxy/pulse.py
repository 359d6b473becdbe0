"""Whether the worker was asked to stop, agreed on by all ranks of a group."""

from __future__ import annotations

import time

from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Watch


class Pulse:
    """Every rank asks rank 0 at the same steps, about once a second, whether to stop."""

    def __init__(self, group: ProxyGroup, watch: Watch) -> None:
        self.group, self.watch = group, watch
        self.next, self.asked_at, self.asked_step = 0, time.perf_counter(), 0

    def stop_now(self, step: int) -> bool:
        if step < self.next:
            return False
        if self.group.world == 1:
            return self.watch.stop()
        stop, self.next = self.group.share(self._answer(step))
        return stop

    def _answer(self, step: int) -> tuple[bool, int]:
        now = time.perf_counter()
        rate = (step - self.asked_step) / max(now - self.asked_at, 1e-9)  # steps a second
        self.asked_at, self.asked_step = now, step
        return self.watch.stop(), step + max(1, int(rate))
