"""What the command line does is done by `climb_opt`'s functions, with the same words when wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import climb_opt
from climb_opt import lookup
from climb_opt.attributes import CORPUS
from climb_opt.cli import main
from climb_opt.errors import UserError
from climb_opt.retrain.confirm import confirmation_beside
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from synthetic_study import Shape, build_study, make_law, make_space

SMALL = Shape(domains=4, rounds=(8, 4), name="small")
BEGUN = Shape(domains=4, rounds=(8, 4), done=0, baselines=(), name="begun")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doors")
    storage = open_storage(str(folder / "s.journal"))
    build_study(SMALL, storage)
    build_study(BEGUN, storage)
    return folder


@pytest.fixture(autouse=True)
def at_hand(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OPTUNA_STORAGE", str(place / "s.journal"))
    for rule in ("argbest", "mean-top", "top", "supported"):  # rank 100,000 candidates each
        monkeypatch.delitem(lookup.KINDS["rule"], rule)
    yield


def opened(name: str) -> optuna.Study:
    return climb_opt.open_study(study_name=name, create=False)


Door = Callable[[optuna.Study], Any]
WRONG: list[tuple[str, Door]] = [
    ("report STUDY --rule bestest", lambda s: climb_opt.report(s, rule="bestest")),
    ("report STUDY --predictor oracle", lambda s: climb_opt.report(s, predictor="oracle")),
    ("report STUDY --corpus none", lambda s: climb_opt.report(s, corpus="none")),
    (
        "report STUDY --output s.journal/x.html --rule observed",
        lambda s: climb_opt.report(s, "s.journal/x.html", rule="observed"),
    ),
    ("export STUDY --format parquet", lambda s: climb_opt.export(s, "parquet")),
    ("export STUDY --format json --trial 99", lambda s: climb_opt.export(s, "json", trial=99)),
    ("export STUDY --format json --rule x", lambda s: climb_opt.export(s, "json", rule="x")),
    (
        "export STUDY --format json --sequence 0",
        lambda s: climb_opt.export(s, "json", sequence=0),
    ),
    ("export STUDY --format json --seed -1", lambda s: climb_opt.export(s, "json", seed=-1)),
    (
        "export STUDY --format json --tokens many",
        lambda s: climb_opt.export(s, "json", tokens="many"),
    ),
    (
        "export STUDY --format megatron --path d/x --trial 3",
        lambda s: climb_opt.export(s, "megatron", path="d/x", trial=3),
    ),
    (
        "export STUDY --format yaml --trial 3 --output s.journal/mix.yaml",
        lambda s: climb_opt.export(s, "yaml", "s.journal/mix.yaml", trial=3),
    ),
    (
        "export STUDY --format materialise --output mixed --tokens 1e3",
        lambda s: climb_opt.materialise(s, "mixed", tokens=1e3),
    ),
    ("confirm STUDY --seeds 0", lambda s: climb_opt.confirm(s, seeds=0)),
    ("confirm STUDY --budget 1", lambda s: climb_opt.confirm(s, budget=1)),
    ("confirm STUDY --rules luck", lambda s: climb_opt.confirm(s, rules=["luck"])),
    ("confirm STUDY --rules observed,luck", lambda s: climb_opt.confirm(s, rules="observed,luck")),
    ("confirm STUDY --proxy 9000b", lambda s: climb_opt.confirm(s, proxy="9000b")),
    ("confirm STUDY --corpus none", lambda s: climb_opt.confirm(s, corpus="none")),
    (
        "transfer STUDY --proxy 62m --mixtures 3",
        lambda s: climb_opt.transfer(s, "62m", mixtures=3),
    ),
    ("transfer STUDY --proxy 9000b", lambda s: climb_opt.transfer(s, "9000b")),
    ("transfer STUDY --proxy 62m --top 13", lambda s: climb_opt.transfer(s, "62m", top=13)),
    (
        "transfer STUDY --proxy 62m --corpus none",
        lambda s: climb_opt.transfer(s, "62m", corpus="none"),
    ),
    ("noise STUDY --repeats 1", lambda s: climb_opt.noise(s, repeats=1)),
    ("noise STUDY --corpus none", lambda s: climb_opt.noise(s, corpus="none")),
    ("retry STUDY 3", lambda s: climb_opt.retry(s, [3])),
]
EARLY: list[tuple[str, Door]] = [
    ("export STUDY --format json", lambda s: climb_opt.export(s, "json")),
    ("confirm STUDY", climb_opt.confirm),
    ("transfer STUDY --proxy 62m", lambda s: climb_opt.transfer(s, "62m")),
]


@pytest.mark.parametrize(
    ("words", "name", "door"),
    [(w, "small", d) for w, d in WRONG] + [(w, "begun", d) for w, d in EARLY],
)
def test_a_function_raises_the_line_that_its_command_prints(
    words: str, name: str, door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.replace("STUDY", name).split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # a busy machine shows progress before it
    with pytest.raises(UserError) as raised:
        door(opened(name))
    assert line == f"climb-opt: {raised.value}"


@pytest.mark.parametrize(
    ("words", "build"),
    [
        ("docs", lambda: climb_opt.build_corpus("docs")),
        ("docs --output c --workers 0", lambda: climb_opt.build_corpus("docs", "c", workers=0)),
        ("none/*.jsonl --output c", lambda: climb_opt.build_corpus(["none/*.jsonl"], "c")),
        ("demo docs --output c", lambda: climb_opt.build_corpus(["demo", "docs"], "c")),
        ("docs --output c --domains 0", lambda: climb_opt.build_corpus("docs", "c", domains=0)),
        ("docs --output c --engine x", lambda: climb_opt.build_corpus("docs", "c", engine="x")),
    ],
)
def test_building_from_python_is_refused_as_on_the_command_line(
    words: str, build: Callable[[], Corpus], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    Path("docs/a.txt").write_text("Some words of a document.")
    assert main(["corpus", "build", *words.split()]) == 2
    line = capsys.readouterr().err
    with pytest.raises(UserError) as raised:
        build()
    assert line == f"climb-opt: {raised.value}\n"


def test_an_unknown_key_of_a_corpus_is_named() -> None:
    with pytest.raises(UserError, match=r"'domain'.*domains"):
        climb_opt.build_corpus("docs", "c", domain=3)


def test_a_function_returns_what_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    study = opened("small")
    yaml = climb_opt.export(study, "yaml", trial=3)
    report = climb_opt.report(study, markdown=True, rule="observed")
    for words, text in (
        ("export small --format yaml --trial 3", yaml),
        ("report small --markdown --rule observed", report),
    ):
        assert main(words.split()) == 0
        assert capsys.readouterr().out == text


def test_a_report_and_a_mixture_are_written_with_their_folders(tmp_path: Path) -> None:
    study, page = opened("small"), tmp_path / "new folder" / "report.html"
    text = climb_opt.report(study, page, rule="observed")
    assert page.read_text(encoding="utf-8") == text and text.startswith("<!doctype html>")
    mixture = tmp_path / "another" / "mixture.json"
    climb_opt.export(study, "json", mixture, tokens=2**53 + 1)
    assert json.loads(mixture.read_text())["tokens"] == 2**53 + 1  # to the last digit


def test_what_a_study_knows_of_its_corpus_is_exported_without_it() -> None:
    study = opened("small")
    tokens = study.user_attrs[CORPUS]["tokens"]
    domains = json.loads(climb_opt.export(study, "json", trial=3, tokens=10**6))["domains"]
    assert {d["name"]: d["tokens"] for d in domains}.items() <= tokens.items()
    assert all(d["epochs"] == d["weight"] * 10**6 / d["tokens"] for d in domains)


@pytest.mark.parametrize("name", ["nanotron", "mosaicml"])
def test_numbers_of_numpy_are_exported_as_pythons_own(name: str) -> None:
    study, numbers = opened("small"), {"seed": 3, "sequence": 64, "batch": 8, "tokens": 10**6}
    of_numpy = {key: np.int64(value) for key, value in numbers.items()}
    found = climb_opt.export(study, name, trial=3, **of_numpy)  # type: ignore[arg-type]
    assert found == climb_opt.export(study, name, trial=3, **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [{"sequence": 64.5}, {"sequence": "64"}, {"batch": 2.5}, {"seed": True}, {"phases": 1.5},
     {"tokens": [1]}],
)  # fmt: skip
def test_what_is_no_whole_number_is_not_exported(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(UserError, match=rf"^--{name} must be a (whole )?number.*, but is "):
        climb_opt.export(opened("small"), "nanotron", **given)


@pytest.mark.parametrize("given", [40e9, 40_000_000_000, "40e9", "40_000_000_000", "4e10"])
def test_a_budget_is_a_number_or_what_a_person_types(given: float | str) -> None:
    text = climb_opt.export(opened("small"), "json", trial=3, tokens=given)
    assert json.loads(text)["tokens"] == 40_000_000_000


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), 1e18, "", "many"])
def test_a_budget_that_is_none_is_refused(given: float | str) -> None:
    with pytest.raises(UserError, match="--tokens must be a number of tokens such as 40e9"):
        climb_opt.export(opened("small"), "json", trial=3, tokens=given)


def test_data_is_no_text() -> None:
    with pytest.raises(UserError, match=r"use climb_opt.materialise\(study, FOLDER\)"):
        climb_opt.export(opened("small"), "materialise")


def test_what_is_retrained_in_python_goes_on_at_the_same_call() -> None:
    space = make_space(SMALL)
    law, calls = make_law(SMALL, space), []

    def score(trial: optuna.Trial) -> float:
        calls.append(trial.number)
        return law(space.weights(space.suggest(trial))) + 1e-3 * trial.number

    study, seen = opened("small"), []
    found = climb_opt.confirm(
        study, seeds=2, name="mine", objective=score, on_trial=lambda t: seen.append(t.number)
    )
    assert set(found.scores) == {"found", "prior", "uniform"} and len(calls) == 6 == len(seen)
    found = climb_opt.confirm(study, seeds=3, name="mine", objective=score)
    assert [d.seeds for d in found.differences()] == [3, 3] and len(calls) == 9
    beside = confirmation_beside(opened("small"))
    assert beside is not None and beside.scores == found.scores
    larger = climb_opt.transfer(study, "62m", mixtures=5, top=2, objective=score)
    assert len(larger.small) == len(larger.large) == 5 and larger.missing == 0
    again = climb_opt.transfer(study, "62m", mixtures=5, top=2, objective=score)
    assert again.slots == larger.slots
    assert len(calls) == 14


@pytest.mark.parametrize(
    "retrain",
    [
        lambda: climb_opt.confirm(opened("small"), name="gone", corpus="none"),
        lambda: climb_opt.transfer(opened("small"), "62m", name="gone", corpus="none"),
        lambda: climb_opt.noise(opened("small"), name="gone", corpus="none"),
        lambda: main(["confirm", "small", "--as", "gone", "--corpus", "none"]),
        lambda: main(["noise", "small", "--as", "gone", "--corpus", "none"]),
        lambda: main(["transfer", "small", "--proxy", "62m", "--as", "gone", "--corpus", "none"]),
    ],
)
def test_what_cannot_be_retrained_leaves_no_study_behind(
    retrain: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert retrain() == 2
        words = capsys.readouterr().err
    except UserError as error:
        words = str(error)
    assert "No corpus at" in words
    with pytest.raises(UserError, match="No study 'gone'"):
        opened("gone")


def test_a_plain_study_is_reported_and_exported(tiny_corpus: Corpus) -> None:
    space = climb_opt.MixtureSpace(tiny_corpus.tokens())
    study = optuna.create_study(study_name="plain", sampler=climb_opt.SimplexGPSampler(space))
    space.suggest(study.ask())
    with pytest.raises(UserError, match=r"to export yet: no trial has finished\. Run it first"):
        climb_opt.export(study, "json")
    study.optimize(lambda trial: space.suggest(trial)["code"], n_trials=4)
    assert climb_opt.report(study, markdown=True).startswith("# plain\n")
    assert sum(json.loads(climb_opt.export(study, "json"))["mixture"].values()) == pytest.approx(1)
    written = climb_opt.report(study, corpus=tiny_corpus.path)
    assert "plain" in written
    for searched_only in (climb_opt.confirm, climb_opt.status, climb_opt.pause, climb_opt.resume):
        with pytest.raises(UserError, match=r"was not made by climb_opt.* Name another study"):
            searched_only(study)
