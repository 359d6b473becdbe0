"""A second device for tests, made of the CPU: what PyTorch's device for Apple's chips refuses, it
refuses. Storages are told apart: what was moved to the device lies there, and so does what is
computed from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from climb_opt.proxy.group import ProxyGroup

DEVICE = torch.device("mps")
WIDE = (torch.float64, torch.complex128)
T = torch.Tensor
# May be given tensors of both devices.
ACROSS = (T.to, T.copy_, T.data.__set__, T.__getitem__, torch._has_compatible_shallow_copy_type)
LEAVING = (T.cpu, T.numpy, T.tolist, T.item, T.copy_, T.__format__, T.__repr__)


class SecondDevice(TorchFunctionMode):
    """Within it tensors lie on the CPU or on `DEVICE`, which has no float64."""

    def __init__(self) -> None:
        super().__init__()
        self._there: dict[int, torch.UntypedStorage] = {}  # kept, so that no address is used again

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor lies on the device."""
        return tensor.untyped_storage().data_ptr() in self._there

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, T)]
        there = [x for x in given if self.holds(x)]
        named = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.device)]
        goes = DEVICE in named
        if func is torch._C._nn._parse_to or not (there or goes):
            return func(*args, **(kwargs or {}))
        if func == T.device.__get__:
            return DEVICE if there else func(*args)
        if func is T.numpy and there:
            raise TypeError(f"can't convert {DEVICE} device type tensor to numpy")
        if func not in ACROSS:
            apart = [x for x in given if x.dim() and not self.holds(x)]
            if there and apart:
                raise RuntimeError(f"{func}: Expected all tensors to be on the same device")
        args, kwargs = tree_map(_in_truth, (args, kwargs))
        found = func(*args, **(kwargs or {}))
        if func in LEAVING or (func is T.to and named and not goes):
            return found.clone() if isinstance(found, T) and func is not T.copy_ else found
        if func is T.to and not there:
            found = found.clone()
        for tensor in tree_leaves(found):
            if isinstance(tensor, T):
                if tensor.dtype in WIDE:
                    raise TypeError(f"{func}: Cannot convert a MPS Tensor to float64 dtype")
                storage = tensor.untyped_storage()
                if storage.data_ptr():
                    self._there[storage.data_ptr()] = storage
        return found


Generator = torch.Generator  # that of the CPU draws for the device


def _in_truth(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, torch.device) and value == DEVICE else value


@contextmanager
def second_device(group: ProxyGroup, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecondDevice]:
    """Within it `group` trains on the device."""
    with monkeypatch.context() as patch, SecondDevice() as device:
        patch.setattr(group, "device", DEVICE)
        patch.setattr(torch, "Generator", lambda device: Generator())
        for state in (AcceleratorState, PartialState):  # the one is made again of the other
            patch.setitem(state._shared_state, "device", DEVICE)
        yield device
