"""A byte-level BPE trained on a corpus's own text, in time that grows with the text alone.

The library takes time by the square of the longest stretch without a boundary: a document of one
letter repeated two million times would keep it busy for days, and it answers no signal meanwhile.
So a stretch of one kind (letters, digits, blanks, all else) is cut every `LONGEST` characters while
a vocabulary is learnt, and only then; and training runs in a thread that its caller can leave.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from climb_opt.corpus.need import need
from climb_opt.errors import Interrupted, UserError
from climb_opt.tokenizer import EOS

# Characters. No word, number, rule or indentation of prose or code is as long, so what is learnt
# there is the same to the byte (5 MB of Python, measured).
LONGEST = 256
TICK = 0.2  # seconds between two looks at whether training has ended


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, tick: Callable[[], Any] = lambda: None
) -> Any:
    """A byte-level BPE trained on the texts; token 0 ends a document.

    Args:
        tick: called now and then until it is done; what it raises ends the wait.

    Raises:
        UserError: a vocabulary smaller than the bytes and the end of text.
    """
    tokenizers = need("tokenizers", "Training a tokenizer")
    from tokenizers import decoders, models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + 1:
        raise UserError(
            f"--vocab-size must be at least {len(alphabet) + 1} (all bytes and the end of text), "
            f"but is {vocab_size}."
        )
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = words_of(LONGEST)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    _wait_for(lambda some: tokenizer.train_from_iterator(some, trainer), texts, tick)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


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
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join(kinds)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _wait_for(
    train: Callable[[Iterator[str]], Any], texts: Iterable[str], tick: Callable[[], Any]
) -> None:
    """Train in another thread: this one answers signals, which the library does not."""
    done: Future[None] = Future()
    left = threading.Event()

    def fed() -> Iterator[str]:
        for text in texts:
            if left.is_set():
                raise Interrupted("nobody waits for this tokenizer any more")
            yield text

    def run() -> None:
        try:
            done.set_result(train(fed()))
        except BaseException as error:  # handed to the thread that waits
            done.set_exception(error)

    # A daemon: a process that was told to stop does not wait for a vocabulary nobody needs.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(TICK)
            tick()
    except BaseException:
        left.set()
        raise
    done.result()
