"""What is handed over: each domain's weight, tokens and files, checked before it is written."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.errors import UserError
from climb_opt.shards import Corpus, Domain

UNITS = 1_000_000  # weights are handed over in millionths, which sum to exactly 1
FIELDS = ("domain", "index")


@dataclass(frozen=True)
class Source:
    """One domain of the mixture.

    Args:
        name: as the corpus calls it.
        slug: the same, safe in a path, unique in the mixture.
        units: its weight in millionths.
        tokens: what the corpus holds of it; None without a corpus.
        files: its shards' paths and tokens; empty without a corpus.
        path: where the trainer finds it, from the user's template; None without one.
    """

    name: str
    slug: str
    units: int
    tokens: int | None = None
    files: tuple[tuple[str, int], ...] = ()
    path: str | None = None

    @property
    def weight(self) -> float:
        """The weight, a multiple of one millionth."""
        return self.units / UNITS


@dataclass(frozen=True)
class Handover:
    """A mixture on its way to another trainer; domains that weigh nothing are left out.

    Args:
        study, rule: where it comes from.
        sources: domains, largest first; their weights sum to 1.
        tokens: what the run will train on, where known: needed to state repetition.
        sequence: tokens a sequence, for formats that ask.
        token_bytes, vocab_size: of the corpus; None without one.
        seed: for formats that shuffle.
    """

    study: str
    sources: tuple[Source, ...]
    rule: str = ""
    tokens: int | None = None
    sequence: int = 2048
    token_bytes: int | None = None
    vocab_size: int | None = None
    seed: int = 42
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def epochs(self, source: Source) -> float | None:
        """How often the run reads the domain; None where its tokens or the budget are unknown."""
        if not source.tokens or self.tokens is None:
            return None
        return source.weight * self.tokens / source.tokens

    def paths(self, default: str) -> list[str]:
        """Where each source is: from the user's template, else from `default`."""
        return [
            s.path or default.replace("{domain}", s.slug).replace("{index}", f"{i:03d}")
            for i, s in enumerate(self.sources)
        ]


def prepare(
    mixture: Mapping[str, float],
    *,
    study: str,
    corpus: Corpus | None = None,
    template: str | None = None,
    **settings: Any,
) -> Handover:
    """Check a mixture and gather what the formats need.

    Args:
        corpus: gives tokens and shards; its domains must be the mixture's.
        template: a path with `{domain}` (its slug) or `{index}` in it, for each domain's data.
        settings: further fields of `Handover`.

    Raises:
        UserError: weights that do not sum to 1, a domain the corpus lacks, or a template that
            gives two domains one path.
    """
    units = _units(mixture)
    order = [d for d in sorted(mixture, key=lambda d: (-units[d], d)) if units[d] > 0]
    slugs = _slugs(order)
    paths = _paths(order, slugs, template)
    domains = {} if corpus is None else {d: corpus.domain(d) for d in order}
    sources = tuple(
        Source(
            name=name,
            slug=slugs[name],
            units=units[name],
            tokens=domains[name].tokens if domains else None,
            files=_files(corpus, domains[name]) if corpus is not None else (),
            path=paths.get(name),
        )
        for name in order
    )
    if corpus is not None:
        settings.setdefault("token_bytes", int(np.dtype(corpus.dtype).itemsize))
        settings.setdefault("vocab_size", corpus.vocab_size)
    return Handover(study=study, sources=sources, **settings)


def slug(name: str) -> str:
    """A name safe in any path and URL: letters, digits, dot, dash and underscore of any script."""
    plain = unicodedata.normalize("NFKC", name)
    return re.sub(r"[^\w.-]+", "-", plain).strip("-.")[:80] or "domain"


def _units(mixture: Mapping[str, float]) -> dict[str, int]:
    names, weights = list(mixture), np.array([float(w) for w in mixture.values()])
    if not len(names) or not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise UserError(f"A mixture needs finite weights, none negative, but got {dict(mixture)}.")
    if abs(weights.sum() - 1.0) > 1e-6:
        raise UserError(f"The mixture's weights sum to {weights.sum():.9g}, not to 1.")
    exact = weights / weights.sum() * UNITS
    units = np.floor(exact).astype(int)
    left = UNITS - int(units.sum())
    units[np.argsort(-(exact - units), kind="stable")[:left]] += 1
    return dict(zip(names, units.tolist(), strict=True))


def _slugs(names: list[str]) -> dict[str, str]:
    slugs = {name: slug(name) for name in names}
    counts = Counter(s.casefold() for s in slugs.values())  # some file systems ignore case
    for place, name in enumerate(names):
        if counts[slugs[name].casefold()] > 1:
            slugs[name] = f"{slugs[name]}-{place:03d}"
    return slugs


def _paths(names: list[str], slugs: Mapping[str, str], template: str | None) -> dict[str, str]:
    if template is None:
        return {}
    unknown = [f for f in re.findall(r"\{(.*?)\}", template) if f not in FIELDS]
    if unknown:
        raise UserError(
            f"--path {template!r}: unknown field {{{unknown[0]}}}. Known: {{domain}}, {{index}}."
        )
    paths = {
        name: template.replace("{domain}", slugs[name]).replace("{index}", f"{place:03d}")
        for place, name in enumerate(names)
    }
    if len(set(paths.values())) < len(paths):
        raise UserError(
            f"--path {template!r} gives several domains one path; "
            "put {domain} or {index} in it."
        )
    return paths


def _files(corpus: Corpus, domain: Domain) -> tuple[tuple[str, int], ...]:
    folder = Path(corpus.path).resolve()
    return tuple((str(folder / shard.file), shard.tokens) for shard in domain.shards)
