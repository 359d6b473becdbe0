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

from climb_opt.errors import UserError
from climb_opt.proxy import checkpoint
from climb_opt.proxy.cost import plan
from climb_opt.proxy.job import Job
from climb_opt.proxy.schedule import stable_steps, warm_steps
from climb_opt.recipes import ProxyRecipe
from climb_opt.shards import Corpus

FOLDER = "trunks"

# Keys in which two rungs of one trunk may differ: what comes after it, and what changes nothing.
FREE = {
    *(
        "reweight",
        "tokens",
        "warmup",
        "decay",
        "min_lr",
        "flops",
        "go_on",
        "average",
        "max_epochs",
        "keep",
    ),
    *("checkpoint_every", "report_every", "micro_batch_tokens", "compile", "timeout"),
}


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


def check_trunk_phase(recipe: ProxyRecipe, steps: int, border: int) -> None:
    """Raise unless a rung that others go on from begins to decay in its first phase.

    Later phases of the two differ: they begin at other steps.

    Args:
        border: the step at which its second phase begins.
    """
    stable = stable_steps(recipe, steps)
    if stable > border:
        raise UserError(
            f"go_on: a rung goes on from step {stable} of the one below, where the decay of that "
            f"begins, but its second phase begins at step {border}, and phases of the two are not "
            f"the same steps. Give it decay: {(steps - border) / steps:.6g} or more, or drop go_on."
        )


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
            above = found[number + 1]
            assert above is not None
            found[number] = above
        elif proxies[number].go_on:
            batch, steps = plan(proxies[number])
            found[number] = Trunk(corpus, proxies[number], batch * steps, directory)
    return found


def check_go_on(proxies: Sequence[ProxyRecipe], number: int) -> None:
    """Raise unless rung `number` can go on from the one below, and say what to change."""
    if number == 0:
        raise UserError("go_on: there is no rung below it to go on from; drop the key.")
    upper, lower = proxies[number], proxies[number - 1]
    if upper.command is not None or lower.command is not None:
        raise UserError("go_on: a command keeps its own checkpoints; drop the key.")
    if upper.reweight is not None or lower.reweight is not None:
        raise UserError("go_on: with reweight every run has a path of its own; drop the key.")
    if upper.schedule != "wsd":
        raise UserError(f"go_on needs schedule: wsd, but it is {upper.schedule}.")
    for key in (field.name for field in dataclasses.fields(ProxyRecipe)):
        ours, theirs = getattr(upper, key), getattr(lower, key)
        if key not in FREE and ours != theirs:
            raise UserError(
                f"go_on: until the decay it must train as the rung below, but its {key} is {ours} "
                f"and that one's {theirs}. Give both the same, or drop go_on."
            )
    own, below = plan(upper)[1], plan(lower)[1]
    warm, theirs = warm_steps(upper, own), warm_steps(lower, below)
    if warm != theirs:
        raise UserError(
            f"go_on: both must warm up for as many steps, but it does for {warm} and the rung "
            f"below for {theirs}. Give that one warmup: {warm / below:.6g}."
        )
    if not warm <= stable_steps(lower, below) <= stable_steps(upper, own):
        raise UserError(
            f"go_on: the rung below begins to decay after {stable_steps(lower, below)} steps, "
            f"which must lie between this one's warm-up ({warm}) and decay "
            f"({stable_steps(upper, own)})."
        )
