"""Count the lines of code that do what an older commit did: then, and now, as Markdown.

    python docs/lines.py                      b7dd3d9 against this checkout's HEAD
    python docs/lines.py THEN NOW             other commits
    python docs/lines.py --write              into docs/architecture.md

A line counts if it holds code: no blank lines, comments or docstrings. A function is a `def` of a
module or a class with what lies in it; all else of a file (imports, constants, fields, heads of
classes) is its frame. A function of then is *found again* in the function now that is most like it
by the words of its code, each once, wherever it lies: three words of four are the same, or half of
them and the name. A file now is one *of then* if it was there, or if half of its functions' lines
were found again; what other files hold was added since, and is named by where it lies. A line is
*for users* if a commit wrote it that says something in CHANGELOG.md, as `git blame` tells: what a
function that is found again does beside what it did.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tokenize
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
MARKS = ("<!-- measured by docs/lines.py -->", "<!-- end of lines -->")
NAMED, UNNAMED = 0.5, 0.75  # likeness of functions of one name, and of others, that are one
OWN_FILE, OWN_NAME = 0.5, 0.3  # what the same file and name, or the name alone, add to a likeness
ALIKE = UNNAMED / (2 - UNNAMED)  # sizes below this part of each other cannot be so alike
FEWEST = 25  # words of a function that is found again under another name
SILENT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
          tokenize.ENDMARKER)  # fmt: skip

FEATURES = {  # what was added since b7dd3d9, by the beginnings of paths; the first that fits
    "schedules: a mixture for each phase": "phases/|schedules|phased|_phased|gp/schedule",
    "branches of a trunk, priced without training": "branches|trunks|rescor|right_answers",
    "methods that move weights in training": "reweight|parts/paths",
    "influence of domains (TiKMiX)": "influence|gains/|carried|leaning|lean",
    "what a search would cost and find (`plan`)": "planned|cli/plan",
    "mixbench": "mixbench|benched|bench_|ranking",
    "rungs: ladders of proxies, budgets": "ladder|rung|reached|trusting|simulated|rows|repetition|"
    "lowest|views|beliefs|levels|going_on",
    "noise of a score, `score: auto`": "noise|repeats|signal",
    "forecasts and promises of a search, what they are tested on": "forecast|promise|coverage|"
    "outliers|shapes|tilted|reach|verifying",
    "strangers' files: formats, damage, labels": "corpus/read|streams|unpack|reading|written|yamls|"
    "evaluators/|sums|utf",
    "workers of several machines": "storages/|crew|member|machine|signals|workers/|process",
    "a search from one file": "corpus_recipe|corpora|ensure",
    "exports to more trainers, mixtures of one's own": "exports/|mixtures|paths|layouts|given",
    "stored names, old names, a study read once": "attributes|moved|view|plan.py|asked",
}


@dataclass(frozen=True)
class Unit:
    """A function, or with an empty name the frame of its file: its lines, and its code's words."""

    file: str
    name: str
    numbers: frozenset[int]
    words: Counter[str]

    @property
    def lines(self) -> int:
        """How many lines."""
        return len(self.numbers)

    @cached_property
    def size(self) -> int:
        """How many words."""
        return self.words.total()


def code_lines(text: str, tree: ast.Module) -> set[int]:
    """The numbers of the lines that hold code."""
    said: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            said.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SILENT:
            code.update(range(token.start[0], token.end[0] + 1))
    return code - said


def units(file: str, text: str) -> Iterator[Unit]:
    """The functions of a file, then its frame."""
    tree = ast.parse(text)
    left, lines = code_lines(text, tree), text.split("\n")

    def unit(name: str, numbers: set[int]) -> Unit:
        words = (w for n in numbers for w in re.findall(r"\w+|[^\w\s]", lines[n - 1]))
        return Unit(file, name, frozenset(numbers), Counter(words))

    def functions(body: list[ast.stmt], within: str) -> Iterator[Unit]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from functions(node.body, f"{within}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min(node.lineno, *(d.lineno for d in node.decorator_list), node.lineno)
                numbers = set(range(first, (node.end_lineno or first) + 1)) & left
                left.difference_update(numbers)
                yield unit(f"{within}{node.name}", numbers)

    yield from functions(tree.body, "")
    yield unit("", left)


def found_again(then: list[Unit], now: list[Unit]) -> dict[int, int]:
    """Place of a function of then -> place of the one it is now; the most alike first."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for j, new in enumerate(now):
        by_name[_bare(new.name)].append(j)
    by_size = sorted((new.size, j) for j, new in enumerate(now) if new.name)
    pairs = []
    for i, old in enumerate(then):
        if old.name:
            near = (
                bisect_left(by_size, (ALIKE * old.size,)),
                bisect_left(by_size, (old.size / ALIKE,)),
            )
            others = [j for _, j in by_size[slice(*near)]] if old.size >= FEWEST else []
            for j in {*by_name[_bare(old.name)], *others}:
                if likeness := _likeness(old, now[j]):
                    pairs.append((likeness, i, j))
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if i not in found and j not in taken:
            found[i] = j
            taken.add(j)
    return found


def _likeness(old: Unit, new: Unit) -> float:
    """How alike two functions are; 0 where they are not one."""
    one_name = _bare(old.name) == _bare(new.name)
    alike = 2 * (old.words & new.words).total() / max(1, old.size + new.size)
    if (old.file, old.name) == (new.file, new.name):
        return max(alike, NAMED / 2) + OWN_FILE
    if alike < (NAMED if one_name else UNNAMED):
        return 0.0
    return alike + OWN_NAME * one_name


def _bare(name: str) -> str:
    return name.rpartition(".")[2].strip("_")


@dataclass(frozen=True)
class Count:
    """Lines of code. Of then: functions found again, others, frames. Now: those that were found,
    others in files of then, frames of those; and by feature what is in other files. `lengths`:
    of functions found again, those that are shorter now, as long, and longer: how many, then, now.
    `for_users`: of their lines now.
    """

    then: tuple[int, int, int]
    now: tuple[int, int, int]
    features: Mapping[str, int]
    lengths: tuple[tuple[int, int, int], ...]
    for_users: int = 0


def count(
    then: Mapping[str, str],
    now: Mapping[str, str],
    told: Callable[[str], set[int]] = lambda file: set(),
) -> Count:
    """Compare two packages, file -> text. `told`: of a file now, the lines that are for users."""
    old = [unit for file, text in then.items() for unit in units(file, text)]
    new = [unit for file, text in now.items() for unit in units(file, text)]
    pairs = found_again(old, new)
    again = {*pairs.values()}
    share: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for j, one in enumerate(new):
        share[one.file][0] += one.lines * (j in again)
        share[one.file][1] += one.lines * bool(one.name)
    of_then = {f for f, (kept, every) in share.items() if f in then or 2 * kept >= every > 0}
    features: Counter[str] = Counter()
    inside = [0, 0, 0]
    for j, one in enumerate(new):
        if j in again:
            inside[0] += one.lines
        elif one.file in of_then:
            inside[1 if one.name else 2] += one.lines
        else:
            features[feature_of(one.file)] += one.lines
    kept = sum(old[i].lines for i in pairs)
    frames = sum(one.lines for one in old if not one.name)
    gone = sum(one.lines for one in old) - kept - frames
    lengths = lengths_of([(old[i].lines, new[j].lines) for i, j in pairs.items()])
    of_users = sum(len(new[j].numbers & told(new[j].file)) for j in again)
    return Count(
        (kept, gone, frames), (inside[0], inside[1], inside[2]), features, lengths, of_users
    )


def lengths_of(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Of functions that are shorter now, as long, and longer: how many, lines then, lines now.

    >>> lengths_of([(9, 5), (4, 4), (3, 8), (2, 3)])
    ((1, 9, 5), (1, 4, 4), (2, 5, 11))
    """
    split: dict[int, list[tuple[int, int]]] = {-1: [], 0: [], 1: []}
    for a, b in pairs:
        split[(b > a) - (b < a)].append((a, b))
    return tuple((len(s), sum(a for a, _ in s), sum(b for _, b in s)) for s in split.values())


def feature_of(file: str) -> str:
    """What a file was added for."""
    fits = (name for name, parts in FEATURES.items() if re.search(parts, file))
    return next(fits, "what several rooms share, and the rest")


def at(commit: str) -> dict[str, str]:
    """The package's files at a commit, without their folder."""
    listed = _git("ls-tree", "-r", "--name-only", commit, "climb_opt/").split()
    files = [name for name in listed if name.endswith(".py")]
    return {name.removeprefix("climb_opt/"): _git("show", f"{commit}:{name}") for name in files}


def told_between(then: str, now: str) -> Callable[[str], set[int]]:
    """File -> its lines at `now` by commits since `then` that say something in CHANGELOG.md."""
    commits = set(_git("log", "--format=%H", f"{then}..{now}", "--", "CHANGELOG.md").split())

    @cache
    def told(file: str) -> set[int]:
        blamed = _git("blame", "-s", "-l", "-w", "-C", f"{then}..{now}", "--", f"climb_opt/{file}")
        by = (line.partition(" ")[0] for line in blamed.splitlines())
        return {number for number, commit in enumerate(by, start=1) if commit in commits}

    return told


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def table(counted: Count) -> str:
    """The counts as Markdown."""
    (kept, gone, frames), (again, beside, here) = counted.then, counted.now
    added = sum(counted.features.values())
    rows = [
        ("functions that are found again", kept, again),
        *(
            (f"– of them {n:,} {what}", a, b)
            for what, (n, a, b) in zip(
                ("shorter", "as long", "longer"), counted.lengths, strict=True
            )
        ),
        ("– of all, not for users", kept, again - counted.for_users),
        ("functions that are not: gone, or in their place and beside them", gone, beside),
        ("imports, constants, fields", frames, here),
        ("**files of then**", kept + gone + frames, again + beside + here),
        *((name, 0, n) for name, n in sorted(counted.features.items(), key=lambda f: -f[1])),
        ("**all**", kept + gone + frames, again + beside + here + added),
    ]
    lines = ["| lines of code | then | now |", "|---|---:|---:|"]
    return "\n".join(lines + [f"| {what} | {a:,} | {b:,} |" for what, a, b in rows])


def main() -> None:
    """Print, or write into the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("then", nargs="?", default="b7dd3d9")
    parser.add_argument("now", nargs="?", default="HEAD")
    parser.add_argument("--write", action="store_true", help="into docs/architecture.md")
    args = parser.parse_args()
    told = told_between(args.then, args.now)
    text = table(count(at(args.then), at(args.now), told))
    if not args.write:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
