"""A report's sections, each a function of its contents; None where there is nothing to say."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from climb_opt.attributes import ERROR, RECIPE, SLOT
from climb_opt.reports.contents import Contents
from climb_opt.reports.parts import (
    atlas,
    branches,
    figures,
    influence,
    leaning,
    mixture,
    noise,
    objectives,
    paths,
    rungs,
)
from climb_opt.reports.quality import Predictions
from climb_opt.reports.section import (
    Beside,
    Block,
    Cell,
    Facts,
    Figure,
    Section,
    Table,
    Verbatim,
    Words,
)
from climb_opt.retrain.paired import Difference, another, first_line
from climb_opt.text import amount, counted, duration, flops, number, plus_minus, unit_words

REASONS = 10  # of failures, the commonest
FOREMOST = ("commit", "corpus", "recipe")  # of provenance: what a rerun needs


def sections(contents: Contents) -> list[Section]:
    """All there is to say, in the order in which a person asks."""
    found = [
        overview(contents),
        confirmation(contents),
        noise.noise(contents),
        objectives.several(contents),
        mixture.recommendation(contents),
        paths.path(contents),
        progress(contents),
        rungs.rungs(contents),
        branches.branches(contents),
        mixture.mixtures(contents),
        atlas.atlas(contents),
        influence.influence(contents),
        leaning.leaning(contents),
        mixture.repetition(contents),
        objectives.guard_rails(contents),
        failures(contents),
        provenance(contents),
    ]
    return [section for section in found if section is not None]


def overview(contents: Contents) -> Section:
    """How far the search is, and its figures at a glance."""
    snapshot, cost = contents.snapshot, contents.cost
    counts, row, best = snapshot.counts(), snapshot.best_row(), ""
    if row is not None:
        best = f"{number(float(snapshot.measured[row]))} {unit_words(snapshot.unit)}".strip()
    at = f" at {snapshot.reached}" if snapshot.reached else ""
    done = ("slots finished", f"{counts.get('finished', 0)} of {sum(counts.values())}")
    if not snapshot.planned:  # of a budget trials outside the plan are paid, too
        done = ("trials finished", str(cost.trials - cost.failed))
    pairs = [
        done,
        ("domains", str(len(snapshot.domains))),
        (f"best single run{at} (flattered by noise)", best),
        ("spent", _spent(contents) if cost.flops and snapshot.ladder is not None else ""),
        ("tokens trained on", amount(cost.tokens) if cost.tokens else ""),
        ("training time", duration(cost.seconds)),
        ("failed attempts", str(cost.failed or "")),
    ]
    facts = Facts([(what, said) for what, said in pairs if said])
    first = first_line(contents.chosen, contents.confirmation)
    return Section("overview", "", [*([Words(first, "verdict")] if first else []), facts])


def _spent(contents: Contents) -> str:
    budget = contents.snapshot.plan.budget
    of = "" if budget is None else f" of {flops(budget)}"
    return f"{flops(contents.cost.flops)}{of}"


def confirmation(contents: Contents) -> Section | None:
    """The retrained mixtures and the verdict."""
    found = contents.confirmation
    if found is None or not any(found.scores.values()):
        return None
    rows: list[list[Cell]] = []
    for name, scores in found.scores.items():
        mean = plus_minus(found.mean(name), found.spread(name))
        against = [_gain(found.difference(name, r)) for r in found.references]
        rows.append([name, mean, len(scores), *against])
    head = ["mixture", f"{found.unit}, mean ± sd", "seeds"]
    head += [f"gain over {r} (95 %)" for r in found.references]
    ours = [d for d in found.differences() if d.name == found.finalists[0]]
    css = "verdict"
    if ours:
        words = {d.verdict for d in ours}
        css += " better" if words == {"better"} else " worse" if "worse" in words else ""
    note = (
        "Gains are differences between runs with the same seed. Intervals cover the spread "
        "between seeds, not that of the evaluation set, which all runs share."
    )
    earlier = another(contents.chosen, found)
    note = " ".join([*([f"{earlier}."] if earlier else []), *found.remarks(), note])
    drawn = figures.seeds_plot(found)
    figure = Figure(drawn, "One dot a seed, a bar at the mean. Finalists in colour.")
    verdict, table = Words(f"{found.verdict()}.", css), Table(head, rows)
    blocks: list[Block] = [verdict, figure, table, Words(note, "soft")]
    return Section("confirmed", "Retrained with fresh seeds", blocks)


def progress(contents: Contents) -> Section | None:
    """Scores over time and round by round; how well they were predicted."""
    snapshot = contents.snapshot
    if not len(snapshot.judged) or len(snapshot.maximize) > 1:
        return None
    shown = {int(index) for index in snapshot.rounds if index >= 0}
    begun = [r for r in contents.rounds if r.index in shown]
    styles = [(figures.hue(r.index), f"round {r.index + 1}") for r in begun]
    if not snapshot.planned and shown:
        styles = [(figures.hue(0), "searched")]
    outside = int(np.sum(snapshot.rounds < 0)) - sum(map(len, snapshot.baselines().values()))
    others = [("base", "outside the rounds")] if outside else []
    levels = snapshot.baseline_scores().items()
    others += [("base dashed", f"{name} {number(level)}") for name, level in levels]
    at = f" at {snapshot.reached}" if snapshot.reached else ""
    parts = [
        Figure(
            figures.best_so_far(snapshot),
            f"Every finished trial{at}; the line is the best so far ({snapshot.direction}). Hollow "
            "dots lie beyond the plot.",
            [*styles, *others],
        )
    ]
    if contents.predictions is not None:
        drawn = figures.predicted_measured(contents.predictions, snapshot)
        parts.append(Figure(drawn, _foretold(contents, contents.predictions), styles))
    return Section("search", "The search", [Beside(parts), *_rounds_table(contents)])


def failures(contents: Contents) -> Section | None:
    """Trials that failed, with their reasons."""
    failed = contents.snapshot.failures()
    if not failed:
        return None
    reasons = [str(t.user_attrs.get(ERROR, "no reason stored: the worker died")) for t in failed]
    rows = [
        [str(t.number), str(t.user_attrs.get(SLOT, "–")), reason]
        for t, reason in zip(failed, reasons, strict=True)
    ]
    common: list[list[Cell]] = [[reason, n] for reason, n in Counter(reasons).most_common(REASONS)]
    given_up = contents.snapshot.counts().get("given up", 0)
    text = f"{len(failed)} attempts failed; a retry keeps the slot and its mixture."
    if given_up:
        text += f" {given_up} slots were given up after {contents.snapshot.plan.max_attempts}."
    each = Table(["trial", "slot", "reason"], rows, text=(1, 2), fold="Each of them", brief=0)
    blocks: list[Block] = [Words(text), Table(["reason", "attempts"], common), each]
    return Section("failures", "Failures", blocks)


def provenance(contents: Contents) -> Section:
    """What it cost and what exactly was run."""
    cost, snapshot = contents.cost, contents.snapshot
    pairs = [("trials ended", str(cost.trials)), ("training time", duration(cost.seconds))]
    pairs += [("first start to last end", duration(cost.wall))] if cost.wall else []
    pairs.append((f"hours on {cost.kind}", number(cost.device_hours, 3)))
    pairs += [("tokens", amount(cost.tokens))] if cost.tokens else []
    pairs += [("spent", _spent(contents))] if cost.flops else []
    told = {
        key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in contents.provenance.items()
    }
    pairs += [(key, told[key]) for key in FOREMOST if key in told]
    rows = [[key, value] for key, value in told.items() if key not in FOREMOST]
    recipe = snapshot.attributes.get(RECIPE)
    blocks: list[Block] = [Facts(pairs)]
    blocks += [Table(["", "value"], rows, text=(1,), brief=0)] if rows else []
    if recipe is not None:
        blocks.append(Verbatim("The recipe as stored in the study", _pretty(recipe)))
    return Section("provenance", "Cost and provenance", blocks)


def _foretold(contents: Contents, seen: Predictions) -> str:
    """Who expected what, and how often the intervals held."""
    spread = figures.whiskers(seen, contents.snapshot)
    lines = "Lines: 90 % intervals" if spread is None else "90 % intervals"
    size = "" if spread is None else f" (half the median one: {number(spread, 2)})"
    others = (
        f"; {seen.later} that had no forecast by {contents.predictor} from the rounds before them, "
        "or by cross-validation"
        if seen.later
        else ""
    )
    return (
        f"What was expected of {counted(len(seen), 'trial')} before they ran, as the study stores "
        f"it{others}. {lines}{size}, of which {seen.held()} hold the result."
    )


def _rounds_table(contents: Contents) -> list[Block]:
    several = any(r.rung for r in contents.rounds)
    rows = [
        [
            str(r.index + 1),
            *([r.rung] if several else []),
            f"{r.done} of {r.planned}",
            number(r.best),
            number(r.median),
            f"{number(r.quarter)} – {number(r.three_quarters)}" if np.isfinite(r.quarter) else "–",
            "–" if not np.isfinite(r.effective) else f"{r.effective:.1f}",
            "–" if not np.isfinite(r.correlation) else f"{r.correlation:.2f}",
            number(r.error, 2),
        ]
        for r in contents.rounds
    ]
    if not rows:
        return []
    head = ["round", *(["rung"] if several else []), "done", "best", "median", "middle half"]
    head += ["effective", "rank corr.", "error"]
    text = (
        "“Middle half”: the quartiles of the scores. “Effective”: the mean effective number of "
        "domains. “Rank corr.” and “error” compare "
        "what was expected of its trials before they ran with what was measured."
    )
    if several:
        text += " Scores are of each round's own rung: rounds on different rungs do not compare."
    return [Table(head, rows), Words(text, "soft")]


def _gain(difference: Difference | None) -> str:
    if difference is None or difference.name == difference.other:
        return "–"
    if difference.half is None:
        return f"{difference.gain:+.3g} (one seed)"
    return plus_minus(difference.gain, difference.half, sign=True)


def _pretty(recipe: object) -> str:
    data = json.loads(recipe) if isinstance(recipe, str) else recipe
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
