"""weights -> a trained model. One `Trainer` serves a whole search; a `Run` is one trial."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch

from climb_opt.errors import TrialFailed
from climb_opt.proxy.data import MixtureIndex
from climb_opt.proxy.job import REFERENCE, Job, Outcome, Watch
from climb_opt.proxy.reweight.base import made, wants_reference
from climb_opt.proxy.run import Run
from climb_opt.proxy.setup import Setup

log = logging.getLogger(__name__)


class _Unseen:
    """Stops a reference with its trial, which nobody scores meanwhile."""

    def __init__(self, watch: Watch) -> None:
        self.stop = watch.stop

    def report(self, model: Any, step: int) -> bool:
        return False


class Trainer(Setup):
    """Trains proxies of one recipe on one corpus."""

    _plain: Trainer | None = None  # trains references
    _rehearsed = _halved = False  # whether a step fitted in memory; half a micro-batch already

    def train(self, job: Job, watch: Watch) -> Outcome:
        """Train the trial's proxy, or go on from its checkpoint.

        Raises:
            TrialFailed: the loss is not finite, or memory does not suffice even for half the
                micro-batch.
            Interrupted: `watch.stop()` said so; the checkpoint is on disk.
        """
        index = self.index(job)
        self.reference = self._reference(job, watch)
        try:
            return self._train(job, index, watch)
        finally:
            self.reference = None

    def _train(self, job: Job, index: MixtureIndex, watch: Watch) -> Outcome:
        if (outcome := self._attempt(job, index, watch)) is not None:
            return outcome
        if self.micro == 1 or self._halved:
            raise TrialFailed(
                f"out of memory with micro-batches of {self.micro * self.recipe.sequence} tokens"
            )
        self._halved = True
        self.micro = -(-self.micro // 2)
        self.group.free()
        log.warning(
            "Out of memory: trying again with micro-batches of %d tokens (the global batch is "
            "unchanged). Set proxy.micro_batch_tokens to that to start with it.",
            self.micro * self.recipe.sequence,
        )
        if (outcome := self._attempt(job, index, watch)) is not None:
            return outcome
        raise TrialFailed(
            f"out of memory, with micro-batches of {self.micro * self.recipe.sequence} tokens too"
        )

    def ended(self, run: Run) -> None:
        """What is to be kept of a run that has come to its end: of an ordinary trial its model."""

    # --- what a method that sets weights compares with ----------------------------------------

    def _reference(self, job: Job, watch: Watch) -> Any:
        choice = self.recipe.reweight
        if choice is None or not wants_reference(choice):
            return None
        if self._plain is None:
            plain = replace(self.recipe, reweight=None)
            self._plain = _References(
                self.corpus, plain, self.group, directory=self.directory, sequences=self.sequences
            )
        self._plain.micro = self.micro
        mixture = made(choice).reference(job.mixture)  # type: ignore[attr-defined]
        wanted = Job(job.name + REFERENCE, mixture, job.seed)
        reference = self._plain.train(wanted, _Unseen(watch)).model
        return reference.requires_grad_(False)

    # --- one attempt ------------------------------------------------------------------------

    def _attempt(self, job: Job, index: MixtureIndex, watch: Watch) -> Outcome | None:
        # None: out of memory, on this rank or (found in the rehearsal) on any.
        try:
            run = Run(self, job, index)
        except (torch.OutOfMemoryError, MemoryError):
            run = None
        rehearsed = self._rehearsed or (run is not None and run.rehearse())
        steps = self.group.gather(run.step if run is not None and rehearsed else None)
        if run is None or None in steps:
            return None
        self._rehearsed = True
        if len(set(steps)) > 1:
            run = None  # its memory is needed
            run = self._begin_together(job, index, steps)
        try:
            outcome = run.loop(watch)
            self.ended(run)
            return outcome
        except torch.OutOfMemoryError:
            if self.group.world > 1:  # the other ranks wait for our gradients: end the group
                raise
            self._rehearsed = False
            return None

    def _begin_together(self, job: Job, index: MixtureIndex, steps: list[int | None]) -> Run:
        # Machines that share no disk, or one whose disk is damaged: only whole groups resume.
        log.warning(
            "%s: the ranks found checkpoints of different steps (%s); starting afresh. Put --runs "
            "on a disk that all machines share.",
            job.name,
            ", ".join(map(str, steps)),
        )
        self.group.free()
        return Run(self, job, index, resume=False)


class _References(Trainer):
    def ended(self, run: Run) -> None:
        """It is kept while its trial trains."""
        run.save_as(run.folder, run.fingerprint)
