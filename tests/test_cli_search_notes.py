"""`climb-opt search` leaves notes and cards for the dashboard, and begins with what is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import climb_opt.study.working as working
from climb_opt.cli import main
from climb_opt.history import report_components
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import open_storage

RECIPE = """# A tiny search for tests.
corpus: {corpus}
proxy: demo
evaluators: [{{name: heldout, target: sums}}]
score: [sums/bpb]
rounds: [4, 2]
sampler: {{name: climb, predictor: linear}}
"""


class Proxies:
    is_main = True

    def __init__(self, space: MixtureSpace) -> None:
        self.space = space

    def __call__(self, trial: optuna.Trial) -> float:
        mixture = self.space.suggest(trial)
        value = 2.0 - mixture["math"]
        report_components(trial, {"sums/bpb": value})
        return value

    def close(self) -> None:
        pass


@pytest.fixture
def search(
    tiny_corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", str(tmp_path / "s.journal"))
    space = MixtureSpace(tiny_corpus.tokens())
    monkeypatch.setattr(working, "make_objective", lambda *_, **__: Proxies(space))
    Path("tiny.yaml").write_text(RECIPE.format(corpus=tiny_corpus.path), encoding="utf-8")

    def call(*argv: str) -> str:
        assert main(["search", "tiny.yaml", *argv]) == 0
        return capsys.readouterr().out

    return call


def load(name: str, folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_storage(str(folder / "s.journal")))


def test_trials_have_notes_and_artifacts_and_the_study_has_cards(
    search: Any, tmp_path: Path
) -> None:
    pytest.importorskip("optuna_dashboard")
    out = search()
    assert "8 of 8 slots done" in out
    study = load("tiny", tmp_path)
    attrs = study._storage.get_study_system_attrs(study._study_id)
    for trial in study.trials:
        assert any(key.startswith(f"dashboard:{trial._trial_id}:note") for key in attrs)
        metas = optuna.artifacts.get_all_artifact_meta(trial, storage=study._storage)
        assert "mixture.csv" in {meta.filename for meta in metas}
    assert study.user_attrs["climb/rounds-shown"] == 2
    assert Path(study.user_attrs["climb/artifacts"]) == tmp_path / "runs" / "artifacts"


def test_a_new_study_begins_with_an_older_one(search: Any, tmp_path: Path) -> None:
    search()
    out = search("--study-name", "next", "--from", "tiny")
    assert "From tiny: 8 trials exactly, 0 nearly." in out
    study = load("next", tmp_path)
    imported = [t for t in study.trials if "climb/imported" in t.user_attrs]
    assert len(imported) == 8 and len(study.trials) == 16
    assert "was imported before" in search("--study-name", "next", "--from", "tiny")
    assert len(load("next", tmp_path).trials) == 16
