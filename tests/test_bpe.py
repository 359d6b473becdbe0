"""A vocabulary is learnt in time that grows with the text alone, and can be left."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from climb_opt.corpus.run import aside
from climb_opt.corpus.stages import bpe_child
from climb_opt.corpus.stages.bpe import LONGEST, train_tokenizer
from climb_opt.corpus.stages.bpe_child import words_of
from climb_opt.errors import UserError
from climb_opt.tokenizer import EOS

BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
LONG = 20_000  # characters
STRETCHES = {
    "a letter": "a",
    "two letters": "ab",
    "a digit": "7",
    "letters of one kind": "中",
    "blanks": " ",
    "line ends": "\n",
    "both line ends": "\r\n",
    "signs": "=-",
    "zero bytes": "\0",
    "marks that join": "\u0301",
    "emoji": "😀",
}


@given(
    st.text(st.characters(codec="utf-8") | st.sampled_from(" \n\t'sdtre0aé中"), max_size=LONGEST)
)
@settings(max_examples=200)
def test_text_without_long_stretches_has_the_words_of_gpt_2(text: str) -> None:
    assert words_of(LONGEST).pre_tokenize_str(text) == BYTE_LEVEL.pre_tokenize_str(text)


@pytest.mark.parametrize("unit", STRETCHES.values(), ids=STRETCHES)
def test_no_word_to_learn_from_is_longer_than_stated(unit: str) -> None:
    text = "before " + unit * (LONG // len(unit)) + " after"
    words = words_of(LONGEST).pre_tokenize_str(text)
    assert max(end - start for _, (start, end) in words) <= LONGEST + 1  # a blank may come first
    places = [place for _, place in words]
    assert [text[slice(*p)] for p in places] and "".join(text[slice(*p)] for p in places) == text


@pytest.mark.parametrize("unit", STRETCHES.values(), ids=STRETCHES)
def test_a_stretch_twice_as_long_brings_no_more_different_words(unit: str) -> None:
    def different(size: int) -> int:
        return len({w for w, _ in words_of(LONGEST).pre_tokenize_str(unit * (size // len(unit)))})

    assert different(2 * LONG) <= different(LONG) + 1 <= 5


def test_ordinary_text_gives_the_library_s_own_tokenizer() -> None:
    texts = [f"The cat, number {i}, didn't sit on mat {i % 7}.\n\n\tx = {i}" for i in range(300)]
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = BYTE_LEVEL, decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
        ),
    )
    assert train_tokenizer(texts, 400).to_str() == plain.to_str()


def test_training_twice_gives_the_same_tokenizer() -> None:
    texts = [f"the cat number {i} sat on mat {i % 7}" for i in range(500)]
    assert train_tokenizer(texts, 400).to_str() == train_tokenizer(texts, 400).to_str()


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(UserError, match="at least 257"):
        train_tokenizer(["text"], 100)


def test_an_error_of_the_texts_is_the_caller_s() -> None:
    def texts() -> Iterator[str]:
        yield "some words"
        raise OSError("a block is gone")

    with pytest.raises(OSError, match="a block is gone"):
        train_tokenizer(texts(), 300)


@pytest.mark.parametrize("while_feeding", [True, False])
def test_training_is_ended_with_the_command(
    while_feeding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the library is busy with: its process is gone."""
    started: list[Any] = []
    plain = subprocess.Popen

    def start(*args: Any, **more: Any) -> Any:
        started.append(plain(*args, **more))
        return started[-1]

    def stopped() -> None:
        raise KeyboardInterrupt

    def texts() -> Iterator[str]:
        yield "some words"
        if while_feeding:
            stopped()

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(aside, "TICK", 0.001)
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(texts(), 300, stopped)
    assert [child.poll() for child in started] == [-signal.SIGKILL]


def test_a_process_that_fails_is_an_error_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "child.py"
    script.write_text("raise MemoryError('no room')")
    monkeypatch.setattr(bpe_child, "__file__", str(script))
    with pytest.raises(UserError, match=r"failed with status 1: MemoryError: no room.*--tokenizer"):
        train_tokenizer(["text"] * 100_000, 300)
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(UserError, match="status -9: killed, perhaps for want of memory"):
        train_tokenizer(["text"], 300)
