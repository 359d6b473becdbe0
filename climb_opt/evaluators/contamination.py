"""Which evaluation rows a corpus has given away: 13 tokens in a row that both contain.

13 as in GPT-3's filter (Brown et al. 2020, appendix C), counted in the corpus's own tokens. Runs of
tokens are compared by a 64-bit rolling hash, so a corpus is read once at memory speed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from climb_opt.bits import GOLDEN
from climb_opt.shards import Corpus

RUN = 13
CHUNK = 2**22  # tokens hashed at once
_BASE = np.uint64(GOLDEN)


def find_overlaps(
    corpus: Corpus, tokenizer: Tokenizer, texts: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Task -> how many of its texts share a run of 13 tokens with the training shards."""
    owners: list[tuple[str, int]] = []
    hashes: list[np.ndarray] = []
    for name, rows in texts.items():
        encoded = tokenizer.encode_batch(list(rows), add_special_tokens=False)
        for number, row in enumerate(encoded):
            runs = run_hashes(np.array(row.ids, dtype=np.uint64))
            owners += [(name, number)] * len(runs)
            hashes.append(runs)
    wanted = np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64)
    unique, inverse = np.unique(wanted, return_inverse=True)
    hit = np.zeros(len(unique), dtype=bool)
    for domain in corpus.domains:
        for shard in domain.shards:
            _mark(corpus.read(shard), unique, hit)
    contaminated = {owners[i] for i in np.flatnonzero(hit[inverse])} if len(wanted) else set()
    return {name: sum(owner == name for owner, _ in contaminated) for name in texts}


def run_hashes(tokens: np.ndarray) -> np.ndarray:
    """A hash (n - 12,) of every run of 13 of `tokens` (n,): a polynomial modulo 2^64."""
    count = len(tokens) - RUN + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint64)
    mixed = _mix(tokens.astype(np.uint64))
    total = np.zeros(count, dtype=np.uint64)
    for i in range(RUN):
        total = total * _BASE + mixed[i : i + count]
    return total


def _mix(z: np.ndarray) -> np.ndarray:
    # Small token numbers would leave a polynomial's high bits alike.
    z = (z + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    return z ^ (z >> np.uint64(29))


def _mark(tokens: np.ndarray, unique: np.ndarray, hit: np.ndarray) -> None:
    if not len(unique):
        return
    for start in range(0, len(tokens), CHUNK):
        runs = run_hashes(np.asarray(tokens[start : start + CHUNK + RUN - 1]))
        place = np.minimum(np.searchsorted(unique, runs), len(unique) - 1)
        hit[place[unique[place] == runs]] = True
