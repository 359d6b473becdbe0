"""A byte-level BPE trained on a corpus's own text, in time that grows with the text alone.

The library takes time by the square of the longest stretch without a boundary: a document of one
letter repeated two million times would keep it busy for days, and it answers no signal meanwhile.
So a stretch of one kind (letters, digits, blanks, all else) is cut every `LONGEST` characters while
a vocabulary is learnt, and only then; and learning is left to a process that can be killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from climb_opt.corpus.run.aside import Aside
from climb_opt.corpus.stages import bpe_child
from climb_opt.errors import UserError
from climb_opt.extras import need
from climb_opt.tokenizer import EOS

# Characters. No word, number, rule or indentation of prose or code is as long, so what is learnt
# there is the same to the byte (5 MB of Python; docs/notes/corpus.md#time-and-memory).
LONGEST = 256
_TRAINING = Aside(
    bpe_child,
    "Training the tokenizer",
    "Give a tokenizer with --tokenizer, or a smaller --vocab-size.",
)
LEAST = 257  # tokens: every byte, and the end of text


def check_size(vocab_size: int) -> None:
    """Raise `UserError` for a vocabulary smaller than the bytes and the end of text."""
    if vocab_size < LEAST:
        raise UserError(
            f"--vocab-size must be at least {LEAST} (all bytes and the end of text), "
            f"but is {vocab_size}."
        )


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, tick: Callable[[], Any] = lambda: None
) -> Any:
    """A byte-level BPE trained on the texts; token 0 ends a document.

    Args:
        tick: called now and then until it is done; what it raises ends the training.

    Raises:
        UserError: a vocabulary smaller than the bytes and the end of text; the process that trains
            was killed, most often for want of memory.
    """
    tokenizers = need("tokenizers", "Training a tokenizer")
    check_size(vocab_size)
    made = _TRAINING.run((vocab_size, EOS, LONGEST), _framed(texts), tick)
    return tokenizers.Tokenizer.from_str(made.decode("utf-8"))


def _framed(texts: Iterable[str]) -> Iterator[bytes]:
    for text in texts:
        data = text.encode("utf-8")
        yield len(data).to_bytes(8, "little")
        yield data
