"""The report as Markdown, for a pull request or an issue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from climb_opt.attributes import ERROR
from climb_opt.measures import distance, effective_domains
from climb_opt.report.contents import Contents
from climb_opt.report.effects import MORE, SURE, Change
from climb_opt.report.objectives import rails, trade_offs
from climb_opt.selection import in_words
from climb_opt.text import amount, duration, in_markdown, number, percent, plus_minus, times

MOST = 40  # domains named one by one
MOST_REASONS = 10  # of failures


def render(contents: Contents) -> str:
    """The whole report in GitHub's Markdown."""
    parts = [
        f"# {in_markdown(contents.snapshot.name)}",
        _overview(contents),
        _confirmation(contents),
        _pareto(contents),
        _mixture(contents),
        _rules(contents),
        _rounds(contents),
        _effects(contents),
        _guard_rails(contents),
        _failures(contents),
        _provenance(contents),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = ()) -> str:
    """A Markdown table; cells are escaped.

    Args:
        text: columns, besides the first, that are aligned left.
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(in_markdown(c) for c in cells) + " |"

    sides = [":---" if k == 0 or k in text else "---:" for k in range(len(head))]
    rule = f"|{'|'.join(sides)}|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])


def _overview(contents: Contents) -> str:
    snapshot, cost = contents.snapshot, contents.cost
    counts = snapshot.counts()
    words = [
        f"{counts.get('finished', 0)} of {sum(counts.values())} slots finished",
        f"{len(snapshot.space)} domains",
        f"{duration(cost.seconds)} of training",
    ]
    if cost.tokens:
        words.append(f"{amount(cost.tokens)} tokens")
    if cost.failed:
        words.append(f"{cost.failed} failed attempts")
    return "; ".join(words) + "."


def _confirmation(contents: Contents) -> str:
    found = contents.confirmation
    if found is None or not any(found.scores.values()):
        return ""
    rows = [
        [n, plus_minus(found.mean(n), found.spread(n)), str(len(found.scores[n]))]
        for n in found.scores
    ]
    head = ["mixture", f"{found.unit}, mean ± sd", "seeds"]
    verdict = f"**{in_markdown(found.verdict())}.**"
    return f"## Retrained with fresh seeds\n\n{verdict}\n\n{table(head, rows)}"


def _mixture(contents: Contents) -> str:
    chosen, snapshot = contents.chosen, contents.snapshot
    if chosen is None:
        return "No recommendation yet: the search needs finished trials first."
    weights = contents.weights(chosen.mixture)
    order = np.argsort(-weights, kind="stable")
    prior = snapshot.space.prior if snapshot.prior_known else None
    head = ["domain", "found, %"] + ([] if prior is None else ["prior, %", "change"])
    rows = []
    for k in order[:MOST]:
        row = [snapshot.space.domains[k], percent(float(weights[k]))]
        if prior is not None:
            ratio = weights[k] / prior[k] if prior[k] > 0 else np.nan
            row += [percent(float(prior[k])), f"{times(ratio)}×" if np.isfinite(ratio) else "new"]
        rows.append(row)
    text = f"Rule {in_markdown(str(contents.followed))}, "
    text += f"{effective_domains(weights):.1f} effective domains"
    if prior is not None:
        text += f", {100 * distance(weights, prior):.0f} % of the tokens moved against the prior"
    rest = len(weights) - MOST
    more = f"\n\n{rest} more domains hold {percent(float(weights[order[MOST:]].sum()))} %."
    tail = more if rest > 0 else ""
    doubts = "".join(f"\n\n*Caution: {in_markdown(w)}.*" for w in chosen.warnings)
    return f"## Recommended mixture\n\n{text}.{doubts}\n\n{table(head, rows)}{tail}"


def _pareto(contents: Contents) -> str:
    found = trade_offs(contents.snapshot)
    if found is None:
        return ""
    rows = table(found.head, found.rows, text=(len(found.head) - 1,))
    return f"## Trade-offs\n\n{found.text}\n\n{rows}"


def _guard_rails(contents: Contents) -> str:
    found = rails(contents.snapshot)
    return (
        ""
        if found is None
        else f"## Guard-rails\n\n{found.text}\n\n{table(found.head, found.rows)}"
    )


def _failures(contents: Contents) -> str:
    reasons = Counter(
        str(t.user_attrs.get(ERROR, "no reason stored")) for t in contents.snapshot.failures()
    )
    rows = [[str(n), reason] for reason, n in reasons.most_common(MOST_REASONS)]
    return f"## Failures\n\n{table(['attempts', 'reason'], rows, text=(1,))}" if rows else ""


def _provenance(contents: Contents) -> str:
    if not contents.cost.trials:
        return ""
    kept = {k: v for k, v in contents.provenance.items() if k in ("commit", "corpus", "recipe")}
    words = [f"{contents.cost.device_hours:.3g} hours on {in_markdown(contents.cost.kind)}"]
    for name, value in kept.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"{name} {in_markdown(shown)}")
    return "## Cost and provenance\n\n" + "; ".join(words) + "."


def _rules(contents: Contents) -> str:
    if len(contents.recommended) < 2:
        return ""
    rows = [
        [
            f"{rule} (default)" if rule == contents.followed else rule,
            in_words(one.predicted),
            in_words(one.gain, sign=True),
            f"{effective_domains(contents.weights(one)):.1f}",
        ]
        for rule, one in contents.recommended.items()
    ]
    return "## Rules\n\n" + table(
        ["rule", "expected (90 %)", "gain over prior (90 %)", "effective"], rows
    )


def _rounds(contents: Contents) -> str:
    if not contents.rounds:
        return ""
    rows = [
        [
            str(r.index + 1),
            f"{r.done} of {r.planned}",
            number(r.best),
            number(r.median),
            "–" if not np.isfinite(r.correlation) else f"{r.correlation:.2f}",
        ]
        for r in contents.rounds
    ]
    unit = contents.snapshot.unit
    head = ["round", "done", f"best, {unit}", "median", "rank correlation"]
    return "## Rounds\n\n" + table(head, rows)


def _effects(contents: Contents) -> str:
    if not contents.effects:
        return ""
    rows = [
        [e.domain, percent(e.weight), _interval(e.without), _interval(e.more)]
        for e in contents.effects[:10]
    ]
    head = ["domain", "weight, %", "gain if left out", f"gain of +{100 * MORE:.0f} points"]
    return "## Which domains matter\n\n" + table(head, rows)


def _interval(change: Change | None) -> str:
    if change is None:
        return "–"
    return plus_minus(-change.mean, SURE * change.std, sign=True)
