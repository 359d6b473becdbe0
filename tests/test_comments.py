"""What comments and pages name exists: pages, their sections, files, folders."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("climb_opt", "docs", "hub", "proxies", "studies", "tests")
CODE = sorted(
    path
    for folder in FOLDERS
    for ending in ("py", "yaml")
    for path in (ROOT / folder).rglob(f"*.{ending}")
    if not any(part.startswith(".") for part in path.parts)
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

PAGE = re.compile(r"(?<![\w/.<-])((?:[\w-]+/)*[\w-]+\.md)(?:#([\w-]+))?")
FILE = re.compile(r"(?<![\w/.<*-])((?:[\w-]+/)*\w+\.py)\b")
FOLDER = re.compile(r"(?<![\w/.<*{-])((?:[a-z_]+/)+)(?=[\s,;:)`']|\.\s|$)")
SECTION = re.compile(r"§|\bsections? \d")
UNSOURCED = re.compile(r"\((?![^()]*(?:docs|tests)/)(?:[^()]*[,;:] )?measured(?:[,;: ][^()]*)?\)")

# Files and folders of a user, or of another project, that comments speak of.
THEIRS = {"documents/", "evals/", "mail/", "work/"}


def said(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and docstrings of a file, with their lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        for number, line in enumerate(text.splitlines(), start=1):
            if "#" in line:
                yield number, line.partition("#")[2]
        return
    comments: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.append((token.start[0], token.string.lstrip("# ")))
    last, whole = 0, ""
    for number, line in comments:  # those on successive lines are one
        if number != last + 1 and whole:
            yield last, whole
            whole = ""
        last, whole = number, f"{whole} {line}"
    if whole:
        yield last, whole
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, kinds) and (doc := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), doc


@cache
def headings(page: Path) -> set[str]:
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in lines}


@cache
def files() -> str:
    """Every file of the repository, a line each, so that a part of a path is found in one look."""
    there = (path for name in (*FOLDERS, ".ci") for path in (ROOT / name).rglob("*"))
    return "".join(f"/{path.relative_to(ROOT).as_posix()}\n" for path in there if path.is_file())


def wrong(text: str) -> list[str]:
    """What a comment names that is not there."""
    found = []
    for page, anchor in PAGE.findall(text):
        path = ROOT / page
        if page.startswith("runs/"):
            continue  # what a command writes
        if not path.is_file():
            found.append(f"no page {page}")
        elif anchor and anchor not in headings(path):
            found.append(f"no section #{anchor} in {page}")
    for file in FILE.findall(text):
        if file not in THEIRS and f"/{file}\n" not in files():
            found.append(f"no file {file}")
    for folder in FOLDER.findall(text):
        if folder not in THEIRS and f"/{folder}" not in files():
            found.append(f"no folder {folder}")
    if SECTION.search(text):
        found.append("a numbered section: name the page's heading, as in docs/corpus.md#domains")
    if UNSOURCED.search(text):
        found.append("(measured) without the command or the page that shows it")
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_what_a_comment_names_exists(path: Path) -> None:
    assert not [f"line {n}: {what}" for n, text in said(path) for what in wrong(text)]


OURS = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`")  # a path in a page
NAMED = re.compile(r"`((?:[\w-]+/)*\w+\.py)`")  # a file by the end of its path


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_paths_on_a_page_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert not [path for path in OURS.findall(text) if not (ROOT / path).exists()]
    files_named = [name for name in NAMED.findall(text) if not name.startswith("my_")]
    assert not [name for name in files_named if f"/{name}\n" not in files()]


@pytest.mark.parametrize(
    "comment",
    [
        "see `elsewhere.md`",
        "see docs/corpus.md#no-such-section",
        "as in no_such_file.py",
        "beside no_such_folder/ this is all",
        "(corpus, section 9)",
        "twice as fast (measured)",
        "twice as fast (two cores, measured; all else alike)",
    ],
)
def test_a_comment_that_leads_nowhere_is_found(comment: str) -> None:
    assert len(wrong(comment)) == 1


@pytest.mark.parametrize(
    "comment",
    [
        "docs/notes/corpus.md#merging says why",
        "as in simplex.py, proxy/data.py and corpus/stages/",
        "twice as fast (tests/bench/bench_train.py)",
        "text files (.txt, .md, .rst), and Section 4.1 of the paper",
        "(measured on RegMix's runs: docs/measured.md)",
    ],
)
def test_a_comment_that_leads_somewhere_passes(comment: str) -> None:
    assert not wrong(comment)
