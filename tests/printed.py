"""Snippets of the documentation and the output they are said to print."""

from __future__ import annotations

import math
import re

# Other libraries and processors move the last digits of a fit, and with them a recommendation a
# little; a figure of another run or of older code is further away than this.
RELATIVE, ABSOLUTE = 0.05, 0.02

PAIR = re.compile(
    r"^```(?P<language>python|console)\n(?P<code>(?:(?!```).*\n)*)```\n\n?```text\n(?P<output>(?:(?!```).*\n)*)```",
    re.MULTILINE,
)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def pairs(text: str, language: str) -> list[tuple[str, str]]:
    """(snippet, output) of each block of `language` that a ```text block follows."""
    return [(m["code"], m["output"]) for m in PAIR.finditer(text) if m["language"] == language]


def difference(printed: str, said: str) -> str:
    """Where the two differ by more than the tolerance of numbers, or at all in words; "" if not.

    Blanks count only as separators.
    """
    ours, theirs = printed.splitlines(), said.splitlines()
    for line, wanted in zip(ours, theirs, strict=False):
        if not _alike(line, wanted):
            return f"printed {line!r}, but the text says {wanted!r}"
    if len(ours) != len(theirs):
        return f"printed {len(ours)} lines, but the text has {len(theirs)}"
    return ""


def _alike(line: str, wanted: str) -> bool:
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (line, wanted)]
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (line, wanted)]
    return words[0] == words[1] and all(
        math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        for a, b in zip(*numbers, strict=True)
    )
