"""The optimiser of a proxy, and its state."""

from __future__ import annotations

from typing import Any

import torch

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
