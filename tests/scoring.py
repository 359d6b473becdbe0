"""A score worked out without climb_opt, which the tests of the evaluators compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from climb_opt.shards import Corpus


def by_hand(network: Any, corpus: Corpus, tokens: np.ndarray, context: int) -> float:
    """Nats of every token but end-of-text, one window after the other."""
    total = 0.0
    inputs = np.concatenate([[corpus.eos], tokens[:-1]])
    for start in range(0, len(tokens), context):
        window = torch.tensor(inputs[start : start + context].astype(np.int64))[None]
        wanted = torch.tensor(tokens[start : start + context].astype(np.int64))
        with torch.no_grad():
            logits = network(input_ids=window).logits[0]
        loss = F.cross_entropy(logits, wanted, reduction="none")
        total += float(loss[wanted != corpus.eos].sum())
    return total
