"""Inputs of every kind, and what happens to those that cannot be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from climb_opt.corpus.documents import DOMAIN_FIELD, TARGET_FIELD, Bad, Document
from climb_opt.corpus.read.inputs import find_sources
from climb_opt.corpus.read.records import read
from climb_opt.corpus.read.source import ReadOptions, Source
from climb_opt.corpus.run.workspace import Workspace
from climb_opt.corpus.stages.ingest import Inventory, ingest
from climb_opt.errors import UserError
from climb_opt.unpacking import Damaged
from corpora import write_jsonl

LINES = [{"id": f"d{i}", "text": f"text number {i}", "kind": "odd" if i % 2 else "even"}
         for i in range(50)]  # fmt: skip


def records(path: Path | str, **options: Any) -> list[Document | Bad]:
    found = []
    for source in find_sources([str(path)]):
        found += list(read(source, ReadOptions(**options)))
    return found


def texts(path: Path | str, **options: Any) -> list[str]:
    return [d.text for d in records(path, **options) if isinstance(d, Document)]


def ingested(tmp_path: Path, *inputs: Path | str) -> Inventory:
    sources = find_sources([str(i) for i in inputs])
    stage = Workspace(tmp_path / "work", progress=False).stage("documents")
    return ingest(stage, sources, ReadOptions(), {})


def noise(count: int) -> list[dict[str, Any]]:
    """Documents that do not compress well."""
    rng = np.random.default_rng(0)
    return [{"text": rng.bytes(100).hex()} for _ in range(count)]


def as_lines(documents: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(d) + "\n" for d in documents).encode()


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson"])
def test_json_lines_are_read_plain_and_compressed(tmp_path: Path, ending: str) -> None:
    data = as_lines(LINES)
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(f".{ending.split('.')[-1]}")
    (tmp_path / f"a{ending}").write_bytes(packed(data) if packed else data)
    found = records(tmp_path / f"a{ending}", fields=("kind",))
    assert [d.id for d in found] == [d["id"] for d in LINES]
    assert found[3] == Document("d3", "text number 3", {"kind": "odd"})


def test_zstandard_files_of_several_frames_are_read_whole(tmp_path: Path) -> None:
    half = [zstandard.compress(as_lines(part)) for part in (LINES[:20], LINES[20:])]
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(half))
    assert len(texts(tmp_path / "a.jsonl.zst")) == 50


@pytest.mark.parametrize("pack", [zstandard.compress, gzip.compress])
def test_a_truncated_file_is_noticed(tmp_path: Path, pack: Any) -> None:
    data = pack(as_lines(noise(8000)))
    file = tmp_path / ("a.jsonl.gz" if pack is gzip.compress else "a.jsonl.zst")
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(Damaged, match=r"a.jsonl.* is damaged or truncated"):
        records(file)


def test_parquet_reads_the_wanted_columns(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(LINES), tmp_path / "a.parquet")
    found = records(tmp_path, fields=("kind",))
    assert found[1] == Document("d1", "text number 1", {"kind": "odd"})
    with pytest.raises(UserError, match=r"no column 'body'. Fields there are: id, text, kind"):
        records(tmp_path, text_field="body")


def test_truncated_parquet_is_damaged(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(LINES), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:-20])
    with pytest.raises(Damaged, match="not Parquet"):
        records(tmp_path / "a.parquet")


def test_parquet_strings_that_are_not_utf8_are_single_bad_documents(tmp_path: Path) -> None:
    values = pyarrow.array([b"good", b"\xff\xfe bad", b"fine"], pyarrow.binary())
    column = pyarrow.Array.from_buffers(pyarrow.string(), 3, values.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
    found = records(tmp_path / "a.parquet")
    assert [getattr(d, "text", None) for d in found] == ["good", None, "fine"]
    assert found[1] == Bad("not UTF-8", "a.parquet:2")


def test_a_folder_of_texts_gives_one_document_a_file(tmp_path: Path) -> None:
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "notes" / "a.txt").write_text("first")
    (tmp_path / "notes" / "deep" / "b.md").write_text("second")
    (tmp_path / "notes" / "c.bin").write_bytes(b"\x00")
    found = records(tmp_path / "notes")
    assert {(d.id, d.text) for d in found} == {("a.txt", "first"), ("deep/b.md", "second")}
    before = find_sources([str(tmp_path / "notes")])
    (tmp_path / "notes" / "a.txt").write_text("changed!")
    assert find_sources([str(tmp_path / "notes")]) != before


def test_globs_and_several_inputs(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": name}])
    sources = find_sources([str(tmp_path / "[ab].jsonl"), str(tmp_path / "c.jsonl")])
    assert [s.name for s in sources] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert [d.id for s in sources for d in read(s, ReadOptions())] == [
        "a.jsonl:1", "b.jsonl:1", "c.jsonl:1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.jsonl", "No input .*nothing.jsonl"),
        ("installd:", r"No input 'installd:'.* Did you mean 'installed:'\?"),
        ("*.jsonl", "No file matches"),
        ("x.doc", r"no known format\. Convert it, .* Known: \.jsonl"),
        ("empty", "holds no files of documents"),
        ("installed:poems", "Known: prose, docstrings, licences, source"),
        ("domains:nowhere", "one sub-folder or file per domain"),
        ("weborganizer:empty", "not WebOrganizer's layout"),
    ],
)
def test_inputs_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.doc").write_text("a,b")
    Path("empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_sources([name])


def test_every_kind_of_bad_document_is_named(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good"}',
        b'{"text": "caf\xe9"}',
        b'{"text": "unfinished',
        b'["a", "list"]',
        b'{"body": "elsewhere"}',
        b'{"text": 7}',
        b'{"text": "a\ttab"}',
        b'{"text": "  "}',
        b'{"text": "half a pair \\ud83d"}',
        b"",
        b'{"id": 12, "text": "numbered"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found = records(tmp_path / "a.jsonl")
    assert [f.reason for f in found if isinstance(f, Bad)] == [
        "not UTF-8",
        "not JSON",
        "not a JSON object",
        "no field 'text'",
        "field 'text' is int, not text",
        "a control character in a string",
        "empty",
        "not UTF-8",
    ]
    (tab,) = (f for f in found if isinstance(f, Bad) and f.reason.startswith("a control"))
    assert tab.where == "a.jsonl:7, byte 12"
    assert [f.id for f in found if isinstance(f, Document)] == ["a.jsonl:1", "12"]


def test_bad_documents_are_counted_and_skipped(tmp_path: Path) -> None:
    good = as_lines(LINES)
    (tmp_path / "a.jsonl").write_bytes(good + b"not json\n" + b'{"text": ""}\n' * 40)
    found = ingested(tmp_path, tmp_path / "a.jsonl")
    assert (found.documents, found.bad) == (50, {"not JSON": 1, "empty": 40})
    assert found.lines()[1] == "1 skipped: not JSON (e.g. a.jsonl:51)"


def test_more_than_a_tenth_bad_stops(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_lines(LINES) + b'{"text": 1}\n' * 6)
    with pytest.raises(UserError, match=r"6 of the first 56 documents are bad.*is int, not text"):
        ingested(tmp_path, tmp_path / "a.jsonl")


def test_a_hopeless_file_stops_early(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": 7}\n' * 5000)
    with pytest.raises(UserError, match=r"1000 of the first 1000 .* is int, not .*--text-field"):
        ingested(tmp_path, tmp_path / "a.jsonl")


def test_one_damaged_file_of_many_is_named_and_its_beginning_kept(tmp_path: Path) -> None:
    for index in range(10):
        write_jsonl(tmp_path / f"{index}.jsonl", LINES)
    data = zstandard.compress(as_lines(noise(8000)))
    (tmp_path / "broken.jsonl.zst").write_bytes(data[: len(data) * 3 // 4])
    found = ingested(tmp_path, tmp_path)
    assert 1000 < found.documents - 500 < 8000
    assert "broken.jsonl.zst is damaged or truncated" in found.damaged[0]


def test_a_damaged_only_file_stops(tmp_path: Path) -> None:
    data = zstandard.compress(as_lines(noise(8000)))
    (tmp_path / "broken.jsonl.zst").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"1 of 1 inputs are damaged.*broken"):
        ingested(tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_what_could_not_be_read_is_read_by_the_next_build(tmp_path: Path, name: str) -> None:
    file, away = tmp_path / name, tmp_path / "away"
    file.write_text('{"text": "words"}\n')
    sources = find_sources([str(file)])
    stage = Workspace(tmp_path / "work", progress=False).stage("documents")
    file.rename(away)  # a mount that is lost for a while
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        ingest(stage, sources, ReadOptions(), {})
    away.rename(file)
    assert ingest(stage, sources, ReadOptions(), {}).documents == 1


def test_nothing_but_empty_documents_stops(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": ""}] * 20)
    with pytest.raises(UserError, match="no documents with text"):
        ingested(tmp_path, tmp_path)


def test_folders_are_domains(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "law" / "a.jsonl", LINES[:3])
    write_jsonl(tmp_path / "code.jsonl", LINES[3:5])
    found = records(f"domains:{tmp_path}")
    assert [d.fields[DOMAIN_FIELD] for d in found] == ["code"] * 2 + ["law"] * 3


def test_curators_folders_are_recognised(tmp_path: Path) -> None:
    for index in (10, 2):
        write_jsonl(tmp_path / f"centroid={index}" / "x.jsonl", LINES[:index])
    found = records(tmp_path)
    assert [d.fields[DOMAIN_FIELD] for d in found] == ["10"] * 10 + ["2"] * 2


def test_weborganizers_side_files_give_domains_and_scores(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "documents" / "part0.jsonl", LINES[:4])
    for name, values in (("domains_clusters-k24", [3, 3, 20, 7]), ("scores_edu", [1, 2, 3, 4.5])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "part0.npy", np.array(values))
    found = records(f"weborganizer:{tmp_path}#clusters-k24")
    assert [d.fields[DOMAIN_FIELD] for d in found] == ["3", "3", "20", "7"]
    assert found[3].fields["scores_edu"] == 4.5
    with pytest.raises(UserError, match="There are: clusters-k24"):
        records(f"weborganizer:{tmp_path}#topics")
    (tmp_path / "domains_topics").mkdir()
    with pytest.raises(UserError, match=r"holds 2 matching .* There are: clusters-k24, topics"):
        records(f"weborganizer:{tmp_path}")  # neither is taken for the other


def test_side_files_that_are_too_short_or_too_many_are_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "documents" / "part0.jsonl", LINES[:4])
    (tmp_path / "domains_topics").mkdir()
    np.save(tmp_path / "domains_topics" / "part0__choice.npy", np.array([1, 2]))
    with pytest.raises(UserError, match="holds 2 values"):
        records(f"weborganizer:{tmp_path}")
    np.save(tmp_path / "domains_topics" / "part01__choice.npy", np.array([1, 2]))  # another's
    with pytest.raises(UserError, match="holds 2 values"):
        records(f"weborganizer:{tmp_path}")
    np.save(tmp_path / "domains_topics" / "part0__other.npy", np.array([1, 2, 3, 4]))
    with pytest.raises(UserError, match="expected one side file of part0, but found 2"):
        records(f"weborganizer:{tmp_path}")


def test_targets_mark_their_documents(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", LINES[:1])
    (source,) = find_sources([str(tmp_path / "a.jsonl")], target="science")
    (document,) = read(source, ReadOptions())
    assert document.fields == {TARGET_FIELD: "science"}


def test_tokens_are_turned_into_text(tmp_path: Path, tiny_corpus: Any) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": [66, 67]}, {"text": "plain"}, {"text": [1, "x"]}])
    found = records(tmp_path / "a.jsonl", detokenize=str(tiny_corpus.path))
    assert isinstance(found[0], Document) and len(found[0].text) == 2
    assert found[1].text == "plain"
    assert found[2] == Bad("field 'text' is list, not text", "a.jsonl:3")


def test_a_ten_megabyte_document_is_one_document(tmp_path: Path) -> None:
    text = "word " * 2_000_000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + '\n{"text": "small"}\n')
    found = texts(tmp_path / "a.jsonl")
    assert [len(t) for t in found] == [10_000_000, 5]


def test_installed_text_is_collected_in_kinds() -> None:
    source = Source("installed", "prose", "installed:prose", 2_500_000)
    found = []
    for document in read(source, ReadOptions()):
        found.append(document)
        if len(found) == 200:
            break
    assert {d.fields["kind"] for d in found} == {"prose"}
    assert len({d.id for d in found}) == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hugging_face_datasets_on_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(LINES)
    datasets.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "set"))
    found = records(f"hf:{tmp_path / 'set'}#train", fields=("kind",))
    assert found[1] == Document("d1", "text number 1", {"kind": "odd"})
    with pytest.raises(UserError, match="has the splits train; name one: hf:"):
        records(f"hf:{tmp_path / 'set'}")
    made.save_to_disk(str(tmp_path / "a@b#1"))
    (tmp_path / "set").rename(tmp_path / "set#2@c")
    assert len(records(f"hf:{tmp_path / 'a@b#1'}")) == 50
    assert len(records(f"hf:{tmp_path / 'set#2@c'}#train")) == 50
