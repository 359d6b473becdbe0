"""Weights averaged by a mixture, read from disk a tensor at a time.

With weights a that sum to 1, sum of a_k theta_k is the trunk plus the branches' shifts, each as
large as the domain's share: to first order what training on the mixture does. How far a branch went
says how far that reaches: its `shift` is

    sum |theta_k - theta_0| / (sum |theta_k| + sum |theta_0|)

over all parameters. Memory is that of the merged model, of one branch's file and of its largest
tensors, however many branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open


class Reader:
    """The tensors of a saved model, by name.

    A file is open for as long as one tensor is read: the pages of one that stays open count as
    memory of the process, and those of many branches would add up to all of them.
    """

    def __init__(self, folder: Path) -> None:
        self._file_of: dict[str, Path] = {}
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(str(file), framework="pt") as opened:
                self._file_of.update(dict.fromkeys(opened.keys(), file))

    @property
    def names(self) -> list[str]:
        """Names of its tensors; of tied ones the first."""
        return list(self._file_of)

    def __getitem__(self, name: str) -> torch.Tensor:
        with safe_open(str(self._file_of[name]), framework="pt") as opened:
            return opened.get_tensor(name)


@torch.no_grad()  # type: ignore[untyped-decorator]
def merge_into(network: Any, folders: Sequence[Path], weights: np.ndarray) -> Any:
    """Set a model's parameters to the average of saved ones, and return it in eval mode.

    Args:
        network: of the same shape.
        weights: (n,) of the `folders`; they sum to 1. What weighs 0 is not read.
    """
    used = np.flatnonzero(weights).tolist()
    own = network.state_dict()
    readers = [Reader(folders[k]) for k in used]
    for name in readers[0].names:
        mean = readers[0][name].float().mul_(float(weights[used[0]]))
        for k, reader in zip(used[1:], readers[1:], strict=True):
            mean.add_(reader[name], alpha=float(weights[k]))
        own[name].copy_(mean)
    return network.eval()


def shift(folder: Path, trunk: Path) -> float:
    """How far a saved model went from its trunk, in [0, 1]."""
    moved = size = 0.0
    ours, theirs = Reader(folder), Reader(trunk)
    for name in ours.names:
        a, b = ours[name].double(), theirs[name].double()
        moved += float((a - b).abs().sum())
        size += float(a.abs().sum() + b.abs().sum())
    return moved / size if size else 0.0
