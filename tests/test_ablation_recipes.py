"""Ablation recipes and what they search on: mistakes are named, regret means what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt import recipe_files
from climb_opt.ablation.recipe.arms import STANDARD
from climb_opt.ablation.recipe.reading import ablation_from, read_ablation, shipped, title
from climb_opt.ablation.recipe.resolve import allocate, arms, runs
from climb_opt.ablation.recipe.resolve import settings as points_of
from climb_opt.ablation.run.emulate import check_objective, emulate
from climb_opt.ablation.run.results import Archive
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.ablation.run.surfaces import surface
from climb_opt.ablation.table import render
from climb_opt.ablation.table.comparison import comparisons
from climb_opt.errors import UserError
from climb_opt.recipes import Choice
from test_ablation import LAW, SMALL, small

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


@settings(max_examples=60)
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
    path = Path(recipe_files.find("studies", f"ablations/{name}"))
    scales = recipe_files.load_yaml(path).get("scales", {})
    assert scales, "every shipped ablation runs at several scales"
    for scale in scales:
        recipe = read_ablation(name, scale=scale)
        assert recipe.answers and arms(recipe) and runs(recipe)


def test_shipped_studies_are_not_confused_with_ablations() -> None:
    assert not set(shipped()) & set(recipe_files.names("studies"))


def test_standard_arms_resolve() -> None:
    searching = {
        k: None for k, v in STANDARD.items() if not {"proxy", "method", "branches"} & set(v)
    }
    assert len(arms(small(arms=searching, reference=None))) == len(searching)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {}}, "at least one arm"),
        ({"arms": {"random": None, "clim": None}}, "Did you mean 'climb'"),
        ({"arms": {"random": {"like": "climbb"}}}, "Unknown standard arm 'climbb'"),
        ({"arms": {"random": {"rouns": [1]}}}, "arm 'random': study: unknown key 'rouns'"),
        ({"arms": {"random": {"cost": 0}}}, "cost must be positive, but is 0"),
        ({"arms": {"random": {"fixed": "uniform", "doremi": {}}}}, "either fixed or reweight"),
        ({"arms": {"random": None, "doremi": None}}, "reweights real proxies"),
        ({"arms": {"random": {"fixed": "uniform", "method": "marin"}}}, "either fixed or method"),
        ({"arms": {"random": None, "marin": None}}, "`objective: mixbench` alone"),
        ({"reference": "nobody"}, "reference 'nobody' is not among the arms"),
        ({"budget": {"trials": 2}, "arms": {"random": None, "climb": None}}, "3 rounds need one"),
        ({"budget": {"trials": 5, "tokens": 3}}, "give trials, or tokens, or seconds"),
        ({"budget": {"seconds": 3}}, "with the trials"),
        ({"budget": {"trials": -1}}, "all above 0"),
        ({"budget": {}}, "give trials"),
        ({"budget": {"seconds": 3, "trials": 5}}, "counts trials"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"objective": "live", "grid": {"noise": [1]}}, "a grid varies"),
        ({"grid": {"noise": []}}, r"grid\.noise: give at least one value"),
        ({"objective": "nix", "arms": {"random": {"ladder": True}}}, "Unknown objective 'nix'"),
        ({"objective": {**LAW, "noise": float("nan")}}, "must be a finite number, but is nan"),
        ({"arms": {"random": {"cost": float("nan")}}}, "must be a finite number, but is nan"),
        ({"arms": {"random": {"cost": -float("inf")}}}, "must be a finite number, but is -inf"),
        ({"sedes": 3}, "Did you mean 'seeds'"),
        ({"arms": {"random": {"final": "optimun"}}}, "arm 'random': .*Did you mean 'optimum'"),
        ({"arms": {"random": {"final": {"name": "auto", "sed": 1}}}}, "'auto': unknown key 'sed'"),
        ({"arms": {"random": {"final": {"name": "mean-top", "top": 0}}}}, "top must be at least 1"),
        ({"arms": {"random": {"final": {"name": "argbest", "top_n": "x"}}}}, "top_n.* got 'x'"),
        ({"arms": {"random": {"fixed": "unform"}}}, "arm 'random': .*Did you mean 'uniform'"),
        ({"arms": {"random": {"fixed": {"name": "unimax", "epochs": "x"}}}}, "epochs: expected a"),
        ({"arms": {"random": {"sampler": {"name": "climb", "top_n": "x"}}}}, "'random': .*top_n: "),
    ],
)
def test_mistakes_in_a_recipe_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**changes)


BENCH = {"name": "mixbench", "problem": "ladder"}


@pytest.mark.parametrize(
    ("objective", "message"),
    [
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


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"name": "mixing-law", "domains": "a"}, "domains: expected a number, but got 'a'"),
        ({"name": "mixing-law", "domains": 1}, "at least 2 domains, but there is 1"),
        ({"name": "mixing-law", "merge": 1}, "at least 2 domains, but there is 1"),
        ({"name": "mixing-law", "law": -1}, "seed of a law must be at least 0, but is -1"),
        ({"name": "phased-law", "domains": 1}, "at least 2 domains, but there is 1"),
        ({"name": "phased-law", "throughout": 3}, "throughout: expected bool, but got 3"),
        ({"name": "ladder", "costs": "a"}, r"costs\[0\]: expected a number, but got 'a'"),
        ({"name": "ladder", "costs": {"a": 1}}, r"costs\[0\]: expected float, but got {'a': 1}"),
        ({"name": "ladder", "costs": []}, "objective.costs: A ladder needs at least one rung"),
        ({"name": "ladder", "costs": [16, 4]}, "objective.costs: Rungs must be in order of cost"),
        ({"name": "ladder", "law": {"domains": 1}}, "at least 2 domains, but there is 1"),
        ({"name": "ladder", "law": {"domain": 3}}, "objective.law: unknown key 'domain'"),
        ({"name": "ladder", "law": 3}, "objective.law: expected a mapping, but got 3"),
        ({"name": "ladder", "noise": -1}, "noise must be at least 0"),
        ({"name": "ladder", "noise": ["a"]}, r"noise\[0\]: expected a number, but got 'a'"),
        ({"name": "ladder", "correlation": [2.0]}, "correlation must lie above 0"),
        ({"name": "ladder", "foo": 3}, "unknown key 'foo'"),
        ({"name": "ladder-tables"}, "objective: missing key 'rungs'"),
        ({"name": "rows", "file": "gone.csv", "rungs": "a"}, r"rungs\[0\]\[0\]: expected a number"),
        ({"name": "rows", "file": "gone.csv", "rungs": [[1, 2]], "scor": 1}, "unknown key 'scor'"),
        ({**BENCH, "problem": "nix"}, "Unknown problem 'nix'"),
        ({**BENCH, "foo": 3}, "'ladder' takes no 'foo'"),
    ],
)
def test_an_objective_is_checked_before_it_is_planned_or_run(
    objective: dict[str, Any], message: str
) -> None:
    arms = {"random": {"ladder": True, "sampler": "simplex-gp"}} if "costs" in objective else None
    recipe = small(objective=objective, **({"arms": arms} if arms else {}))
    with pytest.raises(UserError, match=message):
        check_objective(recipe)


def test_what_an_objective_reads_from_files_need_not_be_there_for_a_plan() -> None:
    table = {"mixtures": "gone.csv", "results": "gone.csv"}
    for objective in (
        {"name": "table", "tables": {"a": table}},
        {"name": "rows", "file": "gone.csv", "rungs": [[1, 2]]},
        {"name": "mixbench", "problem": "a", "tables": {"a": table}},
    ):
        check_objective(small(objective=objective))


def test_arms_that_are_not_chosen_are_not_checked() -> None:
    data = {**SMALL, "arms": {"random": None, "climb": None}, "budget": {"trials": 2}}
    with pytest.raises(UserError, match="3 rounds need one"):
        ablation_from(data)
    assert list(ablation_from(data, ["random"]).arms) == ["random"]


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


def test_the_emulated_proxies_rank_as_well_as_their_recipes_say() -> None:
    recipe = read_ablation("table3-proxy", scale="emulated")
    found = {}
    for run in runs(recipe)[1:4]:
        options = {**run.objective.options, **run.arm.options.objective}
        found[run.arm.name] = float(surface(Choice("mixing-law", options)).quality.split()[-1])
    assert found == pytest.approx({"62M": 0.90, "132M": 0.96, "350M": 0.98}, abs=0.012)
    best_at_n = read_ablation("table6-best-at-n", scale="emulated")
    assert surface(best_at_n.objective).quality.endswith("target 0.90")


def test_a_comparison_says_what_each_arm_searched_on() -> None:
    biased = {"like": "random", "objective": {"bias": 0.5}}
    asked = small(arms={"random": None, "biased": biased, "too": biased}, seeds=1)
    (table,) = comparisons(asked, [emulate(run) for run in runs(asked)])
    assert "rank correlation" not in table.quality
    assert [r for r in table.remarks if r.startswith("biased, too: ") and "rank corr" in r]


def test_what_an_ablation_leaves_behind_is_its_recipe(tmp_path: Path) -> None:
    asked = small(objective={"name": "mixing-law", "domains": 4, "noise": 0.3}, seeds=1)
    results = run_ablation(asked, Archive(tmp_path))
    left = tmp_path / "ablation.json"
    left.write_text(render.as_json("mine", asked, comparisons(asked, results), results))
    again = read_ablation(str(left))
    assert again == asked and title(str(left)) == "mine"
    for first, second in zip(results, map(emulate, runs(again)), strict=True):
        assert first.mixtures == second.mixtures
        assert first.mixture == pytest.approx(second.mixture)
    louder = read_ablation(str(left), overrides=["objective.noise=1.0"])
    assert louder.objective.options == {"domains": 4, "noise": 1.0}


def test_a_file_that_is_no_ablation_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_ablation(str(path))
    path.write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_ablation(str(path))
    path.write_text("{}")
    with pytest.raises(UserError, match=r"is no ablation\.json"):
        read_ablation(str(path))
