"""What trains a trunk, and a branch of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from climb_opt.errors import Diverged
from climb_opt.proxy.job import Job, Outcome, Watch
from climb_opt.proxy.run import Run
from climb_opt.proxy.schedule import learning_rate, warm_steps
from climb_opt.proxy.setup import Start
from climb_opt.proxy.train import Trainer
from climb_opt.study_recipe import BranchesRecipe

RISEN = 1.25  # times that a branch's loss may rise before it has diverged

# A trunk or a branch is not looked at while it trains, and its last weights are what is kept.
PLAIN: dict[str, Any] = {"average": 0.0, "report_every": None, "keep": 0, "go_on": False}


class TrunkTrainer(Trainer):
    """The first `steps` of the target's run, on the prior.

    Args:
        target: what trains the whole run, whose learning rates these are.
    """

    def __init__(self, target: Trainer, steps: int) -> None:
        recipe = replace(target.recipe, **PLAIN)
        super().__init__(target.corpus, recipe, target.group, directory=target.directory)
        self._whole = self.steps
        self.flops *= steps / self.steps
        self.steps, self.total = steps, steps * self.batch
        self.marks = ["trunk", steps]
        self.save: Callable[[Run], None] = lambda run: None

    def rate(self, step: int) -> float:
        return learning_rate(self.recipe, step, self._whole)

    def ended(self, run: Run) -> None:
        self.save(run)


class BranchTrainer(Trainer):
    """Goes on from a trunk for some steps, at a rate of its own.

    Args:
        target: what trains the runs whose trunk it is.
        branches: how they branch off.
        steps: of a branch.
        lr: its rate, where `branches` names none.
    """

    cure = "lower branches.lr"

    def __init__(self, target: Trainer, branches: BranchesRecipe, steps: int, lr: float) -> None:
        whole = target.recipe
        step_tokens = whole.batch_tokens // whole.sequence * whole.sequence
        recipe = replace(whole, tokens=steps * step_tokens, lr=branches.lr or lr, **PLAIN)
        super().__init__(target.corpus, recipe, target.group, directory=target.directory)
        self._own, self._decay = self.steps, branches.decay
        self._warm = warm_steps(recipe, self.steps)
        self.marks = ["branch", branches.decay]

    def go_on_from(self, start: Start) -> None:
        self._warm = 0
        self.flops *= (start.steps + self._own) / self._own
        self.steps = start.steps + self._own
        self.total = self.steps * self.batch
        super().go_on_from(start)

    def rate(self, step: int) -> float:
        done = step - (self.steps - self._own)
        if done < self._warm:
            return self.recipe.lr * (done + 1) / self._warm
        falling = round(self._decay * self._own)
        return self.recipe.lr * min((self._own - done) / (falling + 1), 1.0)

    def train(self, job: Job, watch: Watch) -> Outcome:
        """As of any `Trainer`.

        Raises:
            Diverged: also of a branch whose loss rose.
        """
        outcome = super().train(job, watch)
        assert outcome.losses is not None
        losses = outcome.losses[-self._own :]
        some = max(1, self._own // 10)
        before, after = float(np.mean(losses[:some])), float(np.mean(losses[-some:]))
        if not after <= RISEN * before:
            raise Diverged(
                f"branch {job.part!r} has diverged: its loss rose from {before:.3f} to "
                f"{after:.3f}; {self.cure}"
            )
        outcome.facts["tokens"] = self._own * self.batch * self.recipe.sequence
        return outcome
