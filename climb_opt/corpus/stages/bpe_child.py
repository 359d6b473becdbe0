"""What learns a vocabulary, in a process of its own: it can be killed, the library cannot be asked.

Texts come on standard input, each behind its length in eight bytes; the tokenizer goes to standard
output. Nothing of climb_opt is imported, so the process starts in 30 ms.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import IO, Any


def words_of(longest: int) -> Any:
    """What cuts text into words to learn from: as GPT-2's does, but none of more characters."""
    from tokenizers import Regex, pre_tokenizers

    upto = f"{{1,{longest}}}"
    kinds = (
        r"'(?:[sdmt]|ll|ve|re)",
        rf" ?\p{{L}}{upto}",
        rf" ?\p{{N}}{upto}",
        rf" ?[^\s\p{{L}}\p{{N}}]{upto}",
        rf"\s{upto}(?!\S)",
        rf"\s{upto}",
    )
    cut = pre_tokenizers.Split(Regex("|".join(kinds)), "isolated")
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([cut, in_bytes])


def learn(texts: Iterator[str], vocab_size: int, eos: str, longest: int) -> Any:
    """A byte-level BPE; token 0 is `eos`, then come the bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = words_of(longest)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[eos],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _received(file: IO[bytes]) -> Iterator[str]:
    while head := file.read(8):
        yield file.read(int.from_bytes(head, "little")).decode("utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which kills this
    size, end, most = sys.argv[1:]
    found = learn(_received(sys.stdin.buffer), int(size), end, int(most))
    sys.stdout.buffer.write(found.to_str().encode("utf-8"))
