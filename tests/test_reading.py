"""Files as people save them: marks, encodings, compression, long cells, and what is damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from climb_opt.errors import UserError
from climb_opt.reading import (
    decode,
    parse_json,
    read_csv,
    read_json,
    read_text,
)
from climb_opt.streams import lines
from climb_opt.unpacking import Damaged
from climb_opt.yamls import parse_yaml, read_yaml

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
PACKERS = [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress]
ENDINGS = {gzip.compress: ".gz", bz2.compress: ".bz2", lzma.compress: ".xz"}


def lines_of(path: Path) -> list[bytes]:
    with open(path, "rb") as raw:
        return list(lines(raw, path.name))


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_text_is_the_same_however_it_was_saved(
    tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    text = "name,größe\nweb,1\n東京,2\n"
    (tmp_path / "a").write_bytes(pack(text.encode(encoding)))
    assert read_text(tmp_path / "a") == text
    assert b"".join(lines_of(tmp_path / "a")) == text.encode()


@given(st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"])))
def test_no_text_with_a_mark_loses_more_than_the_mark(text: str) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        if not (encoding == "utf-16" and text.startswith("\0")):
            assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\nb: caf\xe9\n", r"x, line 2, byte 11: 0xe9 is not UTF-8; save it as UTF-8"),
        (b"\xff\xfea\x00b", r"x, line 1, byte 4: 0x62 is not UTF-16-LE"),
        (gzip.compress(b"a: 1" * 99, mtime=0)[:20], "x is damaged or truncated"),
        (bz2.compress(b"a: 1" * 99)[:20], "x is damaged or truncated"),
        (lzma.compress(b"a: 1" * 99)[:40], "x is damaged or truncated"),
        (zstandard.compress(b"a: 1" * 99)[:10], "x is damaged or truncated"),
        (gzip.compress(b"a: 1" * 99, mtime=0)[:10] + b"nonsense", "x is damaged or truncated"),
        (zstandard.compress(b"a: 1" * 99)[:6] + b"nonsense!" * 9, "x is damaged or truncated"),
        (b"a: [", "x, line 1, column 5: not readable as YAML: while parsing"),
        (b"a: 2021-13-45", "x, line 1, column 4: not readable as YAML: .* month must be in 1..12"),
        (b"a:\n\tb: 1", "x, line 2, column 1: .*indent with spaces, not tabs"),
        ("a: 1\nä: b\x00".encode("utf-16"), r"x, line 2, column 5: .* '\\x00' is not allowed"),
        (b"\xef\xbb\xbfa: 1\nb: {c: 1,\n c: 2}", "x, line 3, column 2: .* 'c' .* in line 2"),
        (b"a: 1\r\nb: c: d", "x, line 2, column 5: .* mapping values are not allowed here"),
        (b"a: !!bool maybe", "x, line 1, column 4: .* 'maybe'"),
        (b"a: !!timestamp soon", "x, line 1, column 4: .* 'soon'"),
        (b"a: *b", "x, line 1, column 4: .* undefined alias 'b'"),
        (b"[" * 700, "x: not readable as YAML: nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x").write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml("x")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing cannot be read: No such file"):
        read_text(tmp_path / "nothing")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_text(tmp_path)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst", ".ZSTD"])
def test_a_name_that_says_compressed_must_be_true(tmp_path: Path, ending: str) -> None:
    for data in (b"plain text", b""):
        (tmp_path / f"a{ending}").write_bytes(data)
        with pytest.raises(Damaged, match=r"does not begin as .* does; if it is plain text, take"):
            read_text(tmp_path / f"a{ending}")


def test_a_window_larger_than_the_librarys_default_is_read(tmp_path: Path) -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    (tmp_path / "a.zst").write_bytes(packer.compress(b"one\ntwo\n") + packer.flush())
    with pytest.raises(zstandard.ZstdError):  # the limit is a real one
        io.BufferedReader(zstandard.open(tmp_path / "a.zst", "rb")).read()
    assert lines_of(tmp_path / "a.zst") == [b"one\n", b"two\n"]


def test_frames_that_are_to_be_skipped_are(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    (tmp_path / "a.zst").write_bytes(skipped + zstandard.compress(b"one\n") + skipped)
    assert lines_of(tmp_path / "a.zst") == [b"one\n"]


def test_half_a_character_costs_its_line_only(tmp_path: Path) -> None:
    data = "good\n".encode("utf-16-le") + b"\x00\xd8\n\x00" + "fine\n".encode("utf-16-le")
    (tmp_path / "a").write_bytes(b"\xff\xfe" + data)
    first, second, third = lines_of(tmp_path / "a")
    assert (first, third) == (b"good\n", b"fine\n")
    with pytest.raises(UnicodeDecodeError):
        second.decode("utf-8")


def test_json_has_no_limits_that_are_python_s(tmp_path: Path) -> None:
    digits = "7" * 5000
    assert parse_json(f'{{"a": {digits}, "b": -12}}') == {"a": digits, "b": -12}
    assert parse_json('\ufeff{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"a\.json: not JSON: Expecting value: line 1 column 7"):
        read_json(tmp_path / "a.json")


def test_yaml_from_a_pipe_may_bring_a_mark() -> None:
    assert parse_yaml("\ufeffweb: 1", "-") == {"web": 1}


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_is_read_whatever_parts_its_cells(tmp_path: Path, mark: str) -> None:
    rows = [["run", "web"], ["a", '"two\nlines"'], [], ["b", "x" * 200_000]]
    (tmp_path / "a.csv").write_text("\r\n".join(mark.join(row) for row in rows), "utf-8-sig")
    header, found = read_csv(tmp_path / "a.csv")
    assert header == ["run", "web"]
    assert found == [(3, ["a", "two\nlines"]), (5, ["b", "x" * 200_000])]


def test_an_open_quote_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n1,2\n1,"2\n')
    with pytest.raises(UserError, match=r"a\.csv, line 3: not readable as CSV: .* quote"):
        read_csv(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("")
    assert read_csv(tmp_path / "a.csv") == ([], [])


# --- every file that a person hands over -------------------------------------------------------


def saved(path: Path, text: str, encoding: str = "utf-8-sig") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def documents(path: Path) -> list[Any]:
    from climb_opt.corpus.read.inputs import find_sources
    from climb_opt.corpus.read.records import read
    from climb_opt.corpus.read.source import ReadOptions

    return [d for source in find_sources([str(path)]) for d in read(source, ReadOptions())]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_documents_have_no_mark(tmp_path: Path, encoding: str) -> None:
    both = '{"text": "Erste."}\n{"text": "Zweite ü."}\n'
    for pack, ending in ((bytes, ""), (gzip.compress, ".gz"), (zstandard.compress, ".zst")):
        (tmp_path / f"a.jsonl{ending}").write_bytes(pack(both.encode(encoding)))
        texts = [d.text for d in documents(tmp_path / f"a.jsonl{ending}")]
        assert texts == ["Erste.", "Zweite ü."]
    (note,) = documents(saved(tmp_path / "note.txt", "A note.\n", encoding))
    assert note.text == "A note.\n"


def test_marks_within_joined_files_are_no_text_either(tmp_path: Path) -> None:
    line = '\ufeff{"text": "joined"}\n'
    assert [d.text for d in documents(saved(tmp_path / "a.jsonl", line * 3, "utf-8"))] == [
        "joined"
    ] * 3


def test_tables_recipes_rows_and_tokenizers_are_read_with_a_mark(
    tmp_path: Path, tiny_corpus: Any
) -> None:
    from climb_opt.baselines import given as given_mixture
    from climb_opt.emulator.tables import read_table
    from climb_opt.evaluators.file_task import read_rows
    from climb_opt.recipes import load_yaml
    from climb_opt.simplex import MixtureSpace
    from climb_opt.tokenizer import load_tokenizer
    from climb_opt.warmstart.lineage import read_lineage

    mixtures = saved(tmp_path / "m.csv", "run,a,b\n1,.5,.5\n2,.25,.75\n")
    results = saved(tmp_path / "r.csv", "run,loss\n1,2\n2,3\n", "utf-16")
    assert read_table(mixtures, results, key="run").domains == ("a", "b")
    row = json.dumps({"query": "q", "choices": ["x", "y"], "label": 1})
    for encoding in ENCODINGS:
        (found,) = read_rows(saved(tmp_path / "rows.jsonl", row, encoding))
        assert found["label"] == 1
    text = tiny_corpus.tokenizer_file.read_text(encoding="utf-8")
    assert load_tokenizer(str(saved(tmp_path / "tokenizer.json", text))).get_vocab_size() > 0
    assert load_yaml(saved(tmp_path / "study.yaml", "seed: 3")) == {"seed": 3}
    lineage = read_lineage({"a": 1}, {"b": 1}, saved(tmp_path / "lineage.yaml", "b: a", "utf-16"))
    assert lineage.parents == {"b": ("a",)}
    space = MixtureSpace({"a": 1, "b": 1})
    file = saved(tmp_path / "mixture.yaml", "a: 0.25\nb: 0.75", "utf-16")
    assert given_mixture(space, mixture=str(file)).tolist() == [0.25, 0.75]


def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from climb_opt.cli import main

    monkeypatch.chdir(tmp_path)
    saved(Path("latin.csv"), "run,größe,web\n1,.5,.5\n", "latin-1")
    saved(Path("open.csv"), 'run,loss\n1,"2\n')
    saved(Path("mix.csv"), "run,a,web\n1,.5,.5\n2,.25,.75\n")
    Path("cut.csv").write_bytes(gzip.compress(b"run,loss\n1,2\n2,3\n")[:25])
    saved(Path("study.yaml"), "corpus: größe\n", "latin-1")
    tables = ["predictors", "--key", "run", "--mixtures"]
    for command, message in [
        ([*tables, "latin.csv", "--results", "mix.csv"], "latin.csv, line 1, byte 6: 0xf6 is not"),
        ([*tables, "mix.csv", "--results", "open.csv"], "open.csv, line 2: not readable as CSV"),
        ([*tables, "mix.csv", "--results", "cut.csv"], "cut.csv is damaged or truncated"),
        (["search", "study.yaml"], "study.yaml, line 1, byte 10: 0xf6 is not UTF-8; save it as"),
    ]:
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"climb-opt: {message}")


def test_a_task_file_that_lm_eval_cannot_decode_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from climb_opt.evaluators import tasks

    manager = tasks._task_manager
    monkeypatch.setattr(tasks, "_task_manager", lambda path, stock: manager(path, False))
    for text, message in [
        ("task: mine_too\n# größe\n", r"line 2, byte 19: 0xf6 is not UTF-8"),
        ("task: mine_too\ntest_split: a\ntest_split: b\n", "line 3, column 1: .* there twice"),
        ("task: mine_too\n\ttest_split: a\n", "line 2, column 1: .* tabs"),
        ("task: mine_too\ninclude: base.yaml\n", "include: there is no file 'base.yaml'"),
    ]:
        saved(tmp_path / "mine.yaml", text, "latin-1")
        manager.cache_clear()
        with pytest.raises(UserError, match=rf"mine\.yaml.*{message}"):
            tasks.stock_tasks(["mine_too"], "test", None, str(tmp_path))


def test_evaluation_rows_that_are_damaged_are_named(tmp_path: Path) -> None:
    from climb_opt.evaluators.file_task import read_rows

    row = json.dumps({"query": "q", "choices": ["x", "y"], "label": 1})
    packed = bytearray(gzip.compress(row.encode() * 200))
    packed[20:40] = b"\xff" * 20
    (tmp_path / "rows.jsonl.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"rows\.jsonl\.gz is damaged or truncated"):
        read_rows(tmp_path / "rows.jsonl.gz")


def test_a_zstandard_dictionary_that_is_not_there_is_no_damage(tmp_path: Path) -> None:
    import zstandard

    rows = [f'{{"text": "row {i} of some words"}}\n'.encode() for i in range(2000)]
    words = zstandard.train_dictionary(1000, rows)
    packed = zstandard.ZstdCompressor(dict_data=words).compress(b"".join(rows))
    (tmp_path / "a.jsonl.zst").write_bytes(packed)
    with pytest.raises(UserError, match=r"packed with a dictionary.*zstd -d -D"):
        read_text(tmp_path / "a.jsonl.zst")


def test_the_first_line_that_excel_writes_is_no_header(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"\xef\xbb\xbfsep=;\r\nweb;code\r\n1;0\r\n")
    assert read_csv(file) == (["web", "code"], [(3, ["1", "0"])])
