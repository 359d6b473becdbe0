"""What a proxy is trained to lower: the sum of its next-token losses."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

CHUNK_LOGITS = 2**18  # logits of one chunk: 1 MB, which stays in a core's cache


class TrainingLoss(torch.nn.Module):  # type: ignore[misc]
    """Sum of the next-token losses; one module, so that projection and loss compile together.

    Args:
        chunked: never hold all logits: projection and loss are taken for some rows at a time,
            gradients with them. For small proxies on a CPU they are most of the work, and chunks
            that stay in the cache made a step 1.4 times as fast (`tests/bench/bench_train.py`).
    """

    def __init__(self, model: Any, *, chunked: bool = False) -> None:
        super().__init__()
        self.model = model
        self._options: Any = None
        if chunked:
            rows = max(CHUNK_LOGITS // model.config.vocab_size, 16)
            self._options = torch.nn.LinearCrossEntropyOptions(
                batch_chunk_size=rows, chunking_method=None
            )
        # The buffers are constants (rotary frequencies): DDP need not send them at every step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Nats, summed over `tokens` (n, T + 1)."""
        inputs, targets = tokens[:, :-1], tokens[:, 1:].flatten()
        if self._options is None:
            logits = self.model(input_ids=inputs, use_cache=False).logits.flatten(0, 1)
            return F.cross_entropy(logits.float(), targets, reduction="sum")
        hidden = self.model.model(input_ids=inputs, use_cache=False).last_hidden_state
        return F.linear_cross_entropy(
            hidden.flatten(0, 1),
            self.model.lm_head.weight,
            targets,
            reduction="sum",
            options=self._options,
        )


def can_chunk(network: Any) -> bool:
    """Whether `TrainingLoss` may take projection and loss in chunks."""
    # Our own shape only: a checkpoint of another kind may scale or cap its logits. torch >= 2.13.
    return type(network) is LlamaForCausalLM and hasattr(torch.nn, "LinearCrossEntropyOptions")
