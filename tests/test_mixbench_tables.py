"""Table problems of mixbench: the shapes people hold, measured noise, what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from climb_opt.ablation.run.benched import problem_of
from climb_opt.errors import UserError
from climb_opt.mixbench import Method, from_studies, run, table_problem
from climb_opt.mixbench.peers import RANDOM
from climb_opt.simplex import MixtureSpace
from climb_opt.view import store_space

DOMAINS = ("web", "code", "math")


def rows(n: int = 12, seed: int = 0) -> np.ndarray:
    return np.round(np.random.default_rng(seed).dirichlet(np.ones(3), n), 4)


def score(w: np.ndarray) -> np.ndarray:
    return np.asarray(2.0 + (w - [0.2, 0.5, 0.3]) ** 2 @ np.ones(3))


def write(path: Path, head: str, lines: Any) -> str:
    text = "\n".join([head, *(",".join(map(str, line)) for line in lines)])
    path.write_text(text + "\n", encoding="utf-8")
    return path.name


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    w = rows()
    write(tmp_path / "w.csv", "run,web,code,math", [[i, *row] for i, row in enumerate(w)])
    y = score(w)
    write(tmp_path / "y.csv", "run,prose_loss,qa_acc", [[i, v, 1 - v] for i, v in enumerate(y)])
    return tmp_path


def of_two(folder: Path, **more: Any) -> Any:
    given = {"mixtures": "w.csv", "results": "y.csv", "key": "run", "score": ["prose_loss"]}
    return table_problem("ours", folder=str(folder), **{**given, **more})


def test_rows_are_searched_themselves_and_unknown_noise_is_said(two_files: Path) -> None:
    found = of_two(two_files)
    assert found.noise == "unknown" and "noise unknown (no mixture was run twice)" in found.about()
    w = rows()
    best = w[np.argmin(score(w))] / w[np.argmin(score(w))].sum()
    assert found.regret(found.space.weights(dict(zip(DOMAINS, best, strict=True)))[None])[0] == 0
    outcome = run(RANDOM, found, trials=12)
    assert outcome.regret >= 0 and outcome.trials == 12
    near = Method(recommend=lambda p, d, s: p.space.weights({"web": 0.2, "code": 0.5, "math": 0.3}))
    assert run(near, found, trials=1).regret < 0.2  # judged as the nearest row


def test_a_stated_noise_is_used(two_files: Path) -> None:
    found = of_two(two_files, noise=0.5)
    assert (found.noise, found.source.noise) == ("stated", 0.5)


def test_higher_is_better_where_the_name_says_it(two_files: Path) -> None:
    found, losses = of_two(two_files, score=["qa_acc"]), of_two(two_files)
    assert found.truth(found.space.rows) == pytest.approx(-1 + losses.truth(found.space.rows))  # type: ignore[attr-defined]


def test_runs_again_measure_the_noise_and_their_mean_is_the_truth(tmp_path: Path) -> None:
    w = np.repeat(rows(10), 3, axis=0)
    wobble = np.tile([-0.1, 0.0, 0.1], 10)
    cells = [[*row, 1e6, 1e9, v] for row, v in zip(w, score(w) + wobble, strict=True)]
    write(
        tmp_path / "runs.csv",
        "weight_web,weight_code,weight_math,model_size,n_tokens,x_loss",
        cells,
    )
    found = table_problem("ours", folder=str(tmp_path), runs="runs.csv")
    assert found.noise == "measured on 10 mixtures that were run again"
    assert found.source.noise * found.source.sigma == pytest.approx(0.1)  # type: ignore[operator]
    assert found.truth(found.space.rows) == pytest.approx(score(rows(10)), abs=1e-6)  # type: ignore[attr-defined]


def test_sizes_are_rungs_that_cost_their_flops(tmp_path: Path) -> None:
    w = rows(9)
    cells = [
        [*row, size, tokens, score(row[None])[0] + 1e6 / size]
        for row in w
        for size, tokens in ((1e6, 1e9), (1e7, 5e9), (1e7, 1e10))
    ]
    write(tmp_path / "r.csv", "w_web,w_code,w_math,params,steps,x_loss", cells)
    columns = {"weights": "w_", "size": "params", "tokens": "steps"}
    found = table_problem(
        "ours", folder=str(tmp_path), runs="r.csv", rungs=[[1e6, 1e9], [1e7, 1e10]], **columns
    )
    assert found.ladder.shares.tolist() == pytest.approx([0.01, 1.0])
    cheap = Method(rung=lambda p, data: 0)
    assert run(cheap, found, trials=0.05).trials == 5


def test_recipes_by_size_seed_and_task_are_read(tmp_path: Path) -> None:
    w = rows(8)
    write(tmp_path / "recipes.csv", "data,web,code,math", [[f"m{i}", *r] for i, r in enumerate(w)])
    lines = [
        [
            f"m{i}",
            size,
            tokens,
            seed,
            task,
            f"\"{{'acc': {0.9 - score(r[None])[0] / 10}, 'n': 3}}\"",
        ]
        for i, r in enumerate(w)
        for size, tokens in (("4M", "0.4B"), ("150M", "15e9"))
        for seed in ("default", "other")
        for task in ("piqa", "arc")
    ]
    write(tmp_path / "results.csv", "data,params,tokens,seed,task,metrics", lines)
    given = {"recipes": "recipes.csv", "results": "results.csv"}
    rungs = [[4e6, 4e8], [150e6, 15e9]]
    found = table_problem("dd", folder=str(tmp_path), metric="acc", rungs=rungs, **given)
    assert len(found.ladder) == 2 and found.noise.startswith("measured on 8")
    best, _ = found.source.optimum()
    mixture = found.space.mixture(best)
    ordered = np.array([[mixture[domain] for domain in DOMAINS]])
    assert score(ordered)[0] == pytest.approx(score(w).min(), abs=1e-4)
    with pytest.raises(UserError, match="say which metric: acc, n"):
        table_problem("dd", folder=str(tmp_path), rungs=rungs, **given)
    with pytest.raises(UserError, match="has no column 'date'"):
        columns = {"recipe": "date"}
        table_problem("dd", folder=str(tmp_path), columns=columns, metric="acc", **given)


PUBLISHED = ("params", "data", "task", "step", "seed", "chinchilla", "tokens", "compute", "metrics")


def published(metrics: Any, missing: int = 0) -> list[dict[str, Any]]:
    """Rows as DataDecide publishes them: checkpoints, seeds by name, metrics as text."""
    return [
        dict(zip(PUBLISHED, cells, strict=True))
        for i, r in enumerate(rows(9))
        for step, tokens in ((1250.0, 81920000.0), (5000.0, 327680000.0))
        for seed in ("default", "small aux 2")
        for task in (("arc_easy", "piqa") if i >= missing else ("piqa",))
        for value in [float(score(r[None])[0]) + 1 / step]
        for cells in [
            ("4M", f"m{i} (QC 7%, FW2)", task, step, seed, "5xC", tokens, 1.5e15, metrics(value, i))
        ]
    ]


def printed(value: float, i: int) -> str:
    nothing = (None, float("nan"))[i % 2]
    return str({"correct_choice": 1.4, "primary_metric": value, "acc_uncond": nothing})


def as_json(value: float, i: int) -> str:
    return json.dumps({"primary_metric": value, "acc_uncond": (None, float("nan"))[i % 2]})


def recipes(folder: Path, n: int = 9) -> dict[str, Any]:
    named = [[f'"m{i} (QC 7%, FW2)"', *r] for i, r in enumerate(rows(9))]
    write(folder / "recipes.csv", "data,web,code,math", named[:n])
    return {"recipes": "recipes.csv", "results": "results.csv", "folder": str(folder)}


@pytest.mark.parametrize("metrics", [printed, as_json])
def test_results_as_published_have_checkpoints_other_columns_and_entries_that_are_nothing(
    tmp_path: Path, metrics: Any
) -> None:
    given = recipes(tmp_path)
    with open(tmp_path / "results.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, PUBLISHED)
        writer.writeheader()
        writer.writerows(published(metrics, missing=1))
    found = table_problem("dd", metric="primary_metric", better="lower", **given)
    assert found.best == pytest.approx(score(rows(9)[1:]).min() + 1 / 5000, abs=1e-6)
    assert "2 results (4 rows without left out) of 8 real runs" in found.about()
    assert found.noise.startswith("measured on 8") and run(RANDOM, found, trials=8).trials == 8
    with pytest.raises(UserError, match="'None' is not a finite number"):
        table_problem("dd", metric="acc_uncond", better="lower", **given)


def test_results_as_published_are_parquet_in_parts(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    lines, given = published(printed), recipes(tmp_path)
    parts = ["train-0.parquet", "train-1.parquet"]
    for name, part in zip(parts, (lines[:17], lines[17:]), strict=True):
        parquet.write_table(arrow.Table.from_pylist(part), tmp_path / name)
    given |= {"results": parts, "metric": "primary_metric", "better": "lower"}
    found = table_problem("dd", **given)
    assert found.best == pytest.approx(score(rows(9)).min() + 1 / 5000, abs=1e-6)
    recipes(tmp_path, 8)
    with pytest.raises(UserError, match=r"train-1.parquet, line \d+: .* no weights of recipe 'm8"):
        table_problem("dd", **given)
    assert " of 8 real runs" in table_problem("dd", unmatched="drop", **given).about()
    with pytest.raises(UserError, match="unmatched must be"):
        table_problem("dd", unmatched="skip", **given)
    (tmp_path / parts[0]).write_bytes(b"PAR1 and nothing of it")
    with pytest.raises(UserError, match=r"train-0\.parquet is Parquet but cannot be read"):
        table_problem("dd", **given)


def test_a_checkpoint_that_few_recipes_reached_is_no_rung(tmp_path: Path) -> None:
    given = recipes(tmp_path)
    lines = published(as_json)
    lines.append({**lines[-1], "step": 5100.0, "tokens": 334233600.0})
    with open(tmp_path / "results.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, PUBLISHED)
        writer.writeheader()
        writer.writerows(lines)
    given |= {"metric": "primary_metric", "better": "lower", "score": "piqa/primary_metric"}
    assert " of 9 real runs" in table_problem("dd", **given).about()


def test_ones_own_searches_are_a_problem() -> None:
    space = MixtureSpace({"web": 3, "code": 2, "math": 1})
    study = optuna.create_study(direction="maximize")
    for w in rows(9, seed=3):
        params = space.params(space.weights(dict(zip(DOMAINS, w, strict=True)), normalise=True))
        trial = optuna.trial.create_trial(
            params=params, distributions=space.distributions(), value=-float(score(w[None])[0])
        )
        study.add_trial(trial)
    found = from_studies("ours", [study])
    assert found.best == pytest.approx(score(rows(9, seed=3)).min(), abs=1e-3)
    with pytest.raises(UserError, match="one direction"):
        from_studies("ours", [study, optuna.create_study()])
    with pytest.raises(UserError, match="over 0 sets of domains"):
        from_studies("ours", [optuna.create_study()])
    assert found.space.prior != pytest.approx(space.prior), "nothing states it: the mean of rows"
    store_space(study, space)
    assert from_studies("ours", [study]).space.mixture(space.prior) == space.mixture(space.prior)


def test_files_in_parts_are_one_table(two_files: Path) -> None:
    w = rows(6, seed=9)
    write(two_files / "w2.csv", "run,web,code,math", [[f"b{i}", *r] for i, r in enumerate(w)])
    write(
        two_files / "y2.csv",
        "run,prose_loss,qa_acc",
        [[f"b{i}", v, v] for i, v in enumerate(score(w))],
    )
    found = of_two(two_files, mixtures=["w.csv", "w2.csv"], results=["y.csv", "y2.csv"])
    assert "of 18 real runs; a regret" in found.about()


def test_what_says_two_things_of_one_run_is_refused(tmp_path: Path) -> None:
    w = rows(8)
    named = [[f"m{i}", *r] for i, r in enumerate(w)]
    write(tmp_path / "recipes.csv", "data,web,code,math", named)
    write(tmp_path / "twice.csv", "data,web,code,math", [*named, named[0]])
    results = [[f"m{i}", "4M", "1B", 0, "piqa", v] for i, v in enumerate(score(w))]
    head = "data,params,tokens,seed,task,metrics"
    write(tmp_path / "results.csv", head, results)
    write(tmp_path / "again.csv", head, [*results, results[0]])
    given = {"recipes": "recipes.csv", "results": "results.csv", "better": "lower"}
    assert table_problem("dd", folder=str(tmp_path), **given).noise == "unknown"
    for more, says in (
        ({"recipes": "twice.csv"}, r"line 10: recipe 'm0' is there twice"),
        ({"results": "again.csv"}, r"line 10: a second result of 'piqa' of recipe 'm0'"),
        ({"columns": "x"}, "columns must"),
    ):
        with pytest.raises(UserError, match=says):
            table_problem("dd", folder=str(tmp_path), **{**given, **more})


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("recipes.csv", "code", "web", "names column 'web' twice"),
        ("recipes.csv", "web,code,math", "web,code,data", "names column 'data' twice"),
        ("results.csv", "seed", "metrics", "has no column 'seed'|names column 'metrics' twice"),
        ("results.csv", "4M", "4.5.6", r"column 'params': '4\.5\.6' is no number"),
        ("results.csv", "4M", "0", "no run of 0 parameters"),
        ("results.csv", "1B", "0", "no run of 4M parameters and 0 tokens"),
        ("results.csv", "{'x_loss': ", "{", "is no mapping"),
    ],
)
def test_a_fault_in_a_table_of_recipes_is_said(
    tmp_path: Path, file: str, old: str, new: str, says: str
) -> None:
    given = recipes(tmp_path)
    lines = [
        [f'"m{i} (QC 7%, FW2)"', "4M", "1B", 0, "piqa", f"\"{{'x_loss': {v}}}\""]
        for i, v in enumerate(score(rows(9)))
    ]
    write(tmp_path / "results.csv", "data,params,tokens,seed,task,metrics", lines)
    assert table_problem("dd", metric="x_loss", **given).noise == "unknown"
    path = tmp_path / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=says):
        table_problem("dd", metric="x_loss", **given)


def test_weights_of_recipes_may_be_percentages_that_say_so(tmp_path: Path) -> None:
    given = recipes(tmp_path)
    lines = [[f"m{i}", "4M", "1B", 0, "piqa", v] for i, v in enumerate(score(rows(9)))]
    write(tmp_path / "results.csv", "data,params,tokens,seed,task,metrics", lines)
    percent = [[f"m{i}", *(f"{x * 100:.2f}%" for x in r)] for i, r in enumerate(rows(9))]
    write(tmp_path / "recipes.csv", "data,web,code,math", percent)
    found = table_problem("dd", better="lower", **given)
    assert found.best == pytest.approx(score(rows(9)).min())
    bare = [[f"m{i}", *(r * 100)] for i, r in enumerate(rows(9))]
    write(tmp_path / "recipes.csv", "data,web,code,math", bare)
    with pytest.raises(UserError, match="Percentages"):
        table_problem("dd", better="lower", **given)


def test_a_key_that_two_columns_have_is_refused(two_files: Path) -> None:
    write(
        two_files / "y.csv", "run,run,prose_loss", [[i, i, v] for i, v in enumerate(score(rows()))]
    )
    with pytest.raises(UserError, match="names column 'run' twice"):
        of_two(two_files)


def test_a_file_without_rows_is_said(two_files: Path) -> None:
    for text, says in (("", "has no row: it is empty"), ("run,web,code,math\n", "has no row")):
        (two_files / "none.csv").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=says):
            of_two(two_files, mixtures="none.csv")


@pytest.mark.parametrize("table", [None, "w.csv", ["w.csv"]])
def test_a_table_that_is_no_mapping_is_refused(table: Any) -> None:
    with pytest.raises(UserError, match="t must say mixtures and results"):
        problem_of({"problem": "t", "tables": {"t": table}}, 0)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"score": ["prose_loss", "qa_acc"]}, "lower is better in some results and higher"),
        ({"better": "up"}, '"lower" or "higher"'),
        ({"score": "nothing"}, "No result 'nothing'"),
        ({"noise": -1.0}, "noise must be at least 0"),
        ({"keys": "run"}, "takes no 'keys'. Did you mean 'key'"),
        ({"name": "x"}, "takes no 'name'"),
        ({"key": None}, "lacks key; .* names a run in both files"),
        ({"results": None}, "lacks results; with mixtures give"),
        ({"mixtures": 3}, "mixtures must be a file, not 3"),
        ({"mixtures": ["w.csv", "w.csv"]}, "as many files under mixtures as under results"),
        ({"score": 3}, "a list of results, or a mapping of results to numbers, not 3"),
        ({"score": {"prose_loss": "x"}}, "a mapping of results to numbers"),
        ({"noise": "much"}, "noise and rungs are numbers, not 'much'"),
        ({"noise": [0.1, 0.2]}, "noise and rungs are numbers"),
        ({"rungs": []}, "list of pairs"),
        ({"rungs": [[1e6], [1e7, 1e9]]}, "list of pairs"),
        ({"rungs": "all"}, "list of pairs"),
        ({"rungs": [["a", "b"]]}, "noise and rungs are numbers, not 'a'"),
        ({"runs": "w.csv"}, "give mixtures and results, or runs and rungs"),
        ({"rungs": [[2.0, 3.0]]}, "no run of"),
        ({"rungs": [[0, 0]]}, "no run of 0 parameters"),
        ({"key": 3}, "key must be a name, not 3"),
        ({"unmatched": ["drop"]}, "unmatched must be a name"),
        ({"ignore": 3}, "ignore must be a name or a list of names, not 3"),
        ({"ignore": "math"}, "sum to"),
        ({"ignore": ["run", "mth"]}, "ignore: no file has column 'mth'. Did you mean 'math'"),
        ({"score": ["prose_loss", "prose_loss"]}, "names result 'prose_loss' twice"),
    ],
)
def test_what_a_table_cannot_be_is_said(two_files: Path, more: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        of_two(two_files, **more)


def test_names_that_do_not_say_which_way_is_better_need_a_word(tmp_path: Path) -> None:
    w = rows()
    write(tmp_path / "w.csv", "run,web,code,math", [[i, *row] for i, row in enumerate(w)])
    write(tmp_path / "y.csv", "run,arc:rc::olmes", [[i, v] for i, v in enumerate(score(w))])
    with pytest.raises(UserError, match="nothing says whether higher or lower is better in 'arc"):
        of_two(tmp_path, score=None)
    assert of_two(tmp_path, score=None, better="lower").best == pytest.approx(score(w).min())
    signed = of_two(tmp_path, score={"arc:rc::olmes": -1.0})
    assert signed.best == pytest.approx(-score(w).max())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w * [1.0, 1.0, 2.0], "sum to"),
        (lambda w: w[:6], "a problem needs 8 or more"),
        (lambda w: np.column_stack([w[:, 0], 1 - w[:, 0]]), "with two a mixture is one number"),
        (lambda w: np.tile(w[:1], (12, 1)), "in every row"),
    ],
)
def test_rows_that_are_no_search_are_refused(tmp_path: Path, change: Any, says: str) -> None:
    w = change(rows())
    head = "run," + ",".join(DOMAINS[: w.shape[1]])
    write(tmp_path / "w.csv", head, [[i, *row] for i, row in enumerate(w)])
    write(tmp_path / "y.csv", "run,prose_loss", [[i, 2.0 + i / 10] for i in range(len(w))])
    with pytest.raises(UserError, match=says):
        of_two(tmp_path)
