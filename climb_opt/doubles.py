"""Double precision where a device has none: Apple's GPUs, and some of Intel's."""

from __future__ import annotations

from typing import Any

import numpy as np

HAVE = ("cpu", "cuda")  # kinds of devices that surely do; AMD's are "cuda", too


def in_double(tensor: Any) -> Any:
    """A tensor in double precision: on its device where that has it, else on the CPU."""
    return (tensor if tensor.device.type in HAVE else tensor.cpu()).double()


def over_ranks(values: np.ndarray, accelerator: Any) -> np.ndarray:
    """The sum of an array over all ranks, on every rank."""
    if accelerator.num_processes == 1:  # also where its device could not hold it
        return values
    import torch

    both = torch.from_numpy(values).to(accelerator.device)
    return np.asarray(accelerator.reduce(both, reduction="sum").cpu().numpy())
