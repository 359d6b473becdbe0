"""The benchmark of plans: what is stated comes from other laws than what is found."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "bench"))
import bench_plan as bench
from climb_opt.reports.planned.regret import CHOSEN, ONE
from harness import CACHE, TABLES


def test_a_search_is_found_on_a_law_that_no_plan_emulates() -> None:
    row = {"source": "law/0.8@0.1", "arm": ONE, "budget": 2.0, "seed": 0}
    stated, found = (
        bench.run({**row, "side": side}, TABLES, CACHE) for side in (bench.STATED, bench.FOUND)
    )
    assert stated["regret"] != found["regret"]
    assert bench.run({**row, "side": bench.FOUND}, TABLES, CACHE) == found


def test_the_report_counts_what_held() -> None:
    def rows(arm: str, side: str, regrets: list[float]) -> list[dict]:
        of = {"source": "law", "arm": arm, "budget": 2.0, "side": side}
        return [{**of, "seed": seed, "regret": r} for seed, r in enumerate(regrets)]

    told = rows(CHOSEN, bench.STATED, [0.2, 0.3]) + rows(ONE, bench.STATED, [0.9, 1.1])
    text = bench.report(
        told + rows(CHOSEN, bench.FOUND, [1.5, 1.6]) + rows(ONE, bench.FOUND, [0.9, 1.0])
    )
    assert "| 0.250 ± 0.050 | 1.550 ± 0.050 | 6.20 | no |" in text
    assert "1 of 2 expected regrets" in text
    assert "0 of 1 times" in text
