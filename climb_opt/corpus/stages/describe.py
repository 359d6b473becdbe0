"""What a domain is about: top terms, a name made of them, sample documents."""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence

from climb_opt.corpus.documents import Document

LONG = "{3,30}"  # letters of a word
# Signs written without blanks between words, of which pairs are looked at: kana, Han.
UNSPACED = "\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff"
LOOKED_AT = 1000  # characters of a sample document: docs/notes/corpus.md#known-kinds
TERMS = 10
IN_NAME = 2
SAMPLES = 3
SAMPLE_CHARACTERS = 240


def top_terms(samples: Sequence[Sequence[Document]]) -> list[list[str]]:
    """For each domain's sample documents the words that tell it from the other domains.

    A word's score is p log(p / q)^2: p, q are the shares of documents holding it, here and in
    the average domain. The square favours words of one domain over common ones.
    """
    texts = [[d.text[:LOOKED_AT].lower() for d in documents] for documents in samples]
    counts = [Counter(w for text in some for w in {*_words(text)}) for some in texts]
    overall: defaultdict[str, float] = defaultdict(float)
    for documents, count in zip(samples, counts, strict=True):
        for word, number in count.items():  # domains weigh alike, whatever their size
            overall[word] += number / max(1, len(documents))
    found = []
    for documents, count in zip(samples, counts, strict=True):
        size = max(1, len(documents))
        told = {word: n for word, n in count.items() if n > 1 or size == 1}
        score = {w: _distinction(n / size, overall[w] / len(samples)) for w, n in told.items()}
        # Ties are broken by the word itself: a name must not depend on the order of a dict.
        ranked = sorted(score, key=lambda w: (-score[w], w))
        found.append(ranked[:TERMS])
    return found


def names_from(terms: Sequence[Sequence[str]], taken: Collection[str] = ()) -> list[str]:
    """A short name for each domain from its top terms, distinct and not `taken`."""
    names: list[str] = []
    for index, words in enumerate(terms):
        name = "-".join(words[:IN_NAME]) or f"domain-{index}"
        extra = IN_NAME
        while name in names or name in taken:
            name = f"{name}-{words[extra]}" if extra < len(words) else f"{name}-{index}"
            extra += 1
        names.append(name)
    return names


def excerpt(document: Document) -> dict[str, str]:
    """A document's id and the beginning of its text on one line."""
    line = " ".join(document.text[:LOOKED_AT].split())
    return {"id": document.id, "text": line[:SAMPLE_CHARACTERS]}


def join_terms(terms: Sequence[Sequence[str]]) -> list[str]:
    """Terms of merged domains, taken in turn, without repeats."""
    longest = max((len(t) for t in terms), default=0)
    turns = [t[i] for i in range(longest) for t in terms if i < len(t)]
    return list(dict.fromkeys(turns))[:TERMS]


def _words(text: str) -> Iterator[str]:
    word, unspaced = _patterns()
    yield from word.findall(text)
    for found in unspaced.findall(text):
        yield from (found[i : i + 2] for i in range(len(found) - 1))


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    # To `re` a vowel sign or an accent of its own ends a word, which cuts Hindi and Thai to pieces.
    marks = "".join(c for c in map(chr, range(0x300, 0xA000)) if unicodedata.category(c)[0] == "M")
    word = rf"(?:(?![{UNSPACED}])(?:[^\W\d_]|[{marks}])){LONG}"
    return re.compile(word), re.compile(f"[{UNSPACED}]+")


def _distinction(here: float, overall: float) -> float:
    lift = max(0.0, math.log(here / overall))
    return here * lift * lift
