"""The right answers' bits per byte as sums: over tokens, and with a gradient.

`<task>/bpb` is a weighted sum over documents of the bits of the right answer by its bytes, and so
over tokens. Of several right answers a model takes its likeliest: a minimum, whose gradient is that
of the least. An ensemble takes their mean, and knows nothing of what a group's file weighs.
Accuracies compare sums of logarithms, and are no sum over tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from climb_opt.evaluators.answers import BPB, Asked, Document, add_up, tokenise, try_out
from climb_opt.evaluators.language_model import ProxyLM, Request
from climb_opt.evaluators.tasks import LoadedTask


class RightAnswers:
    """The right answers of some tasks: the tokens that an ensemble needs, and what each adds up to.

    Args:
        documents: task name -> its documents.
    """

    def __init__(
        self, tasks: Sequence[LoadedTask], documents: Mapping[str, Sequence[Document]], lm: ProxyLM
    ) -> None:
        self._lm = lm
        self._asked: list[list[Request]] = []  # requests of each document
        self._weights: list[tuple[str, float]] = []  # the component of each, and its documents
        for task in tasks:
            marked = [d for d in documents[task.name] if d.right and not d.rolling]
            if task.group is None and marked:
                self._asked += map(_right, tokenise(marked, lm))
                self._weights += [(bits_name(task), 1.0 / len(marked))] * len(marked)

    def shares(self) -> dict[str, np.ndarray]:
        """Component -> (n,) share of each token's nats."""
        sizes = [sum(len(after) for _, _, after in own) for own in self._asked]
        ends = np.cumsum([0, *sizes]).tolist()
        found = {name: np.zeros(ends[-1]) for name, _ in self._weights}
        for own, (name, weight), start in zip(self._asked, self._weights, ends, strict=False):
            for (_, text), _, after in own:
                share = weight / (len(own) * math.log(2) * len(text.encode()))
                found[name][start : start + len(after)] = share
                start += len(after)
        return found

    def nats(self, model: Any, accelerator: Any) -> np.ndarray:
        """(n,) nats of each token, on every rank."""
        rank, world = int(accelerator.process_index), int(accelerator.num_processes)
        mine = range(rank, len(self._asked), world)
        self._lm.attach(model, accelerator)
        said = iter(self._lm.token_nats([r for place in mine for r in self._asked[place]]))
        own = [(place, [next(said) for _ in self._asked[place]]) for place in mine]
        self._lm.attach(None, None)
        every = sorted(gather_object(own), key=lambda pair: pair[0])
        return np.concatenate([np.zeros(0), *(nats for _, found in every for nats in found)])


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
    chosen = [(one[0].part, _least(_right(one), lm)) for one in asked if one[0].right]
    weight = np.array([share[part] / _bits(request) for part, request in chosen])
    for places, nats in lm.answer_nats([request for _, request in chosen]):
        yield (nats * torch.from_numpy(weight[places]).to(nats.device)).sum()


def tokens_read(asked: Sequence[Asked]) -> int:
    """Tokens of the questions with their right answers."""
    return sum(len(before) + len(after) for one in asked for _, before, after in _right(one))


def _right(asked: Asked) -> list[Request]:
    document, requests = asked
    return [requests[place] for place in document.right]


def _least(right: list[Request], lm: ProxyLM) -> Request:
    if len(right) == 1:
        return right[0]
    found: list[Any] = lm._loglikelihood_tokens(right)
    bits = [-nats / _bits(request) for (nats, _), request in zip(found, right, strict=True)]
    return right[int(np.argmin(bits))]


def _bits(request: Request) -> float:
    """Nats that are one bit per byte of the answer."""
    (_, text), _, _ = request
    return math.log(2) * len(text.encode())
