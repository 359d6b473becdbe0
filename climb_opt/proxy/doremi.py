"""DoReMi (Xie et al., arXiv 2305.10429): domain weights from one group-DRO training run.

A reference proxy is trained on the reference mixture. A second proxy reads every domain equally
often while the weights move towards the domains in which it trails the reference most; their
average over the steps is the mixture.

Algorithm 1, in its notation, at step t with a batch B drawn uniformly over K domains:
    lambda_i = mean over tokens of domain i in B of max(loss - reference loss, 0)
    alpha'   = alpha_{t-1} exp(eta lambda),    alpha_t = (1 - c) alpha' / sum alpha' + c / K
    theta    : one step on sum_i alpha_t[i] x (mean token loss of domain i in B)
Result: the mean of alpha_1 .. alpha_T.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from climb_opt import recipes
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.proxy import checkpoint, model
from climb_opt.proxy.data import Batches, MixtureIndex
from climb_opt.proxy.job import Job, Watch
from climb_opt.proxy.optimizer import adamw, restore_optimizer
from climb_opt.proxy.schedule import learning_rate
from climb_opt.proxy.train import Trainer

log = logging.getLogger(__name__)

ETA = 1.0  # step size of the weights (Section 3)
SMOOTHING = 1e-3  # c: every domain keeps at least this share of uniform (Section 3)


@dataclass(frozen=True)
class DoReMiResult:
    """The averaged weights, and what they cost. `path` (T, K) holds alpha of every step."""

    mixture: dict[str, float]
    path: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reweighting:
    """What the second run is a function of, beside its trainer.

    Args:
        name: the folder of the two runs' checkpoints.
        eta, smoothing: as in the module's docstring.

    Raises:
        UserError: eta or smoothing out of range.
    """

    name: str = "doremi"
    seed: int = 0
    eta: float = ETA
    smoothing: float = SMOOTHING

    def __post_init__(self) -> None:
        if not self.eta > 0 or not 0 <= self.smoothing < 1:
            raise UserError(
                "doremi: eta must be positive and smoothing in [0, 1), but are "
                f"{self.eta}, {self.smoothing}."
            )


def train_doremi(
    trainer: Trainer,
    watch: Watch,
    *,
    reference: Mapping[str, float],
    job: Reweighting = Reweighting(),
) -> DoReMiResult:
    """Train reference and proxy, both of the trainer's recipe; called on every rank.

    With `average` in the recipe, the proxy is compared with the mean of the reference's weights.

    Stopped and called again, it resumes both from their checkpoints under `trainer.directory`.

    Args:
        watch: as for `Trainer.train`; its `report` is never asked.
        reference: the mixture the reference is trained on, domain -> weight.

    Raises:
        TrialFailed: a loss that is not finite.
        Interrupted: the worker was asked to stop; state is saved.
    """
    started = time.perf_counter()
    name, seed = job.name, job.seed
    outcome = trainer.train(Job(f"{name}-reference", dict(reference), seed), watch)
    run = _GroupDRO(trainer, outcome.model, job)
    path = run.loop(watch)
    for part in (f"{name}-reference", name):
        if trainer.group.is_main:
            checkpoint.remove(trainer.directory / part)
    mean = path.mean(axis=0)
    facts = {
        "tokens": 2 * trainer.tokens,
        "seconds": time.perf_counter() - started,
        "reference_loss": outcome.facts.get("train_loss"),
        **model.count_parameters(outcome.model),
    }
    domains = trainer.sequences.domains
    mixture = {d: float(w) for d, w in zip(domains, mean / mean.sum(), strict=True)}
    return DoReMiResult(mixture, path, facts)


class _GroupDRO:
    """The second run: a proxy and its weights."""

    def __init__(self, trainer: Trainer, reference: Any, job: Reweighting) -> None:
        self.trainer, self.job, self.group = trainer, job, trainer.group
        self.recipe = trainer.recipe
        self.k = len(trainer.sequences.domains)
        uniform = dict.fromkeys(trainer.sequences.domains, 1.0)
        index = MixtureIndex(
            trainer.sequences, uniform, total=trainer.steps * trainer.batch, seed=job.seed
        )
        self.index, self.batches = index, Batches(index, batch=trainer.batch)
        self.folder = trainer.directory / job.name
        self.reference = reference.to(self.group.device).eval().requires_grad_(False)
        self._begin()
        checkpoint.resume(self.folder, self._fingerprint(), self._restore, begin=self._begin)
        self._prepare()

    def _begin(self) -> None:
        self.step = 0
        self.alpha = np.full(self.k, 1.0 / self.k)
        self.excess = np.zeros(self.k)
        self.path = np.zeros((self.trainer.steps, self.k))
        proxy = model.build(self.recipe.model, self.trainer.config, seed=self.job.seed)
        self.proxy = proxy.to(self.group.device)
        self.optimizer = adamw(self.proxy, self.recipe)

    def _restore(self, saved: dict[str, Any]) -> None:
        step, arrays = saved["step"], [saved[name].numpy() for name in ("alpha", "excess", "path")]
        expected = [self.alpha.shape, self.excess.shape, self.path.shape]
        if not isinstance(step, int) or [array.shape for array in arrays] != expected:
            raise ValueError(f"step {step!r}, arrays of shapes {[array.shape for array in arrays]}")
        self.proxy.load_state_dict(saved["model"])
        restore_optimizer(self.optimizer, saved["optimizer"])
        self.step, (self.alpha, self.excess, self.path) = step, arrays

    def _prepare(self) -> None:
        self.module, self.optimizer = self.group.accelerator.prepare(
            _TokenLoss(self.proxy), self.optimizer
        )

    def loop(self, watch: Watch) -> np.ndarray:
        self.module.train()
        while self.step < self.trainer.steps:
            if self.group.share(watch.stop() if self.group.is_main else None):
                self._save()
                raise Interrupted(f"doremi stopped at step {self.step} of {self.trainer.steps}")
            self._one_step()
            self.step += 1
            every = self.recipe.checkpoint_every
            if every and self.step % every == 0:
                self._save()
        return self.path

    def _one_step(self) -> None:
        group, trainer = self.group, self.trainer
        torch.manual_seed(hash((self.job.seed, self.step, group.rank)) % 2**63)
        for options in self.optimizer.param_groups:
            options["lr"] = learning_rate(self.recipe, self.step, trainer.steps)
        ids = self.batches.ids(self.step, group.rank, group.world)
        parts = [ids[i : i + trainer.micro] for i in range(0, len(ids), trainer.micro)]
        counts, excess = self._measure(parts)
        self._move_weights(counts, excess)
        self.path[self.step] = self.alpha
        for number, part in enumerate(parts):
            if number + 1 < len(parts):
                with group.accelerator.no_sync(self.module):
                    self._backward(part, counts)
            else:
                self._backward(part, counts)
        norm = group.accelerator.clip_grad_norm_(self.proxy.parameters(), self.recipe.clip)
        if not bool(torch.isfinite(norm)):
            checkpoint.remove(self.folder)
            raise TrialFailed(f"doremi: the loss is not finite at step {self.step}")
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _measure(self, parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and summed excess loss of each domain (K,) in this step, over all ranks."""
        counts, excess = np.zeros(self.k), np.zeros(self.k)
        self.module.eval()
        for part in parts:
            tokens, domains = self._tokens(part), self.index.domain_of(part)
            with torch.no_grad():
                behind = _token_losses(self.proxy, tokens) - _token_losses(self.reference, tokens)
            trailing = behind.clamp(min=0.0).sum(dim=1).double().cpu().numpy()
            np.add.at(counts, domains, tokens.shape[1] - 1)
            np.add.at(excess, domains, trailing)
        self.module.train()
        both = torch.from_numpy(np.stack([counts, excess])).to(self.group.device)
        counts, excess = self.group.accelerator.reduce(both, reduction="sum").cpu().numpy()
        return counts, excess

    def _move_weights(self, counts: np.ndarray, excess: np.ndarray) -> None:
        # A domain without a sequence in this batch keeps its last excess, as in the authors' code.
        seen = counts > 0
        self.excess[seen] = excess[seen] / counts[seen]
        self.alpha = move_weights(self.alpha, self.excess, self.job.eta, self.job.smoothing)

    def _backward(self, part: np.ndarray, counts: np.ndarray) -> None:
        domains = self.index.domain_of(part)
        # DDP averages the ranks' gradients, so each rank's share counts `world` times.
        share = self.group.world * self.alpha[domains] / counts[domains]
        weights = torch.from_numpy(share).float().to(self.group.device)
        loss = (self.module(self._tokens(part)).sum(dim=1) * weights).sum()
        self.group.accelerator.backward(loss)

    def _tokens(self, part: np.ndarray) -> torch.Tensor:
        tokens = self.trainer.sequences.read(part).astype(np.int64)
        return torch.from_numpy(tokens).to(self.group.device)

    def _save(self) -> None:
        if self.group.is_main:
            state = {
                "step": self.step,
                "model": self.proxy.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "alpha": torch.from_numpy(self.alpha),
                "excess": torch.from_numpy(self.excess),
                "path": torch.from_numpy(self.path),
            }
            checkpoint.save(self.folder, self._fingerprint(), state)
        self.group.share(None)  # nobody goes on before the file is there

    def _fingerprint(self) -> str:
        recipe = asdict(self.recipe)
        if not recipe["average"]:
            del recipe["average"]  # as before there was such a key; else it is the reference's
        facts = [
            self.trainer.corpus.digest,
            json.dumps(recipe, sort_keys=True),
            recipes.to_json(self.job),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


class _TokenLoss(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return _token_losses(self.network, tokens)


def _token_losses(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Nats (n, T) of every token of `tokens` (n, T + 1) but the first."""
    logits = network(input_ids=tokens[:, :-1], use_cache=False).logits
    losses = F.cross_entropy(
        logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none"
    )
    return losses.view(tokens.shape[0], -1)


def move_weights(
    alpha: np.ndarray, excess: np.ndarray, eta: float = ETA, smoothing: float = SMOOTHING
) -> np.ndarray:
    """alpha_t (K,) from alpha_{t-1} and the excess losses lambda (K,)."""
    logs = np.log(alpha) + eta * excess
    raised = np.exp(logs - logs.max())
    return (1.0 - smoothing) * raised / raised.sum() + smoothing / len(alpha)
