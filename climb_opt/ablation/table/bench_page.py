"""mixbench's page: who ranks where, how fast, what was promised; as Markdown and as HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.run.benched import SKIPPED
from climb_opt.ablation.run.results import RunResult
from climb_opt.ablation.table.bench_figures import anytime, rank_figure, ratio_figure
from climb_opt.ablation.table.ranking import Mean, Ranking
from climb_opt.ablation.table.render import number, versions
from climb_opt.files import write_text
from climb_opt.reports.draw import markdown, markup, page
from climb_opt.reports.draw.markup import Html
from climb_opt.reports.section import Beside, Block, Section, Table, Words
from climb_opt.text import counted, in_html

OURS = "simplex-gp"  # what the page must tell honestly


def as_markdown(name: str, ranking: Ranking, command: str = "") -> str:
    """The page as GitHub's Markdown, without its figures."""
    parts = [f"# {name}", *(markdown.draw(s) for s in sections(ranking)), _foot(command)]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_html(name: str, ranking: Ranking, command: str = "") -> str:
    """The page as one HTML file with its figures, which needs no network and runs no script."""
    shown = "".join(map(page.draw, sections(ranking)))
    body = f"<header><h1>{in_html(name)}</h1></header><main>{shown}</main>"
    foot = f"<footer>{in_html(_foot(command))}</footer>"
    style = page.STYLE.read_text(encoding="utf-8")
    return markup.page(f"{name} · mixbench", style, Html(body + foot))


def write_page(
    folder: Path, name: str, recipe: AblationRecipe, results: Sequence[RunResult], command: str
) -> str:
    """Write `mixbench.csv` and `mixbench.html` into the folder. Returns the Markdown."""
    ranking = Ranking(recipe, results)
    write_text(folder / "mixbench.csv", ranking.as_csv())
    if not ranking.parts:
        said = ranking.unfinished or "No run gave a mixture."
        return f"# {name}\n\n{said}\n"
    write_text(folder / "mixbench.html", as_html(name, ranking, command))
    return as_markdown(name, ranking, command)


def sections(ranking: Ranking) -> list[Section]:
    """The page's parts, in order."""
    found = [
        Section("ranks", "Ranks", _ranks(ranking)),
        Section("problems", "Regret by problem", _problems(ranking)),
        Section("ours", f"Where {OURS} stands", _ours(ranking)),
        Section("anytime", "Anytime", _anytime(ranking)),
        Section("beliefs", "What methods believe", _beliefs(ranking)),
        Section("conduct", "Conduct", _conduct(ranking)),
        Section("how", "How it was judged", _how(ranking)),
    ]
    return [s for s in found if s.blocks]


# --- private -------------------------------------------------------------------------------------


def _ranks(ranking: Ranking) -> list[Block]:
    last = ranking.parts[-1]
    order = sorted(ranking.everywhere, key=lambda a: ranking.mean_rank(a, last).value)
    rows = [
        [
            arm,
            *(_mean(ranking.mean_rank(arm, part)) for part in ranking.parts),
            str(sum(ranking.place(arm, s, last) == 1 for s in ranking.settings)),
            _ratios(ranking, arm),
        ]
        for arm in order
    ]
    head = ["method", *(f"{part} trials" for part in ranking.parts), "first", "FLOPs"]
    cells = len({(r.setting, r.seed) for r in ranking.counted})
    reference = ranking.recipe.reference
    words = (
        f"Mean rank [90 %] of {len(order)} methods over {counted(cells, 'cell')} (problem, noise, "
        "seed) after each part of the budget; 1 is best. First: problems on which its median "
        "regret is the lowest of all."
    )
    if reference is not None:
        words += (
            f" FLOPs: what it needs for the median regret that {reference} has after the whole "
            "budget, as a share of that; the median over problems, and on how many it gets there."
        )
    early = [Words(ranking.unfinished, "caution")] if ranking.unfinished else []
    return [*early, Words(words), Table(head, rows), rank_figure(ranking, order)]


def _problems(ranking: Ranking) -> list[Block]:
    last = ranking.parts[-1]
    rows = []
    for setting in ranking.settings:
        for arm in sorted(ranking.here(setting), key=lambda a: ranking.place(a, setting, last)):
            spread = ranking.summary(arm, setting, last)
            text = f"{number(spread.median)} [{number(spread.lower)}, {number(spread.upper)}]"
            rows.append(
                [
                    setting,
                    str(ranking.place(arm, setting, last)),
                    arm,
                    _mean(ranking.rank_in(arm, setting, last)),
                    text if spread.n else "-",
                ]
                + [number(ranking.summary(arm, setting, p).median) for p in ranking.parts[:-1]]
            )
    head = ["problem", "place", "method", "mean rank", f"regret after {last}"]
    head += [f"after {part}" for part in ranking.parts[:-1]]
    words = (
        "Medians [quartiles] over seeds of the true score of the recommended mixture: 0 the best "
        "mixture known, 1 a typical random one. Mean rank: over seeds, among all that took part in "
        "the problem."
    )
    return [Words(words), Table(head, rows, text=(2,), few=400, brief=400)]


def _ours(ranking: Ranking) -> list[Block]:
    if OURS not in ranking.everywhere:
        return []
    last, blocks = ranking.parts[-1], []
    for seen, what in ((False, "shapes that no constant of it was chosen on"), (True, "its own")):
        of = [s for s in ranking.settings if ranking.seen[s] is seen]
        if not of:
            continue
        places = {s: ranking.place(OURS, s, last) for s in of}
        behind = [_behind(ranking, s, place) for s, place in places.items() if place > 1]
        mean = _mean(ranking.mean_rank(OURS, last, of))
        told = f"On {what}: mean rank {mean} of {len(ranking.everywhere)}; "
        told += f"first on {len(of) - len(behind)} of {counted(len(of), 'problem')}."
        told += f" Not first on {'; '.join(behind)}." if behind else ""
        blocks.append(Words(told))
    return list(blocks)


def _behind(ranking: Ranking, setting: str, place: int) -> str:
    """Who has a place before this one."""
    order = {arm: ranking.place(arm, setting, ranking.parts[-1]) for arm in ranking.here(setting)}
    before = ", ".join(arm for arm, other in order.items() if other < place)
    return f"{setting} (place {place}, behind {before})"


def _anytime(ranking: Ranking) -> list[Block]:
    figures = [anytime(ranking, setting) for setting in ranking.settings]
    pairs: list[Block] = [Beside(figures[i : i + 2]) for i in range(0, len(figures), 2)]
    ratios = ratio_figure(ranking)
    return [*pairs, *([ratios] if ratios is not None else [])]


def _beliefs(ranking: Ranking) -> list[Block]:
    rows = []
    for arm in ranking.arms:
        held, half = (ranking.every(arm, f"score {what}") for what in ("held", "half"))
        told = [ranking.facts(arm, f"censored {what}") for what in ("regret", "optimism")]
        chosen = ranking.facts(arm, "selection regret")
        if not (held or any(told) or chosen):
            continue
        rows.append(
            [
                arm,
                f"{np.mean(held):.2f} of {len(held)}" if held else "none stated",
                number(float(np.median(half))) if half else "-",
                *(number(float(np.median(x))) if x else "-" for x in told),
                number(float(np.mean(chosen))) if chosen else "-",
            ]
        )
    head = ["method", "90 % intervals held", "half-width", "censored: regret", "optimism"]
    words = (
        "Intervals: of the true score of what was recommended, over all parts of the budget. "
        "Censored: the best quarter of random mixtures is hidden; the true regret of what is then "
        "recommended, and claimed minus true score there (below 0 promises too much), medians. "
        "Selection: of 12 proposals trained once each, the mean regret of the one it keeps above "
        "the best of them."
    )
    return [Words(words), Table([*head, "selection: regret"], rows)] if rows else []


def _conduct(ranking: Ranking) -> list[Block]:
    blocks: list[Block] = []
    rows = []
    for arm in ranking.arms:
        counts = [int(sum(ranking.facts(arm, what))) for what in ("off", "repeated", "slow")]
        errors = [r.error for r in ranking.counted if r.arm == arm and r.error]
        if any(counts) or errors:
            rows.append([arm, *map(str, counts), errors[0] if errors else ""])
    if rows:
        head = ["method", "off the simplex", "repeated", "too slow", "given up"]
        blocks.append(Table(head, rows, text=(4,)))
    skipped = [r for r in ranking.results if r.error.startswith(SKIPPED)]
    for reason in dict.fromkeys(f"{r.arm}{r.error.removeprefix(SKIPPED)}" for r in skipped):
        blocks.append(Words(f"Not ranked where it could not take part: {reason}."))
    return blocks


def _how(ranking: Ranking) -> list[Block]:
    recipe = ranking.recipe
    qualities = {
        r.setting: str(r.facts["quality"])
        for r in reversed(ranking.counted)
        if "quality" in r.facts
    }
    rows = [[setting, qualities.get(setting, "")] for setting in ranking.settings]
    words = (
        f"Budget: {recipe.budget} of the target, paid in FLOPs; {counted(recipe.seeds, 'seed')} "
        f"from {recipe.first_seed}, each with a law of its own where the problem is simulated. The "
        "noise of a trial and the random mixtures are shared by all methods of a seed. Methods "
        "that are no samplers learn from the random mixtures. The lines below are of the first "
        "seed."
    )
    return [Words(words), Table(["problem", "what it is"], rows, text=(1,), brief=99)]


def _mean(mean: Mean) -> str:
    if not math.isfinite(mean.value):
        return "-"
    if mean.interval is None:
        return f"{mean.value:.1f}"
    low, high = mean.interval
    return f"{mean.value:.1f} [{low:.1f}, {high:.1f}]"


def _ratios(ranking: Ranking, arm: str) -> str:
    found = [r for s in ranking.settings if not math.isnan(r := ranking.ratio(arm, s))]
    if not found:
        return "-"
    reached = sum(math.isfinite(r) for r in found)
    middle = float(np.median(found))
    return f"{f'{middle:.2f}' if math.isfinite(middle) else '> 1'} ({reached}/{len(found)})"


def _foot(command: str) -> str:
    said = f"Command: `{command}`. " if command else ""
    return f"{said}{versions()}."
