"""Fields of every type that a column can have: kept, as label, target, id and score."""

from __future__ import annotations

import datetime as dt
import json
import math
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from climb_opt.corpus.build import build
from climb_opt.corpus.documents import Bad, Document, read_block, write_block
from climb_opt.corpus.options import make_plan
from climb_opt.corpus.read.inputs import find_sources
from climb_opt.corpus.read.records import read
from climb_opt.corpus.read.source import ReadOptions
from climb_opt.corpus.read.values import plain, rows_of
from climb_opt.errors import UserError
from climb_opt.unpacking import Damaged
from corpora import small_corpus, small_options, topic_documents, write_jsonl

DAY = dt.date(2021, 5, 4)
NOON = dt.datetime(2021, 5, 4, 12, 0, 0, 500_000)


def counted(kind: pa.DataType, *counts: int) -> pa.Array:
    """An array of a type whose values are counts of something since something."""
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array(counts, width).cast(kind)


COLUMNS: dict[str, tuple[pa.Array, list[Any]]] = {
    "string": (pa.array(["é", None]), ["é", None]),
    "large_string": (pa.array(["é", None], pa.large_string()), ["é", None]),
    "string_view": (pa.array(["é", None], pa.string_view()), ["é", None]),
    "binary": (pa.array(["é".encode(), b"caf\xe9"]), ["é", "caf\\xe9"]),
    "large_binary": (pa.array(["é".encode(), b"\xe9"], pa.large_binary()), ["é", "\\xe9"]),
    "binary_view": (pa.array(["é".encode(), b"\xe9"], pa.binary_view()), ["é", "\\xe9"]),
    "fixed": (pa.array([b"ab", b"c\xe9"], pa.binary(2)), ["ab", "c\\xe9"]),
    "dictionary": (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    "dictionary of dates": (pa.array([DAY, None]).dictionary_encode(), ["2021-05-04", None]),
    "runs": (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]), ["a", "a", "b"]),
    "date32": (pa.array([DAY, None], pa.date32()), ["2021-05-04", None]),
    "date64": (pa.array([DAY, None], pa.date64()), ["2021-05-04", None]),
    "date far away": (counted(pa.date32(), 2**30), ["<value out of range: 1073741824>"]),
    "time32": (pa.array([dt.time(1, 2, 3)], pa.time32("s")), ["01:02:03"]),
    "time64": (counted(pa.time64("ns"), 1_000_000_001), ["00:00:01.000000001"]),
    "timestamp s": (counted(pa.timestamp("s"), 0), ["1970-01-01 00:00:00"]),
    "timestamp us": (pa.array([NOON, None]), ["2021-05-04 12:00:00.5", None]),
    "timestamp ns": (counted(pa.timestamp("ns"), 1), ["1970-01-01 00:00:00.000000001"]),
    "timestamp tz": (
        pa.array([NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=2)))]),
        ["2021-05-04 10:00:00.5+00:00"],
    ),
    "duration": (counted(pa.duration("ms"), 90_500, -1, 0), ["90.5", "-0.001", "0"]),
    "duration ns": (counted(pa.duration("ns"), 10**9 + 1), ["1.000000001"]),
    "decimal": (pa.array([Decimal("1.50"), None]), ["1.50", None]),
    "decimal small": (pa.array([Decimal("1E-10")]), ["0.0000000001"]),
    "null": (pa.nulls(2), [None, None]),
    "float": (pa.array([1.5, math.nan, -math.inf]), [1.5, None, "-inf"]),
    "bool": (pa.array([True, None]), [True, None]),
    "list": (pa.array([[DAY], None, [], [None, DAY]]), [
        ["2021-05-04"], None, [], [None, "2021-05-04"],
    ]),
    "fixed list": (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
    "list view": (pa.array([[b"a"], None], pa.list_view(pa.binary())), [["a"], None]),
    "struct": (pa.array([{"d": DAY, "b": b"a"}, None]), [{"d": "2021-05-04", "b": "a"}, None]),
    "map": (
        pa.array([[("k", DAY)], None, []], pa.map_(pa.string(), pa.date32())),
        [[["k", "2021-05-04"]], None, []],
    ),
    "deep": (pa.array([[{"a": [{"b": Decimal("1.0")}]}]]), [[{"a": [{"b": "1.0"}]}]]),
    "uuid": (pa.array([UUID(int=5).bytes], pa.uuid()), [str(UUID(int=5))]),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_arrow_columns_become_what_json_holds(name: str) -> None:
    column, expected = COLUMNS[name]
    for array, wanted in ((column, expected), (column.slice(1), expected[1:])):
        batch = pa.record_batch({"x": array})
        found = [plain(row["x"]) for row in rows_of(batch)]
        assert found == wanted
        assert [plain(row["x"]) for row in rows_of(pa.Table.from_batches([batch]))] == wanted
        json.dumps(found, allow_nan=False)


def test_a_value_that_its_library_cannot_give_costs_its_row_only() -> None:
    far = pa.array([0, 2**30], pa.int32()).cast(pa.date32())
    union = pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [far])
    good, bad = (row["x"] for row in rows_of(pa.record_batch({"x": union})))
    assert plain(good) == "1970-01-01"
    with pytest.raises(TypeError, match="sparse_union"):
        plain(bad)


def test_python_s_own_times_are_spelled_as_arrow_s() -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    values = [DAY, NOON, NOON.replace(tzinfo=zone), NOON.time(), dt.timedelta(seconds=-1.5)]
    for value in [*values, Decimal("1E-10"), "text", b"caf\xe9", True, 7]:
        (row,) = rows_of(pa.record_batch({"x": pa.array([value])}))
        assert plain(value) == plain(row["x"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_any_json_is_kept_as_strict_json(value: Any) -> None:
    kept = plain(value)
    assert json.loads(json.dumps(kept, allow_nan=False).encode("utf-8")) == kept
    assert plain(kept) == kept


# --- read ----------------------------------------------------------------------------------------


def records(path: Path | str, **options: Any) -> list[Document | Bad]:
    read_options = ReadOptions(**options)
    return [r for source in find_sources([str(path)]) for r in read(source, read_options)]


def stored(tmp_path: Path, **columns: pa.Array) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


TEXTUAL = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(),
           pa.binary_view(), pa.binary(4), pa.dictionary(pa.int32(), pa.string())]  # fmt: skip


@pytest.mark.parametrize("kind", TEXTUAL, ids=str)
@pytest.mark.parametrize("place", ["parquet", "datasets"])
def test_text_of_every_arrow_type_is_text(tmp_path: Path, kind: pa.DataType, place: str) -> None:
    texts = pa.array(["é x", None, "four"])
    column = texts.cast(pa.binary()).cast(kind) if kind == pa.binary(4) else texts.cast(kind)
    if place == "parquet":
        found = records(stored(tmp_path, text=column))
    else:
        found = records(f"hf:{on_disk(tmp_path, pa.table({'text': column}))}")
    assert [getattr(d, "text", d.reason if isinstance(d, Bad) else "") for d in found] == [
        "é x", "empty", "four",
    ]  # fmt: skip


def on_disk(tmp_path: Path, table: pa.Table) -> Path:
    datasets = pytest.importorskip("datasets")
    try:
        made = datasets.Dataset(datasets.table.InMemoryTable(table))
    except ValueError as error:
        pytest.skip(f"datasets does not take it: {error}")
    made.save_to_disk(str(tmp_path / "set"))
    return tmp_path / "set"


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.string()])
def test_bytes_that_are_no_text_cost_their_row(tmp_path: Path, kind: pa.DataType) -> None:
    raw = pa.array([b"good", b"\xff\xfe bad", b"fine"], pa.binary())
    column = raw.view(kind) if kind == pa.string() else raw.cast(kind)
    found = records(stored(tmp_path, text=column))
    assert [getattr(d, "text", None) for d in found] == ["good", None, "fine"]
    assert found[1] == Bad("not UTF-8", "a.parquet:2")


def test_a_date_is_no_text(tmp_path: Path) -> None:
    (found,) = records(stored(tmp_path, text=pa.array([DAY])))
    assert found == Bad("field 'text' is date32[day], not text", "a.parquet:1")


def test_a_field_that_json_cannot_hold_costs_its_row(tmp_path: Path) -> None:
    depth = 700 if sys.version_info < (3, 12) else 1500  # which JSON can read, and nobody else
    deep = '{"text": "x", "f": ' + "[" * depth + "]" * depth + "}\n"
    (tmp_path / "a.jsonl").write_text('{"text": "good", "f": 1}\n' + deep)
    good, bad = records(tmp_path / "a.jsonl", fields=("f",))
    assert isinstance(good, Document)
    assert bad == Bad("field 'f' is nested too deeply", "a.jsonl:2")
    assert all(isinstance(d, Document) for d in records(tmp_path / "a.jsonl"))


def test_ids_of_any_type_are_text_and_none_is_none(tmp_path: Path) -> None:
    texts = pa.array(["a", "b"])
    for column, ids in [
        (pa.array([DAY, None]), ["2021-05-04", "a.parquet:2"]),
        (pa.array([1.0, math.nan]), ["1.0", "a.parquet:2"]),
        (pa.array([b"\xe9", b""]), ["\\xe9", "a.parquet:2"]),
        (pa.array([Decimal("7.0"), Decimal("8.0")]), ["7.0", "8.0"]),
    ]:
        found = records(stored(tmp_path, text=texts, id=column))
        assert [d.id for d in found if isinstance(d, Document)] == ids


def test_ids_that_are_uuids_are_read_whoever_wrote_the_file(tmp_path: Path) -> None:
    number = UUID(int=5)
    table = pa.table({"text": ["a"], "id": pa.array([number.bytes], pa.uuid())})
    for arrows_own in (True, False):  # whether Arrow's types stand beside those of Parquet
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet", store_schema=arrows_own)
        (found,) = records(tmp_path / "a.parquet")
        assert getattr(found, "id", found) == str(number)


def test_a_block_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_block(tmp_path, "b", [Document("a", "text", {"f": object()})])
    assert list(tmp_path.iterdir()) == []
    write_block(tmp_path, "b", [Document("a", "text", {"f": 1})])
    assert list(read_block(tmp_path, "b")) == [Document("a", "text", {"f": 1})]


@pytest.mark.slow
def test_a_footer_larger_than_pyarrows_own_limit_is_read(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]})
    with pyarrow.parquet.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"long": "x" * 101_000_000})
    with pytest.raises(OSError, match="limit"):  # the limit is a real one
        pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").close()
    assert [d.text for d in records(tmp_path / "a.parquet") if isinstance(d, Document)] == ["a"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 2)), r"one value a document: it has the shape \(4, 2\)"),
        (np.array([None, {}]), "one value a document"),
        (None, "one value a document"),
    ],
)
def test_side_files_that_are_no_arrays_are_named(
    tmp_path: Path, values: np.ndarray | None, message: str
) -> None:
    write_jsonl(tmp_path / "documents" / "part0.jsonl", [{"text": "a"}])
    (tmp_path / "domains_topics").mkdir()
    file = tmp_path / "domains_topics" / "part0.npy"
    if values is None:
        file.write_bytes(b"no array")
    else:
        np.save(file, values)
    with pytest.raises(UserError, match=f"part0.npy' .*{message}"):
        records(f"weborganizer:{tmp_path}")


def test_streamed_rows_may_differ_in_their_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    from climb_opt.corpus.read import hub

    some = [{"text": "a", "f": None}, {"text": "b", "f": {"day": DAY}}, {"text": None, "f": None}]
    streamed = datasets.IterableDataset.from_generator(lambda: iter(some))
    monkeypatch.setattr(hub, "_open", lambda extra: streamed)
    found = records("hf:somebody/something", fields=("f",))
    assert [getattr(d, "fields", None) for d in found] == [
        {"f": None}, {"f": {"day": "2021-05-04"}}, None,
    ]  # fmt: skip


def test_an_input_that_is_gone_is_damaged_and_a_text_costs_itself(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    lines, texts = sorted(find_sources([str(tmp_path)]), key=lambda s: s.kind)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(Damaged, match=r"a\.jsonl cannot be read \(No such file"):
        list(read(lines, ReadOptions()))
    (tmp_path / "a.txt").unlink()
    bad, good = read(texts, ReadOptions())
    assert isinstance(bad, Bad) and bad.reason == "cannot be read (No such file or directory)"
    assert isinstance(good, Document) and good.text == "two"


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (b"7\n8\n", "Each line must be one JSON object"),
        (b'{"text": "a\tb"}\n', r"a\.jsonl:1, byte 12\)\. .* escaped: python3 -c"),
        ('{"text": "é"}\n'.encode("latin-1") * 3, "in another encoding, save it as UTF-8"),
    ],
)
def test_what_stops_a_build_says_what_to_do(tmp_path: Path, data: bytes, remedy: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    plan = make_plan(small_options(tmp_path / "a.jsonl"))
    with pytest.raises(UserError, match=remedy):
        build(plan, tmp_path / "out", progress=False)


# --- built ---------------------------------------------------------------------------------------


def dated(tmp_path: Path) -> Path:
    rows = topic_documents(12)
    days = {"kitchen": DAY, "stars": dt.date(9999, 1, 1), "court": None, "garden": DAY}
    table = pa.table(
        {
            "text": pa.array([r["text"].encode() for r in rows], pa.large_binary()),
            "id": [r["id"] for r in rows],
            "day": pa.array([days[r["topic"]] for r in rows], pa.date32()),
            "grade": [Decimal("1.5")] * len(rows),
            "took": pa.array([dt.timedelta(seconds=3)] * len(rows)),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "dated.parquet")
    return tmp_path / "dated.parquet"


@pytest.mark.parametrize("place", ["parquet", "datasets"])
def test_dates_decimals_and_durations_are_labels_targets_and_scores(
    tmp_path: Path, place: str
) -> None:
    source: Any = dated(tmp_path)
    if place == "datasets":
        source = f"hf:{on_disk(tmp_path, pyarrow.parquet.read_table(source))}"
    corpus = small_corpus(
        tmp_path / "out",
        source,
        targets=("may=day:2021-05-04",),
        target_share=0.5,
        label_field="day",
        scores=("grade=column:grade", "took=column:took"),
    )
    assert 0 < corpus.targets["may"].documents < 24
    assert corpus.domains[0].info["quality"] == {"grade": 1.5, "took": 3.0}
    counted = corpus.provenance["labels"]["domains"]
    assert {label for one in counted for label in one} == {"2021-05-04", "9999-01-01"}


# --- what is not text ----------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", ['{"text": null}', '{"text": NaN}', '{"text": ""}', "{}"])
def test_documents_without_text_are_one_kind(
    tmp_path: Path, nothing: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [json.dumps(d) for d in topic_documents(12)]
    (tmp_path / "a.jsonl").write_text("\n".join([nothing] * 200 + lines) + "\n")
    corpus = small_corpus(tmp_path / "out", tmp_path / "a.jsonl")
    assert sum(d.info["documents"] for d in corpus.domains) == 48
    said = [m for m in caplog.messages if "skipped" in m]
    assert said == ["200 skipped: empty (e.g. a.jsonl:1, a.jsonl:2, a.jsonl:3)"]


def test_null_texts_of_parquet_are_empty_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [None] * 2000 + [d["text"] for d in topic_documents(12)]
    pyarrow.parquet.write_table(
        pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=99
    )
    corpus = small_corpus(tmp_path / "out", tmp_path / "a.parquet")
    assert sum(d.info["documents"] for d in corpus.domains) == 48
    assert "2000 skipped: empty" in caplog.text


def test_nothing_but_nulls_is_no_corpus(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": None}] * 9)
    with pytest.raises(UserError, match="no documents with text"):
        build(make_plan(small_options(tmp_path / "a.jsonl")), tmp_path / "out", progress=False)


def test_an_input_that_lacks_the_field_throughout_is_not_empty_but_another(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(12))
    write_jsonl(tmp_path / "b.jsonl", [{"content": "x"}] * 40)
    plan = make_plan(small_options(tmp_path / "a.jsonl", tmp_path / "b.jsonl"))
    with pytest.raises(UserError, match=r"40 of the first 88 .* no field 'text'"):
        build(plan, tmp_path / "out", progress=False)
