"""A reader from outside: written as docs/own-reader.md says, and wrong in every way one can be."""

from __future__ import annotations

import mailbox
import os
import re
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from climb_opt import lookup
from climb_opt.cli import main
from climb_opt.corpus.documents import Document
from climb_opt.corpus.read.inputs import find_sources, names_input
from climb_opt.corpus.read.records import read
from climb_opt.corpus.read.source import Reader, ReadOptions
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from corpora import TOPICS, topic_documents

KINDS = list(TOPICS)
PAGE = Path(__file__).parents[1] / "docs" / "own-reader.md"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are found in, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("my_", "odd_")):
            del sys.modules[name]


def module(name: str, body: str) -> None:
    head = "from climb_opt.corpus.read import Bad, Damaged, Reader, Source\n"
    Path(f"{name}.py").write_text(head + body, encoding="utf-8")


def the_pages_module() -> None:
    page = PAGE.read_text(encoding="utf-8")
    code = next(b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    assert code.startswith("# my_readers.py\n")
    Path("my_readers.py").write_text(code, encoding="utf-8")


def letters(file: Path, topic: str, count: int, seed: int = 0) -> None:
    file.parent.mkdir(exist_ok=True)
    box = mailbox.mbox(file)
    documents = [d for d in topic_documents(count, seed=seed) if d["topic"] == topic]
    for number, document in enumerate(documents):
        letter = EmailMessage()
        letter["Subject"], letter["Message-ID"] = topic, f"<{topic}-{number}@example.org>"
        letter.set_content(document["text"])
        box.add(letter)
    box.close()


def records(inputs: str, **options: str) -> list[object]:
    return [r for s in find_sources([inputs]) for r in read(s, ReadOptions(**options))]


def test_the_page_alone_is_enough_to_build_a_corpus_of_mailboxes() -> None:
    the_pages_module()
    for topic in KINDS[:3]:
        letters(Path(f"mail/{topic}.mbox"), topic, 40)
    Path("mail/notes.txt").write_text("nobody's letter")
    command = ["corpus", "build", "my_readers:MBOX:mail/", "--output", "out", "--domains", "3",
               "--clusters", "6", "--vocab-size", "400", "--fields", "subject", "--no-progress",
               "--label-field", "subject", "--target", "x=my_readers:MBOX:junk.mbox"]  # fmt: skip
    letters(Path("junk.mbox"), KINDS[0], 5, seed=1)
    assert main(command) == 0
    corpus = Corpus.load("out")
    assert corpus.provenance["documents"] == 125
    assert corpus.targets["x"].documents == 5
    assert corpus.provenance["labels"]["purity"] == 1.0  # by subject
    assert main(command) == 0  # it is already built


def test_a_pattern_and_a_file_are_read_and_other_endings_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    the_pages_module()
    letters(Path("mail/a.mbox"), KINDS[0], 2)
    letters(Path("mail/b.MBX"), KINDS[0], 3)
    Path("mail/c.txt").write_text("no letter")
    assert len(records("my_readers:MBOX:mail")) == 5
    assert "1 of no known format (c.txt)" in caplog.text
    assert len(records("my_readers:MBOX:mail/*.mbox")) == 2
    assert len(records("my_readers:MBOX:mail/b.MBX")) == 3
    first = records("my_readers:MBOX:mail/a.mbox", text_field="body")[0]
    assert isinstance(first, Document) and first.id == f"<{KINDS[0]}-0@example.org>"


def test_a_reader_that_changes_is_read_again() -> None:
    the_pages_module()
    letters(Path("a.mbox"), KINDS[0], 2)
    before = find_sources(["my_readers:MBOX:a.mbox"])
    assert find_sources(["my_readers:MBOX:a.mbox"]) == before
    with Path("my_readers.py").open("a") as file:
        file.write("# another version\n")
    assert find_sources(["my_readers:MBOX:a.mbox"]) != before


def test_sources_that_are_no_files() -> None:
    module("my_table", """
def sources(where, left):
    left.add("empty", "part-9")
    for part in range(2):
        yield Source("", where, f"{where}-{part}", extra={"part": part}, version="1")

def read(source, options, progress):
    yield 0, {options.text_field: f"row of part {source.extra['part']}"}

TABLE = Reader("a table", read, sources=sources)
""")  # fmt: skip
    found = records("my_table:TABLE:db.letters")
    assert [(d.text, d.id) for d in found] == [
        ("row of part 0", "db.letters-0:1"),
        ("row of part 1", "db.letters-1:1"),
    ]


ODD = """
def read(source, options, progress):
    {body}

READER = Reader("odd", read)
NOTHING = Reader("odd")
NUMBER = 3
ENDLESS = Reader("odd", read, endings=None)
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("yield {'text': 'a'}", r"Reader 'odd_rows:READER' must yield pairs .* yielded \{'text'"),
        ("yield 'x', {'text': 'a'}", "must yield pairs of a number and a mapping"),
        (
            "yield 3, 'text'",
            r"must yield pairs of .*, or a Bad, but yielded \(3, 'text'\) from a.txt",
        ),
        ("yield 3, None", r"must yield pairs .* yielded \(3, None\) from a.txt"),
        ("yield 0, {'text': 'a'}; yield 0, {'text': 'b'}", r"upwards, .* 0 came after 0 in a.txt"),
        ("yield 4, {'text': 'a'}; yield 2, {'text': 'b'}", "2 came after 4 in a.txt"),
        ("yield -1, {'text': 'a'}", "from 0 upwards, .* the first is -1 in a.txt"),
        ("yield 0, {'text': 'a'}; 1 / 0", r"raised ZeroDivisionError.* in a.txt, after 1 doc"),
        ("raise SystemExit", r"raised SystemExit\(\) in a.txt, after 0 documents"),
        ("return 3", "raised TypeError.* in a.txt, after 0 documents"),
        ("raise OSError(5, 'Input/output error')", r"a.txt cannot be read \(Input/output error\)"),
        ("yield; raise Damaged('a.txt ends')", "must yield pairs"),
        ("raise Damaged('a.txt ends too early')\n    yield", "a.txt ends too early"),
    ],
)
def test_a_reader_that_is_wrong_is_told_in_one_line(body: str, message: str) -> None:
    module("odd_rows", ODD.format(body=body))
    Path("a.txt").write_text("text")
    with pytest.raises(UserError, match=message) as raised:
        records("odd_rows:READER:a.txt")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("odd_rows:NOTHING:a.txt", "must be a .*Reader with a `read`, but has no `read`"),
        ("odd_rows:ENDLESS:a.txt", r'endings must be a tuple such as \("\.mbox",\), .* is None'),
        ("odd_rows:NUMBER:a.txt", "must be a .*Reader with a `read`, but is 3"),
        ("odd_rows:OTHER:a.txt", "odd_rows has no 'OTHER'"),
        ("odd_nowhere:READER:a.txt", "cannot be imported: No module named 'odd_nowhere'"),
        ("odd_rows:READER:missing", "No file or folder 'missing'"),
        ("odd_rows:READER:p[1]", r"No file or folder 'p\[1\]'"),  # a pipe
        ("odd_rows:READER:*.nothing", "No file matches '\\*.nothing'"),
        ("odd_rows:READER:", "No file or folder ''"),
    ],
)
def test_a_reader_that_is_not_there_is_told_in_one_line(name: str, message: str) -> None:
    module("odd_rows", ODD.format(body="yield 0, {options.text_field: 'a'}"))
    Path("a.txt").write_text("text")
    os.mkfifo("p[1]")
    with pytest.raises(UserError, match=message):
        records(name)


def test_a_field_and_a_value_are_no_reader() -> None:
    module("odd_rows", ODD.format(body="yield 0, {options.text_field: 'a'}"))
    assert names_input("odd_rows:READER:whatever")
    assert not names_input("odd_rows:NUMBER:whatever")
    assert not names_input("kind:prose:english")
    assert not names_input("kind:prose")


def test_every_reader_of_the_table_is_one_file_with_one_reader() -> None:
    for name, target in lookup.KINDS["reader"].items():
        assert isinstance(lookup.find("reader", name), Reader)
        assert target.startswith("climb_opt.corpus.read.")
    assert len(set(lookup.KINDS["reader"].values())) == len(lookup.KINDS["reader"])


def test_ls_readers_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "readers"]) == 0
    assert "parquet" in capsys.readouterr().out
