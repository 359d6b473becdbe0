"""Gradients of sums, in single precision, over all ranks of a group.

Terms come one at a time and give their graph back before the next, so that memory holds the model
and a few vectors of its size, however much text is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from climb_opt.doubles import in_double
from climb_opt.proxy.data import MixtureIndex, Sequences
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.loss import TrainingLoss, can_chunk

BATCH_TOKENS = 2**12  # whose graph is held at once
CHUNK = 2**24  # entries whose products are added up in double precision at once


@dataclass(frozen=True)
class Sample:
    """Some of a corpus's sequences: their numbers `ids` (n,)."""

    sequences: Sequences
    ids: np.ndarray

    @property
    def tokens(self) -> int:
        """Tokens whose losses count."""
        return len(self.ids) * self.sequences.length

    def halves(self) -> tuple[Sample, Sample]:
        """Every other sequence, and the rest; of a single one that one twice."""
        if len(self.ids) == 1:
            return self, self
        first, second = (Sample(self.sequences, self.ids[half::2]) for half in (0, 1))
        return first, second


class Exact:
    """An accelerator as evaluators know it, without mixed precision."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def autocast(self) -> Any:
        """Nothing is cast."""
        return nullcontext()


@contextmanager
def single_precision() -> Iterator[None]:
    """Within it matrices are multiplied in float32 also on GPUs that have something faster."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Differentiator:
    """Gradients (P,) of sums with respect to all of a model's parameters, on its device.

    The model is as its last step left it, in eval mode; tied matrices count once.
    """

    def __init__(self, network: Any, group: ProxyGroup) -> None:
        self.network, self.group = network.eval(), group
        self.accelerator = Exact(group.accelerator)
        self.names, self.parameters = zip(*network.named_parameters(), strict=True)
        self.size = sum(p.numel() for p in self.parameters)
        for parameter in self.parameters:
            parameter.requires_grad_(True)

    def of(self, terms: Iterable[torch.Tensor]) -> torch.Tensor:
        """The gradient of the sum of all ranks' terms."""
        total = torch.cat([torch.zeros_like(p).flatten() for p in self.parameters])
        for term in terms:  # not `backward`, whose hooks a run on several devices listens to
            total += self.flat(torch.autograd.grad(term, self.parameters, allow_unused=True))
        return self.add_up(total)

    def flat(self, parts: Iterable[torch.Tensor | None]) -> torch.Tensor:
        """One vector (P,) of a tensor for each parameter; None is 0."""
        pairs = zip(self.parameters, parts, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])

    def shaped(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """A vector (P,) as tensors by the parameters' names."""
        parts = vector.split([p.numel() for p in self.parameters])
        named = zip(self.names, self.parameters, parts, strict=True)
        return {name: part.view_as(parameter) for name, parameter, part in named}

    def add_up(self, vector: torch.Tensor) -> torch.Tensor:
        """The sum of all ranks' vectors."""
        return self.group.accelerator.reduce(vector, reduction="sum")

    # --- training losses --------------------------------------------------------------------

    def terms(self, sample: Sample) -> Iterator[torch.Tensor]:
        """What this rank adds to the mean loss of a sample, nats a token."""
        chunked = self.group.device.type == "cpu" and can_chunk(self.network)
        module = TrainingLoss(self.network, chunked=chunked)
        for part in self.batches(sample):
            yield module(part) / sample.tokens

    def batches(self, sample: Sample) -> Iterator[torch.Tensor]:
        """This rank's part of a sample as tokens (b, T + 1), a few at a time."""
        mine = sample.ids[self.group.rank :: self.group.world]
        rows = max(1, BATCH_TOKENS // sample.sequences.length)
        for start in range(0, len(mine), rows):
            read = sample.sequences.read(mine[start : start + rows]).astype(np.int64)
            yield torch.from_numpy(read).to(self.group.device)


def of_mixture(sequences: Sequences, mixture: dict[str, float], tokens: int, seed: int) -> Sample:
    """What a run of that many tokens on a mixture reads; of a domain at least a sequence."""
    total = max(tokens // sequences.length, sum(weight > 0 for weight in mixture.values()), 1)
    index = MixtureIndex(sequences, mixture, total=total, seed=seed)
    return Sample(sequences, index.ids(0, total))


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """a . b of vectors (P,), added up in double precision, wherever they lie."""
    pairs = zip(a.split(CHUNK), b.split(CHUNK), strict=True)
    return float(sum(torch.dot(in_double(x), in_double(y.to(x.device))) for x, y in pairs))
