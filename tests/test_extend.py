"""docs/extend.md and docs/own-sampler.md as a newcomer uses them: saved, and named in a search."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml

from climb_opt.cli import main
from climb_opt.ladder import rung_of
from climb_opt.proxy.job import TRACK
from climb_opt.recipes import StudyRecipe, read_study
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.view import StudyView
from corpora import topic_documents, write_jsonl
from searching import Formula
from synthetic_study import Shape, build_study

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "extend.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's files, in which modules are found; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    # As without optuna-dashboard: its pictures take longer than all else here.
    monkeypatch.setattr("climb_opt.reports.dashboard.notebook.installed", lambda name: False)
    before = set(sys.modules)
    for body in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        Path(body.partition("\n")[0].removeprefix("# ")).write_text(body, encoding="utf-8")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def recipes_of_the_page() -> list[StudyRecipe]:
    found = []
    for index, body in enumerate(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)):
        file = Path(f"page-{index}.yaml")
        file.write_text(body, encoding="utf-8")
        found.append(read_study(str(file)))
    return found


@pytest.fixture
def storage() -> str:
    path = "s.journal"
    build_study(Shape(domains=4, rounds=(8, 4), name="small"), open_storage(path))
    return path


def test_every_file_of_the_page_is_written_whole() -> None:
    names = re.findall(r"```python\n# (my_\w+\.py)\n", PAGE)
    assert len(names) == len(set(names)) == len(re.findall("```python", PAGE)) == 7


def test_a_search_takes_evaluator_pruner_fixed_mixture_and_tracker_from_the_page(
    tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRACK, "")  # which `--track` sets
    scored, based, pruned = recipes_of_the_page()
    assert scored.direction == "maximize"
    recipe = {
        "corpus": str(tiny_corpus.path),
        "proxy": {
            "model": {"hidden": 16, "layers": 1, "heads": 2},
            "tokens": 2048,
            "sequence": 16,
            "batch_tokens": 256,
            "report_every": 2,
        },
        "evaluators": [
            {"name": scored.evaluators[0].name, "target": "sums", "tokens": 200},
        ],
        "score": ["sums/acc"],
        "direction": scored.direction,
        "rounds": [2, 1],
        "sampler": {"name": "climb", "predictor": "linear", "pool_size": 50},
        "pruner": {"name": pruned.pruner.name, "patience": 1} if pruned.pruner else None,
        "prune_first_round": True,
        "baselines": list(based.baselines),
    }
    Path("mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    words = ["search", "mine.yaml", "--storage", "s.journal", "--track", "my_trackers:Lines"]
    assert main(words) == 0, capsys.readouterr().err
    study = optuna.load_study(study_name="mine", storage=open_storage("s.journal"))
    done = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    slots = {t.user_attrs["climb/slot"] for t in study.trials}
    assert "baseline/my_mixtures:without_rare" in slots
    assert done and all(0 <= t.user_attrs["climb/components"]["sums/acc"] <= 1 for t in done)
    for trial in done:
        name = f"slot-{trial.user_attrs['climb/slot']}.jsonl".replace("baseline/", "baseline-")
        told = [json.loads(line) for line in Path("runs/mine", name).read_text().splitlines()]
        assert {f"w/{name}" for name in ("web", "code", "math")} < told[0].keys()
        assert [line["step"] for line in told if "loss" in line] == list(range(1, 9))
        assert told[-1]["score"] == trial.value


def test_a_recipe_names_the_sampler_and_the_predictor_of_their_page(
    home: Callable[..., Formula], capsys: pytest.CaptureFixture[str]
) -> None:
    page = (DOCS / "own-sampler.md").read_text(encoding="utf-8")
    bodies = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    heads = {name: body for body in bodies for name in re.findall(r"^class (\w+)", body, re.M)}
    assert set(heads) == {"NearTheBest", "Nearest"}
    for name, body in heads.items():  # the class and its imports, without what the page does then
        lines = ast.parse(body).body
        kept = [n for n in lines if isinstance(n, ast.Import | ast.ImportFrom | ast.ClassDef)]
        code = "import numpy as np\n" + "\n".join(map(ast.unparse, kept))
        Path(f"my_{name.lower()}.py").write_text(code, encoding="utf-8")
    own = {"name": "my_nearthebest:NearTheBest", "strength": 80}
    climb = {"name": "climb", "predictor": "my_nearest:Nearest", "pool_size": 50}
    for study, sampler in {"own": own, "climb": climb}.items():
        words = ["search", "mine.yaml", "--study-name", study, "--storage", "s.journal"]
        assert main([*words, "--set", f"sampler={json.dumps(sampler)}"]) == 0
        trials = optuna.load_study(study_name=study, storage=open_storage("s.journal")).trials
        assert sum(t.state == optuna.trial.TrialState.COMPLETE for t in trials) == 6


def test_a_rung_of_ones_own_is_a_line_of_the_ladders_page(home: Callable[..., Formula]) -> None:
    page = (DOCS / "ladder.md").read_text(encoding="utf-8")
    body = page.partition("```yaml\n# my-short-ladder.yaml\n")[2].partition("```")[0]
    ladder = yaml.safe_load(body)
    assert [*ladder["ladder"][0]] == ["tokens"] and ladder["ladder"][1] == {}
    # As on the page, of a smaller proxy: its 40,960 tokens instead of 524,288, and ten trials.
    ladder |= {"include": "mine", "ladder": [{"tokens": 10_240}, {}], "budget": {"flops": 2.2e10}}
    Path("short.yaml").write_text(yaml.safe_dump(ladder), encoding="utf-8")
    assert main(["search", "short.yaml", "--storage", "s.journal"]) == 0
    study = optuna.load_study(study_name="short", storage=open_storage("s.journal"))
    view = StudyView(study)
    assert view.ladder is not None
    done = [t for t in view.trials() if t.state == optuna.trial.TrialState.COMPLETE]
    assert {rung_of(t, view.ladder.target) for t in done} == {0, 1}


def test_the_program_of_the_trainers_page_trains_a_search(tiny_corpus: Corpus) -> None:
    page = (DOCS / "own-trainer.md").read_text(encoding="utf-8")
    program = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0]
    Path("train_one.py").write_text(program, encoding="utf-8")
    recipe = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0])
    recipe.update(corpus=str(tiny_corpus.path), rounds=[2], baselines=["prior"])
    recipe["proxy"]["tokens"] = 4096
    Path("mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert main(["search", "mine.yaml", "--storage", "s.journal"]) == 0
    trials = optuna.load_study(study_name="mine", storage=open_storage("s.journal")).trials
    code = [(t.values[0], t.params["w/code"]) for t in trials]
    assert len(code) == 3 and all(value == pytest.approx(1 - 0.2 * w) for value, w in code)


def test_a_mistake_in_the_pages_evaluator_is_one_line_before_training(
    tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {
        "corpus": str(tiny_corpus.path),
        "proxy": {"model": {"hidden": 16, "layers": 1, "heads": 2}, "tokens": 2048},
        "evaluators": [{"name": "my_evaluators:NextToken", "target": "sums", "tokens": 1}],
        "score": ["sums/acc"],
        "direction": "maximize",
        "rounds": [2],
    }
    Path("mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert main(["search", "mine.yaml", "--storage", "s.journal"]) == 2
    assert "NextToken: tokens must be at least 2, but is 1." in capsys.readouterr().err


def test_the_rule_of_the_page_keeps_a_mixture(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["best", "small", "--storage", storage, "--rule", "my_rules:best_five", "-f", "yaml"]
    assert main(words) == 0
    kept = yaml.safe_load(capsys.readouterr().out)
    study = optuna.load_study(study_name="small", storage=open_storage(storage))
    history = StudyView(study).history()
    best = history.weights[np.argsort(history.values)[:5]].mean(axis=0)
    assert sorted(kept.values()) == pytest.approx(sorted(best), abs=1e-6)


def test_the_format_of_the_page_is_written_and_checked(
    storage: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["export", "small", "--storage", storage, "--rule", "observed", "--tokens", "40e9"]
    assert main([*words, "--format", "my_formats:table", "--path", "data/{domain}"]) == 0
    said = capsys.readouterr()
    weights = [float(line.split()[0]) for line in said.out.splitlines()]
    assert sum(weights) == pytest.approx(1) and weights == sorted(weights, reverse=True)
    assert all(" data/" in line for line in said.out.splitlines())
    assert "train for 40000000000 tokens" in caplog.text


def test_the_scorer_of_the_page_scores_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = [{"id": f"n{i}", "text": f"{i} 34 56 78 90 " * 20} for i in range(40)]
    write_jsonl(Path("docs.jsonl"), topic_documents(10) + numbers)
    words = ["corpus", "build", "docs.jsonl", "--output", "out", "--domains", "3", "--clusters",
             "6", "--vocab-size", "300", "--near-duplicates", "off", "--workers", "1",
             "--score", "letters=my_scorers:letters", "--prune", "letters>=0.5",
             "--dry-run"]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr()
    assert "letters" in said.out and "nothing" not in said.out
