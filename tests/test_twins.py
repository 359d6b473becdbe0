"""Two things of one name: never merged or doubled in silence."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import zstandard

from climb_opt.cli import main
from climb_opt.corpus.after import edit
from climb_opt.corpus.after.layouts import export
from climb_opt.corpus.after.megatron import import_megatron
from climb_opt.corpus.documents import DOMAIN_FIELD
from climb_opt.corpus.options import MergeOptions
from climb_opt.corpus.read.source import ReadOptions
from climb_opt.corpus.stages.describe import names_from
from climb_opt.errors import UserError
from climb_opt.shards import MANIFEST, Corpus
from corpora import TOPICS, small_corpus, topic_documents, write_jsonl


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus whose input brings its domains, the largest of them last by name."""
    root = tmp_path_factory.mktemp("given")
    rows = topic_documents(12)
    for topic in TOPICS:
        mine = [{**r, "text_": 1} for r in rows if r["topic"] == topic]
        some = mine if topic == "stars" else mine[:8]
        write_jsonl(root / "in" / topic / "a.jsonl", some)
    read = ReadOptions(fields=("id", "text", "topic"))
    return small_corpus(root / "out", f"domains:{root / 'in'}", merge=MergeOptions(), read=read)


@pytest.fixture
def copied(given: Corpus, tmp_path: Path) -> Corpus:
    shutil.copytree(given.path, tmp_path / "copy", ignore=shutil.ignore_patterns("work"))
    return Corpus.load(tmp_path / "copy")


def test_a_manifest_with_a_name_or_file_twice_is_refused(copied: Corpus) -> None:
    manifest = copied.path / MANIFEST
    data = json.loads(manifest.read_text())
    first, second = data["domains"][:2]
    for part in ("name", "shards"):
        changed = {**data, "domains": [first, {**second, part: first[part]}, *data["domains"][2:]]}
        manifest.write_text(json.dumps(changed))
        with pytest.raises(UserError, match=f"has the {'domain' if part == 'name' else 'file'} .*"):
            Corpus.load(copied.path)


def test_new_names_that_some_file_system_takes_for_one_are_refused(copied: Corpus) -> None:
    before = sorted(p.name for p in copied.path.iterdir())
    for new in ("STARS", "stars"):
        with pytest.raises(UserError, match=r"Two domains would be called|differ by case"):
            edit.rename(copied, {"court": new})
        with pytest.raises(UserError, match=r"Two domains would be called|differ by case"):
            edit.merge(copied, new, ["court", "garden"])
    with pytest.raises(UserError, match="The new name is empty"):
        edit.merge(copied, " ", ["court", "garden"])
    assert sorted(p.name for p in copied.path.iterdir()) == before
    cafe = edit.rename(copied, {"court": "caf\u00e9", "stars": "Stars"})
    with pytest.raises(UserError, match="differ by case or by how accents"):
        edit.rename(cafe, {"garden": "cafe\u0301"})
    assert edit.rename(cafe, {"garden": "\ud800"}).domain(r"\ud800").tokens


def exported(corpus: Corpus, folder: Path) -> list[Path]:
    export(corpus, "megatron", folder)
    return [folder / f"domain_{i:03d}" for i in range(len(corpus.domains))]


def test_imported_files_of_one_name_are_called_by_their_folders(
    given: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = exported(given, tmp_path / "out")
    for folder, prefix in zip(("a/web", "b/web", "code"), made, strict=False):
        (tmp_path / folder).mkdir(parents=True)
        for end in (".bin", ".idx"):
            shutil.copy(f"{prefix}{end}", tmp_path / folder / f"text{end}")
    shutil.copy(f"{made[3]}.bin", tmp_path / "law.bin")
    shutil.copy(f"{made[3]}.idx", tmp_path / "law.idx")
    (tmp_path / "link").symlink_to("code")
    files = ["a/web/text.bin", "b/web/text.idx", "b/web/text.bin", "code/text", "link/text.bin"]
    with caplog.at_level(logging.WARNING):
        back = import_megatron(
            [str(tmp_path / f) for f in [*files, "law.bin"]],
            str(given.path), tmp_path / "back", name="back", progress=False,
        )  # fmt: skip
    assert [d.name for d in back.domains] == ["a/web/text", "b/web/text", "code/text", "law"]
    assert any("a/web/text, b/web/text, code/text, law" in m for m in caplog.messages)
    assert any("link/text is" in m and "read once" in m for m in caplog.messages)


def test_held_out_files_are_known_by_any_path(
    given: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(given, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    files = [str(f) for f in made] + [f"out/domain_{i:03d}_heldout.bin" for i in range(len(made))]
    back = import_megatron(files, str(given.path), tmp_path / "b", name="b", progress=False)
    assert back.tokens() == {f"domain_{i:03d}": d.tokens for i, d in enumerate(given.domains)}


def test_imported_names_that_differ_by_case_are_refused(given: Corpus, tmp_path: Path) -> None:
    made = exported(given, tmp_path / "out")
    for name, prefix in zip(("Web", "web"), made, strict=False):
        for end in (".bin", ".idx"):
            shutil.copy(f"{prefix}{end}", tmp_path / f"{name}{end}")
    with pytest.raises(UserError, match="called 'Web' and 'web'; rename a file"):
        import_megatron(
            [str(tmp_path / "Web.bin"), str(tmp_path / "web.bin")], str(given.path),
            tmp_path / "back", name="back", progress=False,
        )  # fmt: skip


def test_given_domains_are_exported_by_their_own_numbers(given: Corpus, tmp_path: Path) -> None:
    export(given, "weborganizer", tmp_path / "out", progress=False)
    found: dict[int, set[str]] = {}
    for file in sorted((tmp_path / "out" / "documents").iterdir()):
        numbers = np.load(tmp_path / "out" / "domains_clusters-k4" / f"{file.name[:11]}.npy")
        lines = zstandard.decompress(file.read_bytes(), 1 << 20).decode().splitlines()
        for number, line in zip(numbers, lines, strict=True):
            record = json.loads(line)
            assert set(record) == {
                "id",
                "text",
                "topic",
                DOMAIN_FIELD,
            }  # the kept id and text are the same
            found.setdefault(int(number), set()).add(record["topic"])
    assert found == {i: {d.name} for i, d in enumerate(given.domains)}


def test_a_kept_field_does_not_take_the_texts_place(tmp_path: Path) -> None:
    rows = [{"body": d["text"], "text": f"title {i}", "id": i} for i, d in
            enumerate(topic_documents(8))]  # fmt: skip
    write_jsonl(tmp_path / "a.jsonl", rows)
    read = ReadOptions(text_field="body", fields=("text", "id"))
    corpus = small_corpus(tmp_path / "c", tmp_path / "a.jsonl", read=read)
    export(corpus, "weborganizer", tmp_path / "out", progress=False)
    (file,) = (tmp_path / "out" / "documents").iterdir()
    records = map(json.loads, zstandard.decompress(file.read_bytes(), 1 << 20).splitlines())
    bodies = {row["body"] for row in rows}
    assert all(r["text"] in bodies and r["text_"].startswith("title") for r in records)


def test_a_found_name_is_not_one_that_the_input_gave() -> None:
    assert names_from([["law", "code"]], {"law-code"}) == ["law-code-0"]


def test_a_domain_is_not_renamed_twice(copied: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "rename", str(copied.path), "court=a", "court=b"]) == 2
    assert "'court'" in capsys.readouterr().err
