"""The corpus's map with the recommended mixture on it: what is read more than before, what less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from climb_opt.reports.contents import Contents
from climb_opt.reports.parts.svg import WIDTH, Scale, drawing, element, label, limits, title
from climb_opt.reports.section import Figure, Section
from climb_opt.text import percent, shorten, times

if TYPE_CHECKING:
    from climb_opt.corpus.after.map import Points

HEIGHT = 400.0
NAMED = 14  # domains with their name on the map: those the mixture reads most of
# From this change on, found over prior: style, words.
STEPS = (
    (2.0, "more2", "read more than twice as often"),
    (1.1, "more1", "more"),
    (1 / 1.1, "even", "as before"),
    (0.5, "less1", "less"),
    (0.0, "less2", "less than half as often"),
)


def atlas(contents: Contents) -> Section | None:
    """The map; None without one, or without a mixture to put on it."""
    found, chosen, snapshot = contents.atlas, contents.chosen, contents.snapshot
    if found is None or chosen is None or not len(found.places):
        return None
    weights = snapshot.over_run(snapshot.weights(chosen))
    prior = snapshot.prior
    change = np.where(prior > 0, weights / np.where(prior > 0, prior, 1.0), np.inf)
    text = (
        f"{len(found.places)} clusters of documents; near ones are alike. Colours compare the "
        "recommended mixture with the prior, names stand at the domains it reads most of."
    )
    legend = [(css, words) for _, css, words in STEPS]
    drawn = _map(found, snapshot.domains, weights, change)
    return Section("map", "The corpus", [Figure(drawn, text, legend)])


def _map(found: Points, domains: tuple[str, ...], weights: np.ndarray, change: np.ndarray) -> str:
    across = Scale(*limits(list(found.places[:, 0])), 6.0, WIDTH - 6.0)
    down = Scale(*limits(list(found.places[:, 1])), HEIGHT - 6.0, 6.0)
    radius = float(np.clip(90 / np.sqrt(len(found.places)), 1.6, 5.0))
    marks = []
    for k in range(len(domains)):
        mine = found.places[found.domain == k]
        text = f"{domains[k]}: {percent(float(weights[k]))} %, {times(float(change[k]))}× the prior"
        if dots := [element("circle", cx=across(x), cy=down(y), r=radius) for x, y in mine]:
            css = next(css for least, css, _ in STEPS if change[k] >= least)
            marks.append(element("g", title(text) + "".join(dots), class_=f"spot {css}"))
    return drawing([*marks, *_names(found, domains, weights, across, down)], HEIGHT, "The corpus.")


def _names(
    found: Points, domains: tuple[str, ...], weights: np.ndarray, across: Scale, down: Scale
) -> list[str]:
    taken: list[tuple[float, float]] = []
    names = []
    for k in np.argsort(-weights, kind="stable")[:NAMED]:
        mine = found.places[found.domain == k]
        if not len(mine) or weights[k] <= 0:
            continue
        x, y = np.median(mine, axis=0)
        at = (float(np.clip(across(x), 50.0, WIDTH - 50.0)), down(y))
        if all(abs(at[0] - a) > 90 or abs(at[1] - b) > 13 for a, b in taken):
            taken.append(at)
            names.append(label(*at, shorten(domains[k], 20), anchor="middle", css="note place"))
    return names
