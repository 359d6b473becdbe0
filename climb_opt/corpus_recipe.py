"""What a corpus is: every option that decides its content, once, with its default and meaning.

The flags of `climb-opt corpus build`, the keys of corpora/*.yaml and those of a study's `corpus:`
are these fields; the stages of a build take their defaults from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

LEAST_HELD_OUT = 8  # documents, where a domain has twice as many
OFF = "off"  # of `near_duplicates`: copies that are not exact are kept


def _key(default: T, about: str, metavar: str | None = None, *, listed: bool = False) -> T:
    facts = {"about": about, "metavar": metavar, "listed": listed}
    return field(default=default, metadata=facts)  # type: ignore[return-value]


def least_held_out() -> str:
    """What a domain holds out however small the share asked for is."""
    return f"at least {LEAST_HELD_OUT} documents, or half of fewer than {2 * LEAST_HELD_OUT}"


@dataclass(frozen=True)
class CorpusRecipe:
    """A corpus: what is read and what is made of it. The same options give the same bytes.

    Paths are those of the folder that the command runs in.
    """

    inputs: tuple[str, ...]  # files, folders, globs or prefixed inputs
    output: str | None = None  # the corpus's folder; a study needs it
    name: str | None = _key(None, "of the corpus (default: the output folder's)")
    seed: int = _key(0, "of every draw")
    # reading
    text_field: str = _key("text", "where the text is", "FIELD")
    id_field: str = _key("id", "where the id is, if there is one", "FIELD")
    detokenize: str | None = _key(None, "the text field holds tokens of this one", "TOKENIZER")
    fields: tuple[str, ...] = _key((), "keep these fields too", "A,B", listed=True)
    label_field: str | None = _key(None, "known labels to compare with", "FIELD")
    tokenizer: str | None = _key(None, "file, folder or hub name (default: train a BPE)")
    vocab_size: int = _key(8192, "of a trained tokenizer")
    eos: str | None = _key(None, "what ends a document (default: the tokenizer's own)", "TOKEN")
    # domains
    domains: int | None = _key(None, "how many (default: 16)")
    domain_field: str | None = _key(None, "what names each document's domain", "FIELD")
    merge_distance: float | None = _key(None, "cut the Ward tree here instead")
    clusters: int | None = _key(None, "fine clusters (default: docs/20, max 1000)")
    fit_points: int | None = _key(None, "documents k-means is fitted on (default: 40 a cluster)")
    kmeans: str = _key("auto", "back end")
    encoder: str = _key("tfidf", "what makes vectors of documents")
    dimensions: int = _key(64, "of tfidf")
    max_tokens: int | None = _key(None, "of a document that the encoder sees (default: its own)")
    devices: tuple[str, ...] = _key((), "of a model: cuda:0,cuda:1", "A,B", listed=True)
    precision: str = _key("auto", "of a model")
    batch: int = _key(64, "documents a model takes at once")
    trust_remote_code: bool = _key(False, "of a hub model")
    score: tuple[str, ...] = _key((), "a number for each document", "NAME=KIND:WHERE")
    prune: tuple[str, ...] = _key((), "see below, e.g. quality>=2.5", "RULE")
    # held out, duplicates
    heldout: float = _key(0.02, f"share of every domain, and {least_held_out()}")
    heldout_tokens: int = _key(2_000_000, "at most, a domain")
    target: tuple[str, ...] = _key((), "held out whole, never trained on", "NAME=FIELD:VALUE|FILES")
    target_share: float = _key(0.25, "of matching documents")
    near_duplicates: float | None = _key(0.8, "similarity that counts, or off")

    RANGES: ClassVar[dict[str, Any]] = {  # as `climb_opt.strict.Range`
        "seed": (0, 2**31 - 1),  # what k-means takes
        **dict.fromkeys(("domains", "clusters"), (2,)),
        "merge_distance": (0, 2**53, "least"),
        **dict.fromkeys(("fit_points", "dimensions", "max_tokens", "batch"), (1,)),
        "vocab_size": (1,),
        "heldout": (0, 0.5),
        "heldout_tokens": (0,),
        "target_share": (0, 1, "least"),
        "near_duplicates": (0.5, 1),
    }


# The first field of each group of flags.
GROUPS = {
    "name": "corpus",
    "text_field": "reading",
    "domains": "domains",
    "heldout": "held out, duplicates",
}


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a corpus with `near_duplicates: off` as it is stored; YAML reads off as false."""
    near = data.get("near_duplicates", 0)
    return {**data, "near_duplicates": None} if near is False or near == OFF else dict(data)
