"""The sections on mixtures: the recommended one, the rounds' means, what repeats."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from climb_opt.measures import distance
from climb_opt.phases import shown, side_by_side
from climb_opt.reports.contents import Contents
from climb_opt.reports.cost import epochs_of, longest_run, tokens_of
from climb_opt.reports.parts import figures
from climb_opt.reports.section import Bar, Block, Cell, Figure, Heat, Name, Section, Table, Words
from climb_opt.reports.snapshot import Snapshot
from climb_opt.selection import Recommendation, in_words
from climb_opt.text import amount, number, percent, times, unit_words


def recommendation(contents: Contents) -> Section:
    """The mixture to train on, beside the prior, with what it rests on."""
    chosen = contents.chosen
    if chosen is None:
        text = "No recommendation yet: the search needs finished trials first."
        return Section("mixture", "Recommended mixture", [Words(text, "soft")])
    snapshot = contents.snapshot
    weights = snapshot.weights(chosen)
    judged = f", judged at {chosen.rung}" if chosen.rung else ""
    lead = (
        f"Rule “{contents.followed}”{judged}. It uses {chosen.effective_domains:.1f} effective "
        f"domains of {len(snapshot.domains)}"
    )
    lead += f" in phases of {shown(chosen.phases)} of a run" if chosen.phases else ""
    if snapshot.prior_known:
        lead += f"; {100 * chosen.distance_from_prior:.0f} % of the tokens move against the prior"
    if chosen.gain is not None:
        lead += f". Predicted gain over the prior: {in_words(chosen.gain)}"
        lead += f" {unit_words(snapshot.unit)}".rstrip() + " (90 %)"
    blocks: list[Block] = [
        Words(lead + "."),
        *(Words(f"Caution: {w}.", "caution") for w in chosen.warnings),
        _mixture_table(contents, weights),
    ]
    if snapshot.prior_known:
        blocks.append(Words("Bars: the mixture found; the tick marks the prior.", "soft", True))
    if len(contents.recommended) > 1:
        blocks.append(rules_table(snapshot, contents.recommended, str(contents.followed)))
    return Section("mixture", "Recommended mixture", blocks)


def rules_table(
    snapshot: Snapshot, recommended: Mapping[str, Recommendation], followed: str
) -> Table:
    """What each rule recommends, side by side; the one that is followed is starred."""
    weigh = snapshot.weights
    followed_weights = weigh(recommended[followed])
    rows = [
        [
            f"{rule} *" if rule == followed else rule,
            in_words(one.predicted),
            in_words(one.gain, sign=True),
            f"{one.effective_domains:.1f}",
            f"{100 * one.distance_from_prior:.0f} %" if snapshot.prior_known else "–",
            f"{100 * float(distance(weigh(one), followed_weights)):.0f} %",
        ]
        for rule, one in recommended.items()
    ]
    head = ["rule", "expected (90 %)", "gain over prior (90 %)"]
    head += ["effective", "from prior", "from *"]
    return Table(head, rows, title="Rules side by side")


def mixtures(contents: Contents) -> Section | None:
    """How the mixtures changed from round to round."""
    columns = contents.columns()
    if len(columns) < 2:
        return None
    domains = contents.snapshot.domains
    stack = np.array(list(columns.values()))
    legend = [(f"c{i}", domains[k]) for i, k in figures.largest(stack)]
    if len(domains) > len(legend):
        legend.append(("c-rest", f"{len(domains) - len(legend)} other domains"))
    order = np.argsort(-stack.max(axis=0), kind="stable")
    largest = float(stack.max())
    rows: list[list[Cell]] = [
        [Name(domains[k]), *(Heat(float(w), largest) for w in stack[:, k])] for k in order
    ]
    drawn = figures.mixture_stacks(contents.snapshot, columns)
    figure = Figure(drawn, "Mean mixture of each round, in per cent.", legend)
    table = Table(["domain, %", *columns], rows, brief=0)
    return Section("mixtures", "Mixture by round", [figure, table])


def repetition(contents: Contents) -> Section | None:
    """How often domains repeat, and how long a run the data allows."""
    snapshot, chosen = contents.snapshot, contents.chosen
    tokens = tokens_of(snapshot)
    if chosen is None or tokens is None:
        return None
    weights = snapshot.over_run(snapshot.weights(chosen))
    epochs = epochs_of(snapshot, weights)
    budget, first = longest_run(tokens, weights)
    domains = snapshot.domains
    text = (
        f"Trained on this mixture, “{domains[first]}” is the first domain to run out: after "
        f"{amount(budget)} tokens in all. "
    )
    if epochs is not None and snapshot.recipe is not None:
        size = snapshot.recipe.proxy.tokens
        worst = int(np.argmax(epochs))
        text += (
            f"A proxy run of {amount(size)} tokens reads it {number(float(epochs[first]), 2)} times"
        )
        text += "." if worst == first else f" and “{domains[worst]}” {epochs[worst]:.2g} times."
    order = np.argsort(np.where(weights > 0, tokens / np.maximum(weights, 1e-300), np.inf))
    rows: list[list[Cell]] = [
        [
            Name(domains[k]),
            amount(tokens[k]),
            percent(float(weights[k])),
            "never" if weights[k] == 0 else amount(float(tokens[k] / weights[k])),
            *([] if epochs is None else [times(float(epochs[k]))]),
        ]
        for k in order
    ]
    head = ["domain", "tokens", "weight, %", "read once by"]
    head += [] if epochs is None else ["epochs in a proxy"]
    table = Table(head, rows, fold="Tokens and epochs of each domain", brief=0)
    return Section("repetition", "Repetition", [Words(text), table])


def _mixture_table(contents: Contents, weights: np.ndarray) -> Table:
    snapshot = contents.snapshot
    prior = snapshot.prior if snapshot.prior_known else None
    found, *phases = side_by_side(snapshot.space, "found", weights).items()
    weights = found[1]
    order = np.argsort(-weights, kind="stable")
    largest = float(max(weights.max(), 0 if prior is None else prior.max()))
    rows = []
    for k in order:
        row: list[Cell] = [
            Name(snapshot.domains[k]),
            Bar(float(weights[k]), None if prior is None else float(prior[k]), largest),
            percent(float(weights[k])),
            *(percent(float(phase[k])) for _, phase in phases),
        ]
        if prior is not None:
            ratio = weights[k] / prior[k] if prior[k] > 0 else np.nan
            row += [percent(float(prior[k])), f"{times(ratio)}×" if np.isfinite(ratio) else "new"]
        rows.append(row)
    whole = "whole run, %" if phases else "found, %"
    head = ["domain", "", whole, *(f"{name}, %" for name, _ in phases)]
    return Table([*head, *([] if prior is None else ["prior, %", "change"])], rows)
