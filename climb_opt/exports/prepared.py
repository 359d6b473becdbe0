"""A mixture or a schedule and what is known of its domains -> what is handed over, checked."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from climb_opt.apportion import apportion
from climb_opt.errors import UserError, bare, misnamed
from climb_opt.exports.handover import UNITS, Handover, Source, Span
from climb_opt.schedules import Schedule, constant, mean_mixture, step_borders
from climb_opt.shards import Corpus
from climb_opt.text import printable, storable

FIELDS = ("domain", "index")


def prepare(
    mixture: Mapping[str, float] | Schedule,
    *,
    study: str,
    corpus: Corpus | None = None,
    inventory: Mapping[str, float] | None = None,
    template: str | None = None,
    **settings: Any,
) -> Handover:
    """Check a mixture or a schedule and gather what the formats need.

    Args:
        corpus: gives tokens and shards; it must hold every domain that weighs something.
        inventory: domain -> tokens in the corpus's order, where the corpus is not at hand.
        template: a path with `{domain}` (its slug) or `{index}` (its place in the corpus) in it,
            for each domain's data.
        settings: further fields of `Handover`.

    Raises:
        UserError: weights that do not sum to 1, a domain the corpus lacks, a template that
            gives two domains one path, or a phase shorter than a step.
    """
    schedule = constant(mixture) if isinstance(mixture, Mapping) else mixture
    mean = mean_mixture(schedule)
    if inventory is None and corpus is not None:
        # What stands in for a corpus may have no domains to list, only give them by name.
        inventory = {d.name: d.tokens for d in getattr(corpus, "domains", ())}
    domains = _Domains(corpus, inventory or {}, template, mean)
    if corpus is not None:
        settings["corpus_path"] = str(corpus.path)
    whole = Handover(
        study=study,
        corpus=corpus,
        absent=tuple(d for d in domains.inventory if d not in mean),
        **domains.given(mean),
        **settings,
    )
    if len(schedule) == 1:
        return whole
    spans = spans_of(whole, [phase.share for phase in schedule])
    phases = [
        replace(whole, span=span, tokens=tokens, **domains.given(phase.mixture))
        for phase, (span, tokens) in zip(schedule, spans, strict=True)
    ]
    return replace(whole, phases=tuple(phases))


def spans_of(run: Handover, shares: Sequence[float]) -> list[tuple[Span, int | None]]:
    """Where each phase of a run is, and its tokens: whole steps, or sequences where no step is
    known, but for what the run itself leaves at its end."""
    count = len(shares)
    if run.tokens is None:
        return [(Span(n + 1, count, s, None, None, run), None) for n, s in enumerate(shares)]
    unit = run.sequence * (run.batch or 1)
    what = "sequences" if run.batch is None else "steps"
    borders = step_borders(shares, run.tokens // unit, what)
    ends = [*(border * unit for border in borders[1:-1]), run.tokens]
    borders[-1] = -(-run.tokens // unit)
    counted = None if run.batch is None else tuple(borders)
    rows = enumerate(zip(shares, [0, *ends[:-1]], ends, strict=True), start=1)
    return [(Span(n, count, s, begin, counted, run), end - begin) for n, (s, begin, end) in rows]


class _Domains:
    """What is known of the domains that are handed over, whatever they weigh."""

    def __init__(
        self,
        corpus: Corpus | None,
        inventory: Mapping[str, float],
        template: str | None,
        mean: Mapping[str, float],
    ) -> None:
        self.corpus, self.inventory, self.template = corpus, inventory, template
        self.places = {d: k for k, d in enumerate(dict.fromkeys([*inventory, *mean]))}
        self.slugs = distinct_slugs(self.places)

    def given(self, mixture: Mapping[str, float]) -> dict[str, Any]:
        """The fields of a handover that follow from its mixture."""
        units = _units(mixture)
        order = sorted((d for d in mixture if units[d] > 0), key=lambda d: (-units[d], d))
        lacking = [d for d in order if d not in self.inventory]
        if self.inventory and lacking and self.corpus is None:
            missing = misnamed("domain", lacking[0], self.inventory)
            raise UserError(f"The study's corpus has no {missing}")
        sources = [self._source(name, units[name]) for name in order]
        return {
            "sources": tuple(_placed(sources, self.template)),
            "left_out": {d: float(w) for d, w in mixture.items() if w > 0 and not units[d]},
        }

    def _source(self, name: str, units: int) -> Source:
        source = Source(name, self.slugs[name], self.places[name], units)
        if self.corpus is not None:
            domain = self.corpus.domain(name)
            documents = sum(s.documents for s in domain.shards)
            files = tuple(domain.files(self.corpus.path))
            return replace(source, tokens=domain.tokens, documents=documents, files=files)
        if name in self.inventory:
            return replace(source, tokens=int(self.inventory[name]))
        return source


def slug(name: str) -> str:
    """A name safe in any path and URL: letters, digits, dot, dash and underscore of any script."""
    plain = unicodedata.normalize("NFKC", storable(name))
    return re.sub(r"[^\w.-]+", "-", plain).strip("-.")[:80].rstrip("-.") or "domain"


def distinct_slugs(names: Iterable[str]) -> dict[str, str]:
    """Each name's slug, no two alike on any file system.

    Slugs that differ by nothing, or by case or accents only, all end with a digest of their name:
    a digest stays where a number would pass to another domain when one is added, dropped or moved.
    """
    slugs = {name: slug(name) for name in names}
    while True:
        counts = Counter(bare(s) for s in slugs.values())
        alike = [name for name, s in slugs.items() if counts[bare(s)] > 1]
        if not alike:
            return slugs
        for name in alike:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
            slugs[name] += f"-{digest[:6]}"


def _units(mixture: Mapping[str, float]) -> dict[str, int]:
    """Weights in millionths that sum to one million, by largest remainders.

    What is below half of one is 0, and what is not is at least 1, so that equal weights, be they
    hundreds, are not kept and dropped by their order.
    """
    names, weights = list(mixture), np.array([float(w) for w in mixture.values()])
    if not len(names) or not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise UserError(f"A mixture needs finite weights, none negative, but got {dict(mixture)}.")
    if abs(weights.sum() - 1.0) > 1e-6:
        raise UserError(f"The mixture's weights sum to {weights.sum():.9g}, not to 1.")
    large = np.where(weights / weights.sum() * UNITS < 0.5, 0.0, weights)
    exact = large / large.sum() * UNITS
    units = np.maximum(np.floor(exact), large > 0).astype(int)
    over = int(units.sum()) - UNITS
    if over > 0:  # the largest pay for those that were raised to 1
        largest = np.argsort(-units, kind="stable")[: np.count_nonzero(units > 1)]
        np.subtract.at(units, np.resize(largest, over), 1)
    else:
        units = apportion(np.maximum(exact, units), UNITS)
    return dict(zip(names, units.tolist(), strict=True))


def _placed(sources: list[Source], template: str | None) -> list[Source]:
    """The sources with their paths of the template."""
    if template is None:
        return sources
    for name in re.findall(r"\{(.*?)\}", template):
        if name not in FIELDS:
            raise UserError(
                f"--path {template!r}: unknown field {{{printable(name)}}}. Known: {{domain}} (the "
                "domain's name made safe for a path), {index} (its place in the corpus)."
            )
    if not re.search(r"\{(domain|index)\}", template) and len(sources) > 1:
        raise UserError(
            f"--path {template!r} gives several domains one path; put {{domain}} (the domain's "
            "name made safe for a path) or {index} (its place in the corpus) in it."
        )
    return [replace(s, path=s.filled(template)) for s in sources]
