"""The in-memory proxy as lm-eval sees a language model.

lm-eval brings prompts, answer formats and metrics; this brings log-likelihoods. Requests are
sorted by length and scored in batches of bounded memory; answers that share their input (the
letters of a multiple choice) share one forward pass. An answer longer than the model's context is
scored in pieces, so that every byte of every answer counts; a question is cut at its beginning, as
in lm-eval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import Tokenizer

from climb_opt.doubles import in_double
from climb_opt.errors import UserError

CONTEXT = 4096  # tokens of one request, or the model's own limit where that is shorter
BATCH_TOKENS = 2**14
LOGITS = 2**25  # entries of the logits kept at once, which bounds the memory

Tokens = Sequence[int] | np.ndarray
Request = tuple[tuple[str, str], Tokens, Tokens]
Piece = tuple[Tokens, Tokens]  # what precedes, what is scored: at most a context of it


class ProxyLM(TemplateLM):  # type: ignore[misc]
    """Log-likelihoods of a model that is attached for each evaluation."""

    def __init__(self, tokenizer: Tokenizer, eos: int) -> None:
        super().__init__()
        self._encoder, self._eos = tokenizer, eos
        self.model: Any = None
        self.accelerator: Any = None

    def attach(self, model: Any, accelerator: Any) -> None:
        """Score with this model from now on; `attach(None, None)` lets it go."""
        self.model, self.accelerator = model, accelerator

    @property
    def max_length(self) -> int:
        """Tokens of input that the model reads."""
        limit = getattr(self.model.config, "max_position_embeddings", None) or CONTEXT
        return min(int(limit), CONTEXT)

    @property
    def eot_token_id(self) -> int:
        """The corpus's end-of-text token."""
        return self._eos

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Tokens of `string`; this tokenizer adds no special ones."""
        return self._encoder.encode(string, add_special_tokens=False).ids

    def encode(self, context: str, continuation: str) -> Request:
        """A request as tokens; its texts are what the tokens of each half stand for."""
        pair = _split(context, continuation)
        before, after = self._encode_pair(context, continuation)
        # Arrays: a benchmark's tokens are kept for the whole search.
        return (pair, np.array(before, dtype=np.int32), np.array(after, dtype=np.int32))

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The two halves as tokens; an empty context becomes end-of-text.

        A tokenizer that joins the halves is given them one by one: counted off, as lm-eval does,
        the answer's tokens would not be all of it.
        """
        asked, answer = _split(context, continuation)
        before, whole = self.tok_encode(asked), self.tok_encode(asked + answer)
        joined = whole[: len(before)] != before
        after = self.tok_encode(answer) if joined else whole[len(before) :]
        return before or [self._eos], after

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of each whole text, in windows that do not overlap."""
        windows, owner = [], []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            pairs = get_rolling_token_windows(ids, self._eos, self.max_length, context_len=1)
            for before, after in map(make_disjoint_window, pairs):
                windows.append((("", ""), before, after))
                owner.append(number)
        scores = np.array([nats for nats, _ in self._loglikelihood_tokens(windows)])
        return [float(x) for x in np.bincount(owner, scores, minlength=len(requests))]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Not offered: tiny proxies write nothing worth scoring."""
        raise UserError(
            "lm-eval: this task asks the proxy to write text, which is not offered; choose a "
            "multiple-choice or log-likelihood task."
        )

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _loglikelihood_tokens(
        self, requests: Sequence[Request], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pieces, owner = self._cut(requests)
        found: list[tuple[float, bool]] = [(0.0, False)] * len(pieces)
        for batch in _batches(pieces, self.max_length, int(self.model.config.vocab_size)):
            nats, targets, likeliest = self._losses(batch)
            greedy = ((likeliest == targets) | (targets == _IGNORE)).all(1).tolist()
            sums = (-in_double(nats).sum(1)).tolist()
            for place, *said in zip(batch.number, sums, greedy, strict=True):
                found[place] = tuple(said)
        # Added up in the order of the text, whatever the batches: the same on any number of ranks.
        results: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for place, number in enumerate(owner):
            first = place == 0 or owner[place - 1] != number
            nats, greedy = (0.0, True) if first else results[number]
            results[number] = (nats + found[place][0], greedy and found[place][1])
        return results

    def answer_nats(self, requests: Sequence[Request]) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Places of requests (n,) and nats (n,) of pieces of their answers, batch by batch; with a
        graph where gradients are enabled."""
        pieces, owner = self._cut(requests)
        for batch in _batches(pieces, self.max_length, int(self.model.config.vocab_size)):
            yield np.array(owner)[batch.number], in_double(self._losses(batch)[0]).sum(1)

    def _cut(self, requests: Sequence[Request]) -> tuple[list[Piece], list[int]]:
        """Pieces of the answers, and the place of the request that each belongs to."""
        pieces: list[Piece] = []
        owner: list[int] = []
        for number, (_, before, after) in enumerate(requests):
            own = list(_pieces(before, after, self.max_length))
            pieces += own
            owner += [number] * len(own)
        return pieces, owner

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def token_nats(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """Nats of each token of each request's answer."""
        pieces, owner = self._cut(requests)
        found: list[np.ndarray] = [np.zeros(0)] * len(pieces)
        for batch in _batches(pieces, self.max_length, int(self.model.config.vocab_size)):
            nats, targets, _ = self._losses(batch)
            values, counts = in_double(nats).cpu().numpy(), (targets != _IGNORE).cpu().numpy()
            for row, place in enumerate(batch.number):
                found[place] = values[row][counts[row]]
        ends = np.searchsorted(owner, range(len(requests) + 1)).tolist()
        return [np.concatenate([np.zeros(0), *found[a:b]]) for a, b in pairwise(ends)]

    def _losses(self, batch: _Batch) -> tuple[Any, Any, Any]:
        """Nats, targets and the likeliest tokens, each (n, width)."""
        device = self.accelerator.device
        ids = torch.from_numpy(batch.inputs).to(device)
        kept = torch.arange(batch.first, ids.shape[1], device=device)
        with self.accelerator.autocast():
            logits = self.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
        logits = logits[torch.from_numpy(batch.row).to(device)].float()
        targets = torch.from_numpy(batch.targets).to(device)
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return nats.view(targets.shape), targets, logits.argmax(-1)


_IGNORE = -100


class _Batch:
    """Pieces scored together, padded on the right (attention is causal: no mask is needed).

    inputs (rows, width); row (n,) of each piece; targets (n, width - first), `_IGNORE` where
    nothing is scored; number (n,) its place among the pieces.
    """

    def __init__(self, rows: list[np.ndarray], members: list[tuple[int, int, np.ndarray]]) -> None:
        width = max(len(row) for row in rows)
        self.inputs = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            self.inputs[i, : len(row)] = row
        self.first = min(len(rows[r]) - len(after) for _, r, after in members)
        self.number = [number for number, _, _ in members]
        self.row = np.array([r for _, r, _ in members])
        self.targets = np.full((len(members), width - self.first), _IGNORE, dtype=np.int64)
        for i, (_, r, after) in enumerate(members):
            end = len(rows[r]) - self.first
            self.targets[i, end - len(after) : end] = after


def _split(context: str, continuation: str) -> tuple[str, str]:
    # As in lm-eval: blanks at the end of the question are scored with the answer.
    asked = context.rstrip()
    return asked, context[len(asked) :] + continuation


def _pieces(before: Tokens, after: Tokens, limit: int) -> Iterator[Piece]:
    """An answer (n,) as pieces that fit into a context of `limit` tokens; none of an empty one.

    One that fits is one piece. Of a longer one each piece is half a context, so that each of its
    tokens is conditioned on at least half a context of what precedes it.
    """
    if len(after) <= limit:
        if len(after):
            yield before, after
        return
    whole, step = np.concatenate([before, after]), max(1, limit // 2)
    for start in range(len(before), len(whole), step):
        end = min(start + step, len(whole))
        yield whole[max(0, end - limit - 1) : start], whole[start:end]


def _batches(pieces: Sequence[Piece], limit: int, vocabulary: int) -> Iterator[_Batch]:
    # The same input may serve several answers, so pieces are grouped by it first.
    groups: dict[bytes, tuple[np.ndarray, list[tuple[int, np.ndarray]]]] = {}
    for number, (before, after) in enumerate(pieces):
        tokens = np.array([*before, *after], dtype=np.int64)[-(limit + 1) :]
        answer = np.asarray(after, dtype=np.int64)
        _, members = groups.setdefault(tokens[:-1].tobytes(), (tokens[:-1], []))
        members.append((number, answer))
    rows: list[np.ndarray] = []
    members_of: list[tuple[int, int, np.ndarray]] = []
    longest = 0
    for tokens, members in sorted(groups.values(), key=lambda group: -len(group[0])):
        answers = max(len(answer) for _, answer in members)
        width = len(rows[0]) if rows else len(tokens)  # longest first
        kept = max(longest, answers + width - len(tokens))
        count = len(members_of) + len(members)
        if rows and ((len(rows) + 1) * width > BATCH_TOKENS or count * kept * vocabulary > LOGITS):
            yield _Batch(rows, members_of)
            rows, members_of, kept = [], [], answers
        members_of += [(number, len(rows), answer) for number, answer in members]
        rows.append(tokens)
        longest = kept
    if rows:
        yield _Batch(rows, members_of)
