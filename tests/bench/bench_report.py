"""What a report costs: CPU seconds and bytes, against one importance plot and a Plotly page.

    python tests/bench/bench_report.py

References in the same run: Optuna's default importance evaluator on the same study (what the
dashboard computes for its importance card), and an empty Plotly page that works without a network.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

sys.path.insert(0, str(Path(__file__).parents[1]))

from climb_opt.reports.contents import gather
from climb_opt.reports.draw import markdown
from climb_opt.reports.draw import page as html
from climb_opt.reports.snapshot import take
from synthetic_study import Shape, build_study


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    blank = plotly_bytes()
    head = ("report s", "importance s", "ratio", "page kB", "of Plotly")
    print(f"{'study':<24}" + "".join(f"{name:>14}" for name in head))
    for domains in (5, 21, 240):
        study = build_study(Shape(domains=domains, name=f"bench-{domains}"))
        contents, seconds = timed(lambda study=study: gather(take(study), predictor="simplex-gp"))
        page, more = timed(lambda contents=contents: html.render(contents))
        assert markdown.render(contents)
        _, reference = timed(lambda study=study: optuna.importance.get_param_importances(study))
        size = len(page.encode())
        row = (
            f"{seconds + more:.2f}",
            f"{reference:.2f}",
            f"{(seconds + more) / reference:.1f}",
            f"{size / 1e3:.0f}",
            f"{size / blank:.3f}",
        )
        print(f"{domains:>4} domains, 114 runs  " + "".join(f"{cell:>14}" for cell in row))


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.process_time()
    value = call()
    return value, time.process_time() - begun


def plotly_bytes() -> int:
    import plotly.graph_objects as graph

    return len(graph.Figure().to_html(include_plotlyjs=True).encode())


if __name__ == "__main__":
    main()
