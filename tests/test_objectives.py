"""Several objectives and guard-rails, from the recipe to the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial

import climb_opt.study.working as working
from climb_opt.attributes import COMPONENTS
from climb_opt.cli import main
from climb_opt.errors import UserError
from climb_opt.gp.hypervolume import front
from climb_opt.history import kept, report_components
from climb_opt.objective import ProxyObjective, add_up
from climb_opt.recipes import read_study, study_from, to_json
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import open_storage

RECIPE = """# Two objectives: sums, and general text.
corpus: {corpus}
proxy: demo
evaluators: [{{name: heldout, target: sums}}]
score: [sums/bpb]
also:
  general: {{score: {{heldout/web/bpb: 0.5, heldout/code/bpb: 0.5}}, direction: minimize}}
rounds: [10]
sampler: {{name: simplex-gp}}
baselines: [prior]
"""


class Proxies:
    is_main = True

    def __init__(self, space: MixtureSpace, constrain: bool = False) -> None:
        self.space, self.constrain = space, constrain

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        mixture = self.space.suggest(trial)
        noise = np.random.default_rng(trial.number).normal(0, 0.01)
        sums, general = 2.0 - mixture["math"] + noise, 1.0 + mixture["math"] ** 2
        report_components(trial, {"sums/bpb": sums, "general/bpb": general})
        if self.constrain:
            trial.set_constraint("general/bpb", general - 1.25)
            return sums
        return sums, general

    def close(self) -> None:
        pass


@pytest.fixture
def run(
    tiny_corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", str(tmp_path / "s.journal"))
    Path("two.yaml").write_text(RECIPE.format(corpus=tiny_corpus.path), encoding="utf-8")

    def call(*argv: str) -> tuple[int, str, str]:
        status = main(list(argv))
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_two_objectives_go_from_recipe_to_pareto_set(
    run: Any, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    space = MixtureSpace(tiny_corpus.tokens())
    monkeypatch.setattr(working, "make_objective", lambda *_, **__: Proxies(space))
    status, _, err = run("search", "two.yaml")
    assert status == 0, err
    study = optuna.load_study(study_name="two", storage=open_storage(str(tmp_path / "s.journal")))
    assert len(study.directions) == 2
    assert study.metric_names == ["score", "general"]
    assert run("report", "two", "--output", "two.html")[0] == 0
    page = Path("two.html").read_text(encoding="utf-8")
    assert 'id="pareto"' in page and "general (lower is better)" in page
    status, out, _ = run("best", "two")
    assert status == 0 and "are not beaten on every objective" in out and "Caution: one of" in out
    status, _, err = run("confirm", "two")
    assert status == 2 and "a verdict is about one" in err
    assert "`climb-opt report two`, then `climb-opt export two --trial N" in err


def test_the_recommendation_keeps_the_guard_rail(
    run: Any, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = MixtureSpace(tiny_corpus.tokens())
    monkeypatch.setattr(working, "make_objective", lambda *_, **__: Proxies(space, True))
    text = RECIPE.format(corpus=tiny_corpus.path)
    head, _, tail = text.partition("also:\n")
    rest = tail.partition("\n")[2].replace("rounds: [10]", "rounds: [20]")
    Path("rail.yaml").write_text(
        f"{head}constraints: {{general/bpb: 1.25}}\n{rest}", encoding="utf-8"
    )
    assert run("search", "rail.yaml")[0] == 0
    status, out, _ = run("export", "rail", "--format", "json")
    # general/bpb = 1 + math^2 must stay below 1.25, while more math is always better.
    assert status == 0
    assert 0.3 < json.loads(out)["mixture"]["math"] <= 0.53
    assert run("report", "rail", "--output", "rail.html")[0] == 0
    assert "trials meet every guard-rail" in Path("rail.html").read_text(encoding="utf-8")


def test_a_recipe_without_further_objectives_is_as_before() -> None:
    recipe = read_study("demo")
    assert list(recipe.objectives()) == ["score"]
    assert "also" in to_json(recipe)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("also={score: {score: [a/bpb]}}", "needs a name of its own"),
        ("also={other: {score: []}}", "needs a name of its own and a component"),
        ("also={other: {score: [a/bpb]}}", "sampler 'climb' searches one objective"),
    ],
)
def test_broken_objectives_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_study("demo", [override])


def test_a_pruner_with_several_objectives_is_refused() -> None:
    with pytest.raises(UserError, match="drop pruner"):
        read_study(
            "demo",
            ["also={other: {score: [a/bpb]}}", "sampler=simplex-gp", "pruner=median"],
        )


def test_an_objective_of_an_unknown_component_is_named(tiny_corpus: Corpus, tmp_path: Path) -> None:
    overrides = [
        f"corpus={tiny_corpus.path}",
        "evaluators=[{name: heldout, target: sums}]",
        "score=[sums/bpb]",
        "also={other: {score: [nope/bpb]}}",
        "sampler=simplex-gp",
    ]
    with pytest.raises(UserError, match=r"study.also.other: no evaluator gives 'nope/bpb'"):
        ProxyObjective(tiny_corpus, read_study("demo", overrides), directory=tmp_path)


def test_objectives_survive_the_study() -> None:
    overrides = ["also={other: {score: {a/bpb: -2.0}, direction: maximize}}", "sampler=nsga2"]
    recipe = read_study("demo", overrides)
    again = study_from(json.loads(to_json(recipe)))
    assert again == recipe
    assert add_up({"a/bpb": 1.5}, again.also["other"].coefficients()) == -3.0


def test_the_pareto_set_is_what_nothing_beats() -> None:
    values = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [3.0, 3.0], [2.0, 2.0]])
    assert np.flatnonzero(front(values)).tolist() == [0, 1, 2]  # of equal ones, the first


def test_a_trial_that_was_not_measured_on_a_guard_rail_did_not_keep_it() -> None:
    measured = create_trial(value=1.0, user_attrs={COMPONENTS: {"a/bpb": 1.0}})
    beyond = create_trial(value=1.0, user_attrs={COMPONENTS: {"a/bpb": 3.0}})
    silent = create_trial(value=1.0)
    assert kept([measured, beyond, silent], {"a/bpb": 2.0}).tolist() == [True, False, False]
    assert kept([measured, silent]).all()  # without guard-rails there is nothing to break
