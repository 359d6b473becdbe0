"""The section on rungs: what each costs and took, and how far the cheap ones rank as the target."""

from __future__ import annotations

from climb_opt.ladder.agreement import Agreement, paired
from climb_opt.reports.contents import Contents
from climb_opt.reports.parts.svg import Chart, limits
from climb_opt.reports.section import Beside, Block, Cell, Figure, Section, Table, Words
from climb_opt.text import counted, duration, flops, number

FEW = 2  # mixtures on both rungs, of which a figure shows something


def rungs(contents: Contents) -> Section | None:
    """The study's rungs, where it has a ladder."""
    ladder = contents.snapshot.ladder
    if ladder is None:
        return None
    blocks: list[Block] = [Words(_summary(contents)), table(contents)]
    if contents.agreement:
        blocks.append(
            Words(
                "Rank correlation (Spearman's) of the scores of mixtures that were run on both "
                "rungs, with its 90 % interval; noise of single runs lowers it. Nowhere else are "
                "scores of different rungs compared.",
                "soft",
            )
        )
    blocks += [Words(f"Caution: {text}.", "caution") for text in contents.distrusted]
    drawn = [figure for one in contents.agreement if (figure := _pairs(contents, one))]
    return Section("rungs", "Rungs", [*blocks, *([Beside(drawn)] if drawn else [])])


def table(contents: Contents) -> Table:
    """A row a rung, cheapest first."""
    found = {(one.lower, one.upper): one for one in contents.agreement}
    target = len(contents.rungs) - 1
    rows: list[list[Cell]] = [
        [
            f"{rung.name} (target)" if place == target else rung.name,
            flops(rung.flops),
            rung.finished,
            flops(rung.spent),
            duration(rung.seconds),
            *([_cell(found.get((place, upper))) for upper in (place + 1, target)]),
        ]
        for place, rung in enumerate(contents.rungs)
    ]
    head = ["rung", "a trial", "trials", "spent", "training time"]
    return Table([*head, "rank corr. with next", "with target"], rows)


def _cell(one: Agreement | None) -> str:
    if one is None:
        return "–"
    return f"{one}, {counted(one.n, 'mixture')}" if one.known else str(one)


def _summary(contents: Contents) -> str:
    snapshot = contents.snapshot
    ladder, spent = contents.rungs, contents.cost.flops
    text = f"Mixtures are judged at {ladder[-1].name}. {flops(spent)} were spent"
    budget = snapshot.plan.budget
    text += "" if budget is None else f" of a budget of {flops(budget)}"
    text += f": as much as {number(spent / ladder[-1].flops, 3)} trials of the target."
    if snapshot.below:
        text += (
            f" No trial of it has finished: all that is said here rests on {snapshot.reached}, "
            "which may rank mixtures otherwise."
        )
    return text


def _pairs(contents: Contents, one: Agreement) -> Figure | None:
    """Each mixture's scores on two rungs."""
    snapshot = contents.snapshot
    scores, rows = paired(snapshot.tried, one.lower, one.upper)
    if len(scores) < FEW:
        return None
    scores = snapshot.sign * scores
    low, high = (contents.rungs[rung].name for rung in (one.lower, one.upper))
    chart = Chart(limits(list(scores[:, 0])), limits(list(scores[:, 1])), f"at {low}", f"at {high}")
    for (x, y), row in zip(scores.tolist(), rows, strict=True):
        trial = snapshot.tried.trials[int(row)]
        chart.dot((x, y), f"trial {trial.number}: {number(x)} and {number(y)}", "dot r0")
    text = f"{counted(len(scores), 'mixture')} run at {low} and {high}"
    correlated = f"; rank correlation {one}" if one.known else ""
    return Figure(chart.render(f"Scores of {text}."), f"{text}{correlated}.")
