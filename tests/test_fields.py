"""Fields that no document has, or only some: said before anything is read at length."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from climb_opt.cli import main
from climb_opt.corpus.after.show import history
from climb_opt.corpus.build import build
from climb_opt.corpus.documents import Document
from climb_opt.corpus.options import make_plan
from climb_opt.corpus.read import look as look_module
from climb_opt.corpus.read.fields import hint, value_at
from climb_opt.corpus.read.inputs import find_sources
from climb_opt.corpus.read.look import check_fields, named_in
from climb_opt.corpus.read.source import ReadOptions
from climb_opt.corpus.stages.scores import load_scorer
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from corpora import small_options, topic_documents, write_jsonl

ROWS = [{"body": f"text {i}", "meta": {"deep": {"url": "u"}, "set": "s"}} for i in range(30)]


def look(path: Path | str, field: str, option: str = "--fields") -> None:
    check_fields(find_sources([str(path)]), ReadOptions(), {field: option})


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_a_field_that_no_document_has_is_named_with_those_there_are(
    tmp_path: Path, kind: str
) -> None:
    file = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    else:
        data = "".join(json.dumps(r) + "\n" for r in ROWS).encode()
        file.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    message = r"--label-field: no document has the field 'meta.sett'.* Did you mean 'meta.set'\? "
    with pytest.raises(
        UserError, match=message + "Fields there are: body, meta.deep.url, meta.set"
    ):
        look(file, "meta.sett", "--label-field")
    for there in ("meta.set", "meta.deep", "meta.deep.url"):
        look(file, there)


def test_a_field_of_any_input_is_enough(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    write_jsonl(tmp_path / "b.jsonl", [{"body": "x"}] * 20 + [{"late": None}])
    look(tmp_path, "late")
    (tmp_path / "c.txt").write_text("a note")
    look(tmp_path, "late")
    with pytest.raises(UserError, match="no document has the field 'later'"):
        look(tmp_path, "later")


def test_of_fields_with_dots_in_their_names_that_of_the_longest_is_meant() -> None:
    record = {"a.b": {"c": 1}, "a": {"b.c": 2, "b": {"c": 3}}}
    assert value_at({**record, "a.b.c": 0}, "a.b.c") == 0
    assert value_at(record, "a.b.c") == 1
    assert value_at({"a": record["a"]}, "a.b.c") == 2


@pytest.mark.parametrize("name", ["later", "größe", "meta.inner", "a.b", "tags.0", 'quo"ted'])
@pytest.mark.parametrize(("ending", "pack"), [("jsonl", bytes), ("jsonl.gz", gzip.compress)])
def test_a_field_that_comes_late_is_no_missing_one(
    tmp_path: Path, name: str, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    record: dict[str, object] = {"meta.inner": {"meta": {"inner": 1}}, "tags.0": {"tags": [1]}}.get(
        name, {name: 1}
    )
    rows = [{"body": f'says "{name}", {i}'} for i in range(1500)]
    for escaped in (True, False):
        lines = [json.dumps(row, ensure_ascii=escaped) for row in [*rows, record]]
        for end in ("\n", "\r"):
            (tmp_path / f"a.{ending}").write_bytes(pack(end.join(lines).encode()))
            look(tmp_path, name)
        (tmp_path / f"a.{ending}").write_bytes(pack(json.dumps(rows, indent=1).encode()))
        with pytest.raises(UserError, match=r"no document has the field .*Fields there are: body"):
            look(tmp_path, name)


def test_a_name_is_found_where_pieces_of_a_file_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n' * 1200 + '{"rare" : 1}\n')
    for size in range(1, 40):
        monkeypatch.setattr(look_module, "_PIECE", size)
        (source,) = find_sources([str(tmp_path / "a.jsonl")])
        assert named_in(source, ["rare", "one", "rar"]) == {"rare"}


def test_a_late_field_is_counted_in_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(look_module, "MOST_LOOKED", 10)
    caplog.set_level(logging.INFO)
    rows = [{"text": row["text"]} for row in topic_documents(10)] + [{"text": "x", "kind": "late"}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    command = ["corpus", "build", str(tmp_path / "a.jsonl"), "--output", str(tmp_path / "out")]
    assert main([*command, "--fields", "kind", "--domains", "2", "--no-progress"]) == 0
    assert "Looking for 'kind' in all of the inputs." in caplog.text
    assert f"{len(rows) - 1} of {len(rows)} documents have no field 'kind'" in caplog.text


def test_text_files_and_installed_texts_say_what_they_have(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a note")
    with pytest.raises(UserError, match="Fields there are: text, id"):
        look(tmp_path, "kind")
    look("installed:prose", "kind")


def test_side_files_and_given_domains_are_fields(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "documents" / "p.jsonl", ROWS[:3])
    for name in ("domains_topics", "scores_edu"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "p.npy", np.arange(3))
    look(f"weborganizer:{tmp_path}", "scores_edu")
    with pytest.raises(UserError, match="'scores_edi'"):
        look(f"weborganizer:{tmp_path}", "scores_edi")


def test_what_cannot_be_read_is_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"broken\n" * 20)
    (tmp_path / "b.parquet").write_bytes(b"broken")
    look(tmp_path, "any")


def test_a_hint_names_the_nearest_field_and_at_most_forty() -> None:
    assert hint("set", ["meta.set"]).startswith("Did you mean 'meta.set'?")
    assert hint("zzz", [f"f{i}" for i in range(50)]).endswith("f39 and 10 more.")
    assert hint("x", []) == "These documents have no fields."


@pytest.mark.parametrize(
    "extra",
    [
        ["--fields", "topic,nonsense"],
        ["--id-field", "nonsense"],
        ["--label-field", "nonsense"],
        ["--text-field", "nonsense"],
        ["--score", "q=column:nonsense"],
        ["--target", "sky=nonsense:stars"],
    ],
)
def test_no_option_takes_a_field_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    file = write_jsonl(tmp_path / "docs.jsonl", topic_documents(10))
    out = tmp_path / "out"
    assert main(["corpus", "build", str(file), "--output", str(out), "--no-progress", *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"climb-opt: {extra[0]}") and error.count("\n") == 1
    assert "no document has the field 'nonsense'" in error and "id, text, topic" in error
    assert not list(out.glob("work/documents-*/*"))  # nothing was read


def built(tmp_path: Path, rows: list[dict[str, Any]], **more: Any) -> Corpus:
    write_jsonl(tmp_path / "docs.jsonl", rows)
    corpus = build(
        make_plan(small_options(tmp_path / "docs.jsonl", **more)), tmp_path / "out", progress=False
    )
    assert corpus is not None
    return corpus


def test_documents_that_lack_a_field_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": d["text"], "meta": {"n": i} if i % 4 else None, "key": f"k{i}"}
            for i, d in enumerate(topic_documents(10))]  # fmt: skip
    del rows[5]["key"]
    read = ReadOptions(id_field="key", fields=("meta.n",))
    corpus = built(tmp_path, rows, read=read)
    assert corpus.provenance["without"] == {"meta.n": 10, "key": 1}
    assert "10 of 40 documents have no field 'meta.n' (or null)" in caplog.messages
    assert "without field meta.n: 10 documents" in history(corpus.provenance)


def test_documents_without_a_score_do_not_count_in_its_mean(tmp_path: Path) -> None:
    rows = topic_documents(10)
    for index, row in enumerate(rows):
        if index % 3:
            row["grade"] = 2.0 if index % 2 else None
    corpus = built(tmp_path, rows, scores=("q=column:grade",), prune=("q>=1.5",))
    assert all(d.info["quality"].get("q", 2.0) == 2.0 for d in corpus.domains)
    assert sum("q" in d.info["quality"] for d in corpus.domains)
    documents = [Document("a", "x", {"grade": 1}), Document("b", "x", {"grade": None})]
    assert np.isnan(load_scorer("column:grade")(documents)[1])


def test_a_value_that_no_document_has_is_an_error_before_tokenising(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"equal to 'star'. Its values are, .*stars.*kitchen"):
        built(tmp_path, topic_documents(10), targets=("sky=topic:star",), target_share=1.0)
    assert not list((tmp_path / "out" / "work").glob("tokens-*"))


def test_null_is_no_label(tmp_path: Path) -> None:
    rows = [{**d, "kind": None if i % 2 else "None"} for i, d in enumerate(topic_documents(10))]
    corpus = built(tmp_path, rows, targets=("t=kind:None",), target_share=1.0)
    assert corpus.target("t").documents == 20


@pytest.mark.parametrize(
    "more",
    [
        {"scores": ("q=column:a", "q=column:b")},
        {"scores": ("q=column:a", "Q=column:b")},
        {"targets": ("sky=topic:stars", "Sky=topic:court")},
    ],
)
def test_two_scores_or_targets_of_one_name_are_refused(tmp_path: Path, more: Any) -> None:
    with pytest.raises(UserError, match=r"Two (scores|targets) are called"):
        built(tmp_path, topic_documents(2), **more)


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    twice = pyarrow.table([["one"], ["two"], ["u"]], names=["text", "text", "url"])
    pyarrow.parquet.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet has 2 columns 'text'; rename or drop"):
        look(tmp_path, "text", "--text-field")
    look(tmp_path, "url")


def test_a_field_needs_a_name(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(UserError, match="--label-field: the field's name is empty"):
        look(tmp_path, "", "--label-field")
