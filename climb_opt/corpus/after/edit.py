"""Domains by hand: rename, merge, drop. The manifest changes, and held-out files are joined."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.stages.describe import join_terms
from climb_opt.corpus.stages.gather import StreamWriter
from climb_opt.errors import UserError
from climb_opt.indexed import index_shards, prefix_of
from climb_opt.shards import Corpus, Domain, Stream
from climb_opt.text import storable, twins


def rename(corpus: Corpus, names: Mapping[str, str]) -> Corpus:
    """Give domains other names.

    Raises:
        UserError: a domain that is not there, a name that is empty or taken.
    """
    for old, new in names.items():
        corpus.domain(old)
        if not new.strip():
            raise UserError(f"The new name of {old!r} is empty.")
    domains = tuple(replace(d, name=storable(names.get(d.name, d.name))) for d in corpus.domains)
    _refuse_new_twins(corpus, [d.name for d in domains])
    return _save(corpus, domains, f"rename {', '.join(f'{o}={n}' for o, n in names.items())}")


def merge(corpus: Corpus, name: str, parts: Sequence[str]) -> Corpus:
    """Make one domain of several, in the place of the first.

    Raises:
        UserError: fewer than two parts, unknown ones, a name that is taken, one domain left.
    """
    chosen = [corpus.domain(part) for part in dict.fromkeys(parts)]
    if len(chosen) < 2:
        raise UserError("Name at least two different domains to merge.")
    kept = [d for d in corpus.domains if d not in chosen]
    if not name.strip():
        raise UserError("The new name is empty.")
    if not kept:
        raise UserError("That would leave one domain; a mixture needs at least two.")
    _refuse_new_twins(corpus, [*(d.name for d in kept), storable(name)])
    place = corpus.domains.index(chosen[0])
    shards = tuple(shard for d in chosen for shard in d.shards)
    merged = Domain(storable(name), shards, _join_held_out(corpus, chosen), _join_info(chosen))
    before = [d for d in corpus.domains[:place] if d in kept]
    domains = (*before, merged, *kept[len(before) :])
    return _save(corpus, domains, f"merge {name}: {', '.join(d.name for d in chosen)}")


def drop(corpus: Corpus, names: Sequence[str]) -> Corpus:
    """Leave domains out and delete their files.

    Raises:
        UserError: unknown ones, or fewer than two domains left.
    """
    gone = [corpus.domain(name) for name in dict.fromkeys(names)]
    domains = tuple(d for d in corpus.domains if d not in gone)
    if len(domains) < 2:
        raise UserError(f"That would leave {len(domains)} domains; a mixture needs at least two.")
    return _save(corpus, domains, f"drop {', '.join(d.name for d in gone)}")


def _refuse_new_twins(corpus: Corpus, names: Sequence[str]) -> None:
    """Refuse names that are one for some file system, unless they are there already."""
    before = [d.name for d in corpus.domains]
    for a, b in twins(names):
        if a == b:
            raise UserError(f"Two domains would be called {a!r}; choose another name.")
        if not {a, b} <= set(before):
            raise UserError(
                f"{a!r} and {b!r} would differ by case or by how accents are written only; choose "
                "another name."
            )


def _save(corpus: Corpus, domains: tuple[Domain, ...], note: str) -> Corpus:
    """Write the manifest, then delete what it no longer names."""
    edits = [*corpus.provenance.get("edits", []), note]
    edited = replace(corpus, domains=domains, provenance={**corpus.provenance, "edits": edits})
    index_shards(edited)
    edited.save()
    named = {s.file for s in edited.streams()}
    for stream in corpus.streams():
        if stream.file not in named:
            file = corpus.path / stream.file
            file.unlink(missing_ok=True)
            Path(f"{prefix_of(file)}.idx").unlink(missing_ok=True)
    return Corpus.load(corpus.path)


def _join_held_out(corpus: Corpus, domains: Sequence[Domain]) -> Stream | None:
    parts = [d.heldout for d in domains if d.heldout is not None]
    if not parts:
        return None
    taken = {s.file for s in corpus.streams()}
    stems = (f"merged_{number:03d}.heldout" for number in itertools.count())
    stem = next(stem for stem in stems if f"{stem}.bin" not in taken)
    with StreamWriter(corpus.path, stem, corpus.dtype) as writer:
        for part in parts:
            writer.add(np.asarray(corpus.read(part)), part.documents, part.bytes, whole=True)
        return writer.close()[0]


def _join_info(domains: Sequence[Domain]) -> dict[str, Any]:
    infos = [d.info for d in domains]
    counted = {k: sum(i.get(k, 0) for i in infos) for k in ("documents", "tokens", "bytes")}
    quality = {
        field: sum(i["quality"][field] * i["documents"] for i in infos)
        / max(1, counted["documents"])
        for field in infos[0].get("quality", {})
        if all(field in i.get("quality", {}) for i in infos)
    }
    return {
        "terms": join_terms([i.get("terms", []) for i in infos]),
        "clusters": [c for i in infos for c in i.get("clusters", [])],
        **counted,
        "quality": quality,
        "samples": [i["samples"][0] for i in infos if i.get("samples")][:3],
        "merged": [d.name for d in domains],
    }
