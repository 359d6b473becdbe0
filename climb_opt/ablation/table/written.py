"""An ablation's folder: its comparison as Markdown, its runs as CSV, all of it as JSON, figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.run.results import RunResult
from climb_opt.ablation.table import render
from climb_opt.ablation.table.comparison import comparisons
from climb_opt.files import replace_text

log = logging.getLogger(__name__)


def write_tables(
    folder: Path,
    name: str,
    recipe: AblationRecipe,
    results: Sequence[RunResult],
    *,
    command: str = "",
    figures: bool = True,
) -> str:
    """Compare what has finished and write it to `folder`. Returns the Markdown.

    Args:
        command: what a reader types to have it again.
        figures: PNG files, too; they need matplotlib.
    """
    tables = comparisons(recipe, results)
    text = render.markdown(name, recipe, tables, command=command)
    replace_text(folder / "ablation.md", text)
    replace_text(folder / "runs.csv", render.as_csv(results))
    replace_text(folder / "ablation.json", render.as_json(name, recipe, tables, results))
    if figures:
        from climb_opt.ablation.table.figures import write_figures

        for table in tables:
            for path in write_figures(table, folder / "figures", scaled=not recipe.live):
                log.info("%s", path)
    return text
