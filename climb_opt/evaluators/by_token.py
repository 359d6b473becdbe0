"""What an ensemble needs of lm-eval tasks: the tokens of right answers, and what each adds up to.

`<task>/bpb` is the mean over documents of the bits of the right answer by its bytes: a sum over
tokens. Of several right answers an ensemble takes the mean, where a model takes its likeliest.
Accuracies compare sums of logarithms, and are no sum over tokens; nor is here what a group's file
weighs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from accelerate.utils import gather_object

from climb_opt.evaluators.answers import Asked, Document, tokenise
from climb_opt.evaluators.language_model import ProxyLM
from climb_opt.evaluators.tasks import LoadedTask


class RightAnswers:
    """The right answers of some tasks.

    Args:
        documents: task name -> its documents.
    """

    def __init__(
        self,
        tasks: Sequence[LoadedTask],
        documents: Mapping[str, Sequence[Document]],
        lm: ProxyLM,
    ) -> None:
        self._lm = lm
        self._asked: list[list[Any]] = []  # requests of each document
        self._weights: list[tuple[str, float]] = []  # the component of each, and its documents
        for task in tasks:
            marked = [d for d in documents[task.name] if d.right and not d.rolling]
            if task.group is not None or not marked:
                continue
            for document, requests in tokenise(marked, lm):
                self._asked.append(_right((document, requests)))
                self._weights.append((f"{task.name}/bpb", 1.0 / len(marked)))

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


def _right(asked: Asked) -> list[Any]:
    document, requests = asked
    return [requests[place] for place in document.right]
