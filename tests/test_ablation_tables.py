"""What an ablation reports: tables that drop nothing, and the command that prints them."""

from __future__ import annotations

import csv
import io
import json
import logging
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from climb_opt.ablation.run.results import Archive, RunResult
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.ablation.table import render
from climb_opt.ablation.table.comparison import comparisons
from climb_opt.cli import main
from climb_opt.errors import TrialFailed
from test_ablation import small


class Flaky(optuna.samplers.RandomSampler):
    """A user's own sampler, for `sampler: module:Name`: draws of the prior."""

    def __init__(self, space: Any, *, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self._space, self._rng_ = space, np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        return self._space.distributions()

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, float]:
        params: dict[str, float] = self._space.params(self._space.sample(self._rng_, 1)[0])
        return params


def failing(share: float) -> Any:
    def call(self: Any, trial: optuna.Trial) -> float:
        if trial.number < share * 14:
            raise TrialFailed("the loss is not finite")
        return float(self.source.score(self.source.space.weights_of(trial)[None])[0])

    return call


@pytest.mark.parametrize(("share", "remark"), [(0.5, "7 of 14 trials failed"), (1.0, "no mixture")])
def test_an_arm_that_fails_is_reported_not_dropped(
    share: float, remark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from climb_opt.emulator import NoisyObjective

    monkeypatch.setattr(NoisyObjective, "__call__", failing(share))
    own = {"sampler": f"{__name__}:Flaky", "rounds": [1], "final": "observed"}
    recipe = small(arms={"flaky": own, "uniform": None}, reference="uniform", seeds=1)
    results = run_ablation(recipe, Archive(tmp_path))
    (table,) = comparisons(recipe, results)
    row = table.rows[0]
    assert row.failed == share * 14 and row.arm == "flaky"
    assert any(remark in line for line in table.remarks)
    text = render.markdown("x", recipe, [table])
    assert "| flaky |" in text and remark in text


def result(arm: str, seed: int, final: float | None, **more: Any) -> RunResult:
    return RunResult("", arm, seed, "digest", None, final, **more)


def test_paired_differences_and_corrections_reach_the_table() -> None:
    recipe = small(seeds=6, arms={"random": None, "tpe": None, "uniform": None})
    rng = np.random.default_rng(0)
    results = []
    for seed in range(6):
        level = rng.normal()
        values = {"random": 0.0, "tpe": -0.1 + 0.01 * rng.normal(), "uniform": 0.01 * rng.normal()}
        results += [result(arm, seed, level + value) for arm, value in values.items()]
    (table,) = comparisons(recipe, results)
    rows = {row.arm: row for row in table.rows}
    assert rows["random"].against is None
    tpe, uniform = rows["tpe"].against, rows["uniform"].against
    assert tpe is not None and uniform is not None and tpe.interval is not None
    assert tpe.interval[0] < -0.1 < tpe.interval[1] < 0
    assert tpe.corrected == pytest.approx(2 * 2 / 2**6)
    assert uniform.corrected > 0.05
    text = render.markdown("x", recipe, [table], command="climb-opt ablate x")
    assert "6/6" in text and "`climb-opt ablate x`" in text and "lower" not in text.split("##")[0]


def test_few_seeds_and_missing_runs_are_said() -> None:
    recipe = small(seeds=3)
    (table,) = comparisons(recipe, [result("random", 0, 1.0), result("tpe", 0, 0.5)])
    said = " ".join(table.remarks)
    assert "With 3 of at least 5 seeds no interval" in said
    assert "tpe: 2 of 3 runs have not finished" in said
    assert "uniform: 3 of 3 runs have not finished" in said


def test_a_search_that_was_given_up_is_said() -> None:
    recipe = small(seeds=1)
    (table,) = comparisons(recipe, [result("tpe", 0, 0.5, trials=3, error="out of memory")])
    assert "tpe: 1 of 1 searches were given up: out of memory" in table.remarks


def test_extrapolated_results_are_marked() -> None:
    recipe = small(seeds=1)
    facts = {"final_extrapolates": True, "quality": "emulator, rho 0.9"}
    (table,) = comparisons(recipe, [result("tpe", 0, -0.1, facts=facts)])
    assert table.quality == "emulator, rho 0.9"
    assert any("tpe lie, in some runs, beyond the table's rows" in r for r in table.remarks)


def test_csv_and_json_hold_every_run(tmp_path: Path) -> None:
    recipe = small(seeds=1)
    results = run_ablation(recipe, Archive(tmp_path))
    rows = list(csv.DictReader(io.StringIO(render.as_csv(results))))
    assert [row["arm"] for row in rows] == ["uniform", "random", "tpe"]
    assert sum(json.loads(rows[2]["mixture"]).values()) == pytest.approx(1.0)
    tables = comparisons(recipe, results)
    data = json.loads(render.as_json("x", recipe, tables, results))
    assert len(data["runs"]) == 3 and data["recipe"]["budget"]["trials"] == 14


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.01234, "0.0123"), (123.4, "123"), (float("nan"), "-"), (-0.5, "-0.500")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert render.number(value) == text


# --- the command -------------------------------------------------------------------------------


def test_the_command_runs_resumes_and_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    own = tmp_path / "my own.yaml"
    own.write_text(
        "# own\nobjective: {name: mixing-law, domains: 3, tasks: 2}\n"
        "arms: [uniform, random, climb]\nreference: uniform\nbudget: {trials: 14}\n"
    )
    command = ["ablate", str(own), "--seeds", "2", "--output", str(out)]
    assert main([*command, "--plan"]) == 0
    assert "8/4/2" in capsys.readouterr().out and not out.exists()
    assert main([*command, "--show"]) == 2
    said = capsys.readouterr()
    assert "No run of my own has finished in" in said.err and not said.out and not out.exists()
    assert main([*command, "--arms", "uniform,random"]) == 0
    first = capsys.readouterr().out
    assert "| random |" in first and "climb |" not in first
    assert main([*command, "--show"]) == 0
    assert "climb: 2 of 2 runs have not finished" in capsys.readouterr().out
    url = "postgresql://me:{}@host/db"
    monkeypatch.setattr(sys, "argv", ["climb-opt", *command, "--storage", url.format("s3cret")])
    assert main(command) == 0
    whole = capsys.readouterr().out
    assert (out / "ablation.md").read_text() == whole
    stated = shlex.join(["climb-opt", *command, "--storage", url.format("PASSWORD")])
    assert f"Command: `{stated}`." in whole
    assert {p.name for p in out.iterdir()} >= {"ablation.json", "runs.csv", "figures"}
    assert len(list((out / "figures").glob("*.png"))) == 3


def test_an_experimental_sampler_is_not_announced_at_every_trial(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "climb_opt", "ablate", "samplers", "--arms", "qmc"]
    command += ["--seeds", "1", "--set", "budget.trials=14", "--no-figures"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "| qmc |" in done.stdout and "ExperimentalWarning" not in done.stderr


def test_mistakes_on_the_command_line_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["ablate", "samplers", "--arms", "climb,clim", "--plan"]) == 2
    assert "No arm 'clim'" in capsys.readouterr().err
    assert main(["ablate", "samplers", "--arms", "", "--plan"]) == 2  # an empty variable
    assert "--arms must name arms, separated by commas" in capsys.readouterr().err
    wrong = ["ablate", "samplers", "--set", "grid={foo: [1]}"]
    for command in ([*wrong, "--plan"], wrong):
        assert main(command) == 2
        assert "unknown key 'foo'" in capsys.readouterr().err


def test_what_a_comparison_keeps_silent_speaks_again_after_it() -> None:
    log = logging.getLogger("climb_opt.samplers")
    before = log.level
    for command in (["ablate", "samplers", "--plan"], ["ablate", "samplers", "--arms", "nix"]):
        main(command)
        assert log.level == before != logging.WARNING


def test_several_settings_begin_with_an_overview() -> None:
    recipe = small(seeds=6, grid={"noise": [0.0, 0.3]}, arms={"random": None, "tpe": None})
    results = [
        replace(result(arm, seed, level + 0.01 * seed), setting=f"noise {noise}")
        for noise, arm, level in [(0.0, "random", 0.5), (0.0, "tpe", 0.1), (0.3, "random", 0.5)]
        for seed in range(6)
    ]
    text = render.markdown("x", recipe, comparisons(recipe, results))
    assert "| arm | noise 0.0 | noise 0.3 |" in text
    assert "| tpe | 0.125 + | - |" in text and "| random | 0.525 | 0.525 |" in text
    fewer = render.markdown("x", recipe, comparisons(recipe, results[1:]))
    assert "| random | 0.530 (5) | 0.525 |" in fewer
