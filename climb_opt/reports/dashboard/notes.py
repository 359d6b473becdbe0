"""One trial for a person: a note in Markdown, its mixture as CSV and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.commands import command, typed_with
from climb_opt.extras import in_font
from climb_opt.measures import effective_domains
from climb_opt.metrics import STDERR, scores_of
from climb_opt.paths import path_columns
from climb_opt.reports.draw.markdown import table
from climb_opt.schedules import Schedule
from climb_opt.text import (
    amount,
    csv_text,
    duration,
    flops,
    in_markdown,
    percent,
    plus_minus,
    shorten,
    times,
)

LARGEST = 24  # domains in a note; all of them are in mixture.csv
BLOCKS = "▏▎▍▌▋▊▉█"
WIDTH = 16  # characters of the longest bar
NAME = 40  # of a domain's name
PARTS = 4  # of a run, in which the path of the weights is shown


def trial_note(
    mixture: Mapping[str, float],
    components: Mapping[str, float],
    facts: Mapping[str, Any],
    *,
    prior: Mapping[str, float] | None = None,
    rerun: str = "",
) -> str:
    """The note of one trial.

    Args:
        mixture, prior: domain -> weight; of a schedule, over the whole run.
        components: task scores.
        facts: what is known of the training; `rung` names its rung, where the study has several,
            `schedule` is its phases, where there are several; `path` that of its weights.
        rerun: the command that trains this mixture again.
    """
    parts = [_summary(mixture, facts), _mixture(mixture, _columns(mixture, facts, prior))]
    if components:
        parts.insert(1, _scores(components))
    if rerun:
        parts.append(f"Train it again, with the storage in OPTUNA_STORAGE:\n\n```\n{rerun}\n```")
    return "\n\n".join(parts) + "\n"


def mixture_csv(
    mixture: Mapping[str, float],
    prior: Mapping[str, float] | None = None,
    schedule: Schedule | None = None,
) -> str:
    """domain,weight,prior: largest weight first, names quoted as CSV needs.

    Of a schedule the weight is that of the whole run, and w1, w2, ... are those of its phases.
    """
    columns = {"weight": mixture, **({} if prior is None else {"prior": prior})}
    columns |= {f"w{place}": phase.mixture for place, phase in enumerate(schedule or (), start=1)}
    names = [name for name, _ in _ordered(mixture)]
    rows = [[n, *(f"{each.get(n, 0.0):.9g}" for each in columns.values())] for n in names]
    return csv_text(["domain", *columns], rows)


def mixture_png(
    mixture: Mapping[str, float], path: Path, prior: Mapping[str, float] | None = None
) -> None:
    """The largest weights as bars, the prior as ticks; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pairs = _ordered(mixture)[:LARGEST][::-1]
    places = np.arange(len(pairs))
    figure = Figure(figsize=(6.4, 0.9 + 0.24 * len(pairs)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(places, [100 * w for _, w in pairs], color="#0b6e99", height=0.7)
    if prior is not None:
        shares = [100 * prior.get(name, 0.0) for name, _ in pairs]
        axes.plot(shares, places, "|", color="#1c2430", markersize=11, label="prior")
        axes.legend(loc="lower right", frameon=False)
    axes.set_yticks(places, [in_font(shorten(name, 32)) for name, _ in pairs], parse_math=False)
    axes.set_xlabel("weight, %")
    axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure).print_png(str(path))


def rerun_command(study: str, number: int, rung: str = "") -> str:
    """The command that puts a trial's mixture in line again, on a rung where it has several."""
    on = ["--rung", rung] if rung else []
    with typed_with(None):  # it is stored
        export = command("export", study, "--trial", str(number), "--format", "yaml")
        return f"{export} | {command('enqueue', study, '-', *on)}"


def bar(weight: float, largest: float) -> str:
    """A bar of block characters, for readers without pictures."""
    eighths = round(8 * WIDTH * weight / largest) if largest > 0 else 0
    full, rest = divmod(eighths, 8)
    return BLOCKS[-1] * full + (BLOCKS[rest - 1] if rest else "")


def _summary(mixture: Mapping[str, float], facts: Mapping[str, Any]) -> str:
    weights = np.array(list(mixture.values()))
    words = [f"{effective_domains(weights):.1f} effective domains of {len(weights)}"]
    if facts.get("rung"):
        words.insert(0, f"Rung {in_markdown(str(facts['rung']))}")
    told = {"flops": flops, "tokens": lambda n: f"{amount(n)} tokens", "seconds": duration}
    words += [say(float(facts[what])) for what, say in told.items() if facts.get(what)]
    if facts.get("device"):
        words.append(f"on {facts.get('devices', 1)} × {in_markdown(str(facts['device']))}")
    epochs = facts.get("epochs")
    if isinstance(epochs, Mapping) and epochs:
        most = max(epochs, key=lambda d: float(epochs[d]))
        words.append(f"{in_markdown(most)} read {float(epochs[most]):.2g} times")
    return ", ".join(words) + "."


def _scores(components: Mapping[str, float]) -> str:
    named = scores_of(components)
    rows = [
        [shorten(name, NAME), plus_minus(value, components.get(name + STDERR))]
        for name, value in named.items()
    ]
    more = f"\n\n{len(rows) - LARGEST} more in climb/components." if len(rows) > LARGEST else ""
    return table(["task", "score"], rows[:LARGEST]) + more


def _columns(
    mixture: Mapping[str, float], facts: Mapping[str, Any], prior: Mapping[str, float] | None
) -> dict[str, Mapping[str, str]]:
    """Head -> domain -> what stands beside its weight and bar."""
    columns: dict[str, Mapping[str, str]] = {}
    for place, phase in enumerate(facts.get("schedule") or (), start=1):
        head = f"phase {place} ({phase.share:.3g}), %"
        columns[head] = {d: percent(float(w)) for d, w in phase.mixture.items()}
    if path := facts.get("path"):
        for head, each in path_columns(path, PARTS).items():
            columns[f"{head}, %"] = {d: percent(w) for d, w in each.items()}
    if prior:
        columns["prior, %"] = {d: percent(prior.get(d, 0.0)) for d in mixture}
    epochs = facts.get("epochs")
    if isinstance(epochs, Mapping) and epochs:
        columns["epochs"] = {d: times(float(epochs.get(d, 0.0))) for d in mixture}
    return columns


def _mixture(mixture: Mapping[str, float], columns: Mapping[str, Mapping[str, str]]) -> str:
    pairs = _ordered(mixture)
    largest = pairs[0][1] if pairs else 1.0
    rows = []
    for name, weight in pairs[:LARGEST]:
        row = [shorten(name, NAME), percent(weight), bar(weight, largest)]
        rows.append([*row, *(column.get(name, "0") for column in columns.values())])
    text = table(["domain", "%", "bar", *columns], rows, text=(2,))
    if rest := pairs[LARGEST:]:
        share = percent(sum(w for _, w in rest))
        text += f"\n\n{len(rest)} more domains hold {share} %: see mixture.csv."
    return text


def _ordered(mixture: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(mixture.items(), key=lambda pair: (-pair[1], pair[0]))
