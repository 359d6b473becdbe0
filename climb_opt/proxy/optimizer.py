"""The optimiser of a proxy, its state, and the uniform mean of the last weights that it made.

The mean is what evaluators see, and what is kept. Training goes on from its own weights and never
sees it. Every rank keeps one: their weights are the same, so their means are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from climb_opt.recipes import ProxyRecipe


def adamw(network: Any, recipe: ProxyRecipe) -> torch.optim.Optimizer:
    """AdamW with the recipe's constants; vectors and norms have no weight decay."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state; torch itself would meet tensors of other shapes at a step only."""
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"{name} of shape {tuple(value.shape)}")


class Average:
    """The mean over the weights after each step of the last `share` of `steps`, in float32.

    Args:
        network: what is trained; copied once, unless `share` is 0.
        share: of the steps, of which at least one counts; 0: no mean.
    """

    def __init__(self, network: Any, share: float, steps: int) -> None:
        self.mean: Any = AveragedModel(network) if share else None
        self.begins = steps - max(round(share * steps), 1)

    def add(self, network: Any, step: int) -> None:
        """Take in the weights that `step` steps have led to."""
        if self._counts(step):
            self.mean.update_parameters(network)

    def of(self, network: Any, step: int) -> Any:
        """The mean so far, or the network as it is where there is none yet."""
        return self.mean.module if self._counts(step) else network

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint after `step` steps holds of it: nothing before it begins."""
        return {"average": self.mean.state_dict()} if self._counts(step) else {}

    def restore(self, saved: dict[str, Any], step: int) -> None:
        """Go on from a checkpoint after `step` steps.

        Raises:
            ValueError: its mean began at another step.
        """
        if self._counts(step):
            self.mean.load_state_dict(saved["average"])
            if (found := int(self.mean.n_averaged)) != step - self.begins:
                raise ValueError(f"a mean of {found} weights, not of {step - self.begins}")

    def _counts(self, step: int) -> bool:
        return self.mean is not None and step > self.begins
