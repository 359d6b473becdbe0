"""Anybody's method is entered and ranked as docs/mixbench.md says; results repeat to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from climb_opt.ablation.recipe.reading import ablation_from
from climb_opt.ablation.recipe.resolve import runs
from climb_opt.ablation.run import benched as benched_module
from climb_opt.ablation.run.benched import benched
from climb_opt.cli import main
from climb_opt.errors import UserError
from climb_opt.mixbench import problem
from climb_opt.storages import open_storage

MINE = '''
import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler

from climb_opt import mixbench


class Stranger(BaseSampler):
    """Halves between the two best mixtures so far, with a little dust."""

    def __init__(self, space, seed=None):
        self.space, self.rng = space, np.random.default_rng(seed)

    def infer_relative_search_space(self, study, trial):
        return self.space.distributions()

    def sample_relative(self, study, trial, search_space):
        done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        done = sorted(done, key=lambda t: t.value)[:2]
        rows = [self.space.weights_of(t) for t in done] or [self.space.prior]
        draw = 0.7 * np.mean(rows, axis=0) + 0.3 * self.rng.dirichlet(np.ones(len(self.space)))
        return self.space.params(self.space.project(draw))

    def sample_independent(self, study, trial, name, distribution):
        return RandomSampler(0).sample_independent(study, trial, name, distribution)


stranger = mixbench.Method(sampler=lambda problem, seed: Stranger(problem.space, seed))
lost = mixbench.Method(sampler=lambda problem, seed: RandomSampler(seed))


def top(problem, data, seed):
    return data.weights[np.argsort(data.scores)[:3]].mean(axis=0)


def stuck(problem, data, seed):
    while True:
        pass


class Same(Stranger):
    def sample_relative(self, study, trial, search_space):
        return self.space.params(self.space.prior)


def absent():
    return mixbench.Method(needs="a licence")
'''
RECIPE = """
objective: {name: mixbench, domains: 4, at: [4], examine: 12}
grid: {problem: [interactions, misleading], noise: [0.1]}
budget: {trials: 6}
arms:
  proportional:
  stranger: {method: "entry_file:stranger", rounds: [1]}
  as sampler: {sampler: "entry_file:Stranger", rounds: [1], final: observed}
  regression: {method: "entry_file:top", rounds: [1]}
  lost: {method: "entry_file:lost", rounds: [1]}
  absent: {method: "entry_file:absent", rounds: [1]}
  simplex-gp:
reference: regression
seeds: 1
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "entry_file.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "entry.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_a_strangers_methods_are_ranked_and_the_results_repeat_to_the_byte(
    recipe: Path, capsys: Any
) -> None:
    assert main(["ablate", str(recipe), "--output", "one"]) == 0
    text = capsys.readouterr().out
    ranks = text.split("## Regret by problem")[0]
    for arm in ("stranger", "as sampler", "regression", "lost", "simplex-gp", "proportional"):
        assert f"| {arm} |" in ranks
    assert "absent: a licence" in text and "| absent |" not in ranks
    assert "Where simplex-gp stands" in text and "no constant of it was chosen on" in text
    conduct = text.split("## Conduct")[1]
    assert "| lost | 12 |" in conduct  # 6 proposals off the simplex in each of 2 runs
    page = Path("one/mixbench.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4 and "stranger" in page  # ranks, two problems, FLOPs
    assert main(["ablate", str(recipe), "--output", "two"]) == 0
    first, again = (Path(name, "mixbench.csv").read_bytes() for name in ("one", "two"))
    assert first == again
    assert first.count(b"\n") == 1 + 2 * 6 * 2 + 2  # the head, two parts of each run, skipped ones
    # The sampler, entered either way, proposed the same.
    done = json.loads(Path("one/ablation.json").read_text(encoding="utf-8"))["runs"]
    both = {(r["arm"], r["setting"], r["seed"]): r["mixtures"] for r in done}
    for setting in {r["setting"] for r in done}:
        assert both["stranger", setting, 0] == both["as sampler", setting, 0]


def test_who_repeats_itself_or_thinks_forever_is_told_on_the_page(
    recipe: Path, capsys: Any
) -> None:
    arms = """
same: {sampler: "entry_file:Same", rounds: [1], final: observed}
stuck: {method: "entry_file:stuck", rounds: [1]}
stranger: {method: "entry_file:stranger", rounds: [1]}
"""
    data = {**yaml.safe_load(RECIPE), "arms": yaml.safe_load(arms), "reference": "stranger"}
    data["objective"] = {"name": "mixbench", "domains": 3, "limit": 0.3}
    data["grid"] = {"problem": ["phases"]}
    Path("conduct.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    assert main(["ablate", "conduct.yaml", "--output", "conduct", "--no-figures"]) == 0
    text = capsys.readouterr().out
    conduct = text.split("## Conduct")[1]
    assert "| same | 0 | 5 | 0 |" in conduct  # six trials, and a schedule is a mixture, too
    assert "| stuck | 0 | 0 | 1 | given up: it thought longer than 0.3 seconds" in conduct
    ranks = text.split("## Regret by problem")[0]
    assert ranks.index("| stranger |") < ranks.index("| stuck |")  # nothing recommended: last


def test_ten_lines_are_ranked_beside_the_shipped_arms_in_phases(recipe: Path, capsys: Any) -> None:
    Path("our-rank.yaml").write_text(
        'include: ablations/mixbench\narms: {mine: {method: "entry_file:stranger", rounds: [1]}}\n',
        encoding="utf-8",
    )
    command = ["ablate", "our-rank.yaml", "--arms", "mine,regmix,proportional", "--seeds", "1"]
    for change in ("grid.problem=[phases]", "budget.trials=8", "objective.examine=0"):
        command += ["--set", change]
    assert main([*command, "--set", "objective.at=[4]", "--output", "ours", "--no-figures"]) == 0
    text = capsys.readouterr().out
    assert all(f"| {arm} |" in text for arm in ("mine", "regmix", "proportional"))
    assert "## Conduct" not in text  # no proposal off the simplex, none given up


def test_an_arm_with_a_ladder_takes_part_where_there_are_rungs(recipe: Path) -> None:
    ladder = {"arms": {"ours": {"sampler": "simplex-gp", "ladder": True}}, "budget": {"trials": 1}}
    data = {**yaml.safe_load(RECIPE), **ladder, "reference": None}
    plain, rungs = (benched(run) for run in runs(ablation_from(data)))
    assert plain.error == "skipped: the problem has no rungs to choose from"
    assert rungs.trials > 1 and rungs.final is not None  # cheap trials, paid by one of the target
    assert rungs.facts["spent"] <= 1.0 + 1e-9


def test_a_run_that_was_done_is_not_repeated(recipe: Path, capsys: Any) -> None:
    command = ["ablate", str(recipe), "--arms", "proportional,regression", "--output", "one"]
    assert main(command) == 0
    stamps = {p: p.stat().st_mtime_ns for p in Path("one/runs").glob("*.json")}
    assert len(stamps) == 4
    assert main(command) == 0
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["objective.problem=nothing", "grid={}"], "Unknown problem 'nothing'"),
        (["arms={mine: {method: nobody}}", "reference=null"], "Unknown method 'nobody'"),
        (
            ["arms={mine: {method: marin, fixed: uniform}}", "reference=null"],
            "either fixed or method",
        ),
        (["objective={name: mixing-law}", "grid={}"], "`objective: mixbench` alone"),
        (["objective.domain=4"], "takes no 'domain'"),
    ],
)
def test_a_mistake_is_one_line(recipe: Path, changes: list[str], says: str, capsys: Any) -> None:
    command = ["ablate", str(recipe), "--output", "bad"]
    for change in changes:
        command += ["--set", change]
    assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and says in said[0]


# --- tables --------------------------------------------------------------------------------------

LOSSES = [2.0, 1.5, 1.9, 1.2, 1.8, 1.4, 1.6, 1.7]
TABLE = """
objective: {{name: mixbench, tables: {{ours: {{{table}}}}}}}
grid: {{problem: [ours]}}
budget: {{trials: 4}}
arms: {{random: , regression: {{method: "entry_file:top", rounds: [1]}}, simplex-gp: , climb: }}
reference: random
seeds: 1
"""
FILES = "mixtures: w.csv, results: y.csv, key: run"


def two_files(head: str = "web,code,math", result: str = "loss", scale: float = 1.0) -> None:
    k = len(head.split(","))
    rows = np.round(np.random.default_rng(0).dirichlet(np.ones(k), len(LOSSES)), 4) * scale
    lines = [f"{i}," + ",".join(map(str, row)) for i, row in enumerate(rows.tolist())]
    Path("w.csv").write_text("\n".join([f"run,{head}", *lines]), encoding="utf-8")
    lines = [f"{i},{value}" for i, value in enumerate(LOSSES)]
    Path("y.csv").write_text("\n".join([f"run,{result}", *lines]), encoding="utf-8")


def ranked(recipe: Path, table: str) -> int:
    benched_module._problem_of.cache_clear()  # of files of the same names
    Path("table.yaml").write_text(TABLE.format(table=table), encoding="utf-8")
    return main(["ablate", "table.yaml", "--output", "table", "--no-figures"])


def test_a_table_is_searched_and_says_that_its_noise_is_unknown(recipe: Path, capsys: Any) -> None:
    two_files()
    assert ranked(recipe, FILES) == 0
    text = capsys.readouterr().out
    assert "noise unknown (no mixture was run twice), none added" in text
    for arm in ("random", "regression", "simplex-gp", "climb"):
        assert f"| {arm} |" in text


def test_ones_own_searches_are_ranked_upon(recipe: Path, capsys: Any) -> None:
    found = problem("interactions", domains=3)
    study = optuna.create_study(storage=open_storage("mine.journal"), study_name="mine",
                                sampler=found.random(0))  # fmt: skip
    study.optimize(found, n_trials=9)
    assert ranked(recipe, "studies: mine, storage: mine.journal") == 0
    assert "score of 9 real runs" in capsys.readouterr().out
    for table, says in (
        ("studies: mien, storage: mine.journal", "Did you mean 'mine'"),
        ("studies: mine, storage: other.journal", "other.journal"),
        ("studies: mine, storage: mine.journal, key: run", "unknown key 'key'"),
    ):
        assert ranked(recipe, table) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and says in said[0]


@pytest.mark.parametrize(
    ("files", "more", "says"),
    [
        ({"scale": 1.5}, "", "sum to 1.5"),
        ({"head": "web,code"}, "", "with two a mixture is one number"),
        ({"result": "arc:rc"}, "", "nothing says whether higher or lower is better in 'arc:rc'"),
        ({}, ", better: up", '"lower" or "higher"'),
        ({}, ", noise: -1", "noise must be at least 0"),
        ({}, ", score: los", "'los'"),
        ({}, ", runs: w.csv", "give mixtures and results, or runs and rungs"),
    ],
)
def test_a_bad_table_is_one_line(
    recipe: Path, files: Any, more: str, says: str, capsys: Any
) -> None:
    two_files(**files)
    assert ranked(recipe, FILES + more) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and says in said[0]


def test_a_page_made_while_it_runs_says_how_far_it_is_and_ranks_whole_cells(
    recipe: Path, capsys: Any
) -> None:
    assert main(["ablate", str(recipe), "--output", "part"]) == 0
    whole = capsys.readouterr().out
    assert "runs are done" not in whole
    stored = sorted(Path("part/runs").glob("*.json"))
    (lost,) = [p for p in stored if p.name.startswith("misleading") and "_lost_" in p.name]
    lost.unlink()
    assert main(["ablate", str(recipe), "--output", "part", "--show"]) == 0
    said = capsys.readouterr().out
    assert "13 of 14 runs are done; ranked are those of the 1 of 2 cells" in said
    assert (
        "| lost |" in said.split("## Regret")[0] and "misleading" not in said.split("## Anytime")[0]
    )
    assert "13 of 14 runs are done" in Path("part/mixbench.html").read_text(encoding="utf-8")
    assert "misleading" in Path("part/mixbench.csv").read_text(encoding="utf-8")
    for path in stored:
        if path.name.startswith("interactions") and "_lost_" in path.name:
            path.unlink()
    assert main(["ablate", str(recipe), "--output", "part", "--show"]) == 0
    assert "12 of 14 runs are done; ranked are those of the 0 of 2 cells" in capsys.readouterr().out
    assert main(["ablate", str(recipe), "--output", "part"]) == 0
    assert capsys.readouterr().out == whole


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"noise": "x"}, "noise must be a number, but is 'x'"),
        ({"domains": 2.5}, "domains must be a whole number, but is 2.5"),
        ({"law": float("nan")}, "law must be a whole number, but is nan"),
        ({"domains": True}, "domains must be a whole number, but is True"),
    ],
)
def test_an_option_of_a_problem_that_is_no_number_is_said(
    options: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        problem("interactions", **options)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"name": "olmix", "kl": 0.1}, r"method 'olmix' takes no options; drop kl\."),
        ({"name": "olmix-public", "start": 3}, r"unknown key 'start'\. Did you mean 'starts'"),
        ({"name": "olmix-public", "starts": "few"}, "starts: expected a number, but got 'few'"),
    ],
)
def test_options_that_a_method_does_not_take_are_told(method: dict[str, Any], said: str) -> None:
    bench = {"name": "mixbench", "problem": "ladder"}
    data = {"objective": bench, "arms": {"a": {"method": method}}, "budget": {"trials": 8}}
    (run,) = runs(ablation_from({**data, "seeds": 1}))
    with pytest.raises(UserError, match=said):
        benched(run)
