"""An ablation's folder: its comparison as Markdown, its runs as CSV, all of it as JSON, figures."""

from __future__ import annotations

import logging

from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import BENCH
from climb_opt.ablation.run.results import Archive
from climb_opt.ablation.run.runner import finished
from climb_opt.ablation.table import coverage, render
from climb_opt.ablation.table.bench_page import write_page
from climb_opt.ablation.table.comparison import comparisons
from climb_opt.files import write_text

log = logging.getLogger(__name__)


def write_tables(
    archive: Archive, name: str, recipe: AblationRecipe, *, command: str = "", figures: bool = True
) -> str:
    """Compare what has finished and write it beside the results. Returns the Markdown.

    Args:
        command: what a reader types to have it again.
        figures: PNG files, too; they need matplotlib.
    """
    folder, results = archive.folder, finished(recipe, archive)
    tables = comparisons(recipe, results)
    promised = coverage.rows_of(recipe, results)
    if recipe.objective.name == BENCH:
        text = write_page(folder, name, recipe, results, command)
        figures = False  # they are on its page
    else:
        text = render.markdown(name, recipe, tables, command=command, promised=promised)
    write_text(folder / "ablation.md", text)
    write_text(folder / "runs.csv", render.as_csv(results))
    write_text(folder / "ablation.json", render.as_json(name, recipe, tables, results))
    if figures:
        from climb_opt.ablation.table.figures import write_figures

        for table in tables:
            for path in write_figures(table, folder / "figures", scaled=not recipe.live):
                log.info("%s", path)
    return text
