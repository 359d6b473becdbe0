"""Any tokenizer, exact tokens, whatever the documents hold."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from climb_opt.cli import main
from climb_opt.corpus.documents import Document, Pool, sample_texts, write_block
from climb_opt.corpus.run.local import serial_tokenizers
from climb_opt.corpus.run.workspace import Workspace
from climb_opt.corpus.stages import tokenise
from climb_opt.corpus.stages.bpe import train_tokenizer
from climb_opt.corpus.stages.tokenise import TokenFacts, TokenOptions, encode, facts_of
from climb_opt.errors import UserError
from climb_opt.files import save_array
from climb_opt.tokenizer import end_of_text, load_tokenizer
from corpora import write_jsonl

TOKENIZER = train_tokenizer(["the cat sat on the mat", "a dog ran"] * 20, 300)
TOKENIZER.encode_special_tokens = True
FACTS = facts_of(TOKENIZER)


def split(tokens: np.ndarray, counts: np.ndarray) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens, np.cumsum(counts)[:-1])]


def test_tokens_hang_on_what_a_tokenizers_file_holds_and_not_on_where_it_lies(
    tmp_path: Path,
) -> None:
    file, folder = tmp_path / "mine.json", tmp_path / "model"
    folder.mkdir()
    file.write_text("one")
    first = tokenise.identity(TokenOptions(tokenizer=str(file)))
    (folder / "tokenizer.json").write_text("one")
    assert tokenise.identity(TokenOptions(tokenizer=str(folder))) == first
    file.write_text("another")
    assert tokenise.identity(TokenOptions(tokenizer=str(file))) != first


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5))
@settings(max_examples=60)
def test_every_text_comes_back_from_its_tokens(texts: list[str]) -> None:
    tokens, counts = encode(TOKENIZER, texts, FACTS)
    for text, part in zip(texts, split(tokens, counts), strict=True):
        assert part[-1] == FACTS.eos
        assert FACTS.eos not in part[:-1]
        assert TOKENIZER.decode(part[:-1]) == text


def test_a_text_that_spells_the_end_of_text_does_not_end_there() -> None:
    tokens, counts = encode(TOKENIZER, ["one <|endoftext|> document"], FACTS)
    assert counts.tolist() == [len(tokens)]
    assert np.flatnonzero(tokens == FACTS.eos).tolist() == [len(tokens) - 1]


def test_a_long_text_in_pieces_has_the_tokens_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    words = ["cat", "sat", "mat,", "\n\n", "  ", "x=1;", "don't", "ünï", "3.14"]
    text = " ".join(rng.choice(words, 3000))
    whole, _ = encode(TOKENIZER, [text], FACTS)
    monkeypatch.setattr(tokenise, "PIECE", 500)
    monkeypatch.setattr(tokenise, "BATCH", 2000)  # and not all of its pieces at once
    pieces, counts = encode(TOKENIZER, ["cat", text, "mat"], FACTS)
    assert np.array_equal(whole, split(pieces, counts)[1])
    assert len(counts) == 3 and counts[1] == len(whole)


def test_a_long_text_without_spaces_is_still_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenise, "PIECE", 100)
    tokens, counts = encode(TOKENIZER, ["x" * 1050, "short"], FACTS)
    assert TOKENIZER.decode(split(tokens, counts)[0][:-1]) == "x" * 1050


def test_a_tokenizer_is_learnt_from_enough_text_beside_one_huge_document(tmp_path: Path) -> None:
    texts = [f"document {i} " * 10 for i in range(200)]
    huge = "word " * 1_000_000
    block = write_block(tmp_path, "b", [Document(t[:12], t) for t in [*texts, huge]])
    pool = Pool([block], lambda b: np.ones(b.documents, dtype=bool), seed=0)
    size = sum(map(len, texts))
    found = list(sample_texts(tmp_path, pool, size, longest=1000))
    assert 0.8 * size < sum(map(len, found)) < 1.2 * size
    assert max(map(len, found)) <= 1000


def test_how_far_it_is_goes_by_the_text_inside_documents_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenise, "PIECE", 100)
    monkeypatch.setattr(tokenise, "BATCH", 200)
    steps: list[int] = []
    totals: list[tuple[int, str]] = []

    def bar(_: Workspace, title: str, total: int, unit: str) -> Any:
        totals.append((total, unit))
        return nullcontext(SimpleNamespace(update=steps.append))

    monkeypatch.setattr(Workspace, "bar", bar)
    workspace = Workspace(tmp_path)
    documents, keep, tokens = (workspace.stage(name) for name in ("documents", "exact", "tokens"))
    texts = ["a cat", "x" * 1000, "ü" * 50]
    block = write_block(documents.path, "b", [Document(t[0], t) for t in texts])
    save_array(keep.file("b.first.npy"), np.ones(3, dtype=bool))
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    tokenise.tokenise(tokens, documents, [block], keep, tmp_path / "tokenizer.json", FACTS)
    assert totals == [(1105, "byte")] and sum(steps) == 1105
    assert max(steps) == 205  # a batch at a time, of the long document too


def test_the_library_s_own_threads_are_back_when_the_last_user_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "TOKENIZERS_PARALLELISM"
    for before in ("true", None):
        monkeypatch.delenv(name, raising=False)
        if before is not None:
            monkeypatch.setenv(name, before)
        first, second = serial_tokenizers(), serial_tokenizers()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert os.environ[name] == "false"
        second.__exit__(None, None, None)
        assert os.environ.get(name) == before


def test_small_vocabularies_take_two_bytes_and_large_ones_four() -> None:
    from tokenizers import Tokenizer, models

    words = {f"w{i}": i for i in range(70_000)} | {"</s>": 70_000}
    large = Tokenizer(models.WordLevel(words, unk_token="w0"))
    assert facts_of(large) == TokenFacts(70_001, 70_000, "uint32", unknown=0)
    assert (FACTS.eos, FACTS.dtype) == (0, "uint16")


def test_ids_with_holes_count_up_to_the_largest() -> None:
    from tokenizers import Tokenizer, models

    sparse = Tokenizer(models.WordLevel({"a": 0, "</s>": 70_000}, unk_token="a"))
    assert facts_of(sparse).vocab_size == 70_001


def test_a_tokenizer_without_a_known_end_of_text_needs_eos() -> None:
    from tokenizers import Tokenizer, models

    odd = Tokenizer(models.WordLevel({"a": 0, "FIN": 1}, unk_token="a"))
    with pytest.raises(UserError, match="name its own with --eos"):
        facts_of(odd)
    assert facts_of(odd, end_of_text(odd, eos="FIN")).eos == 1
    with pytest.raises(UserError, match="no token END"):
        end_of_text(odd, eos="END")


def test_tokenizers_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a tokenizer.json"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--eos", "nope"], "--eos 'nope' names a token of a given --tokenizer"),
        (["--vocab-size", "10"], "--vocab-size must be at least 257"),
        (["--tokenizer", "a.jsonl"], "Tokenizer '.*a.jsonl' cannot be loaded"),
    ],
)
def test_what_is_wrong_with_the_tokenizer_is_found_before_reading(
    tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "two"}])
    more = [str(tmp_path / m) if m == "a.jsonl" else m for m in more]
    build = ["corpus", "build", str(tmp_path / "a.jsonl"), "--output", str(tmp_path / "out")]
    assert main([*build, *more, "--no-progress"]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_does_not_know_a_text_is_no_traceback() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}))
    with pytest.raises(UserError, match=r"cannot encode a document: .*unk_token"):
        tokenise.encode(words, ["b"], tokenise.facts_of(words))
