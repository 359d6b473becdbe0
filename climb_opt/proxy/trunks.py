"""Stable checkpoints: a trial goes on from where the rung below began to decay, and pays the rest.

With warm-up, constant rate and decay (`schedule: wsd`) all runs of a mixture are one run, the
*trunk*, until the first of them decays. A rung with `go_on` reads the checkpoint that the rung
below wrote there, if the same mixture was trained with the same seed on this disk; otherwise it
trains from the start, and ends with the same weights. So that the trunks are one, the rung below
reads the beginning of the longer run (every prefix of which is near the mixture). Where a trial has
phases, the trunk must end in the first: the others begin later in a longer run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from climb_opt.proxy import checkpoint
from climb_opt.proxy.cost import plan
from climb_opt.proxy.going_on import FREE
from climb_opt.proxy.job import Job
from climb_opt.proxy.schedule import warm_steps
from climb_opt.recipes import ProxyRecipe
from climb_opt.shards import Corpus

FOLDER = "trunks"


class Trunk:
    """What the runs of a recipe share until the first of them decays, and where it is kept.

    Args:
        total: sequences of the longest of these runs.
    """

    def __init__(self, corpus: Corpus, recipe: ProxyRecipe, total: int, directory: Path) -> None:
        self.total, self.directory = total, directory
        shared = {k: v for k, v in dataclasses.asdict(recipe).items() if k not in FREE}
        warm = warm_steps(recipe, plan(recipe)[1])
        self._facts = [shared, warm, corpus.digest, total]

    def fingerprint(self, job: Job) -> str:
        """Tells the trunk of a trial from all others."""
        begin = job.phases[0]  # a trunk ends before the second
        facts = [weighing(begin.mixture), job.seed, *self._facts]
        if len(job.phases) > 1:
            facts.append(begin.share)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def folder(self, job: Job) -> Path:
        """Where the trunk of a trial is kept."""
        return self.directory / FOLDER / self.fingerprint(job)[:16]

    def remove(self, job: Job) -> None:
        """Forget the trunk of a trial: it has been gone on from."""
        checkpoint.remove(self.folder(job))


def weighing(mixture: Mapping[str, float]) -> dict[str, float]:
    """The domains that weigh something, by name: of what is trained nothing else matters."""
    return {name: weight for name, weight in sorted(mixture.items()) if weight > 0}


def trunks_of(
    corpus: Corpus, proxies: Sequence[ProxyRecipe], directory: Path
) -> list[Trunk | None]:
    """The trunk that each rung shares with a neighbour; None where there is none.

    Raises:
        UserError: a rung cannot go on from the one below it.
    """
    found: list[Trunk | None] = [None] * len(proxies)
    for number in reversed(range(len(proxies))):
        upper = proxies[number + 1 :]
        if upper and upper[0].go_on:
            found[number] = found[number + 1]
        elif proxies[number].go_on:
            batch, steps = plan(proxies[number])
            found[number] = Trunk(corpus, proxies[number], batch * steps, directory)
    return found
