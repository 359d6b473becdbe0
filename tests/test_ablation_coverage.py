"""Ablations count how often the intervals that searches state hold the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb_opt.ablation.recipe.reading import ablation_from, read_ablation
from climb_opt.ablation.recipe.resolve import runs
from climb_opt.ablation.run.emulate import emulate
from climb_opt.ablation.run.promises import held, kept
from climb_opt.ablation.run.results import Archive, run_digest
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.ablation.table import coverage
from climb_opt.ablation.table.written import write_tables
from climb_opt.emulator import MixingLaw
from climb_opt.errors import UserError
from climb_opt.selection import Estimate


def small(**more: Any) -> dict[str, Any]:
    return {
        "objective": {"name": "mixing-law", "domains": 4},
        "grid": {"noise": [0.0, 0.3]},
        "budget": {"trials": 12},
        "arms": {"dirichlet": {"final": "auto"}},
        "promises": [6, 12, 50],
        "seeds": 2,
        **more,
    }


def test_an_interval_is_judged_in_units_of_regret() -> None:
    assert held(Estimate(1.0, 0.5, 1.5), 1.2, 2.0) == pytest.approx(
        {"held": 1.0, "error": -0.1, "half": 0.25, "winkler": 0.5}
    )
    outside = held(Estimate(1.0, 0.5, 1.5), 2.0, 1.0)
    assert outside["held"] == 0.0 and outside["winkler"] == pytest.approx(1.0 + 20 * 0.5)
    assert held(Estimate(0.0, 0.0, 0.0), 1e-12, 1.0)["held"] == 1.0  # a digit


def test_a_search_is_asked_after_so_many_trials_as_are_listed_and_done() -> None:
    run = runs(ablation_from(small()))[1]
    result = emulate(run)
    assert set(result.promises) == {"6", "12"}
    for promised in result.promises.values():
        assert promised["score held"] in (0.0, 1.0) and promised["gain half"] > 0  # type: ignore[operator]
    assert result.promises["12"]["regret"] == pytest.approx(result.final)
    assert run_digest(run) != run_digest(runs(ablation_from(small(promises=[])))[1])


def test_the_table_pools_by_arm_and_noise_and_a_rerun_reads_the_archive(tmp_path: Path) -> None:
    recipe, archive = ablation_from(small()), Archive(tmp_path)
    first = run_ablation(recipe, archive)
    done: list[Any] = []
    again = run_ablation(recipe, archive, on_run=lambda *run: done.append(run))
    assert not done and [r.promises for r in again] == [r.promises for r in first]
    rows = coverage.rows_of(recipe, again)
    head, *lines = coverage.lines_of(rows, ("arm", "noise"))
    assert [line[:3] for line in lines] == [["dirichlet", "0", "4"], ["dirichlet", "0.3", "4"]]
    share = np.mean([row["gain held"] for row in rows if row["noise"] == 0.3])
    assert lines[1][head.index("gain: held")] == f"{share:.2f}"
    small_units = {"score error": 1.23e-4, "score half": 3.21e-4, "score winkler": 6.542e-4}
    one = {**rows[0], **small_units, "score held": 1.0, "regret": 2.346e-5}
    cells = dict(zip(*coverage.lines_of([one], ("arm", "noise")), strict=True))
    assert cells["score: error ± half-width"] == "+0.00012 ± 0.00032"
    assert cells["score: interval score"] == "0.000654" and cells["regret"] == "0.0000235"
    text = write_tables(archive, "coverage", recipe, figures=False)
    assert "## Do the intervals hold?" in text and coverage.LEGEND in text


def test_what_states_no_interval_is_counted_in_no_interval() -> None:
    law = MixingLaw(3, seed=0)
    trial = runs(ablation_from(small()))[0]
    assert trial.promises == (6, 12, 50)
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(law.space.params(law.space.prior))
    study.optimize(lambda t: law.space.suggest(t)[law.space.domains[0]], 1)
    found = kept(law.space, study.trials, law.score, 1.0)
    assert set(found) == {"true"}
    assert coverage.interval([found], "score") == ["–"] * len(coverage.HEAD)


def test_other_ablations_are_asked_nothing() -> None:
    run = runs(ablation_from(small(promises=[])))[0]
    assert emulate(run).promises == {} and coverage.rows_of(ablation_from(small()), []) == []


def test_the_shipped_matrix_is_that_of_the_benchmark() -> None:
    laws, tables = (read_ablation("coverage", scale=scale) for scale in ("laws", "tables"))
    assert laws.promises == tables.promises == (28, 56, 112)
    assert len(runs(laws)) == 4 * 48 * 6 and len(runs(tables)) == 4 * 12 * 6


@pytest.mark.parametrize("given", [{"promises": [0, 6]}, {"promises": [-3]}])
def test_numbers_of_trials_that_are_none_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="numbers of trials, from 1 on"):
        ablation_from(small(**given))
