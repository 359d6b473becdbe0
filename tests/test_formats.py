"""JSON, tables and Arrow as documents, however they are laid out; old ends of lines."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from climb_opt.corpus.documents import Bad, Document
from climb_opt.corpus.read import json_values
from climb_opt.corpus.read.inputs import find_sources
from climb_opt.corpus.read.jsonl import JSONL
from climb_opt.corpus.read.records import read
from climb_opt.corpus.read.source import ReadOptions
from climb_opt.errors import UserError
from climb_opt.reading import ESCAPED, read_csv
from climb_opt.unpacking import Damaged

ROWS = [{"id": f"n{i}", "text": f"Größe {i}", "meta": {"set": i % 2}} for i in range(5)]
LINES = [json.dumps(row, ensure_ascii=False) for row in ROWS]
OPTIONS = ReadOptions(fields=("meta.set",))


def records(path: Path, options: ReadOptions = OPTIONS) -> list[Any]:
    return [r for source in find_sources([str(path)]) for r in read(source, options)]


def saved(path: Path, text: str, encoding: str = "utf-8", pack: Any = bytes) -> Path:
    path.write_bytes(pack(text.encode(encoding)))
    return path


EXPECTED = [Document(r["id"], r["text"], {"meta.set": r["meta"]["set"]}) for r in ROWS]


# --- ends of lines -------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r", "\r\n\n"])
def test_lines_end_as_they_did_on_any_machine(tmp_path: Path, end: str, encoding: str) -> None:
    for text in (end.join(LINES), end + end.join(LINES) + end):
        assert records(saved(tmp_path / "a.jsonl", text, encoding)) == EXPECTED
        assert records(saved(tmp_path / "a.jsonl.gz", text, encoding, gzip.compress)) == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-be"])
def test_a_file_that_ends_within_a_character_is_damaged(tmp_path: Path, encoding: str) -> None:
    file = saved(tmp_path / "a.jsonl", "\n".join(LINES) + "\n", encoding)
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(Damaged, match=r"a\.jsonl is damaged or truncated"):
        records(file)


def test_joined_files_may_differ_in_their_ends_of_lines(tmp_path: Path) -> None:
    for first in (2, 3):
        text = "\n".join(LINES[:first]) + "\n" + "\r".join(LINES[first:])
        assert records(saved(tmp_path / "a.jsonl", text)) == EXPECTED


def test_a_return_that_is_blank_space_within_an_object_ends_no_line(tmp_path: Path) -> None:
    text = '{"text": "one",\r "id": "x"}\n{"text": "two"}\n'
    assert [r.id for r in records(saved(tmp_path / "a.jsonl", text))] == ["x", "a.jsonl:2"]


def test_long_lines_that_end_in_returns_are_read_one_by_one(tmp_path: Path) -> None:
    texts = [letter * 2_500_000 for letter in "abc"]
    text = "\r".join(json.dumps({"text": text}) for text in texts)
    assert [r.text for r in records(saved(tmp_path / "a.jsonl", text))] == texts


def test_tables_and_places_in_them_know_old_ends_of_lines(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.csv", "web\tcode, all\r1\t0\r")
    assert read_csv(file) == (["web\tcode", " all"], [(2, ["1\t0"])])
    assert read_csv(saved(file, "sep=;\rweb;code\r1;0\r")) == (["web", "code"], [(3, ["1", "0"])])
    with pytest.raises(UserError, match=r"a\.csv, line 3, byte 8: 0xe9 is not UTF-8"):
        read_csv(saved(file, "a,b\r1,2\ré", "latin-1"))


def test_the_remedy_for_control_characters_works(tmp_path: Path) -> None:
    text = '{"text": "a\ttab"}\n{"text": "nothing\0"}\n'
    bad = records(saved(tmp_path / "a.jsonl", text))
    assert [(b.reason, b.where) for b in bad] == [
        ("a control character in a string", "a.jsonl:1, byte 12"),
        ("a control character in a string", "a.jsonl:2, byte 18"),
    ]
    command = shlex.split(ESCAPED.partition(": ")[2].partition(" < ")[0])
    command[0] = sys.executable
    with open(tmp_path / "a.jsonl", "rb") as file:
        mended = subprocess.run(command, stdin=file, capture_output=True, check=True).stdout
    (tmp_path / "b.jsonl").write_bytes(mended)
    assert [r.text for r in records(tmp_path / "b.jsonl")] == ["a\ttab", "nothing\0"]


# --- JSON ----------------------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[list[Any]], str]] = {
    "list": json.dumps,
    "list over lines": lambda rows: json.dumps(rows, indent=2),
    "a line an element": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
    "objects over lines": lambda rows: "\n".join(json.dumps(r, indent=1) for r in rows),
    "named": lambda rows: json.dumps({"version": 2, "data": rows}),
    "named over lines": lambda rows: json.dumps({"data": rows, "errors": []}, indent=2),
    "deeper": lambda rows: json.dumps({"response": {"items": rows, "next": None}}),
    "lists": lambda rows: json.dumps(rows[:2]) + "\n" + json.dumps(rows[2:]),
    "lines": lambda rows: "\n".join(map(json.dumps, rows)),
}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.ndjson.bz2"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_documents_are_the_same_in_every_layout_of_json(
    tmp_path: Path, layout: str, name: str
) -> None:
    pack = {"gz": gzip.compress, "bz2": bz2.compress}.get(name.rpartition(".")[2], bytes)
    assert records(saved(tmp_path / name, LAYOUTS[layout](ROWS), pack=pack)) == EXPECTED


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(min_size=1), min_size=1, max_size=6), st.integers(1, 40), st.booleans())
def test_a_list_is_read_whatever_pieces_it_comes_in(
    tmp_path: Path, texts: list[str], piece: int, escaped: bool
) -> None:
    texts = ["." + text.encode("utf-8", "replace").decode() for text in texts]
    rows = [{"text": text, "n": 10**i} for i, text in enumerate(texts)]
    file = saved(tmp_path / "a.json", json.dumps([*rows, 12345], ensure_ascii=escaped))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_PIECE", piece)
        *found, number = records(file, ReadOptions(fields=("n",)))
    assert [(d.text, d.fields["n"]) for d in found] == [(r["text"], r["n"]) for r in rows]
    assert number == Bad("not a JSON object", f"a.json:{len(rows) + 1}")


def test_one_document_a_file_is_read_from_a_folder(tmp_path: Path) -> None:
    for row in ROWS:
        saved(tmp_path / f"{row['id']}.json", json.dumps(row, indent=2))
    saved(tmp_path / "dataset_info.json", '{"features": []}')
    assert sorted(records(tmp_path), key=lambda d: d.id) == EXPECTED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(ROWS)[:-30], r"a\.json is damaged or no JSON \(character 5\d\d: "),
        ("[" + LINES[0], r"a\.json is damaged or truncated \(its list is not closed"),
        (f"[{LINES[0]}, {{no}}, {LINES[1]}]", "character 56: Expecting property name"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_comes_before_a_fault_in_a_list_is_kept(
    tmp_path: Path, text: str, message: str
) -> None:
    (source,) = find_sources([str(saved(tmp_path / "a.json", text))])
    found = read(source, OPTIONS)
    with pytest.raises(Damaged, match=message):
        for document, expected in zip(found, [*EXPECTED, None], strict=False):
            assert document == expected


def test_elements_that_are_wrong_cost_themselves_only(tmp_path: Path) -> None:
    data = ("[" + ", ".join([*LINES[:1], '{"text": "ä\t"}', "null", *LINES[1:]]) + "]").encode()
    (tmp_path / "a.json").write_bytes(data.replace("Größe 4".encode(), b"Gr\xf6\xdfe 4"))
    found = records(tmp_path / "a.json")
    assert [f for f in found if isinstance(f, Document)] == EXPECTED[:4]
    assert [f for f in found if isinstance(f, Bad)] == [
        Bad("a control character in a string", "a.json:2, byte 13"),
        Bad("not a JSON object", "a.json:3"),
        Bad("not UTF-8", "a.json:7"),
    ]


def test_which_of_several_lists_is_meant_is_asked(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.json", json.dumps({"x": {"train": ROWS, "test": ROWS}}))
    with pytest.raises(
        UserError, match=r"lists of .*'train', 'test'.* jq -c '\.\[\"x\"\]\[\"train"
    ):
        records(file)


def test_a_list_in_one_of_several_objects_is_not_the_documents(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.jsonl", json.dumps({"turns": ROWS}) + "\n" + LINES[0])
    assert records(file) == [Bad("no field 'text'", "a.jsonl:1"), EXPECTED[0]]


def test_a_value_too_long_for_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "LARGEST", 100)
    monkeypatch.setattr(json_values, "_PIECE", 50)
    assert len(records(saved(tmp_path / "a.json", json.dumps(ROWS)))) == 5  # none of them is
    with pytest.raises(Damaged, match=r"longer than 100 characters; write .* jq -cn --stream"):
        records(saved(tmp_path / "a.json", json.dumps({"data": ROWS}, indent=1)))


# --- tables --------------------------------------------------------------------------------------

TABLE = (
    'id,text,note\nn1,"a ""quoted""\nword",7\nn2,plain,\nn3,,x\nn4,short\n\nn5,more,,,\n'
    "n6,many,7,8\n"
)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a.csv", lambda text: text),
        ("a.tsv", lambda text: text.replace(",", "\t")),
        ("a.csv", lambda text: "sep=;\n" + text.replace(",", ";")),
        ("a.CSV.gz", lambda text: text),
        ("a.csv", lambda text: text.replace("id,text", " id , text")),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_rows_of_tables_are_documents(
    tmp_path: Path, name: str, change: Callable[[str], str], encoding: str
) -> None:
    pack = gzip.compress if name.endswith("gz") else bytes
    file = saved(tmp_path / name, change(TABLE), encoding, pack)
    first, second, empty, short, last, long = records(file, ReadOptions(fields=("note",)))
    assert first == Document("n1", 'a "quoted"\nword', {"note": "7"})
    assert (second, last) == (
        Document("n2", "plain", {"note": None}),
        Document("n5", "more", {"note": None}),
    )
    assert empty.reason == "empty"
    assert short.reason == long.reason == "more or fewer cells than columns"


def test_what_is_wrong_with_a_table_is_said_with_its_place(tmp_path: Path) -> None:
    for text, message in [
        ("a,b\n1,2\n", r"a\.csv has no column 'text'\. Fields there are: a, b\."),
        ("text,text\n1,2\n", r"a\.csv has 2 columns 'text'; rename"),
        ("text,id,id\n1,2,3\n", r"a\.csv has 2 columns 'id'; rename"),
        ('text,b\n1,2\n"3,4\n5,6\n', r"a\.csv, line 3: not readable as CSV: .* quote"),
    ]:
        with pytest.raises(UserError, match=message):
            records(saved(tmp_path / "a.csv", text))
    bad, good = records(saved(tmp_path / "a.csv", "text\ncafé\ntea\n", "latin-1"))
    assert (bad, good.text) == (Bad("not UTF-8", "a.csv:1"), "tea")
    (long,) = records(saved(tmp_path / "a.csv", "text\n" + "x" * 300_000))
    assert len(long.text) == 300_000


# --- Arrow ---------------------------------------------------------------------------------------


def test_arrow_files_streams_feather_and_orc_are_read(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS).append_column("a.b", pa.array(list("abcde")))
    pyarrow.feather.write_feather(table, tmp_path / "a.feather")
    pyarrow.orc.write_table(table, tmp_path / "b.orc")
    for name, new in (("c.arrow", pa.ipc.new_file), ("d.arrow", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as file, new(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    for name in ("a.feather", "b.orc", "c.arrow", "d.arrow"):
        assert records(tmp_path / name) == EXPECTED
    dotted = records(tmp_path / "c.arrow", ReadOptions(text_field="a.b"))
    assert [d.text for d in dotted] == list("abcde")
    assert len(records(tmp_path)) == 20


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_an_arrow_file_without_rows_holds_no_document(tmp_path: Path, new: Any) -> None:
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, new(file, pa.schema({"text": "str"})):
        pass
    assert records(tmp_path / "a.arrow") == []


@pytest.mark.parametrize("name", ["a.arrow", "a.orc", "a.feather"])
def test_damaged_arrow_files_are_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(Damaged, match=rf"{name} is damaged or not (Arrow|ORC)"):
        records(saved(tmp_path / name, "nonsense"))
    with pytest.raises(UserError, match=r"has no column 'text'.*--text-field"):
        pyarrow.feather.write_feather(pa.table({"a": [1]}), tmp_path / "b.feather")
        records(tmp_path / "b.feather")


# --- which files are documents -------------------------------------------------------------------


def test_tables_and_json_beside_documents_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    saved(tmp_path / "labels.csv", "text\nwrong\n")
    saved(tmp_path / "info.json", '{"text": "wrong too"}')
    saved(tmp_path / "README.md", "Not this.")
    assert [d.text for d in records(tmp_path)] == ["wrong"]  # a table before a .json
    assert "1 beside documents of another format (info.json)" in caplog.text
    saved(tmp_path / "a.jsonl", '{"text": "right"}\n')
    for where in (tmp_path, Path(f"{tmp_path}/*"), Path(f"domains:{tmp_path}")):
        caplog.clear()
        assert [d.text for d in records(where)] == ["right"]
        assert "2 beside documents of another format (info.json, labels.csv)" in caplog.text
    (wrong,) = records(tmp_path / "labels.csv")  # named, it is read
    assert wrong.text == "wrong"


def test_compressed_text_files_are_documents(tmp_path: Path) -> None:
    saved(tmp_path / "a.txt", "BZh is how bzip2 begins")
    saved(tmp_path / "b.txt.gz", "packed", "utf-16", gzip.compress)
    saved(tmp_path / "c.md.bz2", "also", pack=bz2.compress)
    saved(tmp_path / "d.txt.gz", "no gzip")
    saved(tmp_path / "A.TXT.GZ", "in capitals", pack=gzip.compress)
    *good, bad = records(tmp_path)
    assert [d.text for d in good] == ["in capitals", "BZh is how bzip2 begins", "packed", "also"]
    assert bad.reason == "damaged" and "does not begin as gzip does" in bad.where


def test_every_ending_has_one_reader() -> None:
    assert ".json" not in JSONL.endings and ".json.gz" in JSONL.endings


@pytest.mark.parametrize(
    ("name", "start", "said"),
    [
        ("a.zip", b"PK\x03\x04", "Unpack it first"),
        ("a.tar.gz", b"\x1f\x8b", "Unpack it first"),
        ("a.jsonl.lz4", b"\x04\x22\x4d\x18", "Unpack it first"),
        ("a.jsonl.Z", b"\x1f\x9d", "Unpack it first"),
        ("a.jsonl ", b"{}", "ends with a blank: rename it"),
        ("a.warc", b"WARC/1.0", r"Convert it, or .* reader of your own \(docs/own-reader\.md\)"),
        ("a.jsonl.gz", b"PK\x03\x04", r"a\.jsonl\.gz is a zip archive, .* \(unzip FILE\)"),
        ("a.jsonl", b"\x04\x22\x4d\x18", r"a\.jsonl is packed with LZ4, .* \(lz4 -d FILE\)"),
        ("a.csv", b"7z\xbc\xaf\x27\x1c", r"a\.csv is a 7z archive, .* \(7z x FILE\)"),
    ],
)
def test_what_is_packed_in_another_way_is_refused_with_the_remedy(
    tmp_path: Path, name: str, start: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(start + b" and so on\n")
    with pytest.raises(UserError, match=said):
        records(tmp_path / name)


def test_files_and_folders_that_may_not_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    saved(tmp_path / "a.jsonl", LINES[0])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        with pytest.raises(
            UserError, match=r"^Input '.*': .* cannot be read: Permission denied\.$"
        ):
            find_sources([str(tmp_path / "a.jsonl")])
    monkeypatch.setattr("os.access", lambda *_: False)  # the superuser may read all
    monkeypatch.setattr(Path, "open", refuse)
    assert len(find_sources([str(tmp_path / "a.jsonl")])) == 1  # left to the reader
