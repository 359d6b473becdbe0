"""What all trials of a search train with: the corpus cut into sequences, the sizes of a step.

Sizes are in tokens, so that a global batch is the same on one device or sixty-four.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt import recipes
from climb_opt.errors import TrialFailed, UserError
from climb_opt.proxy import model
from climb_opt.proxy.cost import Cost, plan, shape_size, trained_tokens, trial_cost
from climb_opt.proxy.data import MixtureIndex, Sequences
from climb_opt.proxy.going_on import ASIDE, check_trunk_phase
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.order import Stretch
from climb_opt.proxy.reweight.base import Judge, wants_reference
from climb_opt.proxy.schedule import learning_rate
from climb_opt.proxy.trunks import Trunk, weighing
from climb_opt.recipes import ProxyRecipe
from climb_opt.schedules import step_borders
from climb_opt.shards import Corpus
from climb_opt.strict import check_ranges


@dataclass(frozen=True)
class Start:
    """The trunk that a run goes on from: its steps, what it read, who it is, and its state.

    The run's data are those of a schedule whose first phase is the trunk: a domain's sequences go
    on where the trunk left off, and its epochs count over both.
    """

    steps: int
    mixture: Mapping[str, float]
    fingerprint: str
    load: Callable[[], dict[str, Any]]


class Setup:
    """One recipe on one corpus, for the ranks of a group.

    Args:
        sequences: what trials read; None: all of the corpus.

    Raises:
        UserError: the recipe asks for no step, a batch smaller than the ranks, or a model that
            does not fit the corpus; before anything is trained.
    """

    cure = "lower proxy.lr"  # of a run that diverges

    def __init__(
        self,
        corpus: Corpus,
        recipe: ProxyRecipe,
        group: ProxyGroup,
        *,
        directory: Path,
        sequences: Sequences | None = None,
    ) -> None:
        check_ranges(recipe, "proxy")
        self.corpus, self.recipe, self.group, self.directory = corpus, recipe, group, directory
        self.sequences = sequences or Sequences(corpus, recipe.sequence)
        self.batch, self.steps = plan(recipe, group.world)
        self.config = model.configure(recipe.model, corpus, recipe.sequence)
        drawn, known = recipe.model.checkpoint is None, corpus.vocab_size
        size = shape_size(recipe.model, known) if drawn else model.size_of(self.config)
        self.cost = trial_cost(recipe, size, len(corpus.domains))
        self.flops = self.cost.flops or 0.0
        plain = replace(recipe, reweight=None)
        wanted = recipe.flops is None and wants_reference(recipe.reweight)
        self.before = trial_cost(plain, size) if wanted else Cost(0, 0.0, None)  # of a reference
        self.total = self.steps * self.batch  # sequences of the run whose beginning is read
        self.trunk: Trunk | None = None
        self.leaves_trunk = False
        self.start: Start | None = None
        self.marks: list[Any] = []  # what else tells its checkpoints from others
        self.judge: Judge | None = None  # who scores what it trains
        self.reference: Any = None  # of a method that sets weights, while a trial trains
        self.compiled = group.device.type == "cuda" if recipe.compile is None else recipe.compile
        self.micro = self._first_micro()

    @property
    def tokens(self) -> int:
        """Tokens one trial trains on: whole steps."""
        return self.steps * self.batch * self.recipe.sequence

    def join(self, trunk: Trunk, *, leaves: bool) -> None:
        """Train what is shared with neighbouring rungs as they do; `leaves` a checkpoint there."""
        self.trunk, self.total, self.leaves_trunk = trunk, trunk.total, leaves

    def go_on_from(self, start: Start) -> None:
        """Begin every trial at the end of a trunk, with the data that come after it."""
        self.start = start

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(self.recipe, step, self.steps)

    def index(self, job: Job) -> MixtureIndex:
        """The order in which the trial reads its sequences, unless a method decides on it.

        Raises:
            TrialFailed: the mixture repeats a domain more often than `max_epochs`.
            UserError: a phase shorter than a step, or a rung above that goes on from another phase.
        """
        total = self.steps * self.batch
        index = MixtureIndex(self.sequences, self._stretches(job), total=total, seed=job.seed)
        self.check_epochs(index)
        return index

    def used(self, begun: int, step: int) -> tuple[int, float]:
        """Tokens trained on, and FLOPs used from step `begun`, by a trial after `step` steps."""
        done, paid = step / self.steps, (step - begun) / self.steps
        before, flops = self.before.tokens, self.before.flops or 0.0
        beside = self.cost.tokens - trained_tokens(self.recipe) - before
        tokens = step * self.batch * self.recipe.sequence + before + round(beside * done)
        return tokens, flops + (self.flops - flops) * paid

    def check_epochs(self, index: MixtureIndex) -> None:
        """Raise `TrialFailed` where an order repeats a domain more often than `max_epochs`."""
        limit = self.recipe.max_epochs
        if limit is not None:
            # One sequence of slack: the counts are rounded, and a shard's tail is not read.
            pools = self.sequences.share * np.array([d.tokens for d in self.corpus.domains])
            allowed = limit * np.maximum(pools, index.pools * self.recipe.sequence)
            over = (index.counts - 1) * self.recipe.sequence > allowed
            if over.any():
                k = int(np.argmax(np.where(over, index.epochs, 0)))
                raise TrialFailed(
                    f"domain {self.sequences.domains[k]!r} would be repeated "
                    f"{index.epochs[k]:.2f} times; proxy.max_epochs is {limit:g}"
                )

    def fingerprint(self, job: Job) -> str:
        """What a checkpoint may be resumed for: the same mixture, seed, recipe and corpus."""
        # What changes nothing may change between attempts. The mean of the weights has no part in
        # training, but that a reference is one; `Average.restore` knows if it is there.
        free = ASIDE if self.recipe.reweight else ASIDE | {"average"}
        recipe = json.loads(recipes.to_json(self.recipe))
        kept = {key: value for key, value in recipe.items() if key not in free}
        facts: list[Any] = [weighing(job.mixture), job.seed, kept, self.corpus.digest]
        if len(job.phases) > 1:
            facts.append([[p.share, sorted(weighing(p.mixture).items())] for p in job.phases])
        if self.sequences.share < 1:
            facts.append(self.sequences.share)
        if self.total != self.steps * self.batch:
            facts.append(self.total)
        if self.start is not None:
            facts.append(self.start.fingerprint)
        facts += self.marks
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _stretches(self, job: Job) -> list[Stretch]:
        start, shares = self.start, [phase.share for phase in job.phases]
        borders = step_borders(shares, self.steps - (0 if start is None else start.steps))
        lengths = [(last - first) * self.batch for first, last in pairwise(borders)]
        mixtures = [phase.mixture for phase in job.phases]
        own = [Stretch(*row) for row in zip(mixtures, lengths, lengths, strict=True)]
        if start is not None:
            begun = start.steps * self.batch
            return [Stretch(start.mixture, begun, begun), *own]
        # A rung that others go on from begins as the longest of them; the rest is its own.
        if len(shares) > 1 and self.leaves_trunk:
            check_trunk_phase(self.recipe, self.steps, borders[1])
        whole = step_borders(shares, self.total // self.batch)[1] * self.batch
        return [own[0]._replace(whole=whole), *own[1:]]

    def _first_micro(self) -> int:
        tokens, share = self.recipe.micro_batch_tokens, -(-self.batch // self.group.world)
        if tokens is None:
            return share
        if tokens < self.recipe.sequence:
            raise UserError(
                f"proxy.micro_batch_tokens ({tokens}) must hold at least one sequence "
                f"({self.recipe.sequence} tokens)."
            )
        return min(tokens // self.recipe.sequence, share)
