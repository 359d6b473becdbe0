"""Copies, near-copies, and what becomes of them beside a target."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt.corpus.documents import Block
from climb_opt.corpus.stages import exact, near, roles, sketches
from climb_opt.corpus.stages.exact import by_hash, equal_runs
from climb_opt.corpus.stages.near import runs_of, similarity
from climb_opt.corpus.stages.tokenise import TokenFacts, TokenOptions
from climb_opt.errors import UserError
from climb_opt.files import save_array
from climb_opt.shards import Corpus, Stream
from corpora import TOPICS, small_corpus, topic_documents, write_jsonl


def texts_of(corpus: Corpus, stream: Stream | None) -> list[str]:
    """The documents of a stream, decoded."""
    from tokenizers import Tokenizer

    if stream is None:
        return []
    tokenizer = Tokenizer.from_file(str(corpus.tokenizer_file))
    tokens = corpus.read(stream)
    ends = np.flatnonzero(tokens == corpus.eos)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return [tokenizer.decode(tokens[a:b].tolist()) for a, b in zip(starts, ends, strict=True)]


def trained_on(corpus: Corpus) -> list[str]:
    return [t for d in corpus.domains for s in d.shards for t in texts_of(corpus, s)]


def held_out(corpus: Corpus) -> list[str]:
    return [t for d in corpus.domains for t in texts_of(corpus, d.heldout)]


def changed(text: str, words: int, rng: np.random.Generator) -> str:
    """A text with some of its words replaced."""
    parts = text.split()
    for index in rng.choice(len(parts), words, replace=False):
        parts[index] = "replaced"
    return " ".join(parts)


@given(st.lists(st.integers(0, 5), max_size=40))
@settings(max_examples=50)
def test_every_copy_links_to_its_first_occurrence(values: list[int]) -> None:
    links = equal_runs(np.array(values, dtype=np.uint64)[:, None], np.arange(len(values)))
    expected = [(i, values.index(v)) for i, v in enumerate(values) if values.index(v) < i]
    assert sorted(map(tuple, links.tolist())) == expected


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60), st.integers(1, 70))
@settings(max_examples=30)
def test_buckets_bring_equal_hashes_together(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], at_once: int
) -> None:
    hashes = np.array(values + values[::2], dtype=np.uint64)[:, None]
    parts = [(hashes[i : i + 7], np.arange(i, min(i + 7, len(hashes)))) for i in
             range(0, len(hashes), 7)]  # fmt: skip
    folder = tmp_path_factory.mktemp("buckets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "ROWS_AT_ONCE", at_once)
        found = list(by_hash(parts, len(hashes), folder))
    seen: dict[int, int] = {}
    for index, (some, numbers) in enumerate(found):
        assert (np.diff(numbers) > 0).all()
        assert (hashes[numbers] == some).all()
        assert all(seen.setdefault(int(h), index) == index for h in some[:, 0])
    assert sorted(n for _, some in found for n in some.tolist()) == list(range(len(hashes)))
    assert not list(folder.iterdir())


@pytest.mark.parametrize("at_once", [10, 1_000_000])
def test_copies_are_found_in_one_pass_or_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(exact, "ROWS_AT_ONCE", at_once)
    documents = topic_documents(20)
    write_jsonl(tmp_path / "a.jsonl", documents + documents[:7] + documents[3:5])
    corpus = small_corpus(tmp_path / "out", tmp_path / "a.jsonl")
    assert corpus.provenance["dropped"]["copies"] == 9
    assert corpus.provenance["repeated_ids"] == 9
    kept = trained_on(corpus) + held_out(corpus)
    assert sorted(kept) == sorted(d["text"] for d in documents)


@pytest.mark.parametrize("at_once", [16, 1_000_000])
def test_near_copies_are_dropped_and_distinct_documents_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(exact, "ROWS_AT_ONCE", at_once)
    rng = np.random.default_rng(1)
    documents = topic_documents(20, length=200)
    near = [{"id": f"n{i}", "text": changed(d["text"], 1, rng)} for i, d in enumerate(documents)]
    write_jsonl(tmp_path / "a.jsonl", documents + near[:30])
    corpus = small_corpus(tmp_path / "out", tmp_path / "a.jsonl")
    assert corpus.provenance["dropped"] == {
        "copies": 0, "near_copies": 30, "near_copies_of_targets": 0,
    }  # fmt: skip
    kept = small_corpus(tmp_path / "kept", tmp_path / "a.jsonl", near_duplicates=None)
    assert kept.provenance["dropped"]["near_copies"] == 0
    assert sum(s.documents for s in kept.streams()) == 110


def test_documents_that_share_little_are_not_near_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    documents = topic_documents(10, length=200)
    other = [{"text": changed(d["text"], 60, rng)} for d in documents]
    write_jsonl(tmp_path / "a.jsonl", documents + other)
    corpus = small_corpus(tmp_path / "out", tmp_path / "a.jsonl")
    assert corpus.provenance["dropped"]["near_copies"] == 0


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.sampled_from([20, 50_000]))
@settings(max_examples=30)
def test_sketches_are_those_of_datasketch(lengths: list[int], at_once: int) -> None:
    import datasketch

    rng = np.random.default_rng(sum(lengths))
    tokens = rng.integers(1, 9, size=sum(lengths) + len(lengths)).astype(np.uint16)
    ends = np.cumsum(np.array(lengths) + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketches, "SHINGLES_AT_ONCE", at_once)
        found = sketches.sketches_of(tokens, ends)
    for row, (length, end) in enumerate(zip(lengths, ends.tolist(), strict=True)):
        text = tokens[end - 1 - length : end - 1]
        if length < sketches.RUN:
            hashes = sketches.short_shingles(text, np.zeros(1, int), np.array([length]))
        else:
            hashes = sketches.shingles(text)
        expected = datasketch.MinHash(sketches.SKETCH, seed=1, hashfunc=int, scheme="affine32")
        expected.update_batch(hashes.tolist())
        assert np.array_equal(found[row], expected.hashvalues)


def test_shingles_tell_short_documents_apart_and_ignore_the_end_of_text() -> None:
    tokens = np.array([5, 6, 0, 5, 6, 7, 0, 5, 6, 9])
    found = sketches.sketches_of(tokens, np.array([3, 7, 7, 10]))
    assert (found[0] != found[1]).any() and (found[0] == found[3]).all()
    assert (found[2] == 0).all()  # a copy has no tokens


def test_a_long_document_s_sketch_does_not_depend_on_how_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = topic_documents(1, length=300)
    write_jsonl(tmp_path / "a.jsonl", documents * 3 + topic_documents(20))
    found = []
    for size in (50_000, 7):
        monkeypatch.setattr(sketches, "SHINGLES_AT_ONCE", size)
        out = small_corpus(tmp_path / f"{size}", tmp_path / "a.jsonl").path
        (file,) = out.glob("work/sketches-*/*.sketch.npy")
        found.append(np.load(file))
    assert np.array_equal(*found)


@given(
    st.lists(st.integers(0, 3), max_size=30),
    st.lists(st.integers(0, 3), max_size=30),
    st.sampled_from([None, 3]),
)
@settings(max_examples=200)
def test_similarity_is_that_of_the_sets_of_runs(
    one: list[int], two: list[int], unknown: int | None
) -> None:
    def runs(tokens: list[int]) -> set[tuple[int, ...]]:
        size = sketches.RUN
        return {tuple(tokens[i : i + size]) for i in range(max(1, len(tokens) - size + 1))} - {()}

    a, b = runs(one), runs(two)
    both = {r for r in a & b if unknown not in r}
    found = similarity(*(runs_of(np.array(t, dtype=np.uint16), unknown) for t in (one, two)))
    assert found == pytest.approx(len(both) / max(1, len(a) + len(b) - len(both)))


def test_documents_whose_hashes_meet_by_chance_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among all pairs of one hash only those that share their tokens are copies."""
    monkeypatch.setattr(sketches, "_mixed", np.zeros_like)
    rng = np.random.default_rng(1)
    long = topic_documents(6, length=200)
    short = [{"text": f"{word} {i}"} for i in range(9) for word in TOPICS["court"].split()]
    near = [{"text": changed(d["text"], 1, rng)} for d in long[:8]]
    write_jsonl(tmp_path / "a.jsonl", [*long, *near, *short])
    corpus = small_corpus(tmp_path / "out", tmp_path / "a.jsonl")
    # Each is compared with the first of its hash and with the one before: few of the near copies.
    kept = trained_on(corpus) + held_out(corpus)
    assert {d["text"] for d in [*long, *short]} <= set(kept)
    assert (
        len(kept)
        == len(long) + len(near) + len(short) - corpus.provenance["dropped"]["near_copies"]
    )


def test_texts_that_a_tokenizer_does_not_know_are_not_the_same(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted({w for text in TOPICS.values() for w in text.split()})
    vocabulary = {w: i for i, w in enumerate(["<unk>", "</s>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "t.json"))
    foreign = [{"text": " ".join(f"x{i}y{j}" for j in range(40))} for i in range(12)]
    known = topic_documents(30)
    write_jsonl(tmp_path / "a.jsonl", [*known, *foreign])
    corpus = small_corpus(
        tmp_path / "out", tmp_path / "a.jsonl", tokens=TokenOptions(str(tmp_path / "t.json"))
    )
    assert corpus.provenance["dropped"]["near_copies"] == 0


def test_a_long_text_is_not_counted_again_for_every_short_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sketches, "_mixed", np.zeros_like)
    monkeypatch.setattr(near, "HELD", 100)  # nothing of length is kept for later
    counted: list[int] = []
    plain = near.runs_of

    def counting(tokens: np.ndarray, unknown: int | None) -> Any:
        counted.append(len(tokens))
        return plain(tokens, unknown)

    monkeypatch.setattr(near, "runs_of", counting)
    long = topic_documents(1, length=20_000)[:1]
    write_jsonl(tmp_path / "a.jsonl", [*long, *topic_documents(40)])
    small_corpus(tmp_path / "out", tmp_path / "a.jsonl")
    assert sum(size > 20_000 for size in counted) <= 2  # as the first of all, and beside the next


# --- targets ----------------------------------------------------------------------------------


def test_a_target_is_held_out_with_all_that_is_near_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    documents = topic_documents(30, length=300)
    stars = [d for d in documents if d["topic"] == "stars"]
    copies = [{"id": f"c{i}", "text": d["text"], "topic": "other"} for i, d in enumerate(stars)]
    near = [
        {"id": f"n{i}", "text": changed(d["text"], 1, rng), "topic": "other"}
        for i, d in enumerate(stars)
    ]
    # Copies first: the target's documents are then not the first of their groups.
    write_jsonl(tmp_path / "a.jsonl", copies + near + documents)
    corpus = small_corpus(
        tmp_path / "out", tmp_path / "a.jsonl", targets=("sky=topic:stars",), target_share=0.5
    )
    target = texts_of(corpus, corpus.target("sky"))
    assert 8 <= len(target) <= 22
    assert set(target) <= {d["text"] for d in stars}
    families = [{d["text"], n["text"]} for d, n in zip(stars, near, strict=True)]
    trained = set(trained_on(corpus)) | set(held_out(corpus))
    for family in families:
        assert not (family & set(target) and family & trained)
    assert corpus.provenance["dropped"]["near_copies_of_targets"] > 0


def test_the_documents_of_a_targets_own_files_are_all_held_out(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(20))
    exam = topic_documents(5, seed=9, prefix="exam-")
    write_jsonl(tmp_path / "exam.jsonl", exam)
    corpus = small_corpus(
        tmp_path / "out", tmp_path / "a.jsonl", targets=(f"exam={tmp_path / 'exam.jsonl'}",)
    )
    assert sorted(texts_of(corpus, corpus.target("exam"))) == sorted(d["text"] for d in exam)
    assert not set(trained_on(corpus)) & {d["text"] for d in exam}
    # The target is counted exactly: tokens, documents and bytes of text.
    stream = corpus.target("exam")
    assert stream.bytes == sum(len(d["text"].encode()) for d in exam)
    assert stream.documents == len(exam)


@pytest.mark.parametrize(
    "copies",
    [
        [{}, {"set": "a"}, {"kind": "b"}],
        [{"set": "a"}, {}, {"kind": "b"}],
        [{"set": "a", "kind": "b"}],
    ],
)
def test_a_text_of_two_targets_belongs_to_the_first(
    tmp_path: Path, copies: list[dict[str, str]]
) -> None:
    shared, one, other, *_ = (d["text"] for d in topic_documents(1, seed=9))
    exams = [{"text": one, "set": "a"}, {"text": other, "kind": "b"}]
    documents = [*({"text": shared, **fields} for fields in copies), *exams, *topic_documents(20)]
    write_jsonl(tmp_path / "a.jsonl", documents)
    both = ("a=set:a", "b=kind:b")
    corpus = small_corpus(tmp_path / "out", tmp_path / "a.jsonl", targets=both, target_share=1.0)
    assert texts_of(corpus, corpus.target("a")) == [shared, one]
    assert texts_of(corpus, corpus.target("b")) == [other]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("science", "expected NAME=FIELD:VALUE"),
        ("a b=c:d", "a name is letters, digits"),
        ("x=topic:none", "Target 'x' has no documents"),
        ("x=missing/*.jsonl", "No file matches"),
        ("x=exam.txt", r"its inputs hold no text that could be read\. What was skipped"),
    ],
)
def test_targets_that_make_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(10))
    (tmp_path / "exam.txt").write_bytes("考试".encode("gb18030"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        small_corpus(tmp_path / "out", tmp_path / "a.jsonl", targets=(text,))


def test_two_targets_of_one_name(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(10))
    targets = ("x=topic:stars", "x=topic:court")
    with pytest.raises(UserError, match="Two targets are called 'x'"):
        small_corpus(tmp_path / "out", tmp_path / "a.jsonl", targets=targets)


@st.composite
def linked_groups(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = draw(st.integers(2, 12))
    pairs = draw(
        st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=9)
    )
    near = np.array([(max(p), min(p)) for p in pairs if p[0] != p[1]], np.int64).reshape(-1, 2)
    marks = np.array(draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)), np.uint8)
    return np.arange(size), near, marks


@given(linked_groups())
@settings(max_examples=100)
def test_one_document_of_every_group_is_kept(case: Any) -> None:
    _, near, marks = case
    members, group = roles._groups(near)
    none = np.zeros((0, 2), np.int64)
    found = roles._member_roles(members, group, marks[members], none)
    for index in np.unique(group):
        mine = found[group == index]
        kept = (mine == roles.TRAIN) | (mine >= roles.TARGET)
        assert kept.sum() == 1
        in_target = (marks[members][group == index] > 0).any()
        assert (mine[kept][0] >= roles.TARGET) == in_target


def test_topics_do_not_share_words() -> None:
    for a, b in itertools.combinations(TOPICS.values(), 2):
        assert not set(a.split()) & set(b.split())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is full")
def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "0").symlink_to("/dev/full")
    rows = np.ones((200_000, 1), dtype=np.uint64), np.arange(200_000)
    with pytest.raises(OSError) as error:
        exact._append(rows, 1, tmp_path)
    assert error.value.errno == errno.ENOSPC


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux tells what is open")
def test_near_copies_of_many_blocks_are_counted_with_few_files_open(tmp_path: Path) -> None:
    blocks = [Block(f"{i:03d}", 1, 20, i) for i in range(300)]
    for block in blocks:
        np.arange(20, dtype="<u2").tofile(tmp_path / f"{block.name}.bin")
        save_array(tmp_path / f"{block.name}.lengths.npy", np.array([20]))
    similar = near.Similarity(tmp_path, blocks, TokenFacts(300, 0, "uint16"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    pairs = np.array([[later, 0] for later in range(1, 300)])
    assert similar.at_least(pairs, 0.8).all()
    # A system may let a process have 256 files open, and libraries have theirs.
    assert len(list(Path("/proc/self/fd").iterdir())) - before < 200
