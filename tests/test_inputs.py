"""Nobody's texts in folders, and what is named twice: left out and said, or refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from climb_opt.corpus.documents import DOMAIN_FIELD, Document
from climb_opt.corpus.read.files import with_endings
from climb_opt.corpus.read.inputs import find_sources
from climb_opt.corpus.read.leftout import other_splits, reason_of
from climb_opt.corpus.read.once import read_once, told_apart
from climb_opt.corpus.read.readers import stem_of
from climb_opt.corpus.read.records import read
from climb_opt.corpus.read.source import LeftOut, ReadOptions, Source
from climb_opt.errors import UserError
from corpora import write_jsonl

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pyarrow.parquet.write_table(pyarrow.table({"text": [name]}), file)
        elif name.endswith(".jsonl"):
            write_jsonl(file, [{"text": name}])
        else:
            file.write_text(name)


def texts(*inputs: Path | str) -> set[str]:
    found = [r for s in find_sources([str(i) for i in inputs]) for r in read(s, ReadOptions())]
    documents = [r for r in found if isinstance(r, Document)]
    assert len(documents) == len(found) == len({d.text for d in documents})
    return {d.text for d in documents}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.mark.parametrize("pattern", ["", "/*", "/**"])
def test_what_is_nobodys_text_is_left_out_of_folders_and_globs_alike(
    tmp_path: Path, said: pytest.LogCaptureFixture, pattern: str
) -> None:
    mine = {"a.jsonl", "b/c.parquet", "b/note.txt", "_posts/d.md", "incomplete.md"}
    others = {
        "._a.jsonl", ".git/x.txt", "b/.cache/README.md", "b/.ipynb_checkpoints/c.jsonl",
        "__MACOSX/a.jsonl", "_temporary/0/p.parquet", "_SUCCESS", "b/_delta_log/0.parquet",
        "a.jsonl.tmp", "b/c.partial.jsonl", "note.txt~", "b/x.parquet.crdownload", "y.incomplete",
        "z.jsonl.incomplete/p.jsonl", "README.md", "LICENSE", "b/LICENCE.txt", ".gitattributes",
        "dataset_infos.json", "w.jsonl.aria2", "w.jsonl",
    }  # fmt: skip
    touch(tmp_path, *mine, *others)
    assert texts(f"{tmp_path}{pattern}") == mine
    (line,) = said.messages
    assert line.startswith(f"Left out of '{tmp_path}{pattern}': ")
    for part in (
        "hidden (",
        "unfinished or a backup (",
        "a program's own (",
        "of no known format (",
    ):
        assert part in line
    assert "2 the repository's own (README.md, b/LICENCE.txt)" in line
    assert ". A file named by its own path is read, if its format is known: let texts" in line


def test_a_file_of_no_known_format_is_not_promised_to_be_read(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a/a.txt", "a/b.txt~")
    assert texts(f"{tmp_path}") == {"a/a.txt"} and said.messages[-1].endswith("own path is read.")
    touch(tmp_path, "a/c.py")
    assert texts(f"domains:{tmp_path}")
    assert "let texts (code, pages) end in .txt" in said.messages[-1]
    with pytest.raises(UserError, match=r"c\.py' has no known format"):
        find_sources([str(tmp_path / "a" / "c.py")])


def test_a_file_given_by_its_own_path_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    names = ["._a.jsonl", ".git/x.txt", "README.md", "x.tmp.jsonl", "test.jsonl", "train.jsonl"]
    touch(tmp_path, *names)
    assert texts(*(tmp_path / n for n in names)) == set(names)
    assert texts(tmp_path / ".git") == {".git/x.txt"}
    assert texts(f"{tmp_path}/.*.jsonl") == {"._a.jsonl"}


def test_in_a_folder_of_texts_a_readme_is_a_text(tmp_path: Path) -> None:
    touch(tmp_path, "one/README.md", "one/LICENSE.txt", "two/README.md", "data/a.jsonl")
    assert texts(tmp_path) == {"one/README.md", "one/LICENSE.txt", "two/README.md", "data/a.jsonl"}


def test_test_and_validation_splits_beside_a_training_split_are_left_out(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    mine = {"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
            "imdb/train/pos/1.txt", "gsm_train.jsonl", "a-test.jsonl", "late.jsonl"}  # fmt: skip
    others = {"data/test-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet",
              "imdb/test/pos/1.txt", "gsm_test.jsonl"}  # fmt: skip
    touch(tmp_path, *mine, *others)
    assert texts(tmp_path) == mine
    assert "4 test or validation data (data/test-" in said.messages[0]
    touch(tmp_path / "alone", "test.jsonl", "dev.jsonl")
    assert texts(tmp_path / "alone") == {"test.jsonl", "dev.jsonl"}
    assert not other_splits([Path("train.md"), Path("test.md")])


@pytest.mark.parametrize("name", ["a.jsonl", "b.parquet", "c.jsonl.gz"])
def test_pointers_of_git_lfs_are_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "whole.jsonl")
    (tmp_path / name).write_text(POINTER)
    for given in (tmp_path, f"{tmp_path}/*", tmp_path / name, f"domains:{tmp_path}"):
        with pytest.raises(UserError, match=r"is a pointer of git-lfs. Fetch .*git lfs pull"):
            find_sources([str(given)])


def test_data_behind_a_broken_link_are_refused_and_texts_said(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.jsonl")
    (tmp_path / "n.txt").symlink_to("nowhere")
    (tmp_path / "p.md").write_text(POINTER)
    assert texts(tmp_path) == {"a.jsonl"}
    assert "1 a link to nothing (n.txt)" in said.messages[0]
    assert "1 a pointer of git-lfs (p.md)" in said.messages[0]
    (tmp_path / "b.jsonl").symlink_to("nowhere")
    for given in (tmp_path, tmp_path / "b.jsonl", tmp_path / "n.txt"):
        with pytest.raises(UserError, match="is a link to nothing"):
            find_sources([str(given)])


def test_folders_behind_links_are_read_once_and_circles_end(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "in/a.jsonl", "out/b.jsonl")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")
    assert texts(tmp_path / "in") == {"in/a.jsonl", "out/b.jsonl"}
    assert "1 a second name of a folder (round/)" in said.messages[0]


def test_what_is_named_twice_is_read_once_and_said(
    tmp_path: Path, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jsonl", "b.txt", "c.txt")
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    os.link(tmp_path / "b.txt", tmp_path / "hard.txt")
    monkeypatch.chdir(tmp_path)
    assert texts("a.jsonl", "./a.jsonl", "*.jsonl", tmp_path, "b.txt") == {
        "a.jsonl",
        "b.txt",
        "c.txt",
    }
    (line,) = said.messages
    assert line.startswith("Named again 7 times, but read once: ")
    assert len(find_sources(["installed:prose", "installed:prose,source"])) == 2
    assert find_sources(["a.jsonl"], "held") and said.messages[1:]


def test_the_same_file_in_two_domains_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "law/a.jsonl", "code/b.jsonl")
    (tmp_path / "code" / "c.jsonl").symlink_to(tmp_path / "law" / "a.jsonl")
    with pytest.raises(UserError, match=r"are one file, but of two domains \('code', 'law'\)"):
        find_sources([f"domains:{tmp_path}"])


def test_domains_are_called_by_their_whole_name(tmp_path: Path) -> None:
    touch(tmp_path, "example.org.jsonl", "example.com.jsonl", "law/a.jsonl", "law/b.txt")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "nothing").mkdir()
    touch(tmp_path, ".ipynb_checkpoints/a.jsonl", "README.md")
    found = {s.fields[DOMAIN_FIELD] for s in find_sources([f"domains:{tmp_path}"])}
    assert found == {"example.org", "example.com", "law"}
    assert [stem_of(n) for n in ("a.b.jsonl.gz", "a.PARQUET", "x.xml")] == ["a.b", "a", "x.xml"]


def test_two_domains_of_one_name_are_refused_or_said(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "x/law/a.jsonl", "x/law.jsonl", "y/law/b.jsonl", "z/Law/c.jsonl")
    with pytest.raises(UserError, match=r"are both of the domain 'law'. Rename one"):
        find_sources([f"domains:{tmp_path / 'x'}"])
    (tmp_path / "x" / "law.jsonl").unlink()
    assert len(find_sources([f"domains:{tmp_path / n}" for n in "xy"])) == 2
    assert said.messages[-1].startswith("Domain 'law' holds documents of both ")
    with pytest.raises(UserError, match="differ by case"):
        find_sources([f"domains:{tmp_path / n}" for n in "xz"])
    touch(tmp_path, "k/centroid=0/a.jsonl", "l/centroid=0/b.jsonl", "m/centroid=1/c.jsonl")
    for both in (["k", "l"], ["[kl]"]):
        with pytest.raises(UserError, match="are clustered apart: cluster 0 of one is not that"):
            find_sources([str(tmp_path / name) for name in both])
    shards = find_sources([str(tmp_path / "[km]")])  # of one clustering, for all that is known
    assert [source.fields[DOMAIN_FIELD] for source in shards] == ["0", "1"]


def test_documents_beside_side_files_may_lie_beside_others(tmp_path: Path) -> None:
    touch(tmp_path, "documents/p.jsonl", "documents/._p.jsonl", "documents/README.md")
    (tmp_path / "domains_topics").mkdir()
    np.save(tmp_path / "domains_topics" / "p.npy", np.array([1]))
    assert [s.name for s in find_sources([f"weborganizer:{tmp_path}"])] == ["p.jsonl"]


def test_an_input_of_which_nothing_is_left_says_what_was_left_out(tmp_path: Path) -> None:
    touch(tmp_path, ".a.jsonl", "b.doc")
    for given in (tmp_path, f"{tmp_path}/*"):
        with pytest.raises(UserError, match=r"no files of documents .*1 hidden .*1 of no known"):
            find_sources([str(given)])
    touch(tmp_path / "saved", "dataset_info.json", "data-00000-of-00001.arrow")
    with pytest.raises(UserError, match=r"saved.*is read as hf:.*saved"):
        find_sources([str(tmp_path / "saved")])


@pytest.mark.parametrize(
    ("name", "left"),
    [("a.jsonl", False), ("tmp.jsonl", False), ("a.part.jsonl", False), ("_a.txt", False),
     ("a~", True), ("~$a.txt", True), ("a.tmp.txt", True), ("a.PARTIAL", True), (".a", True)],
)  # fmt: skip
def test_names_that_are_left_out(name: str, left: bool) -> None:
    assert (reason_of(name) is not None) == left


def test_side_files_belong_to_one_file_of_documents(tmp_path: Path) -> None:
    side = tmp_path / "domains_a#b"
    side.mkdir()
    for stem, count in (("p.one", 1), ("p.two", 2), ("[x]", 1)):
        write_jsonl(tmp_path / "documents" / f"{stem}.jsonl", [{"text": stem}] * count)
        np.save(side / f"{stem}.npy", np.arange(count))
    sources = find_sources([f"weborganizer:{tmp_path}"])
    found = [d for s in sources for d in read(s, ReadOptions())]
    assert [(d.text, d.fields[DOMAIN_FIELD]) for d in found if isinstance(d, Document)] == [
        ("[x]", "0"), ("p.one", "0"), ("p.two", "0"), ("p.two", "1"),
    ]  # fmt: skip
    for wrong, message in (
        (np.arange(3), "holds 3 values, but there are 2 documents"),
        (np.arange(1), "holds 1 values, but there are more documents"),
        (np.ones((2, 4)), r"does not hold one value a document: it has the shape \(2, 4\)"),
    ):
        np.save(side / "p.two.npy", wrong)
        with pytest.raises(UserError, match=message):
            list(read(sources[-1], ReadOptions()))
    (side / "p.two.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="does not hold one value a document"):
        list(read(sources[-1], ReadOptions()))


def test_folders_with_a_patterns_letters_in_their_names_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "[2023]/a.jsonl", "[2023]/b[1].jsonl", "2/c.jsonl")
    assert texts(f"{tmp_path}/[2023]/*.jsonl") == {"[2023]/a.jsonl", "[2023]/b[1].jsonl"}
    assert texts(f"{tmp_path}/[0-9]/*") == {"2/c.jsonl"}


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jsonl", "b/x.jsonl", "b/y.jsonl", "a/n.txt", "b/n.txt")
    sources = told_apart(find_sources([str(tmp_path / n) for n in "ab"]))
    assert [s.name for s in sources] == ["a", "a/x.jsonl", "b", "b/x.jsonl", "y.jsonl"]
    assert told_apart(sources[:1] * 2) == sources[:1] * 2


def test_parts_of_one_data_set_are_not_one_input() -> None:
    first, second = (Source("hub", "set", f"set[{i}]", extra={"shard": i}) for i in range(2))
    assert read_once([first, second, first]) == [first, second]


def test_a_reader_of_all_endings_is_given_tables_beside_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv", "b.mbox")
    assert [file.name for file in with_endings(str(tmp_path), (), LeftOut())] == ["a.csv", "b.mbox"]


def test_a_pipe_in_a_folder_is_left_out_and_one_by_itself_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "in/a.jsonl")
    for name in ("in/p.jsonl", "in/q.txt", "p", "p[1].jsonl"):
        os.mkfifo(tmp_path / name)
    assert texts(tmp_path / "in") == {"in/a.jsonl"}
    assert "2 a pipe, socket or device (p.jsonl, q.txt)" in caplog.text
    for name in ("in/p.jsonl", "p", "p[1].jsonl"):
        with pytest.raises(UserError, match=r"pipe, socket or device, .* save it as a file first"):
            find_sources([str(tmp_path / name)])


@pytest.mark.parametrize("name", ["", " ", "domains:", "hf:", "weborganizer: "])
def test_an_input_without_a_name_is_not_the_current_folder(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jsonl")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"names nothing\. Is a variable of the shell not set"):
        find_sources([name])


@pytest.mark.parametrize("pattern", ["*/*.jsonl", "**/*.jsonl", "[ab]/x.jsonl"])
def test_a_pattern_says_which_folder_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    touch(tmp_path, "a/x.jsonl", "b/x.jsonl", ".hidden/x.jsonl")
    closed = [str(tmp_path / "b"), str(tmp_path / ".hidden")]  # permissions do not stop root
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path not in closed and allowed(path, mode))
    with pytest.raises(UserError, match=r"Folder '.*/b' cannot be read: Permission denied"):
        find_sources([str(tmp_path / pattern)])
    assert len(find_sources([str(tmp_path / "a" / "*.jsonl")])) == 1
