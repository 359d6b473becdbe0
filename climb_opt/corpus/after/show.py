"""A corpus as text: its domains, what each is about, where it comes from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from climb_opt.corpus_recipe import least_held_out
from climb_opt.errors import listed
from climb_opt.shards import Corpus
from climb_opt.text import counted, number, pad, percent, printable, shorten, width
from climb_opt.tokenizer import EndOfText

logger = logging.getLogger(__name__)

NAME = 28  # columns
NOTE = 300  # columns: an edit may name thousands of domains, which the manifest has
CELL = 10  # of a figure at least
TERMS = 6
LISTED = 5  # domains in one line
MUCH = 2  # times the share asked for: held out so far above it, a domain is named


def summary(corpus: Corpus) -> list[str]:
    """Lines: one table of domains, the targets, where the documents went."""
    total = max(1, sum(d.tokens for d in corpus.domains))
    qualities = sorted({q for d in corpus.domains for q in d.info.get("quality", {})})
    lines = [
        f"{corpus.name}: {len(corpus.domains)} domains, {total:,} tokens, "
        f"vocabulary {corpus.vocab_size}, digest {corpus.digest}",
        "",
    ]
    rows = [["domain", "tokens", "share", "documents", "held out", *qualities, "terms"]]
    for domain in corpus.domains:
        documents = sum(s.documents for s in domain.shards)
        held = domain.heldout.tokens if domain.heldout is not None else 0
        share = f"{percent(domain.tokens / total)}%"
        cells = [shorten(domain.name, NAME)]
        cells += [f"{domain.tokens:,}", share, f"{documents:,}", f"{held:,}"]
        cells += [number(domain.info.get("quality", {}).get(q), 3) for q in qualities]
        rows.append([*cells, ", ".join(domain.info.get("terms", [])[:TERMS])])
    first, *wide = (max(map(width, column)) for column in list(zip(*rows, strict=True))[:-1])
    for name, *figures, terms in rows:
        padded = [pad(c, max(CELL, w), right=True) for c, w in zip(figures, wide, strict=True)]
        lines.append("  ".join([pad(name, first), *padded, terms]))
    lines += [""]
    for name, stream in corpus.targets.items():
        lines.append(
            f"target {name}: {stream.tokens:,} tokens, {stream.documents:,} documents, never "
            "trained on"
        )
    return lines + held_out(corpus) + history(corpus.provenance)


def held_out(corpus: Corpus) -> list[str]:
    """Lines: domains whose held-out part is far from the share of their tokens asked for."""
    options = corpus.provenance.get("build", {}).get("options", {})
    asked = options.get("split", {}).get("share", 0)
    much, none = [], []
    for domain in corpus.domains if asked else ():
        held, name = domain.heldout, printable(domain.name)
        documents = sum(s.documents for s in domain.shards)
        if held is None:
            none.append(f"{name} ({counted(documents, 'document')})")
        elif (part := held.tokens / max(1, domain.tokens + held.tokens)) > MUCH * asked:
            of_all = f"{held.documents} of {documents + held.documents} documents"
            much.append(f"{name} ({of_all}, {percent(part)} % of its tokens)")
    lines = []
    if much:
        lines.append(
            f"more than {100 * asked:g} % is held out of {listed(much, LISTED)}: "
            f"{least_held_out()}; tokens and shares are of what is left to train on"
        )
    if none:
        lines.append(f"too few or too long documents to hold one out: {listed(none, LISTED)}")
    return lines


def caution(corpus: Corpus) -> None:
    """Log `held_out`, where no summary is printed."""
    for line in held_out(corpus):
        logger.warning("%s.", line)


def history(provenance: dict[str, Any]) -> list[str]:
    """What was read, skipped, dropped and removed."""
    lines = []
    if "end_of_text" in provenance:
        lines.append(str(EndOfText(**provenance["end_of_text"])))
    if "documents" in provenance:
        dropped = [f"{n:,} {what.replace('_', ' ')}" for what, n in provenance["dropped"].items()]
        lines.append(f"documents read: {provenance['documents']:,}; dropped: {', '.join(dropped)}")
    if provenance.get("unclustered"):
        lines.append(f"in no cluster: {provenance['unclustered']:,} documents, left out")
    if provenance.get("fewer_domains"):
        lines.append(provenance["fewer_domains"])
    lines += provenance.get("lost_domains", [])
    for reason, count in sorted(provenance.get("skipped", {}).items()):
        lines.append(f"skipped: {count:,} {reason}")
    lines += [
        f"without field {field}: {count:,} documents"
        for field, count in sorted(provenance.get("without", {}).items())
    ]
    lines += [f"damaged input: {text}" for text in provenance.get("damaged", [])]
    if removed := provenance.get("removed"):
        tokens = sum(r["tokens"] for r in removed)
        lines.append(f"pruned: {len(removed)} clusters, {tokens:,} tokens")
    if labels := provenance.get("labels"):
        lines.append(
            f"against {labels['field']}: NMI {labels['nmi']:.3f}, purity {labels['purity']:.3f}"
        )
    if cuts := provenance.get("ward_distance_to_domains"):
        table = ", ".join(f"{d}: {n}" for d, n in cuts.items())
        lines.append(f"a cut of the Ward tree at distance: domains is {table}")
    return lines + [f"edited: {shorten(note, NOTE)}" for note in provenance.get("edits", [])]


def samples(corpus: Corpus) -> list[str]:
    """Lines: sample documents of every domain."""
    lines = []
    for domain in corpus.domains:
        lines += ["", printable(domain.name)]
        lines += [printable(f"  {s['id']}: {s['text']}") for s in domain.info.get("samples", [])]
    return lines


def removal(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines: what pruning would remove."""
    if not rows:
        return ["Pruning would remove nothing."]
    tokens = sum(r["tokens"] for r in rows)
    lines = [f"Pruning would remove {len(rows)} clusters, {tokens:,} tokens:"]
    for row in rows:
        lines.append(
            f"cluster {row['cluster']}: {row['documents']:,} documents, {row['tokens']:,} tokens; "
            f"{row['reason']}"
        )
        lines += [printable(f"    {s['id']}: {s['text'][:100]}") for s in row["samples"]]
    return lines
