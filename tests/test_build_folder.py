"""The output folder of a build: other corpora, other files, a full disk, a second build."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from climb_opt.corpus import build as build_module
from climb_opt.corpus import files
from climb_opt.corpus.build import build
from climb_opt.corpus.options import Plan, make_plan
from climb_opt.corpus.stages.merge import MergeOptions
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from corpora import (
    small_corpus,
    topic_documents,
    topic_files,
    topic_options,
    write_jsonl,
)


def test_a_finished_corpus_is_not_built_again(inputs: list[Path], tmp_path: Path) -> None:
    plan = make_plan(topic_options(inputs))
    build(plan, tmp_path / "out", progress=False)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir() if p.suffix == ".bin"}
    again = build(make_plan(topic_options(inputs)), tmp_path / "out", progress=False)
    assert again is not None
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_another_corpus_in_the_folder_is_refused_and_can_be_replaced(
    inputs: list[Path], tmp_path: Path
) -> None:
    build(make_plan(topic_options(inputs)), tmp_path / "out", progress=False)
    other = make_plan(topic_options(inputs, merge=MergeOptions(domains=3)))
    with pytest.raises(UserError, match=r"holds another corpus \(options.merge.domains: 4 -> 3\)"):
        build(other, tmp_path / "out", progress=False)
    assert len(Corpus.load(tmp_path / "out").domains) == 4
    tokens = {p.name for p in (tmp_path / "out" / "work").glob("tokens-*")}
    made = build(other, tmp_path / "out", progress=False, overwrite=True)
    assert made is not None and len(made.domains) == 3
    assert not (tmp_path / "out" / "domain_003.bin").exists()
    assert {p.name for p in (tmp_path / "out" / "work").glob("tokens-*")} == tokens


@pytest.mark.parametrize("kept", ["nothing", "size", "time"])
def test_changed_inputs_are_another_corpus(inputs: list[Path], tmp_path: Path, kept: str) -> None:
    build(make_plan(topic_options(inputs)), tmp_path / "out", progress=False)
    before = inputs[1].stat()
    if kept == "size":
        inputs[1].write_bytes(inputs[1].read_bytes().swapcase())
        os.utime(inputs[1], ns=(0, before.st_mtime_ns + 1))
    else:
        write_jsonl(inputs[1], topic_documents(3, seed=5))
    if kept == "time":
        os.utime(inputs[1], ns=(0, before.st_mtime_ns))
    with pytest.raises(UserError, match=r"holds another corpus .*sources"):
        build(make_plan(topic_options(inputs)), tmp_path / "out", progress=False)


@pytest.mark.parametrize("changed", ["added", "removed", "replaced", "of 0.1.0"])
def test_a_text_that_came_or_went_makes_another_corpus_however_old_it_is(
    tmp_path: Path, changed: str
) -> None:
    """What moves, copies or unpacks a file may keep its time."""
    texts, manifest = tmp_path / "in", tmp_path / "out" / "manifest.json"
    texts.mkdir()

    def write(name: str, text: str, time: int) -> None:
        (texts / name).write_text(text)
        os.utime(texts / name, (time, time))

    def made() -> Corpus | None:
        options = topic_options([texts], targets=(), label_field=None)
        return build(make_plan(options), tmp_path / "out", progress=False)

    for number, document in enumerate(topic_documents(6)):
        write(f"{number}.txt", document["text"], number)
    corpus = made()
    assert corpus is not None
    if changed == "of 0.1.0":
        (source,) = corpus.provenance["build"]["sources"]
        old = source["version"].partition(" of ")[0]
        manifest.write_text(manifest.read_text().replace(source["version"], old))
        before = manifest.read_bytes()
        assert made() is not None and manifest.read_bytes() == before
        return
    if changed == "removed":
        (texts / "2.txt").unlink()
    else:
        write("2.txt" if changed == "replaced" else "new.txt", "an older text", 1)
    with pytest.raises(UserError, match=r"holds another corpus .*sources"):
        made()


def test_inputs_that_moved_since_a_build_was_begun_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inputs, texts = topic_files(tmp_path / "in"), tmp_path / "in" / "texts"
    texts.mkdir()
    for name in "de":
        (texts / f"{name}.txt").write_text(f"{name} " * 30)

    def plan() -> Plan:
        return make_plan(topic_options([tmp_path / "in"]))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build_module, "write_corpus", stop)
        build(plan(), tmp_path / "out", progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build_module, "write_corpus", stop)
        build(plan(), tmp_path / "out", progress=False)
    assert "Since this build was begun" not in caplog.text
    inputs[0].unlink()
    write_jsonl(inputs[1], topic_documents(30, seed=5))
    write_jsonl(tmp_path / "in" / "new.jsonl", topic_documents(3, seed=6))
    (texts / "d.txt").unlink()
    assert build(plan(), tmp_path / "out", progress=False) is not None
    line = next(m for m in caplog.messages if m.startswith("Since this build was begun"))
    said = line.replace(str(tmp_path / "in"), "")
    assert "2 gone (/a.jsonl, /texts/d.txt), 1 new (/new.jsonl), 2 changed (/, /b.jsonl). " in said
    assert f"stays in {tmp_path / 'out' / 'work'}." in line
    caplog.clear()
    options = topic_options([inputs[1]])  # asked for by name: nothing to say
    assert build(make_plan(options), tmp_path / "out", progress=False, overwrite=True) is not None
    assert "Since this build was begun" not in caplog.text


@pytest.mark.parametrize("name", ["rest.jsonl", "rest.txt"])
@pytest.mark.parametrize("finished", [False, True])
def test_what_a_build_left_out_unread_is_tried_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    finished: bool,
) -> None:
    topic_files(tmp_path / "in")
    for index in range(9):
        write_jsonl(tmp_path / "in" / f"{index}.jsonl", topic_documents(2, seed=10 + index))
    rest, away = tmp_path / "in" / name, tmp_path / "away"
    rest.write_text('{"text": "words of the rest"}\n')
    plan, out = make_plan(topic_options([tmp_path / "in"])), tmp_path / "out"
    rest.rename(away)  # a mount that is lost for a while
    with monkeypatch.context() as patch:
        if not finished:
            patch.setattr(build_module, "write_corpus", lambda *_: None)  # killed before
        build(plan, out, progress=False)
    assert "cannot be read (No such file" in caplog.text
    away.rename(rest)
    if finished:
        assert build(plan, out, progress=False).provenance[
            "skipped" if "txt" in name else "damaged"
        ]
        assert caplog.messages[-1].endswith("--overwrite tries them again.")
    again = build(plan, out, progress=False, overwrite=finished)
    whole = build(plan, tmp_path / "whole", progress=False)
    assert again is not None and whole is not None and again.digest == whole.digest
    assert not whole.provenance["skipped"] and not whole.provenance["damaged"]


def test_a_folder_with_other_files_is_left_alone(inputs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other files and no corpus"):
        build(make_plan(topic_options(inputs)), tmp_path / "out", progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, no folder"):
        build(make_plan(topic_options(inputs)), tmp_path / "file", progress=False)


def test_a_second_build_at_the_same_time_is_refused(inputs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out" / "work").mkdir(parents=True)
    with (
        files.locked(tmp_path / "out" / "work", (1, 1)),
        pytest.raises(UserError, match="Another process is building"),
    ):
        build(make_plan(topic_options(inputs)), tmp_path / "out", progress=False)


@pytest.mark.parametrize("moment", [3, 12, 25])
def test_a_full_disk_is_one_clear_line_and_no_corpus(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    real, count = os.replace, 0

    def full(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if count == moment:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    plan = make_plan(topic_options(inputs))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match=r"no space left on the disk .* Finished stages"):
            build(plan, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(UserError, match="No corpus at"):
        Corpus.load(tmp_path / "out")
    assert build(plan, tmp_path / "out", progress=False) is not None


def test_a_truncated_shard_does_not_load(inputs: list[Path], tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "out", *inputs)
    file = corpus.path / corpus.domains[0].shards[0].file
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match="truncated or changed"):
        Corpus.load(corpus.path)
