"""weights -> a trained model: the training loop.

One `Trainer` serves a whole search. Everything a step needs is a function of its number (batch,
learning rate, random state), so a run that stops and resumes ends with the same weights, to the bit
on a CPU. Sizes are in tokens: a global batch is the same on one device or sixty-four.

Notation: T tokens a sequence, B sequences a step over all ranks, W ranks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from climb_opt import recipes
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.proxy import checkpoint, model
from climb_opt.proxy.data import Batches, MixtureIndex, Sequences
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.schedule import learning_rate
from climb_opt.recipes import ProxyRecipe
from climb_opt.shards import Corpus

log = logging.getLogger(__name__)

GPU_CHECK_EVERY = 20  # steps between looks at the gradient's norm: each look waits for the GPU


@dataclass(frozen=True)
class Job:
    """One trial, as plain data that every rank gets."""

    name: str  # its folder, e.g. "slot-3": a retry of the slot finds the checkpoint there
    mixture: Mapping[str, float]
    seed: int


@dataclass
class Outcome:
    """A trial's model, and what is known about its training."""

    model: Any
    status: Literal["finished", "pruned"]
    facts: dict[str, Any] = field(default_factory=dict)
    losses: np.ndarray | None = None  # (steps,) nats a token, this rank's share scaled to the mean


class Watch(Protocol):
    """Who looks at a trial while it trains."""

    def stop(self) -> bool:
        """Rank 0: whether the worker was asked to stop."""

    def report(self, model: Any, step: int) -> bool:
        """Every rank, every `report_every` steps: whether to give the trial up as hopeless."""


class TrainingLoss(torch.nn.Module):
    """Sum of the next-token losses: one module, so that projection and loss compile together."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Nats, summed over `tokens` (n, T + 1)."""
        logits = self.model(input_ids=tokens[:, :-1], use_cache=False).logits
        return F.cross_entropy(
            logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="sum"
        )


class Trainer:
    """Trains proxies of one recipe on one corpus.

    Raises:
        UserError: the recipe asks for no step, a batch smaller than the ranks, or a model that
            does not fit the corpus; before anything is trained.
    """

    def __init__(
        self, corpus: Corpus, recipe: ProxyRecipe, group: ProxyGroup, *, directory: Path
    ) -> None:
        self.corpus, self.recipe, self.group, self.directory = corpus, recipe, group, directory
        self.sequences = Sequences(corpus, recipe.sequence)
        self.batch, self.steps = plan(recipe, group.world)
        self.config = model.configure(recipe.model, corpus, recipe.sequence)
        self.micro = self._first_micro()
        self._rehearsed = False

    @property
    def tokens(self) -> int:
        """Tokens one trial trains on: whole steps."""
        return self.steps * self.batch * self.recipe.sequence

    def index(self, job: Job) -> MixtureIndex:
        """The order in which the trial reads its sequences.

        Raises:
            TrialFailed: the mixture repeats a domain more often than `max_epochs`.
        """
        index = MixtureIndex(
            self.sequences, job.mixture, total=self.steps * self.batch, seed=job.seed
        )
        limit = self.recipe.max_epochs
        if limit is not None:
            # One sequence of slack: the counts are rounded, and a shard's tail is not read.
            allowed = limit * np.array([d.tokens for d in self.corpus.domains])
            over = (index.counts - 1) * self.recipe.sequence > allowed
            if over.any():
                k = int(np.argmax(np.where(over, index.epochs, 0)))
                raise TrialFailed(
                    f"domain {self.sequences.domains[k]!r} would be repeated "
                    f"{index.epochs[k]:.2f} times; proxy.max_epochs is {limit:g}"
                )
        return index

    def train(self, job: Job, watch: Watch) -> Outcome:
        """Train the trial's proxy, or go on from its checkpoint.

        Raises:
            TrialFailed: the loss is not finite, or memory does not suffice even for half the
                micro-batch.
            Interrupted: `watch.stop()` said so; the checkpoint is on disk.
        """
        index = self.index(job)
        if (outcome := self._attempt(job, index, watch)) is not None:
            return outcome
        if self.micro == 1:
            raise TrialFailed("out of memory with a micro-batch of one sequence")
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
            f"out of memory with micro-batches of {self.micro * self.recipe.sequence} tokens too"
        )

    # --- one attempt ------------------------------------------------------------------------

    def _attempt(self, job: Job, index: MixtureIndex, watch: Watch) -> Outcome | None:
        # None: out of memory, on this rank or (found in the rehearsal) on any.
        try:
            run = _Run(self, job, index)
        except (torch.OutOfMemoryError, MemoryError):
            run = None
        rehearsed = self._rehearsed or (run is not None and run.rehearse())
        if not all(self.group.gather(rehearsed)) or run is None:
            return None
        self._rehearsed = True
        try:
            return run.loop(watch)
        except torch.OutOfMemoryError:
            if self.group.world > 1:  # the other ranks wait for our gradients: end the group
                raise
            self._rehearsed = False
            return None

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


def plan(recipe: ProxyRecipe, world: int) -> tuple[int, int]:
    """Sequences of a step and steps of a trial.

    Raises:
        UserError: not one whole step, or fewer sequences in a step than ranks.
    """
    batch = recipe.batch_tokens // recipe.sequence
    if batch < world:
        raise UserError(
            f"proxy.batch_tokens ({recipe.batch_tokens}) holds {batch} sequences of "
            f"{recipe.sequence} tokens, fewer than the {world} processes; raise it to at least "
            f"{world * recipe.sequence}."
        )
    steps = recipe.tokens // (batch * recipe.sequence)
    if steps < 1:
        raise UserError(
            f"proxy.tokens ({recipe.tokens}) is less than one step of {batch * recipe.sequence} "
            "tokens; train on more tokens or in smaller batches."
        )
    return batch, steps


class _Run:
    """The state of one trial in training."""

    def __init__(self, trainer: Trainer, job: Job, index: MixtureIndex) -> None:
        self.started = time.perf_counter()
        self.trainer, self.job, self.index = trainer, job, index
        self.recipe, self.group = trainer.recipe, trainer.group
        self.batches = Batches(index, batch=trainer.batch)
        self.folder = trainer.directory / job.name
        self.fingerprint = _fingerprint(trainer, job)
        self.step = 0
        self.model = model.build(self.recipe.model, trainer.config, seed=job.seed)
        self.losses = torch.zeros(trainer.steps)
        saved = checkpoint.load(self.folder, self.fingerprint)
        if saved is not None:
            self.step = saved["step"]
            self.model.load_state_dict(saved["model"])
            self.losses = saved["losses"]
        self.first = self.step
        self._prepare(None if saved is None else saved["optimizer"])

    def _prepare(self, optimizer_state: dict[str, Any] | None) -> None:
        device = self.group.device
        self.model.to(device)
        self.losses = self.losses.to(device)
        module = TrainingLoss(self.model)
        compiled = self.recipe.compile
        if device.type == "cuda" if compiled is None else compiled:
            module.compile(dynamic=False)
        optimizer = _optimizer(self.model, self.recipe)
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
        self.module, self.optimizer = self.group.accelerator.prepare(module, optimizer)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def rehearse(self) -> bool:
        """Whether one micro-batch and the optimiser's state fit in memory; changes nothing."""
        try:
            # AdamW allocates two tensors per parameter at its first step.
            later = [torch.empty_like(p) for p in self.parameters for _ in range(2)]
            tokens = self._tokens(self._read(self.step)[: self.trainer.micro])
            with self.group.accelerator.no_sync(self.module):
                self.group.accelerator.backward(self.module(tokens))
            del later
        except (torch.OutOfMemoryError, MemoryError):
            return False
        finally:
            self.optimizer.zero_grad()
        return True

    def loop(self, watch: Watch) -> Outcome:
        pulse = _Pulse(self.group, watch)
        self.module.train()
        begun = time.perf_counter()
        reader = _Reader(self, ahead=self.group.device.type == "cuda")
        norm = torch.zeros(())
        with reader:
            while self.step < self.trainer.steps:
                if pulse.stop_now(self.step):
                    self._save()
                    raise Interrupted(f"stopped at step {self.step} of {self.trainer.steps}")
                norm = self._one_step(reader.batch(self.step))
                self.step += 1
                last = self.step == self.trainer.steps
                if last or self.group.device.type == "cpu" or self.step % GPU_CHECK_EVERY == 0:
                    self._check(norm)
                if last:
                    break
                # once in a while: save
                if self.recipe.checkpoint_every and self.step % self.recipe.checkpoint_every == 0:
                    self._save()
                # once in a while: is there still hope?
                if self.recipe.report_every and self.step % self.recipe.report_every == 0:
                    if watch.report(self.model.eval(), self.step):
                        return Outcome(self.model, "pruned", self._facts(begun))
                    self.module.train()
        return Outcome(
            self.model.eval(), "finished", self._facts(begun), self.losses.cpu().numpy()
        )

    def _one_step(self, tokens: np.ndarray) -> torch.Tensor:
        accelerator, trainer = self.group.accelerator, self.trainer
        # Dropout, where a checkpoint has it, depends on the step and the rank only.
        torch.manual_seed(hash((self.job.seed, self.step, self.group.rank)) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step, trainer.steps)
        # DDP averages the ranks' gradients, but their shares may differ: hence W / (B T).
        scale = self.group.world / (trainer.batch * self.recipe.sequence)
        parts = np.split(tokens, range(trainer.micro, len(tokens), trainer.micro))
        with accelerator.no_sync(self.module):
            for part in parts[:-1]:
                self._backward(part, scale)
        self._backward(parts[-1], scale)
        norm = accelerator.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def _backward(self, part: np.ndarray, scale: float) -> None:
        loss = self.module(self._tokens(part)) * scale
        self.losses[self.step] += loss.detach()
        self.group.accelerator.backward(loss)

    def _check(self, norm: torch.Tensor) -> None:
        # The norm is taken after the ranks' gradients were added: a NaN on one shows on all.
        if not bool(torch.isfinite(norm)):
            checkpoint.remove(self.folder)
            raise TrialFailed(f"the loss is not finite at step {self.step}")

    def _read(self, step: int) -> np.ndarray:
        return self.batches.read(step, self.group.rank, self.group.world)

    def _tokens(self, part: np.ndarray) -> torch.Tensor:
        tokens = torch.from_numpy(part.astype(np.int64))
        if self.group.device.type == "cuda":
            return tokens.pin_memory().to(self.group.device, non_blocking=True)
        return tokens

    def _save(self) -> None:
        if self.group.is_main:
            state = {
                "step": self.step,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "losses": self.losses,
            }
            size = checkpoint.save(self.folder, self.fingerprint, state)
            log.debug("%s: step %d saved, %.1f MB", self.job.name, self.step, size / 1e6)
        self.group.share(None)  # nobody goes on before the file is there

    def _facts(self, begun: float) -> dict[str, Any]:
        if self.group.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        done = (self.step - self.first) * self.trainer.batch * self.recipe.sequence
        names = self.trainer.sequences.domains
        recent = self.losses[: self.step][-max(self.step // 10, 1) :].mean()
        return {
            "tokens": self.step * self.trainer.batch * self.recipe.sequence,
            "steps": self.step,
            "resumed_at": self.first,
            "epochs": {n: float(e) for n, e in zip(names, self.index.epochs, strict=True)},
            "train_loss": float(self.group.accelerator.reduce(recent, reduction="mean")),
            "train_seconds": now - begun,
            "setup_seconds": begun - self.started,
            "tokens_per_second": done / max(now - begun, 1e-9),
            "devices": self.group.devices,
            "precision": self.group.accelerator.mixed_precision,
            "micro_batch_tokens": self.trainer.micro * self.recipe.sequence,
            **model.count_parameters(self.model),
        }


class _Pulse:
    """Every rank asks rank 0 at the same steps, about once a second, whether to stop."""

    def __init__(self, group: ProxyGroup, watch: Watch) -> None:
        self.group, self.watch = group, watch
        self.next, self.asked_at, self.asked_step = 0, time.perf_counter(), 0

    def stop_now(self, step: int) -> bool:
        if step < self.next:
            return False
        if self.group.world == 1:
            return self.watch.stop()
        stop, self.next = self.group.share(self._answer(step) if self.group.is_main else None)
        return stop

    def _answer(self, step: int) -> tuple[bool, int]:
        now = time.perf_counter()
        rate = (step - self.asked_step) / max(now - self.asked_at, 1e-9)  # steps a second
        self.asked_at, self.asked_step = now, step
        return self.watch.stop(), step + max(1, int(rate))


class _Reader:
    """The batches of a run; on a GPU the next one is read while this one trains."""

    def __init__(self, run: _Run, *, ahead: bool) -> None:
        self.run = run
        self.pool = ThreadPoolExecutor(1) if ahead else None
        self.next: tuple[int, Future] | None = None

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def batch(self, step: int) -> np.ndarray:
        if self.pool is None:
            return self.run._read(step)
        current = self.next[1] if self.next and self.next[0] == step else None
        tokens = current.result() if current else self.run._read(step)
        if step + 1 < self.run.trainer.steps:
            self.next = (step + 1, self.pool.submit(self.run._read, step + 1))
        return tokens


def _optimizer(network: Any, recipe: ProxyRecipe) -> torch.optim.Optimizer:
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def _fingerprint(trainer: Trainer, job: Job) -> str:
    # Where the model runs and how often it is saved may change between attempts; the rest not.
    free = ("checkpoint_every", "report_every", "keep", "compile", "micro_batch_tokens", "timeout")
    recipe = json.loads(recipes.to_json(trainer.recipe))
    facts = [
        dict(sorted(job.mixture.items())),
        job.seed,
        {k: v for k, v in recipe.items() if k not in free},
        trainer.corpus.digest,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
