"""The right answers' bits per byte as sums that have a gradient.

A task's `bpb` is a weighted sum over its documents, of the likeliest right answer where there are
several: a minimum, whose gradient is that of the least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from climb_opt.evaluators.answers import BPB, Asked, Document, try_out
from climb_opt.evaluators.language_model import ProxyLM, Request
from climb_opt.evaluators.scores import add_up
from climb_opt.evaluators.tasks import LoadedTask


def bits_name(task: LoadedTask) -> str:
    """The component that has a gradient."""
    return f"{task.name}/{BPB[0]}"


def shares(task: LoadedTask, documents: Sequence[Document]) -> np.ndarray:
    """What a bit per byte of any document of each part (parts,) adds to the component.

    Found by lm-eval's own aggregation, which is linear, on answers of one part that all have 1.
    """
    answers = [a for a in try_out(task, list(documents)) if BPB in a.values]
    found = []
    for part in range(len(task.parts)):
        ones = [replace(a, values={**a.values, BPB: float(a.part == part)}) for a in answers]
        count = sum(answer.part == part for answer in answers)
        found.append(add_up(task, ones)[bits_name(task)] / count if count else 0.0)
    return np.array(found)


def terms(asked: Sequence[Asked], lm: ProxyLM, share: np.ndarray) -> Iterator[torch.Tensor]:
    """What this rank's documents add to the component, batch by batch, each with a graph."""
    pairs = [(document, requests) for document, requests in asked if document.right]
    chosen = [(d, _least(d, requests, lm)) for d, requests in pairs]
    weight = np.array([share[d.part] / _bits(request) for d, request in chosen])
    for places, nats in lm.answer_nats([request for _, request in chosen]):
        yield (nats * torch.from_numpy(weight[places]).to(nats.device)).sum()


def tokens_read(asked: Sequence[Asked]) -> int:
    """Tokens of the questions with their right answers."""
    return sum(
        len(before) + len(after)
        for document, requests in asked
        for _, before, after in (requests[i] for i in document.right)
    )


def _least(document: Document, requests: Sequence[Request], lm: ProxyLM) -> Request:
    right = [requests[i] for i in document.right]
    if len(right) == 1:
        return right[0]
    found: list[Any] = lm._loglikelihood_tokens(right)
    bits = [-nats / _bits(request) for (nats, _), request in zip(found, right, strict=True)]
    return right[int(np.argmin(bits))]


def _bits(request: Request) -> float:
    """Nats that are one bit per byte of the answer."""
    (_, text), _, _ = request
    return math.log(2) * len(text.encode())
