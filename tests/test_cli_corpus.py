"""The corpus commands as they are typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from climb_opt.cli import main
from climb_opt.cli.corpus import _old_and_new
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from corpora import files_of, topic_documents, write_jsonl

SMALL = ["--clusters", "12", "--domains", "4", "--vocab-size", "400", "--no-progress"]


@pytest.fixture
def documents(tmp_path: Path) -> str:
    rows = [{**d, "grade": len(d["topic"])} for d in topic_documents(30)]
    return str(write_jsonl(tmp_path / "docs.jsonl", rows))


def test_a_build_says_once_that_more_is_held_out_than_asked_for(
    documents: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    build = ["corpus", "build", documents, "--output", str(tmp_path / "corpus"), *SMALL]
    for _ in range(2):  # built, and then found
        assert main(build) == 0
        said = "more than 2 % is held out of"
        assert capsys.readouterr().out.count(said) == 1 and said not in caplog.text


def test_build_show_edit_export(
    documents: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "corpus")
    build = ["corpus", "build", documents, "--output", out, *SMALL]
    assert main([*build, "--target", "sky=topic:stars", "--label-field", "topic"]) == 0
    table = capsys.readouterr().out
    assert "corpus: 4 domains" in table and "target sky:" in table
    assert main(["corpus", "show", out, "--samples", "--map", str(tmp_path / "m.png")]) == 0
    assert table in capsys.readouterr().out and (tmp_path / "m.png").is_file()
    assert main(["corpus", "show", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "corpus"
    names = [d.name for d in Corpus.load(out).domains]
    assert main(["corpus", "rename", out, f"{names[0]}=first"]) == 0
    assert main(["corpus", "merge", out, "rest", names[1], names[2]]) == 0
    assert main(["corpus", "drop", out, names[3]]) == 0
    assert [d.name for d in Corpus.load(out).domains] == ["first", "rest"]
    for layout in ("curator", "weborganizer", "megatron"):
        folder = str(tmp_path / layout)
        assert main(["corpus", "export", out, "--format", layout, "--output", folder]) == 0
    ready = [str(tmp_path / "megatron" / f"domain_{i:03d}.bin") for i in (0, 1)]
    back = ["--tokenizer", out, "--output", str(tmp_path / "back")]
    assert main(["corpus", "import", *ready, *back]) == 0
    assert len(Corpus.load(tmp_path / "back").domains) == 2
    assert main(["corpus", "clean", out]) == 0 and (tmp_path / "corpus" / "work").is_dir()
    assert main(["corpus", "clean", out, "--yes"]) == 0
    assert not (tmp_path / "corpus" / "work").exists()
    Corpus.load(out)


def test_a_dry_run_prints_what_pruning_would_remove(
    documents: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["corpus", "build", documents, "--output", str(tmp_path / "out"), *SMALL]
    command += ["--score", "size=column:grade", "--prune", "size>=5.5", "--dry-run"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Pruning would remove" in printed and "size is 5.00 < 5.5" in printed
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--part", "3/2"], "--part must be I/N"),
        (["--near-duplicates", "most"], "must be a number or off"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--dry-run"], "give a --prune rule"),
        (["--score", "quality"], "expected NAME=KIND:WHERE"),
        (["--prune", "quality>=2"], "which no --score gives"),
        (["--text-field", "body"], "no document has the field 'body'"),
        (["--tokenizer", "./none"], "No tokenizer at"),
        (["--target", "x"], "expected NAME=FIELD:VALUE"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    documents: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    message: str,
) -> None:
    command = ["corpus", "build", documents, "--output", str(tmp_path / "out"), *SMALL, *extra]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("climb-opt: ")
    assert len(error.strip().splitlines()) == 1


def test_commands_on_what_is_no_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["show"], ["drop", "a"], ["rename", "a=b"], ["clean"]):
        assert main(["corpus", command[0], str(tmp_path), *command[1:]]) == 2
        assert "No corpus at" in capsys.readouterr().err


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Started in the background by a shell, a process and its children would ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_build_says_how_to_go_on_and_does(tmp_path: Path, sent: signal.Signals) -> None:
    documents = write_jsonl(tmp_path / "docs.jsonl", topic_documents(400, length=100))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "climb_opt", "corpus", "build", str(documents)]
    command += ["--output", str(out), *SMALL, "--name", "same"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while process.poll() is None and not list(out.glob("work/tokens-*/*")):
            time.sleep(0.01)
        process.send_signal(sent)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert "run the same command again" in errors and "Traceback" not in errors
    assert not (out / "manifest.json").exists() and not list(out.rglob("*.partial"))
    subprocess.run(command, check=True, capture_output=True, env=environment)
    whole = [str(tmp_path / "whole") if part == str(out) else part for part in command]
    subprocess.run(whole, check=True, capture_output=True, env=environment)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'faiss', 'sklearn', 'tokenizers', 'datasets', 'matplotlib', 'pyarrow'}"
    code = f"import sys; from climb_opt.cli import corpus; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a=b=ab", ("a=b", "ab")),
        ("web=a=c", ("web", "a=c")),
        ("x=y", ("x", "y")),
        ("a=b=", ("a=b", "")),
    ],
)
def test_names_with_equals_signs_are_renamed(text: str, pair: tuple[str, str]) -> None:
    assert _old_and_new(text, ["a=b", "web"]) == pair


@pytest.mark.parametrize(("text", "said"), [("web", "expected OLD=NEW"), ("a=b=c", "'a' to 'b=c'")])
def test_a_rename_that_is_not_clear_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        _old_and_new(text, ["a", "a=b"])


@pytest.mark.parametrize("output", ["file/below", "n" * 300])
def test_a_path_that_cannot_be_is_one_line(
    tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "two"}])
    build = ["corpus", "build", str(tmp_path / "a.jsonl"), "--domains", "2", "--no-progress"]
    assert main([*build, "--output", str(tmp_path / output)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("climb-opt: ") and output in said[0]
