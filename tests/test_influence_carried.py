"""A study carries the influence that its search began with, and says how it fared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pytest

from climb_opt import MixtureSpace, report, work
from climb_opt.ablation.run.judge import Place
from climb_opt.cli import main
from climb_opt.errors import UserError
from climb_opt.gains.table import Gains
from climb_opt.recipes import read_study, study_from
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.study import open_study
from climb_opt.study.carried import influence_of
from climb_opt.view import StudyView, all_trials


@pytest.fixture
def recipe(tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    domains = list(tiny_corpus.tokens())
    gains = Gains({"x/bpb": {d: float(n) for n, d in enumerate(domains)}}, {"x/bpb": 1.0},
                  facts={"hessian": "fisher", "searched": {"a": 1.0}})  # fmt: skip
    gains.write("found.json")
    data = {
        "corpus": str(tiny_corpus.path), "proxy": {"tokens": 4096},
        "score": ["x/bpb"], "rounds": [8], "baselines": [],
        "evaluators": [{"name": "heldout", "target": "sums"}],
        "sampler": {"name": "simplex-gp", "influence": "found.json", "n_startup": 4},
    }  # fmt: skip
    Path("leaning.yaml").write_text(json.dumps(data), encoding="utf-8")
    return "leaning.yaml"


def change(value: float) -> None:
    data = json.loads(Path("found.json").read_text())
    domain = next(iter(data["lowers"]["x/bpb"]))
    data["lowers"]["x/bpb"][domain] = value
    Path("found.json").write_text(json.dumps(data))


def test_a_study_goes_on_without_the_file_and_refuses_a_changed_one(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study(recipe, storage="runs/climb.journal")
    stored = StudyView(study).recipe
    assert stored is not None
    held = influence_of(stored)
    assert held is not None and held.facts == {"file": "found.json", "hessian": "fisher"}
    open_study(recipe, storage="runs/climb.journal")
    change(7.5)
    with pytest.raises(UserError, match=r"'x/bpb' of '\w+' was 0.0, is 7.5"):
        open_study(recipe, storage="runs/climb.journal")
    assert main(["search", recipe]) == 2
    assert "Traceback" not in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert "only `--study-name leaning` to go on with the stored recipe" in said
    open_study("leaning", storage="runs/climb.journal")
    Path("found.json").unlink()
    joined = open_study(recipe, storage="runs/climb.journal")
    space = StudyView(joined).space
    gains = np.arange(len(space.domains))

    def loss(trial: optuna.Trial) -> float:
        return 3.0 - float(space.weights(space.suggest(trial)) @ gains)

    work(joined, objective=loss)
    assert max(t.params[f"w/{space.domains[-1]}"] for t in all_trials(joined)) > 0.8
    text = report(joined, markdown=True)
    assert "The search began with found.json (fisher)." in text
    assert "with a correlation of 1.00" in text


def test_an_arm_whose_influence_changed_gets_the_advice_of_ablations(recipe: str) -> None:
    place = Place(open_storage("runs/climb.journal"), "abl", Path("runs"), lambda: False)
    place.open(read_study(recipe), "abl/leaning/seed0")
    change(7.5)
    with pytest.raises(UserError, match=r"was 0.0, is 7.5. Leave the ablation's recipe") as found:
        place.open(read_study(recipe), "abl/leaning/seed0")
    assert "only `--study-name" not in str(found.value)


def test_a_file_that_cannot_be_read_is_refused_before_there_is_a_study(recipe: str) -> None:
    Path("found.json").write_text("[]")
    with pytest.raises(UserError, match=r"found\.json"):
        open_study(recipe, storage="runs/climb.journal")
    Path("found.json").unlink()
    with pytest.raises(UserError, match=r"found\.json"):
        open_study(recipe, storage="runs/climb.journal")


def test_a_domain_without_influence_is_refused_before_there_is_a_study(recipe: str) -> None:
    data = json.loads(Path("found.json").read_text())
    dropped = data["lowers"]["x/bpb"].popitem()[0]
    Path("found.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=dropped):
        open_study(recipe, storage="runs/climb.journal")
    storage = open_storage("runs/climb.journal")
    assert optuna.get_all_study_names(storage) == []


def test_gains_in_the_recipe_itself_are_the_study_s_too(recipe: str) -> None:
    data = json.loads(Path(recipe).read_text())
    domains = MixtureSpace(Corpus.load(data["corpus"]).tokens()).domains
    gains = np.arange(len(domains))
    data["sampler"]["influence"] = dict(zip(domains, gains.tolist(), strict=True))
    study = open_study(study_from(data), storage="runs/climb.journal", study_name="typed")
    space = StudyView(study).space
    work(study, objective=lambda trial: float(space.weights(space.suggest(trial)) @ gains))
    text = report(study, markdown=True)
    assert "gains that the recipe states" in text and "points the wrong way" in text
