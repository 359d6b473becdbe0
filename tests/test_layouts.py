"""Other projects' layouts, out and in again."""

from __future__ import annotations

import errno
import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from climb_opt.corpus.after import edit, layouts
from climb_opt.corpus.after.layouts import export
from climb_opt.corpus.after.megatron import import_megatron, read_pair
from climb_opt.corpus.stages.bpe import train_tokenizer
from climb_opt.errors import UserError
from climb_opt.indexed import HEADER, write_index
from climb_opt.shards import Corpus
from corpora import TOPICS, small_corpus, topic_documents, write_jsonl


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    documents = [{**d, "grade": i % 5} for i, d in enumerate(topic_documents(30))]
    write_jsonl(tmp_path / "a.jsonl", documents)
    return small_corpus(
        tmp_path / "built",
        tmp_path / "a.jsonl",
        scores=("quality=column:grade",),
        targets=("sky=topic:stars",),
    )


def test_megatron_pairs_hold_every_document(corpus: Corpus, tmp_path: Path) -> None:
    export(corpus, "megatron", tmp_path / "out")
    for index, domain in enumerate(corpus.domains):
        pair = read_pair(tmp_path / "out" / f"domain_{index:03d}")
        assert np.array_equal(pair.tokens, corpus.read(domain.shards[0]))
        assert len(pair.ends) == domain.shards[0].documents
        assert all(pair.tokens[end - 1] == corpus.eos for end in pair.ends)
        assert pair.starts[0] == 0 and np.array_equal(pair.starts[1:], pair.ends[:-1])


def test_megatron_there_and_back_keeps_tokens_and_bytes(corpus: Corpus, tmp_path: Path) -> None:
    export(corpus, "megatron", tmp_path / "out")
    files = [str(tmp_path / "out" / f"domain_{i:03d}.bin") for i in range(len(corpus.domains))]
    back = import_megatron(
        files, str(corpus.path), tmp_path / "back", name="back", share=0.0, progress=False
    )
    for before, after in zip(corpus.domains, back.domains, strict=True):
        assert np.array_equal(corpus.read(before.shards[0]), back.read(after.shards[0]))
        assert before.shards[0].bytes == after.shards[0].bytes
        assert before.shards[0].sha256 == after.shards[0].sha256
    split = import_megatron(
        files, str(corpus.path), tmp_path / "split", name="split", share=0.2, progress=False
    )
    for before, after in zip(corpus.domains, split.domains, strict=True):
        assert after.heldout is not None and after.heldout.documents >= 1
        assert after.tokens + after.heldout.tokens == before.tokens


def test_held_out_parts_of_megatron_files_stay_held_out(corpus: Corpus, tmp_path: Path) -> None:
    export(corpus, "megatron", tmp_path / "out")
    files = sorted(map(str, (tmp_path / "out").glob("*.bin")))
    back = import_megatron(files, str(corpus.path), tmp_path / "back", name="b", progress=False)
    assert len(files) == 2 * len(corpus.domains) and len(back.domains) == len(corpus.domains)
    for before, after in zip(corpus.domains, back.domains, strict=True):
        assert before.heldout is not None and after.heldout is not None
        assert before.shards[0].sha256 == after.shards[0].sha256
        assert before.heldout.sha256 == after.heldout.sha256


def test_wide_vocabularies_are_int32_for_megatron(tmp_path: Path) -> None:
    tokens = np.array([70_000, 5, 0, 9, 0], dtype="<i4")
    (tmp_path / "x.bin").write_bytes(tokens.tobytes())
    write_index(tmp_path / "x", np.array([3, 2]), tokens.dtype.itemsize)
    head = HEADER.unpack((tmp_path / "x.idx").read_bytes()[: HEADER.size])
    assert head == (b"MMIDIDX\x00\x00", 1, 4, 2, 3)
    pair = read_pair(tmp_path / "x")
    assert pair.tokens.tolist() == tokens.tolist() and pair.ends.tolist() == [3, 5]


def test_megatron_documents_of_several_sequences_are_joined(tmp_path: Path) -> None:
    tokens = np.arange(10, dtype="<u2")
    (tmp_path / "x.bin").write_bytes(tokens.tobytes())
    lengths, bounds = np.array([2, 3, 5], "<i4"), np.array([0, 2, 2, 3], "<i8")
    starts = np.array([0, 4, 10], "<i8")
    head = HEADER.pack(b"MMIDIDX\x00\x00", 1, 8, 3, 4)
    parts = (head, lengths.tobytes(), starts.tobytes(), bounds.tobytes())
    (tmp_path / "x.idx").write_bytes(b"".join(parts))
    pair = read_pair(tmp_path / "x")
    assert (pair.starts.tolist(), pair.ends.tolist()) == ([0, 5], [5, 10])


def write_pair(prefix: Path, documents: list[list[int]], dtype: str = "<u2") -> Path:
    np.concatenate([np.array(d, dtype=dtype) for d in documents]).tofile(f"{prefix}.bin")
    write_index(prefix, np.array([len(d) for d in documents]), np.dtype(dtype).itemsize)
    return prefix


def test_texts_that_share_a_megatron_document_are_told_apart(tmp_path: Path) -> None:
    """Their end tokens are no bytes of theirs, and stand for as many documents."""
    tokenizer = train_tokenizer(["some plain words to learn from"], 300)
    tokenizer.add_special_tokens(["<s>"])  # a text may begin with it, and it is no byte
    begin = tokenizer.token_to_id("<s>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rng = np.random.default_rng(0)
    texts = [[begin, *rng.integers(40, 80, size=5).tolist(), 0] for _ in range(12)]
    found = []
    for kind, size in (("apart", 1), ("packed", 3)):
        (tmp_path / kind).mkdir()
        packed = [list(chain(*texts[i : i + size])) for i in range(0, len(texts), size)]
        files = [
            write_pair(tmp_path / kind / "a", [*packed, [0], [0, 0]]),  # and documents of no text
            write_pair(tmp_path / kind / "b", [*packed[:-1], packed[-1][:-1]]),  # without its end
        ]
        found.append(
            import_megatron(
                list(map(str, files)),
                str(tmp_path / "tokenizer.json"),
                tmp_path / f"{kind}-corpus",
                name="same",
                share=0.2,
                progress=False,
            )
        )
    apart, packed_too = found
    assert apart.domains == packed_too.domains
    for domain in apart.domains:
        streams = [*domain.shards, domain.heldout]
        assert sum(s.documents for s in streams if s) == 12
        assert sum(s.bytes for s in streams if s) == 12 * 5
        assert sum(s.tokens for s in streams if s) == 12 * 7


def test_texts_that_are_all_the_same_leave_something_to_train_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_tokenizer(["some words"], 300).save(str(tmp_path / "tokenizer.json"))
    files = [str(write_pair(tmp_path / n, [[50, 51, 0]] * 5)) for n in "ab"]
    out = tmp_path / "out"
    made = import_megatron(files, str(tmp_path), out, name="x", progress=False)
    assert [(d.tokens, d.heldout) for d in made.domains] == [(15, None)] * 2
    assert "all the same" in caplog.text


def test_tokens_below_zero_are_refused(tmp_path: Path) -> None:
    train_tokenizer(["some words"], 300).save(str(tmp_path / "tokenizer.json"))
    files = [str(write_pair(tmp_path / n, [[50, -1, 0]], "<i4")) for n in "ab"]
    with pytest.raises(UserError, match=r"a.bin holds token -1"):
        import_megatron(files, str(tmp_path), tmp_path / "out", name="x", progress=False)
    assert not (tmp_path / "out").exists(), "half a corpus would stand in the way of the next try"


def test_a_file_that_is_named_twice_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = str(write_pair(tmp_path / "a", [[50, 51, 0]]))
    with pytest.raises(UserError, match=r"^1 Megatron file; a mixture needs at least two domains"):
        import_megatron([file, file], str(tmp_path), tmp_path / "out", name="x", progress=False)
    assert "a is named twice, and read once." in caplog.text


def test_damaged_megatron_files_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    export(corpus, "megatron", tmp_path / "out")
    prefix = tmp_path / "out" / "domain_000"
    index, data = prefix.with_suffix(".idx"), prefix.with_suffix(".bin")
    good = index.read_bytes()
    for damaged, message in ((good[:-8], "is damaged"), (b"\0" * 100, "not a Megatron index")):
        index.write_bytes(damaged)
        with pytest.raises(UserError, match=message):
            read_pair(prefix)
    index.write_bytes(good)
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"is truncated: it holds [\d,]+ tokens, the index names"):
        read_pair(prefix)
    data.write_bytes(data.read_bytes() + b"\0" * 8)
    with pytest.raises(UserError, match=r"is not the data of domain_000.idx: it holds [\d,]+ tok"):
        read_pair(prefix)
    data.unlink()
    with pytest.raises(UserError, match=r"domain_000.bin is missing; .* with corpus build --detok"):
        read_pair(prefix)


def test_tokens_that_the_tokenizer_does_not_have_are_refused(
    corpus: Corpus, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    export(corpus, "megatron", tmp_path / "out")
    files = sorted(str(p) for p in (tmp_path / "out").glob("domain_???.bin"))
    with pytest.raises(UserError, match="give the tokenizer it was made with"):
        import_megatron(files, str(tiny_corpus.path), tmp_path / "in", name="x", progress=False)
    assert not (tmp_path / "in" / "manifest.json").exists()
    with pytest.raises(UserError, match="at least two domains"):
        import_megatron(files[:1], str(corpus.path), tmp_path / "in2", name="x")
    with pytest.raises(UserError, match=r"out' is a folder; name its files: .*out/\*\.bin$"):
        import_megatron([str(tmp_path / "out")], str(corpus.path), tmp_path / "in2", name="x")
    with pytest.raises(UserError, match=r"--heldout must be in \[0, 0.5\], but is 2"):
        import_megatron(files, str(corpus.path), tmp_path / "in2", name="x", share=2)


def test_curators_layout_holds_the_documents_of_each_domain(corpus: Corpus, tmp_path: Path) -> None:
    export(corpus, "curator", tmp_path / "out")
    centroids = np.load(tmp_path / "out" / "kmeans_centroids.npy")
    folders = sorted(tmp_path.glob("out/centroid=*"))
    assert len(folders) == len(corpus.domains)
    trained = 0
    for domain in corpus.domains:
        folder = tmp_path / "out" / f"centroid={min(domain.info['clusters'])}"
        lines = [
            json.loads(li) for f in folder.glob("*.jsonl") for li in f.read_text().splitlines()
        ]
        assert set(lines[0]) == {"id", "text", "quality"}
        assert min(domain.info["clusters"]) < len(centroids)
        assert len(lines) == domain.info["documents"]
        assert len({li["id"].split("-")[0] for li in lines}) == 1
        trained += len(lines)
    assert trained == 120 - corpus.target("sky").documents
    again = small_corpus(tmp_path / "again", tmp_path / "out")
    assert len(again.domains) == len(corpus.domains)
    # Numbers are no names: what a domain is about is.
    assert all(d.name.split("-")[0] in " ".join(TOPICS.values()) for d in again.domains)


def test_weborganizers_layout_can_be_read_back(corpus: Corpus, tmp_path: Path) -> None:
    export(corpus, "weborganizer", tmp_path / "out")
    kinds = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"documents", "tokens", "domains_clusters-k4", "scores_quality"} <= kinds
    again = small_corpus(tmp_path / "again", f"weborganizer:{tmp_path / 'out'}#clusters-k4",
                         scores=("quality=column:scores_quality",))  # fmt: skip
    before = sorted(d.info["documents"] for d in corpus.domains)
    assert sorted(d.info["documents"] for d in again.domains) == before
    old = {round(d.info["quality"]["quality"], 3) for d in corpus.domains}
    assert {round(d.info["quality"]["quality"], 3) for d in again.domains} == old


def test_edits_are_exported(corpus: Corpus, tmp_path: Path) -> None:
    names = [d.name for d in corpus.domains]
    edited = edit.drop(edit.merge(corpus, "both", names[:2]), [names[3]])
    export(edited, "curator", tmp_path / "out")
    assert len(list(tmp_path.glob("out/centroid=*"))) == 2


def test_exports_that_cannot_be(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Known: curator, weborganizer, megatron"):
        export(corpus, "tar", tmp_path / "out")
    with pytest.raises(UserError, match="not an empty folder"):
        export(corpus, "curator", tmp_path)
    shutil.rmtree(corpus.path / "work")
    with pytest.raises(UserError, match="Build the corpus again to export documents"):
        export(corpus, "curator", tmp_path / "out")


def test_an_export_that_stops_leaves_nothing_in_the_way(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = layouts.OF_SHARDS["jsonl"]

    def stopped(corpus: Corpus, folder: Path) -> None:
        whole(corpus, folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(layouts.OF_SHARDS, "jsonl", stopped)
    with pytest.raises(OSError, match="No space"):
        layouts.export(tiny_corpus, "jsonl", tmp_path / "out")
    monkeypatch.setitem(layouts.OF_SHARDS, "jsonl", whole)
    layouts.export(tiny_corpus, "jsonl", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.jsonl"))) >= len(tiny_corpus.domains)
