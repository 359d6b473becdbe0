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
            that stay in the cache made a step 1.4 times as fast (docs/notes/running.md#proxies).
    """

    def __init__(self, model: Any, *, chunked: bool = False) -> None:
        super().__init__()
        self.model = model
        self._options: Any = None
        if chunked:
            self._options = torch.nn.LinearCrossEntropyOptions(
                batch_chunk_size=_rows(model.config.vocab_size), chunking_method=None
            )
        # The buffers are constants (rotary frequencies): DDP need not send them at every step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def forward(self, tokens: torch.Tensor, shares: torch.Tensor | None = None) -> Any:
        """Nats, summed over `tokens` (n, T + 1).

        With `shares` (n,): the sum in which a token of a sequence counts for so much, and each
        sequence's own sum (n,), through which no gradient goes.
        """
        inputs, targets = tokens[:, :-1], tokens[:, 1:].flatten()
        if self._options is None:
            logits = self.model(input_ids=inputs, use_cache=False).logits.flatten(0, 1)
            if shares is None:
                return F.cross_entropy(logits.float(), targets, reduction="sum")
            each = F.cross_entropy(logits.float(), targets, reduction="none").view(len(tokens), -1)
            return (each.sum(dim=1) * shares).sum(), each.detach().sum(dim=1)
        hidden = self.model.model(input_ids=inputs, use_cache=False).last_hidden_state
        hidden, weight = hidden.flatten(0, 1), self.model.lm_head.weight
        if shares is None:
            return F.linear_cross_entropy(
                hidden, weight, targets, reduction="sum", options=self._options
            )
        by_token = shares.repeat_interleave(inputs.shape[1])
        loss, each = _Weighed.apply(hidden, weight, targets, by_token)
        return loss, each.view(len(tokens), -1).sum(dim=1)


class _Weighed(torch.autograd.Function):  # type: ignore[misc]
    """`linear_cross_entropy` in chunks with a weight for each row: torch has weights by class.

    Gradients are taken on the way forward, as there, so that no logits are kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        shares: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        losses = hidden.new_empty(len(hidden))
        of_hidden, of_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        rows = _rows(len(weight))
        given = (hidden, targets[:, None], shares[:, None], losses, of_hidden)
        for h, target, share, loss, grad in zip(*(g.split(rows) for g in given), strict=True):
            logits = h @ weight.T
            logits -= logits.amax(dim=1, keepdim=True)
            right = logits.gather(1, target)
            total = logits.exp_().sum(dim=1, keepdim=True)
            loss.copy_((total.log() - right)[:, 0])
            logits *= share / total  # probabilities, weighed
            logits.scatter_add_(1, target, -share)
            torch.mm(logits, weight, out=grad)
            of_weight.addmm_(logits.T, h)
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.mark_non_differentiable(losses)
        return torch.dot(losses, shares), losses

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[Any, ...]:
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * gradient, of_weight * gradient, None, None, None


def _rows(vocabulary: int) -> int:
    return max(CHUNK_LOGITS // vocabulary, 16)


def token_losses(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Nats (n, T) of every token of `tokens` (n, T + 1) but the first."""
    logits = network(input_ids=tokens[:, :-1], use_cache=False).logits.flatten(0, 1)
    losses = F.cross_entropy(logits.float(), tokens[:, 1:].flatten(), reduction="none")
    return losses.view(tokens.shape[0], -1)


def can_chunk(network: Any) -> bool:
    """Whether `TrainingLoss` may take projection and loss in chunks."""
    # Our own shape only: a checkpoint of another kind may scale or cap its logits. torch >= 2.13.
    return type(network) is LlamaForCausalLM and hasattr(torch.nn, "LinearCrossEntropyOptions")
