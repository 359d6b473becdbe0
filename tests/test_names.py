"""Names as people have them: nested fields, no identifiers, no UTF-8."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from climb_opt.cli import main
from climb_opt.cli.corpus_build import _fields
from climb_opt.corpus.documents import DOMAIN_FIELD, TARGET_FIELD, Document
from climb_opt.corpus.files import load_json, save_json
from climb_opt.corpus.read.fields import ABSENT, column_names, columns_of, names_in, value_at
from climb_opt.corpus.read.inputs import find_sources
from climb_opt.corpus.read.records import read
from climb_opt.corpus.read.source import ReadOptions
from climb_opt.corpus.stages.roles import parse_target
from climb_opt.shards import Corpus
from climb_opt.text import printable, same_name, storable, storable_value
from corpora import topic_documents, write_jsonl

SMALL = ["--clusters", "8", "--domains", "2", "--vocab-size", "300", "--no-progress"]
HALVES = st.characters(categories=["Cs", "L", "P"])
ROW = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}, "x.y": 4}, "tags": ["p", {"q": 5}], "none": None}


def read_all(path: Path | str, **options: Any) -> list[Document]:
    found = [r for s in find_sources([str(path)]) for r in read(s, ReadOptions(**options))]
    return [r for r in found if isinstance(r, Document)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("a.b", 1), ("a", ROW["a"]), ("a.c.d", 3), ("a.x.y", 4), ("tags.0", "p"), ("tags.1.q", 5),
     ("none", None), ("a.b.c", ABSENT), ("tags.2", ABSENT), ("tags.p", ABSENT),
     ("none.x", ABSENT), ("a.", ABSENT), (".a", ABSENT), ("", ABSENT), ("tags.0.0", ABSENT),
     (f"tags.{10**30}", ABSENT)],
)  # fmt: skip
def test_a_field_is_found_by_its_dotted_path(name: str, value: Any) -> None:
    assert value_at(ROW, name) == value


@given(
    st.recursive(st.integers(), lambda inner: st.dictionaries(st.text(".ab", max_size=3), inner))
)
def test_every_name_that_is_listed_is_found(record: Any) -> None:
    if isinstance(record, dict):
        assert all(value_at(record, name) is not ABSENT for name in names_in(record))


def test_parquet_reads_only_the_part_of_a_struct_that_is_asked_for(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "meta": {"set": f"s{i}", "long": "x"}, "kv": [("k", "v")]}
            for i in range(3)]  # fmt: skip
    kinds = {"meta": pyarrow.struct({"set": pyarrow.string(), "long": pyarrow.string()})}
    kinds |= {"text": pyarrow.string(), "kv": pyarrow.map_(pyarrow.string(), pyarrow.string())}
    schema = pyarrow.schema(kinds)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), tmp_path / "a.parquet")
    assert columns_of(schema, ["meta.set", "text", "kv.k", "no", "meta.no"], "a") == [
        "meta.set", "text", "kv",
    ]  # fmt: skip
    assert list(column_names(schema)) == ["meta.set", "meta.long", "text", "kv"]
    found = read_all(tmp_path, id_field="meta.set", fields=("kv.k", "meta.set"))
    assert found[2] == Document("s2", "text 2", {"kv.k": "v", "meta.set": "s2"})
    assert read_all(tmp_path, text_field="meta.long")[0].text == "x"


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("kind:prose", "kind", "prose"),
        ("meta.set:sea", "meta.set", "sea"),
        ("pile-set:sea", "pile-set", "sea"),
        ("set name:a b", "set name", "a b"),
        ("2023:x", "2023", "x"),
        ("url:http://a:80", "url", "http://a:80"),
        ('"dc:type":book', "dc:type", "book"),
        ('"hf":yes', "hf", "yes"),
        ('"file.jsonl:1":x', "file.jsonl:1", "x"),
    ],
)
def test_any_field_may_be_a_targets(text: str, field: str, value: str) -> None:
    target, files = parse_target(f"t={text}", 0.5)
    assert (target.field, target.value, target.share, files) == (field, value, 0.5, None)


def test_what_exists_or_has_a_prefix_is_a_targets_input(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a:b.jsonl", [{"text": "x"}])
    found = [f"{tmp_path}/a:b.jsonl", f"{tmp_path}/a:*.jsonl", "hf:set#test", "installed:prose"]
    for files in found:
        target, inputs = parse_target(f"t={files}", 0.5)
        assert (target.field, inputs) == (TARGET_FIELD, files)


@given(st.text(HALVES))
def test_any_text_is_made_storable_and_valid_text_is_left_alone(text: str) -> None:
    made = storable(text)
    assert made.encode("utf-8").decode("utf-8") == made == storable(made)
    assert (made == text) == all(not 0xD800 <= ord(c) <= 0xDFFF for c in text)
    assert storable_value({text: [text, 1, None]}) == {made: [made, 1, None]}


def test_bytes_that_are_no_utf8_are_escaped_where_they_are_shown() -> None:
    assert storable(os.fsdecode(b"caf\xe9")) == printable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert storable("\ud800") == r"\ud800"


def test_names_that_some_file_system_takes_for_one_are_the_same_name() -> None:
    assert same_name("Cafe\u0301") == same_name("CAF\u00c9") != same_name("cafe")


def test_json_gives_back_paths_that_are_no_utf8(tmp_path: Path) -> None:
    data = {"path": os.fsdecode(b"caf\xe9"), "text": "caf\u00e9 \u5b57"}
    save_json(tmp_path / "a.json", data)
    assert load_json(tmp_path / "a.json") == data
    assert "caf\u00e9 \u5b57" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_files_and_folders_whose_names_are_no_utf8_are_read(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"d\xe9")
    lines = [{"text": f"text {i}"} for i in range(3)]
    write_jsonl(folder / os.fsdecode(b"a\xe9.jsonl"), lines)
    (folder / os.fsdecode(b"n\xe9.txt")).write_text("a note")
    with (folder / os.fsdecode(b"p\xe9.parquet")).open("wb") as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines), file)
    assert [d.id for d in read_all(folder)] == [
        r"n\xe9.txt", r"a\xe9.jsonl:1", r"a\xe9.jsonl:2", r"a\xe9.jsonl:3",
        r"p\xe9.parquet:1", r"p\xe9.parquet:2", r"p\xe9.parquet:3",
    ]  # fmt: skip
    assert {d.fields[DOMAIN_FIELD] for d in read_all(f"domains:{tmp_path}")} == {r"d\xe9"}


def test_a_corpus_of_names_that_are_no_utf8_is_built_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"id": "\udc80", "lab": "\ud800"}
    rows = [
        {**d, **(odd if i % 2 else {"lab": "b"}), "meta": {"\ud800": ["\ud801"], "of": d["topic"]}}
        for i, d in enumerate(topic_documents(12))
    ]
    file = write_jsonl(tmp_path / os.fsdecode(b"d\xe9.jsonl"), rows)
    out = str(tmp_path / os.fsdecode(b"o\xe9"))
    build = ["corpus", "build", str(file), "--output", out, *SMALL, "--label-field", "lab"]
    assert main([*build, "--fields", "meta", "--target", "sky=meta.of:stars"]) == 0
    corpus = Corpus.load(out)
    assert corpus.name == r"o\xe9" and corpus.target("sky").documents
    counts = corpus.provenance["labels"]["domains"]
    assert {label for count in counts for label in count} == {"b", r"\ud800"}
    assert main(["corpus", "show", out, "--samples"]) == 0
    assert r"o\xe9: 2 domains" in capsys.readouterr().out
    assert main(["corpus", "show", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"].endswith(r"o\xe9")
    for layout in ("weborganizer", "curator", "megatron"):
        to = str(tmp_path / f"{layout}-{os.fsdecode(bytes([0xE9]))}")
        assert main(["corpus", "export", out, "--format", layout, "--output", to]) == 0
    again = read_all(f"weborganizer:{tmp_path}/weborganizer-\udce9#clusters-k8", fields=("meta",))
    assert r"\x80" in {d.id for d in again}
    assert all(d.fields["meta"][r"\ud800"] == [r"\ud801"] for d in again)


def test_names_with_line_ends_are_printed_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "a\nb.jsonl", [{"body": "x"}] * 20)
    build = ["corpus", "build", str(tmp_path / "a\nb.jsonl"), "--output", str(tmp_path / "o")]
    assert main([*build, "--no-progress", "--text-field", "a\nb"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    rows = [{**d, "id": "line\nend"} for d in topic_documents(8)]
    for topic in ("stars", "court"):
        mine = [r for r in rows if r["topic"] == topic]
        write_jsonl(tmp_path / "in" / f"{topic}\n\u202e" / "a.jsonl", mine)
    out = str(tmp_path / "p")
    assert (
        main(["corpus", "build", f"domains:{tmp_path / 'in'}", "--output", out, *SMALL[-3:]]) == 0
    )
    assert main(["corpus", "show", out, "--samples"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("stars \ufffd ") for line in lines)
    assert any("  line end: " in line for line in lines)


def test_a_field_with_a_comma_is_quoted() -> None:
    assert _fields('a, "b,c" ,d') == ("a", "b,c", "d") and _fields("") == ()
