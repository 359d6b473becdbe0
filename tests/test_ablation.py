"""Arms under one budget: recipes, runs that resume and repeat, tables that drop nothing."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt import recipes
from climb_opt.ablation import render
from climb_opt.ablation.arms import STANDARD
from climb_opt.ablation.comparison import comparisons
from climb_opt.ablation.emulate import emulate
from climb_opt.ablation.reading import ablation_from, read_ablation, shipped
from climb_opt.ablation.recipe import AblationRecipe
from climb_opt.ablation.resolve import allocate, arms, runs
from climb_opt.ablation.resolve import settings as points_of
from climb_opt.ablation.results import Archive, RunResult
from climb_opt.ablation.runner import run_ablation
from climb_opt.ablation.surfaces import surface
from climb_opt.cli import main
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.recipes import Choice

LAW = {"name": "mixing-law", "domains": 4, "tasks": 2}
SMALL: dict[str, Any] = {
    "objective": LAW,
    "arms": {"uniform": None, "random": None, "tpe": None},
    "reference": "random",
    "budget": {"trials": 14},
    "seeds": 2,
}


def small(**changes: Any) -> AblationRecipe:
    return ablation_from({**SMALL, **changes})


# --- recipes -----------------------------------------------------------------------------------


def test_rounds_are_shares_of_the_budget() -> None:
    recipe = small(
        arms={
            "6:1": {"like": "climb", "rounds": [6, 1]},
            "climb": None,
            "half": {"like": "climb", "share": 0.5},
        },
        reference=None,
        budget={"trials": 112},
    )
    sizes = {arm.name: arm.study.rounds for arm in arms(recipe)}
    assert sizes == {"6:1": (96, 16), "climb": (64, 32, 16), "half": (32, 16, 8)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(0, 300))
def test_an_allocation_spends_exactly_the_budget(shares: list[int], more: int) -> None:
    n = len(shares) + more
    sizes = allocate(n, shares)
    assert sum(sizes) == n and min(sizes) >= 1
    order = np.argsort(shares)
    assert all(np.diff(np.array(sizes)[order]) >= -1)


def test_dearer_trials_are_fewer() -> None:
    recipe = small(arms={"climb-best-at-n": {"cost": 7.0}}, reference=None)
    assert arms(recipe)[0].study.rounds == (2,)
    tokens = small(
        arms={"small": {"like": "random"}, "large": {"like": "random", "proxy": {"tokens": 4000}}},
        base={"proxy": {"tokens": 1000}, "corpus": "c", "evaluators": ["heldout"], "score": ["a"]},
        objective="live",
        budget={"tokens": 16_000},
        reference=None,
    )
    assert [arm.study.rounds for arm in arms(tokens)] == [(16,), (4,)]


def test_a_grid_crosses_its_options() -> None:
    recipe = small(grid={"noise": [0.0, 0.5], "law": [1, 2, 3]})
    points = points_of(recipe)
    assert len(points) == 6 and points[0][0] == "noise 0.0, law 1"
    assert points[5][1].options == {"domains": 4, "tasks": 2, "noise": 0.5, "law": 3}
    assert len(runs(recipe)) == 6 * 3 * 2


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_ablation_reads_at_every_scale(name: str) -> None:
    path = Path(recipes.find("studies", f"ablations/{name}"))
    scales = recipes.load_yaml(path).get("scales", {})
    assert scales, "every shipped ablation runs at several scales"
    for scale in scales:
        recipe = read_ablation(name, scale=scale)
        assert recipe.answers and arms(recipe) and runs(recipe)


def test_shipped_studies_are_not_confused_with_ablations() -> None:
    assert not set(shipped()) & set(recipes.names("studies"))


def test_standard_arms_resolve() -> None:
    searching = {k: None for k, v in STANDARD.items() if "doremi" not in v}
    assert len(arms(small(arms=searching, reference=None))) == len(searching)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {}}, "at least one arm"),
        ({"arms": {"random": None, "clim": None}}, "Did you mean 'climb'"),
        ({"arms": {"random": {"like": "climbb"}}}, "is no standard arm"),
        ({"arms": {"random": {"rouns": [1]}}}, "arm 'random': study: unknown key 'rouns'"),
        ({"arms": {"random": {"cost": 0}}}, "must be positive"),
        ({"arms": {"random": {"fixed": "uniform", "doremi": {}}}}, "either fixed or doremi"),
        ({"arms": {"random": None, "doremi": None}}, "DoReMi trains real proxies"),
        ({"reference": "nobody"}, "reference 'nobody' is not among the arms"),
        ({"budget": {"trials": 2}, "arms": {"random": None, "climb": None}}, "3 rounds need one"),
        ({"budget": {"trials": 5, "tokens": 3}}, "give trials, or tokens, or seconds"),
        ({"budget": {"seconds": 3}}, "with the trials"),
        ({"budget": {"trials": -1}}, "all above 0"),
        ({"budget": {}}, "give trials"),
        ({"budget": {"seconds": 3, "trials": 5}}, "counts trials"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"objective": "live", "grid": {"noise": [1]}}, "a grid varies"),
        ({"sedes": 3}, "Did you mean 'seeds'"),
    ],
)
def test_mistakes_in_a_recipe_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"name": "mixing-low"}, "Known: live, mixing-law, table"),
        ({"name": "mixing-law", "domain": 3}, "unknown key 'domain'"),
        ({"name": "mixing-law", "domains": 4, "merge": 5}, "merge must lie in 1..4"),
        ({"name": "mixing-law", "bias": 1.0}, "bias must lie in"),
        ({"name": "mixing-law", "noise": -1}, "noise must be at least 0"),
        ({"name": "table", "tables": {}}, "no table ''"),
        ({"name": "table", "tables": {"a": {}}, "table": "b"}, "no table 'b'"),
    ],
)
def test_mistakes_in_an_objective_are_named(objective: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        emulate(runs(small(objective=objective))[1])


def test_an_unknown_recipe_or_scale_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Shipped: .*samplers"):
        read_ablation("sampler")
    with pytest.raises(UserError, match="Scales: emulated"):
        read_ablation("samplers", scale="huge")
    own = tmp_path / "own.yaml"
    own.write_text("# own\nobjective: mixing-law\narms: [uniform, random]\n")
    assert list(read_ablation(str(own), overrides=["seeds=3"]).arms) == ["uniform", "random"]


# --- objectives --------------------------------------------------------------------------------


def test_regret_is_zero_at_the_optimum_and_one_at_a_typical_mixture() -> None:
    ground = surface(Choice("mixing-law", {"domains": 4, "tasks": 2}))
    best, _ = ground.source.optimum()
    assert ground.regret(best[None])[0] == pytest.approx(0.0, abs=1e-9)
    draws = ground.space.sample_mixed(np.random.default_rng(0), 500)
    assert np.all(ground.regret(draws) >= -1e-9)


def test_merged_domains_search_a_coarser_space_of_the_same_truth() -> None:
    fine = surface(Choice("mixing-law", {"domains": 8, "tasks": 2}))
    coarse = surface(Choice("mixing-law", {"domains": 8, "tasks": 2, "merge": 3}))
    assert len(coarse.space) == 3
    assert np.allclose(coarse.space.prior @ np.ones(3), 1.0)
    assert coarse.truth(coarse.space.prior[None]) == pytest.approx(
        fine.truth(fine.space.prior[None])
    )
    assert (coarse.best, coarse.typical) == (fine.best, fine.typical)


def test_a_biased_proxy_is_judged_by_the_target() -> None:
    biased = surface(Choice("mixing-law", {"domains": 6, "tasks": 3, "bias": 0.5}))
    target = surface(Choice("mixing-law", {"domains": 6, "tasks": 3}))
    draws = target.space.sample(np.random.default_rng(0), 50)
    assert np.allclose(biased.truth(draws), target.truth(draws))
    assert not np.allclose(biased.source.score(draws), target.source.score(draws))
    assert "rank correlation with the target" in biased.quality


# --- runs --------------------------------------------------------------------------------------


def test_a_rerun_of_any_arm_gives_the_same_mixtures() -> None:
    every = {"random": None, "climb": None, "tpe": None, "qmc": None}
    for run in runs(small(arms=every, seeds=1, objective={**LAW, "noise": 0.3})):
        first, again = emulate(run), emulate(run)
        assert first.mixtures == again.mixtures and first.final == again.final, run.key
        assert first.curve == again.curve


def test_arms_of_a_seed_share_the_noise() -> None:
    recipe = small(objective={**LAW, "noise": 1.0}, arms={"random": None, "tpe": None}, seeds=1)
    storage = optuna.storages.InMemoryStorage()
    noise = []
    for run in runs(recipe):
        emulate(run, storage=storage)
        study = optuna.load_study(study_name=f"ablation/{run.key}", storage=storage)
        ground = surface(run.objective)
        weights = np.array([ground.space.weights_of(t) for t in study.trials])
        values = np.array([t.value for t in study.trials])
        noise.append(values - ground.source.score(weights))
    assert np.allclose(*noise)
    assert np.std(noise[0]) > 0


def test_a_run_is_an_ordinary_study_with_its_recipe(tmp_path: Path) -> None:
    journal = str(tmp_path / "all.journal")
    recipe = small(seeds=1)
    results = run_ablation(recipe, Archive(tmp_path), storage=journal, prefix="mine")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal))
    study = optuna.load_study(study_name="mine/tpe/seed0", storage=storage)
    assert len(study.trials) == 14
    stored = recipes.study_from(json.loads(study.user_attrs["climb/recipe"]))
    assert stored.sampler.name == "tpe" and stored.evaluators[0].name == "mixing-law"
    # From the stored recipe alone: the same mixtures again.
    run = next(r for r in runs(recipe) if r.arm.name == "tpe")
    assert run.arm.study == stored
    assert {r.arm: r.mixtures for r in results}["tpe"] == emulate(run).mixtures


def test_a_foreign_study_is_not_touched(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="ablation/tpe/seed0", storage=storage)
    run = next(r for r in runs(small()) if r.arm.name == "tpe")
    with pytest.raises(UserError, match="is no run of an ablation"):
        emulate(run, storage=storage)


def test_finished_runs_are_not_repeated(tmp_path: Path) -> None:
    done: list[str] = []
    archive = Archive(tmp_path)
    recipe = small()

    def stop() -> bool:
        return len(done) >= 3

    with pytest.raises(Interrupted):
        run_ablation(recipe, archive, stop=stop, on_run=lambda run, _: done.append(run.key))
    assert len(done) == 3
    results = run_ablation(recipe, archive, on_run=lambda run, _: done.append(run.key))
    assert len(done) == len(set(done)) == len(results) == 6
    changed = small(objective={**LAW, "noise": 0.1})
    assert archive.get(runs(changed)[0]) is None, "another recipe has other results"


def test_a_torn_result_is_computed_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    run = runs(small())[0]
    archive.put(run, emulate(run))
    assert archive.get(run) is not None
    path = next((tmp_path / "runs").glob("*.json"))
    path.write_text(path.read_text()[:50])
    assert archive.get(run) is None


def _share(folder: str, queue: Any) -> None:
    mine: list[str] = []
    results = run_ablation(
        small(seeds=4), Archive(Path(folder)), on_run=lambda run, _: mine.append(run.key)
    )
    queue.put((mine, len(results)))


def test_workers_share_the_runs_of_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_share, args=(str(tmp_path), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    everyone = [key for mine, _ in answers for key in mine]
    assert sorted(everyone) == sorted(run.key for run in runs(small(seeds=4)))
    assert {count for _, count in answers} == {12}


def test_parallel_trials_are_proposed_before_the_first_is_known() -> None:
    recipe = small(arms={"one": {"like": "tpe"}, "four": {"like": "tpe", "parallel": 4}},
                   reference=None, seeds=1, budget={"trials": 30})  # fmt: skip
    one, four = (emulate(run) for run in runs(recipe))
    assert one.trials == four.trials == 30
    assert one.mixtures != four.mixtures


# --- tables ------------------------------------------------------------------------------------


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
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    own = tmp_path / "own.yaml"
    own.write_text(
        "# own\nobjective: {name: mixing-law, domains: 3, tasks: 2}\n"
        "arms: [uniform, random, climb]\nreference: uniform\nbudget: {trials: 14}\n"
    )
    command = ["ablate", str(own), "--seeds", "2", "--output", str(out)]
    assert main([*command, "--plan"]) == 0
    assert "8/4/2" in capsys.readouterr().out and not out.exists()
    assert main([*command, "--arms", "uniform,random"]) == 0
    first = capsys.readouterr().out
    assert "| random |" in first and "climb |" not in first
    assert main([*command, "--show"]) == 0
    assert "climb: 2 of 2 runs have not finished" in capsys.readouterr().out
    assert main(command) == 0
    whole = capsys.readouterr().out
    assert (out / "ablation.md").read_text() == whole
    assert {p.name for p in out.iterdir()} >= {"ablation.json", "runs.csv", "figures"}
    assert len(list((out / "figures").glob("*.png"))) == 3


def test_mistakes_on_the_command_line_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["ablate", "samplers", "--arms", "climb,clim", "--plan"]) == 2
    assert "No arm 'clim'" in capsys.readouterr().err
