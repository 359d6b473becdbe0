"""How a build's time grows on documents that nobody wrote, by stage, and beside prose.

Each kind is built at n and 2n bytes in a process of its own, beside 200 documents of prose that
make two domains possible. A stage that is linear takes at most twice as long, one that is quadratic
four times. Stages under `LEAST` CPU seconds are not judged: their fixed cost is what is measured.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEAST = 0.3  # CPU seconds at 2n


def _prose(size: int, rng: random.Random) -> str:
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(3000)]
    text = " ".join(rng.choices(words, k=size // 6 + 1))
    return text[:size]


def _cut(text: str, length: int) -> list[str]:
    return [text[i : i + length] for i in range(0, len(text), length)]


def _foreign(size: int, rng: random.Random) -> str:
    return "".join(map(chr, rng.choices(range(0x4E00, 0x9FA0), k=size // 3)))


def _parts(size: int) -> list[str]:
    """One page again and again in one document, and its beginnings in many."""
    parts = [f"{_PAGE[: 40 + i % 900]} {i}" for i in range(size // 1000)]
    return [_PAGE * (size // 2 // len(_PAGE)), *parts]


Made = Callable[[int, random.Random], list[str]]
# name -> documents of so many bytes in all
KINDS: dict[str, Made] = {
    "prose": lambda n, r: _cut(_prose(n, r), 1500),
    "prose, one line": lambda n, r: [_prose(n, r)],
    "one letter": lambda n, r: ["a" * n],
    "two letters": lambda n, r: ["ab" * (n // 2)],
    "blanks": lambda n, r: ["x" + " " * n + "x"],
    "line ends": lambda n, r: ["x" + "\r\n" * (n // 2) + "x"],
    "blanks, line ends": lambda n, r: ["x" + " \n\t" * (n // 3) + "x"],
    "zero bytes": lambda n, r: ["\0" * n],
    "signs": lambda n, r: ["=" * n],
    "apostrophes": lambda n, r: ["'" * n],
    "special tokens": lambda n, r: ["<|endoftext|>" * (n // 13)],
    "one ideograph": lambda n, r: ["中" * (n // 3)],
    "ideographs": lambda n, r: [_foreign(n, r)],
    "joined marks": lambda n, r: ["e" + "\u0301" * (n // 2)],
    "base64": lambda n, r: [base64.b64encode(r.randbytes(n * 3 // 4)).decode()],
    "one word": lambda n, r: ["word " * (n // 5)],
    "tiny documents": lambda n, r: [f"{i}" for i in range(n // 6)],
    "equal documents": lambda n, r: ["the same text again"] * (n // 19),
    "one word each": lambda n, r: ["word " * (i + 1) for i in range(int((n / 2.5) ** 0.5))],
    "nearly equal": lambda n, r: [f"{_PAGE} {i}" for i in range(n // len(_PAGE))],
    "a page and its parts": lambda n, r: _parts(n),
}  # fmt: skip
_PAGE = _prose(1000, random.Random(1))


def growth(args: argparse.Namespace, folder: Path) -> None:
    """One table: CPU seconds of every stage at 2n, their ratio to n, and to prose of 2n."""
    prose: dict[str, float] = {}
    for kind in dict.fromkeys(["prose", *(args.kinds or KINDS)]):
        small, large = (
            _measured(kind, size, args, folder) for size in (args.bytes, 2 * args.bytes)
        )
        prose = prose or large
        stages = {s: (small.get(s, 0.0), t) for s, t in large.items() if t >= LEAST}
        total = (sum(small.values()), sum(large.values()))
        worst = max((b / max(a, 1e-9) for a, b in stages.values()), default=0.0)
        beside = total[1] / sum(prose.values())
        print(
            f"{kind:<22} {total[1]:6.1f} CPU-s, {total[1] / total[0]:.2f}x of half the bytes, "
            f"{beside:.2f}x of prose; worst stage {worst:.2f}x",
            flush=True,
        )
        for stage, (before, after) in stages.items():
            beside = after / max(prose.get(stage, 0.0), 1e-3)
            print(
                f"    {stage:<12} {after:6.2f} CPU-s, {after / max(before, 1e-9):.2f}x of half, "
                f"{beside:.1f}x of prose"
            )


def _measured(kind: str, size: int, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    file, out = folder / "documents.jsonl", folder / f"out-{kind}-{size}".replace(" ", "-")
    rng = random.Random(0)
    with file.open("w", encoding="utf-8") as lines:
        for text in [*_cut(_prose(100_000, rng), 500), *KINDS[kind](size, rng)]:
            lines.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    command = [sys.executable, __file__, str(file), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{kind}, {size} bytes: {done.stderr.strip().splitlines()[-1]}")
        return {"failed": 1e-9}
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def clock() -> float:
    times = os.times()  # with the children's: the tokenizer is trained in one
    return times.user + times.system + times.children_user + times.children_system


def staged(file: Path, out: Path) -> dict[str, float]:
    """CPU seconds of every stage of a build of this file."""
    from climb_opt.corpus import build as building
    from climb_opt.corpus.options import BuildOptions, make_plan
    from climb_opt.corpus.run.workspace import Stage
    from climb_opt.corpus.stages.merge import MergeOptions

    found: dict[str, float] = {}

    def timed(function: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            start = clock()
            try:
                return function(*args, **more)
            finally:
                stage = name(*args)
                found[stage] = found.get(stage, 0.0) + clock() - start

        return run

    for method in ("over", "once"):
        setattr(Stage, method, timed(getattr(Stage, method), lambda stage, *_: str(stage.name)))
    building.gather = timed(building.gather, lambda *_: "shards")
    options = BuildOptions((str(file),), merge=MergeOptions(domains=2))
    building.build(make_plan(options), out, progress=False)
    return found


if __name__ == "__main__":
    print(json.dumps(staged(Path(sys.argv[1]), Path(sys.argv[2]))))
