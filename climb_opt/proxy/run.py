"""One trial in training: the loop.

Everything a step needs is a function of its number (batch, learning rate, random state), so a run
that stops and resumes ends with the same weights, to the bit on a CPU.

Notation: T tokens a sequence, B sequences a step over all ranks, W ranks.
"""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from climb_opt.errors import Diverged, Interrupted
from climb_opt.proxy import checkpoint, model
from climb_opt.proxy.data import Batches, MixtureIndex, Reader
from climb_opt.proxy.group import Pulse
from climb_opt.proxy.job import Job, Outcome, Watch
from climb_opt.proxy.loss import TrainingLoss, can_chunk
from climb_opt.proxy.optimizer import Average, adamw, restore_optimizer
from climb_opt.proxy.reweight.steering import Steering
from climb_opt.proxy.schedule import stable_steps
from climb_opt.proxy.setup import Setup

log = logging.getLogger(__name__)

LOOK_EVERY = 20  # steps between looks at the loss and, on a GPU, at the norm: each waits for it


class Run:
    """The state of one trial: model, optimiser, step. Goes on from a checkpoint if there is one.

    Args:
        resume: whether a checkpoint may be used.
    """

    def __init__(
        self, trainer: Setup, job: Job, index: MixtureIndex, *, resume: bool = True
    ) -> None:
        self._started = time.perf_counter()
        self.trainer, self.job, self.index = trainer, job, index
        self.recipe, self.group = trainer.recipe, trainer.group
        self._batches = Batches(index, batch=trainer.batch)
        self.folder = trainer.directory / job.name
        self.fingerprint = trainer.fingerprint(job)
        self._report_seconds, self._norm = 0.0, torch.zeros(())
        self._begin()
        if resume:
            checkpoint.resume(self.folder, self.fingerprint, self._restore, begin=self._begin)
        if resume and not self.step:
            self._go_on()
        if not self.step and trainer.start is not None:
            self._restore_trunk(trainer.start.load())
        self._first = self.step
        self._prepare()

    def rehearse(self) -> bool:
        """Whether one micro-batch and the optimiser's state fit in memory; changes nothing."""
        if self.step == self.trainer.steps:
            return True
        before = max(self.step - 1, 0)  # what the next step reads a method may not have said yet
        try:
            # AdamW allocates two tensors per parameter at its first step.
            later = [torch.empty_like(p) for p in self.parameters for _ in range(2)]
            with self.group.accelerator.no_sync(self.module):
                self._backward(self.read(before)[: self.trainer.micro], scale=0.0)
            del later
        except (torch.OutOfMemoryError, MemoryError):
            return False
        finally:
            self.optimizer.zero_grad()
        return True

    def loop(self, watch: Watch) -> Outcome:
        """Train to the last step.

        Raises:
            TrialFailed: the loss is not finite, on any rank.
            Interrupted: `watch.stop()` said so; the checkpoint is on disk.
        """
        begun = time.perf_counter()
        pulse = Pulse(self.group, watch)
        hopeless = False
        ahead = self.group.device.type == "cuda"
        with (
            Reader(self.read, lambda: self.batches.steps, ahead=ahead) as reader,
            self.group.curves.of(self) as look,
        ):
            while self.step < self.trainer.steps and not hopeless:
                if pulse.stop_now(self.step):
                    self._save()
                    raise Interrupted(f"stopped at step {self.step} of {self.trainer.steps}")
                if self.steering is not None:
                    self.steering.before(self.step)
                self._one_step(reader.batch(self.step))
                self.step += 1
                self.average.add(self.model, self.step)
                if self.group.device.type == "cpu" or self.step % LOOK_EVERY == 0:
                    self._check()
                if self.step % LOOK_EVERY == 0:
                    look()
                trunk = self.trainer.trunk
                if trunk is not None and self.trainer.leaves_trunk and self.step == self._stable:
                    self.save_as(trunk.folder(self.job), trunk.fingerprint(self.job))
                if self._every(self.recipe.checkpoint_every):
                    self._save()
                # once in a while: is there still hope?
                if self._every(self.recipe.report_every):
                    hopeless = self._report(watch)
        self._check()
        if self.steering is not None and not hopeless:
            self.steering.finish()
        self._share_losses()
        network, facts = self.average.of(self.model, self.step).eval(), self._facts(begun)
        losses = self.losses.cpu().numpy()
        return Outcome(network, "pruned" if hopeless else "finished", facts, losses=losses)

    def save_as(self, folder: Path, fingerprint: str) -> None:
        """Write the state, on rank 0; all ranks go on when it is there."""
        self._check()  # a NaN must not be resumed
        self._share_losses()
        steered = {} if self.steering is None else {"reweight": self.steering.state()}
        if self.group.is_main:
            state = {
                "step": self.step,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "losses": self.losses,
                "paid_from": self.paid_from,
                **self.average.state(self.step),
                **steered,
            }
            size = checkpoint.save(folder, fingerprint, state)
            log.debug("%s: step %d saved, %.1f MB", self.job.name, self.step, size / 1e6)
        self.group.share(None)  # nobody goes on before the file is there

    @property
    def batches(self) -> Batches:
        """What each step reads: of a method that changes it, as far as it is decided."""
        return self._batches if self.steering is None else self.steering.batches

    def read(self, step: int) -> np.ndarray:
        """This rank's tokens (n, T + 1) of a step."""
        return self.batches.read(step, self.group.rank, self.group.world)

    # --- private ----------------------------------------------------------------------------

    def _begin(self) -> None:
        trainer, device = self.trainer, self.group.device
        network = model.build(self.recipe.model, trainer.config, seed=self.job.seed)
        self.model = network.to(device)
        self.step, self.losses = 0, torch.zeros(trainer.steps, device=device)
        self.paid_from = 0  # the step up to which the rung below trained
        self.optimizer = adamw(self.model, self.recipe)
        self.average = Average(self.model, self.recipe.average, trainer.steps)
        self.steering: Steering | None = None
        if self.recipe.reweight is not None:
            self.steering = Steering(trainer, self.job, self.model, trainer.reference)

    def _restore(self, saved: dict[str, Any]) -> None:
        steps, step, losses = self.trainer.steps, saved["step"], saved["losses"]
        if not isinstance(step, int) or not 0 <= step <= steps or losses.shape != (steps,):
            raise ValueError(f"step {step!r} of {steps}, losses of {len(losses)} steps")
        self.paid_from = saved.get("paid_from", 0)
        self.model.load_state_dict(saved["model"])
        restore_optimizer(self.optimizer, saved["optimizer"])
        self.average.restore(saved, step)
        if self.steering is not None:
            self.steering.load(saved["reweight"])
        self.step, self.losses = step, losses.to(self.group.device)

    @property
    def _stable(self) -> int:
        return stable_steps(self.recipe, self.trainer.steps)

    def _go_on(self) -> None:
        """Go on from the trunk that the rung below left, if it is there."""
        trunk = self.trainer.trunk

        def restore(saved: dict[str, Any]) -> None:
            if saved["step"] > self._stable:  # left by a longer run, which this one does not follow
                raise ValueError(f"step {saved['step']}, but this run is stable for {self._stable}")
            self._restore_trunk(saved)

        if trunk is not None and self.recipe.go_on:
            folder, name = trunk.folder(self.job), trunk.fingerprint(self.job)
            checkpoint.resume(folder, name, restore, begin=self._begin)

    def _restore_trunk(self, saved: dict[str, Any]) -> None:
        """Take up a state that another run has paid for."""
        losses = torch.zeros(self.trainer.steps)
        losses[: saved["step"]] = saved["losses"][: saved["step"]]
        self._restore({**saved, "losses": losses, "paid_from": saved["step"]})

    def _prepare(self) -> None:
        compiled = self.trainer.compiled
        chunked = self.group.device.type == "cpu" and not compiled and can_chunk(self.model)
        module = TrainingLoss(self.model, chunked=chunked).train()
        if compiled:
            module.compile(dynamic=False)
        self.module, self.optimizer = self.group.accelerator.prepare(module, self.optimizer)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def _one_step(self, tokens: np.ndarray) -> None:
        accelerator, trainer = self.group.accelerator, self.trainer
        # Dropout, where a checkpoint has it, depends on the step and the rank only.
        torch.manual_seed(hash((self.job.seed, self.step, self.group.rank)) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = trainer.rate(self.step)
        # DDP averages the ranks' gradients, but their shares may differ: hence W / (B T).
        scale = self.group.world / (trainer.batch * self.recipe.sequence)
        weighed = None if self.steering is None else self.steering.shares(self.step)
        parts = range(0, len(tokens), trainer.micro)
        for start in parts:
            part = slice(start, start + trainer.micro)
            last = start == parts[-1]
            with nullcontext() if last else accelerator.no_sync(self.module):
                self._backward(tokens[part], scale, weighed and [w[part] for w in weighed])
        if self.steering is not None:
            self.steering.after(self.step)
        self._norm = accelerator.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _backward(
        self, part: np.ndarray, scale: float, weighed: list[torch.Tensor] | None = None
    ) -> None:
        if weighed is None or self.steering is None:
            mean = loss = self.module(self._tokens(part)) * scale
        else:
            shares, domains = weighed
            loss, each = self.module(self._tokens(part), shares)
            self.steering.count(domains, each)
            mean = each.sum() * scale
        self.losses[self.step] += mean.detach()
        self.group.accelerator.backward(loss)

    def _tokens(self, part: np.ndarray) -> torch.Tensor:
        tokens = torch.from_numpy(part.astype(np.int64))
        pinned = self.group.device.type == "cuda"
        return (tokens.pin_memory() if pinned else tokens).to(
            self.group.device, non_blocking=pinned
        )

    def _every(self, steps: int | None) -> bool:
        return steps is not None and self.step % steps == 0 and self.step < self.trainer.steps

    def _check(self) -> None:
        # The norm is taken after the ranks' gradients were added: a NaN on one shows on all.
        if not bool(torch.isfinite(self._norm)):
            raise Diverged(f"the loss is not finite at step {self.step}; {self.trainer.cure}")

    def _share_losses(self) -> None:
        self.losses = self.group.accelerator.reduce(self.losses, reduction="mean")

    def _report(self, watch: Watch) -> bool:
        begun = time.perf_counter()
        hopeless = watch.report(self.average.of(self.model, self.step).eval(), self.step)
        self.module.train()
        self._report_seconds += time.perf_counter() - begun
        return hopeless

    def _save(self) -> None:
        self.save_as(self.folder, self.fingerprint)

    def _facts(self, begun: float) -> dict[str, Any]:
        if self.group.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begun - self._report_seconds
        steering, batch, steps = self.steering, self.trainer.batch, self.step - self._first
        tokens, flops = self.trainer.used(self.paid_from, self.step)
        read = self.index.facts(batch) if steering is None else steering.facts(self.step)
        return {
            "tokens": tokens,
            "steps": self.step,
            "flops": flops,
            **({"went_on_at": self.paid_from} if self.paid_from else {}),
            "resumed_at": self._first,
            **read,
            "train_loss": float(self.losses[: self.step][-max(self.step // 10, 1) :].mean()),
            "train_seconds": seconds,
            "setup_seconds": begun - self._started,
            "report_seconds": self._report_seconds,
            "tokens_per_second": steps * batch * self.recipe.sequence / max(seconds, 1e-9),
            "device": self.group.device_name,
            "devices": self.group.world,
            "precision": self.group.accelerator.mixed_precision,
            "micro_batch_tokens": self.trainer.micro * self.recipe.sequence,
            **model.count_parameters(self.model),
        }
