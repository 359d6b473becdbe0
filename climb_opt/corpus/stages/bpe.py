"""A byte-level BPE trained on a corpus's own text, in time that grows with the text alone.

The library takes time by the square of the longest stretch without a boundary: a document of one
letter repeated two million times would keep it busy for days, and it answers no signal meanwhile.
So a stretch of one kind (letters, digits, blanks, all else) is cut every `LONGEST` characters while
a vocabulary is learnt, and only then; and learning is left to a process that can be killed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO, Any

from climb_opt.corpus.stages import bpe_child
from climb_opt.errors import UserError
from climb_opt.extras import need
from climb_opt.tokenizer import EOS

# Characters. No word, number, rule or indentation of prose or code is as long, so what is learnt
# there is the same to the byte (5 MB of Python; docs/notes/corpus.md#time-and-memory).
LONGEST = 256
TICK = 0.2  # seconds between two looks at whether training has ended
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
    arguments = [str(vocab_size), EOS, str(LONGEST)]
    # -P: the folder of the script is no place to import from.
    command = [sys.executable, "-P", bpe_child.__file__, *arguments]
    with tempfile.TemporaryFile() as made, tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=made, stderr=said)
        try:
            assert child.stdin is not None  # it was asked for
            with suppress(BrokenPipeError):  # it has ended: the status tells
                _feed(child.stdin, texts)
            while child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(TICK)
                tick()
        finally:
            child.kill()
            child.wait()
            with suppress(BrokenPipeError):
                child.stdin.close()  # type: ignore[union-attr]
        made.seek(0)
        said.seek(0)
        if child.returncode:
            reason = said.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise UserError(
                f"Training the tokenizer failed with status {child.returncode}: "
                f"{''.join(reason) or 'killed, perhaps for want of memory'}. Give a tokenizer with "
                "--tokenizer, or a smaller --vocab-size."
            )
        return tokenizers.Tokenizer.from_str(made.read().decode("utf-8"))


def _feed(child: IO[bytes], texts: Iterable[str]) -> None:
    for text in texts:
        data = text.encode("utf-8")
        child.write(len(data).to_bytes(8, "little"))
        child.write(data)
    child.close()
