"""A CSV of earlier runs: a row a run, a column a domain, the score, and components if known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from climb_opt.attributes import AGGREGATE, WARM
from climb_opt.errors import UserError, did_you_mean, listed
from climb_opt.phases import one_phase
from climb_opt.reading import read_csv
from climb_opt.simplex import PREFIX, MixtureSpace
from climb_opt.sums import EXACT, sum_problem
from climb_opt.text import shorten
from climb_opt.view import StudyView
from climb_opt.warmstart.studies import Imported, Scored, add, beyond, unjudged
from climb_opt.written import number, with_point

BAD = 0.1  # share of unusable rows above which the file is refused


@dataclass(frozen=True)
class _Columns:
    weights: dict[str, str]  # domain -> column
    value: str | None
    components: dict[str, str]


def import_csv(study: optuna.Study, path: Path, *, value: str = "value") -> Imported:
    """Add the runs of a CSV to the study as finished trials.

    Columns named like a domain, or `w/<domain>`, hold weights (a domain without one weighs 0); the
    column `value` holds the score; columns named like the study's components hold those, and make
    up the score where `value` is missing; columns named like the recipe's guard-rails are needed.
    Other columns are ignored. Call it under the study's lock; a second call with the same file name
    adds nothing.

    Raises:
        UserError: no weights or no score in the header, more than a tenth of the rows unusable
            (the first is named), or a study with several objectives.
    """
    source = str(path.name)
    if source in study.user_attrs.get(WARM, []):
        return Imported(source, 0, 0, {}, already=True)
    if len(study.directions) > 1:
        raise UserError("A CSV holds one score a run, but the study has several objectives.")
    view = StudyView(study)
    space, recipe = view.space, view.recipe
    coefficients: dict[str, float] = view.attributes.get(AGGREGATE, {})
    header, rows = read_csv(path)
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"{path}: column {twice[0]!r} appears twice.")
    columns = _columns(header, space, value, list(coefficients), path)
    guarded = [] if recipe is None else list(recipe.constraints)
    if reason := unjudged(recipe, dict.fromkeys(header, 0.0)):
        raise UserError(f"{path}: its runs cannot be used: {reason}.")
    usable, problems = [], []
    for line, cells in rows:
        try:
            row = _named(header, cells)
            rails = {n: _number(row[n], n) for n in guarded}
            usable.append((line, *_read(row, columns, space, coefficients), rails))
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    if not usable or len(problems) > BAD * len(rows):
        first = problems[0] if problems else "the file has no rows"
        raise UserError(
            f"{path}: {len(problems)} of {len(rows)} rows are unusable; {first.rstrip('.')}. "
            "Up to a tenth of the rows is left out; mend the others, or take them out of the file."
        )
    for line, weights, score, components, _, rails in usable:
        origin = {"file": source, "line": line}
        add(view, weights, Scored([score], {**rails, **components}, beyond(recipe, rails)), origin)
    study.set_user_attr(WARM, [*study.user_attrs.get(WARM, []), source])
    left_out = {f"unusable rows, the first at {problems[0]}": len(problems)} if problems else {}
    return Imported(
        source,
        len(usable),
        0,
        left_out,
        _missing(columns, space, header),
        caution=_scaled([total for *_, total, _ in usable]),
    )


def _named(header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) < len(header) or any(cells[len(header) :]):
        raise ValueError(f"{len(cells)} cells under {len(header)} columns")
    return dict(zip(header, cells, strict=False))


def _columns(
    header: list[str], space: MixtureSpace, value: str, components: list[str], path: Path
) -> _Columns:
    weights = {}
    named = space if any(c in header for c in (*space.parameter_names, *space.domains)) else None
    used = named or one_phase(space)  # of schedules: mixtures that hold throughout
    for domain, parameter in zip(used.domains, used.parameter_names, strict=True):
        found = [c for c in (parameter, domain) if c in header]
        if len(found) > 1:
            raise UserError(f"{path}: columns {found[0]!r} and {found[1]!r} are of one domain.")
        if found:
            weights[domain] = found[0]
    if not weights:
        raise UserError(
            f"{path}: no column is named like a domain. Columns: {listed(header)}; "
            f"domains: {listed(space.domains)}."
        )
    known = {c: c for c in components if c in header}
    if value not in header and (not components or len(known) < len(components)):
        wanted = f", or all of {', '.join(components)}" if components else ""
        raise UserError(f"{path}: no column {value!r} with the score{wanted}.")
    every = known if len(known) == len(components) else {}
    return _Columns(weights, value if value in header else None, every)


def _read(
    row: Mapping[str, str],
    columns: _Columns,
    space: MixtureSpace,
    coefficients: Mapping[str, float],
) -> tuple[np.ndarray, float, dict[str, float], float]:
    weights = {d: _number(row[c], c) for d, c in columns.weights.items()}
    if min(weights.values()) < 0:
        raise ValueError("a weight is negative")
    phases: dict[str, list[float]] = {}
    of_phases = not set(weights) <= set(one_phase(space).domains)
    for domain, weight in weights.items():
        phases.setdefault(domain.partition("/")[0] if of_phases else "", []).append(weight)
    for phase, each in phases.items():
        if problem := sum_problem(each):
            raise ValueError(f"its weights {f'of phase {phase} ' if phase else ''}{problem}")
    components = {name: _number(row[c], c) for name, c in columns.components.items()}
    if columns.value is not None:
        score = _number(row[columns.value], columns.value)
    else:
        score = sum(coefficients[name] * v for name, v in components.items())
    total = math.fsum(weights.values()) / len(phases)
    return space.weights(weights, normalise=True), score, components, total


def _number(text: str, column: str) -> float:
    try:
        value = number(text, column)
    except UserError:
        value = math.nan
    if not math.isfinite(value):
        held = f"{shorten(text, 60)!r}{with_point(text)}"
        raise ValueError(f"column {column!r} holds {held}, not a number")
    return value


def _missing(columns: _Columns, space: MixtureSpace, header: list[str]) -> tuple[str, ...]:
    plain = set(columns.weights) <= set(one_phase(space).domains)
    every = one_phase(space).domains if plain else space.domains
    missing = [d for d in every if d not in columns.weights]
    others = [c.removeprefix(PREFIX) for c in header if c not in columns.weights.values()]
    return tuple(f"no column for {d!r}, so 0{_hint(d, others)}" for d in missing)


def _hint(domain: str, columns: list[str]) -> str:
    hint = did_you_mean(domain, columns)
    return f" ({hint.strip()})" if hint else ""


def _scaled(totals: list[float]) -> str:
    off = [total for total in totals if abs(total - 1.0) > EXACT]
    if not off:
        return ""
    return (
        f"Scaled to 1: {len(off)} rows, whose weights sum to {min(off):.6g} at least and "
        f"{max(off):.6g} at most."
    )
