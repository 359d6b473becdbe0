"""Held-out loss in bits per byte: of target sets, and of each domain's held-out part.

Bits per byte divides the nats by the text's UTF-8 length, so tokenizers can be compared. Every
token of a document is predicted once, from what precedes it in its window; the end-of-text token
counts for nothing, since it stands for no byte (as in lm-eval's rolling log-likelihood).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import block_diag
from tokenizers import Tokenizer

from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.doubles import in_double, over_ranks
from climb_opt.errors import UserError, check_number
from climb_opt.metrics import STDERR
from climb_opt.shards import Corpus, Stream, no_target
from climb_opt.tokenizer import corpus_tokenizer

CONTEXT = 2048  # tokens a window, or the model's own limit where that is shorter
LOGITS = 2**24  # entries of the logits computed at once, which bounds the memory


class HeldOutLoss:
    """Bits per byte of held-out text; lower is better.

    Args:
        target: target sets of the corpus to score; None for all of them.
        domains: score each domain's held-out part too.
        max_tokens: tokens of each set that are used: its first documents.
        skip_tokens: leave out the documents that begin within the first tokens of each set: with
            a search's `max_tokens` here, what is left is a test set that it never saw.

    Components are "<target>/bpb" and "heldout/<domain>/bpb". Standard errors treat documents as
    independent draws (the ratio estimator's linearisation).

    Raises:
        UserError: an unknown or empty set, or nothing to score.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        target: str | Sequence[str] | None = None,
        domains: bool = False,
        max_tokens: int | None = 1_048_576,
        skip_tokens: int = 0,
    ) -> None:
        every = corpus.targets if target is None else target
        names = [every] if isinstance(every, str) else every
        streams = {f"{name}/bpb": corpus.target(name) for name in names}
        if domains:
            for domain in corpus.domains:
                if domain.heldout is None:
                    raise UserError(
                        f"heldout: domain {domain.name!r} has no held-out part; build the corpus "
                        "with one, or leave out `domains: true`."
                    )
                streams[f"heldout/{domain.name}/bpb"] = domain.heldout
        if not streams:
            raise _nothing_to_score(corpus.name)
        check_number("heldout: max_tokens", max_tokens)
        if skip_tokens < 0:
            raise UserError(f"heldout: skip_tokens must not be negative, but is {skip_tokens}.")
        self._eos = corpus.eos
        tokenizer = corpus_tokenizer(corpus.tokenizer_file, corpus.eos)
        self._texts = {
            name: _read(corpus, stream, max_tokens, tokenizer, skip_tokens)
            for name, stream in streams.items()
        }

    @staticmethod
    def foretold(
        recipe: CorpusRecipe,
        *,
        target: str | Sequence[str] | None = None,
        domains: bool = False,
        **_: Any,
    ) -> list[str] | None:
        """See `Foretelling`."""
        names = [text.partition("=")[0] for text in recipe.target]
        wanted = names if target is None else [target] if isinstance(target, str) else target
        for name in wanted:
            if name not in names:
                raise no_target(f"The corpus that is to be built, {recipe.output!r},", name, names)
        if domains and not (recipe.heldout and recipe.heldout_tokens):
            raise UserError(
                "heldout: `domains: true` scores the held-out part of each domain, and the corpus "
                "is to be built with none; give it `heldout`, or leave out `domains: true`."
            )
        if not wanted and not domains:
            raise _nothing_to_score(str(recipe.output))
        return None if domains else [f"{name}/bpb" for name in wanted]

    def components(self) -> list[str]:
        """The names of the scores, without standard errors."""
        return list(self._texts)

    def evaluate(self, model: Any, accelerator: Any) -> dict[str, float]:
        """Bits per byte of every set, and its standard error; the same on every rank."""
        scores = {}
        for name, text in self._texts.items():
            nats = _token_nats(model, accelerator, text, self._eos)
            bits = text.by_document(nats) / math.log(2)
            total = float(text.bytes.sum())
            value = float(bits.sum()) / total
            residual = bits - value * text.bytes
            scores[name] = value
            scores[f"{name}{STDERR}"] = float(np.sqrt((residual**2).sum())) / total
        return scores

    def token_shares(self) -> dict[str, np.ndarray]:
        """Of each component: bits per byte of its own set's tokens."""
        texts = self._texts.values()
        own = [(text.tokens != self._eos) / (math.log(2) * text.bytes.sum()) for text in texts]
        return dict(zip(self._texts, block_diag(*own), strict=True))

    def token_nats(self, model: Any, accelerator: Any) -> np.ndarray:
        """Nats of every token of all sets, one set after the other; 0 of end-of-text."""
        texts = self._texts.values()
        return np.concatenate([_token_nats(model, accelerator, t, self._eos) for t in texts])

    def smooth(self) -> list[str]:
        """Every set's bits per byte has a gradient."""
        return self.components()

    def terms(self, component: str, model: Any, accelerator: Any) -> Iterator[Any]:
        """See `Differentiable`."""
        text = self._texts[component]
        bits = math.log(2) * float(text.bytes.sum())
        for window in _windows(model, accelerator, text, self._eos):
            loss = _losses(model, accelerator, window)
            yield loss[torch.from_numpy(window.counts).to(loss.device)].sum() / bits

    def tokens_read(self, component: str) -> int:
        """See `Differentiable`."""
        return len(self._texts[component].tokens)


def _nothing_to_score(corpus: str) -> UserError:
    return UserError(
        f"heldout: corpus {corpus!r} has no target set; build it with one, or give `domains: true`."
    )


@dataclass(frozen=True)
class _Text:
    """tokens (n,); document (n,) numbers from 0, one per token; bytes (documents,)."""

    tokens: np.ndarray
    document: np.ndarray
    bytes: np.ndarray

    def by_document(self, nats: np.ndarray) -> np.ndarray:
        """Sums (documents,) of the tokens' nats (n,)."""
        return np.bincount(self.document, nats, minlength=len(self.bytes))


def _read(
    corpus: Corpus, stream: Stream, limit: int | None, tokenizer: Tokenizer, skip: int = 0
) -> _Text:
    tokens = np.asarray(corpus.read(stream)).astype(np.int64)
    if skip:
        starts = np.flatnonzero(tokens == corpus.eos) + 1
        later = starts[starts >= skip]
        tokens = tokens[int(later[0]) :] if later.size else tokens[:0]
    ends = np.flatnonzero(tokens == corpus.eos) + 1
    if limit is not None and limit < len(tokens):
        whole = ends[ends <= limit]
        tokens = tokens[: int(whole[-1]) if whole.size else limit]  # a long first document is cut
    if not np.any(tokens != corpus.eos):
        raise UserError(f"heldout: {stream.file} of corpus {corpus.name!r} holds no text.")
    is_end = tokens == corpus.eos
    document = np.cumsum(is_end) - is_end
    pieces = np.split(tokens, np.flatnonzero(is_end)[:-1] + 1 if is_end[-1] else ends)
    texts = tokenizer.decode_batch([p.tolist() for p in pieces], skip_special_tokens=True)
    sizes = np.array([len(text.encode()) for text in texts], dtype=float)
    if len(tokens) == stream.tokens and sizes.sum() > 0:
        sizes *= stream.bytes / sizes.sum()  # a tokenizer that normalises does not decode exactly
    return _Text(tokens, document, sizes)


@dataclass(frozen=True)
class _Windows:
    """Some windows of a text: places (n, context) of its tokens, what precedes each (`inputs`), the
    tokens themselves (`targets`), and which of them count."""

    places: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray
    counts: np.ndarray


def _windows(model: Any, accelerator: Any, text: _Text, eos: int) -> Iterator[_Windows]:
    """This rank's windows, as many at a time as memory allows."""
    limit = getattr(model.config, "max_position_embeddings", None) or CONTEXT
    context = min(CONTEXT, limit, len(text.tokens))
    previous = np.concatenate([[eos], text.tokens[:-1]])
    windows = -(-len(text.tokens) // context)
    mine = np.arange(accelerator.process_index, windows, accelerator.num_processes)
    batch = max(1, LOGITS // (context * model.config.vocab_size))
    for start in range(0, len(mine), batch):
        rows = mine[start : start + batch, None] * context + np.arange(context)
        inside = rows < len(text.tokens)
        rows = np.minimum(rows, len(text.tokens) - 1)
        targets = text.tokens[rows]
        yield _Windows(rows, previous[rows], targets, inside & (targets != eos))


@torch.no_grad()  # type: ignore[untyped-decorator]
def _token_nats(model: Any, accelerator: Any, text: _Text, eos: int) -> np.ndarray:
    """Nats of each token (n,), 0 of end-of-text; the ranks share the work."""
    nats = np.zeros(len(text.tokens))
    for window in _windows(model, accelerator, text, eos):
        loss = in_double(_losses(model, accelerator, window)).cpu().numpy()
        nats[window.places[window.counts]] = loss[window.counts]
    return over_ranks(nats, accelerator)


def _losses(model: Any, accelerator: Any, window: _Windows) -> Any:
    device = accelerator.device
    ids, wanted = (torch.from_numpy(part).to(device) for part in (window.inputs, window.targets))
    with accelerator.autocast():
        logits = model(input_ids=ids, use_cache=False).logits
    loss = F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="none")
    return loss.view(wanted.shape)
