"""The study's cards on optuna-dashboard, as Plotly figures.

The dashboard gives every card the same height and cuts what is longer
(docs/notes/running.md#the-dashboard), so no figure sets a size and none shows more than 24 bars.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from climb_opt.extras import need
from climb_opt.ladder.agreement import paired
from climb_opt.reports.contents import Contents
from climb_opt.reports.effects import SURE
from climb_opt.reports.parts.figures import largest, shown_range
from climb_opt.reports.snapshot import Snapshot
from climb_opt.text import number, printable, shorten

if TYPE_CHECKING:
    import plotly.graph_objects as go

BARS = 16
COLOURS = ("#0b6e99", "#d97706", "#7a3fb0", "#17794a", "#b3381f", "#a0287a")


def cards(contents: Contents) -> dict[str, go.Figure]:
    """id -> figure: those that the study's trials allow."""
    need("plotly.graph_objects", "The dashboard", "climb-opt[dashboard]")
    made = {
        "best-so-far": _best_so_far(contents),
        "mixture-by-round": _mixture_by_round(contents),
        "predicted-measured": _predicted_measured(contents),
        "domain-effects": _effects(contents),
        "rungs": _rungs(contents),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def _best_so_far(contents: Contents) -> go.Figure | None:
    snapshot = contents.snapshot
    if not len(snapshot.judged) or len(snapshot.maximize) > 1:
        return None
    at = f" at {_words(snapshot.reached)}" if snapshot.reached else ""
    figure = _figure(f"Best so far{at}", snapshot.along, snapshot.unit)
    order, baselines = snapshot.searched(), snapshot.baseline_scores()
    values = snapshot.measured[order]
    place = snapshot.places(order)
    rounds = snapshot.rounds[order]
    for index in np.unique(rounds):
        keep = rounds == index
        name = "outside the plan" if index < 0 else _searched(snapshot, int(index))
        _dots(figure, place[keep], values[keep], name, int(index))
    best = snapshot.sign * np.minimum.accumulate(snapshot.sign * values)
    line = {"color": "#1c2430", "shape": "hv"}
    figure.add_scatter(x=place, y=best, mode="lines", line=line, name="best so far")
    dashed, end = {"dash": "dash", "color": "#8a94a0", "width": 1.5}, float(max([1.0, *place]))
    for name, level in baselines.items():
        text = _words(f"{name} {number(level)}")
        figure.add_scatter(x=[0, end], y=[level] * 2, mode="lines", line=dashed, name=text)
    shown = shown_range(np.append(values, list(baselines.values())), snapshot.sign)
    figure.update_yaxes(range=list(shown))
    return figure


def _mixture_by_round(contents: Contents) -> go.Figure | None:
    columns = contents.columns()
    if len(columns) < 2:
        return None
    figure = _figure("Mixture by round", "", "%")
    figure.update_layout(barmode="stack")
    stack, names = np.array(list(columns.values())), list(columns)
    top = largest(stack)
    for _, k in top:
        domain = _words(shorten(contents.snapshot.domains[k], 28))
        figure.add_bar(x=names, y=100 * stack[:, k], name=domain)
    rest = 1 - stack[:, [k for _, k in top]].sum(axis=1)
    if rest.max() > 1e-6:
        grey = {"color": "#c3cad2"}
        figure.add_bar(x=names, y=100 * rest, name="others", marker=grey)
    return figure


def _predicted_measured(contents: Contents) -> go.Figure | None:
    seen = contents.predictions
    if seen is None:
        return None
    rho = seen.rank_correlation()
    title = f"Predicted unseen, ρ {rho:.2f}"  # the dashboard's tool bar hides longer ones
    figure = _figure(title, "measured", "expected before it ran, 90 %")
    bars = {"array": SURE * seen.std, "thickness": 0.5, "width": 0, "color": "#8a94a0"}
    figure.add_scatter(x=seen.measured, y=seen.mean, mode="none", error_y=bars, showlegend=False)
    for index in np.unique(seen.rounds):
        keep = seen.rounds == index
        name = _searched(contents.snapshot, int(index))
        _dots(figure, seen.measured[keep], seen.mean[keep], name, int(index))
    low, high = shown_range(seen.measured, contents.snapshot.sign)
    figure.update_xaxes(range=[low, high])
    figure.update_yaxes(range=[low, high])
    dash = {"dash": "dash", "color": "#8a94a0"}
    ends = [low, high]
    figure.add_scatter(x=ends, y=ends, mode="lines", line=dash, showlegend=False)
    return figure


def _effects(contents: Contents) -> go.Figure | None:
    shown = [e for e in contents.effects if e.without is not None][:BARS]
    if not shown:
        return None
    figure = _figure("Gain if left out, 90 %", contents.snapshot.unit, "")
    names = [_words(shorten(e.domain, 28)) for e in reversed(shown)]
    changes = [e.without for e in reversed(shown) if e.without is not None]
    error = {"type": "data", "array": [SURE * c.std for c in changes]}
    colours = [COLOURS[0] if c.sure else "#8a94a0" for c in changes]
    gains, marker = [-c.mean for c in changes], {"color": colours, "size": 8}
    figure.add_scatter(
        x=gains, y=names, error_x=error, mode="markers", marker=marker, showlegend=False
    )
    figure.add_vline(x=0, line_color="#8a94a0")
    return figure


def _rungs(contents: Contents) -> go.Figure | None:
    """Scores of the same mixtures on a rung and the next: how far the cheap one can be trusted."""
    snapshot = contents.snapshot
    shown = [a for a in contents.agreement if a.upper == a.lower + 1 and a.n]
    if not shown:
        return None
    figure = _figure("Rungs, mixtures run on both", "on the lower rung", "on the next")
    for place, one in enumerate(shown):
        scores = snapshot.sign * paired(snapshot.tried, one.lower, one.upper)[0]
        low, high = (_words(contents.rungs[rung].name) for rung in (one.lower, one.upper))
        name = f"{low}, {high}: ρ {one}" if one.known else f"{low}, {high}"
        _dots(figure, scores[:, 0], scores[:, 1], name, place)
    return figure


def _searched(snapshot: Snapshot, index: int) -> str:
    return f"round {index + 1}" if snapshot.planned else "searched"


def _dots(figure: go.Figure, x: np.ndarray, y: np.ndarray, name: str, index: int) -> None:
    colour = "#8a94a0" if index < 0 else COLOURS[index % len(COLOURS)]
    figure.add_scatter(x=x, y=y, mode="markers", marker={"color": colour}, name=name)


def _figure(title: str, x: str, y: str) -> go.Figure:
    from plotly.graph_objects import Figure, Layout

    layout = Layout(
        title={"text": title, "font": {"size": 15}},
        xaxis_title=x,
        yaxis_title=y,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        template="plotly_white",
    )
    return Figure(layout=layout)


def _words(text: str) -> str:
    # Plotly reads a few tags and entities; quotes are none of them.
    return html.escape(printable(text), quote=False)
