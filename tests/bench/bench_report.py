"""What a report costs: CPU seconds and bytes, against one importance plot and a Plotly page.

    python tests/bench/bench_report.py

References in the same run: Optuna's default importance evaluator on the same study (what the
dashboard computes for its importance card), and an empty Plotly page that works without a network.
"""

from __future__ import annotations

from harness import parser_of, timed  # first: one thread

# isort: split

import sys
from pathlib import Path

import optuna

sys.path.insert(0, str(Path(__file__).parents[1]))

from climb_opt.reports.contents import gather
from climb_opt.reports.draw import markdown
from climb_opt.reports.draw import page as html
from climb_opt.reports.snapshot import take
from synthetic_study import Shape, build_study


def main() -> None:
    parser_of(__doc__).parse_args()
    blank = plotly_bytes()
    head = ("report s", "importance s", "ratio", "page kB", "of Plotly")
    print(f"{'study':<24}" + "".join(f"{name:>14}" for name in head))
    measured(5)  # imports and first-use costs
    for domains in (5, 21, 240):
        seconds, reference, size = measured(domains)
        print(
            f"{domains:>4} domains, 114 runs  {seconds:>14.2f}{reference:>14.2f}"
            f"{seconds / reference:>14.1f}{size / 1e3:>14.0f}{size / blank:>14.3f}"
        )


def measured(domains: int) -> tuple[float, float, int]:
    """CPU seconds of a report and of the importances, and the page's bytes."""
    study = build_study(Shape(domains=domains, name=f"bench-{domains}"))
    contents, seconds = timed(lambda: gather(take(study), predictor="simplex-gp"))
    page, more = timed(lambda: html.render(contents))
    assert markdown.render(contents)
    _, reference = timed(lambda: optuna.importance.get_param_importances(study))
    return seconds + more, reference, len(page.encode())


def plotly_bytes() -> int:
    import plotly.graph_objects as graph

    return len(graph.Figure().to_html(include_plotlyjs=True).encode())


if __name__ == "__main__":
    main()
