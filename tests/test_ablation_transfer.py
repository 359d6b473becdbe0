"""Mixtures of a search, retrained at another size: the right ones, compared rightly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pytest

from climb_opt import recipes
from climb_opt.cli import main
from climb_opt.errors import UserError
from climb_opt.history import History
from climb_opt.retrain import transfer
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.view import StudyView, all_trials

PROXY = {
    "model": {"hidden": 16, "layers": 1, "heads": 2}, "tokens": 1024, "sequence": 16,
    "batch_tokens": 256, "precision": "fp32", "compile": False,
}  # fmt: skip


def history(n: int) -> History:
    weights = np.stack([np.arange(n) / 100, 1 - np.arange(n) / 100], axis=1)
    study = optuna.create_study()
    for value in np.random.default_rng(0).permutation(n):
        study.add_trial(optuna.trial.create_trial(value=float(value)))
    trials = tuple(study.trials)
    return History(weights, np.array([t.values[0] for t in trials]), trials)


def test_the_best_and_a_spread_of_the_others_are_chosen() -> None:
    chosen = transfer.choose(history(30), 8, 3, "s")
    values = [t.values[0] for t in chosen]
    assert values[:3] == [0, 1, 2]
    assert values[3] == 3 and values[-1] == 29
    assert values == sorted(set(values))


def test_a_mixture_that_was_tried_several_times_is_retrained_once() -> None:
    known = history(8)
    again = known.rows(np.array([0, 0, 1, 2, 3, 1, 4, 5, 6, 7, 7]))
    chosen = transfer.choose(again, 8, 3, "s")
    assert sorted(t.number for t in chosen) == list(range(8))
    with pytest.raises(UserError, match="9 mixtures asked for, but 8 mixtures of 's' finished"):
        transfer.choose(again, 9, 3, "s")


@pytest.mark.parametrize(("n", "top"), [(3, 1), (31, 2), (6, 7)])
def test_impossible_choices_are_refused(n: int, top: int) -> None:
    with pytest.raises(UserError, match="transfer:"):
        transfer.choose(history(30), n, top, "s")


@pytest.mark.parametrize(
    ("finished", "top", "advice"),
    [(0, 6, "0 mixtures of 'my s' finished. `climb-opt status 'my s'` shows how far it is."),
     (3, 2, "3 mixtures of 'my s' finished. `climb-opt status 'my s'` shows how far it is."),
     (8, 9, "8 mixtures of 'my s' finished. `climb-opt status 'my s'` shows how far it is."),
     (8, 6, "8 mixtures of 'my s' finished. `climb-opt status 'my s'` shows how far it is, and "
            "--mixtures 8 takes those.")],
)  # fmt: skip
def test_too_few_trials_are_told_with_what_to_do(finished: int, top: int, advice: str) -> None:
    with pytest.raises(UserError) as error:
        transfer.choose(history(finished), 12, top, "my s")
    assert str(error.value) == f"transfer: 12 mixtures asked for, but {advice}"


def test_correlations_carry_an_interval_and_the_fate_of_the_best() -> None:
    rng = np.random.default_rng(0)
    small = rng.normal(size=20)
    found = transfer.Transfer((), small, small + 0.3 * rng.normal(size=20), 0, {})
    interval = found.interval()
    assert interval is not None and interval[0] < found.rho < interval[1]
    assert found.best_kept() in (1, 2, 3)
    nothing = transfer.Transfer((), np.zeros(0), np.zeros(0), 4, {})
    assert np.isnan(nothing.rho) and nothing.interval() is None and nothing.best_kept() is None


@pytest.fixture
def searched(tiny_corpus: Corpus, tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    recipe = tmp_path / "tiny.yaml"
    data = {
        "corpus": str(tiny_corpus.path), "proxy": PROXY, "rounds": [6], "sampler": "random",
        "evaluators": [{"name": "heldout", "target": "sums", "domains": True}],
        "score": ["sums/bpb"], "baselines": [],
    }  # fmt: skip
    recipe.write_text(json.dumps(data))
    proxy = {**PROXY, "model": {"hidden": 32, "layers": 2, "heads": 2}}
    (tmp_path / "wide.yaml").write_text(json.dumps(proxy))
    where = ["--storage", str(tmp_path / "s.journal"), "--runs", str(tmp_path / "runs")]
    assert main(["search", str(recipe), *where]) == 0
    return tmp_path


def test_the_command_retrains_once_and_prints_the_correlation(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--storage", str(searched / "s.journal"), "--runs", str(searched / "runs")]
    command = ["transfer", "tiny", "--proxy", str(searched / "wide.yaml"), *where]
    assert main([*command, "--mixtures", "5", "--top", "2"]) == 0
    first = capsys.readouterr().out
    assert "| all |" in first and "heldout/math/bpb" in first and "2 x 32" in first
    storage = open_storage(str(searched / "s.journal"))
    larger = optuna.load_study(study_name="tiny-transfer-wide", storage=storage)
    small = optuna.load_study(study_name="tiny", storage=storage)
    assert len(all_trials(larger)) == 5
    assert StudyView(larger).plan.named == transfer.orders(small, larger).plan.named
    for trial in all_trials(larger):
        number = int(trial.user_attrs["climb/slot"].removeprefix("trial-"))
        assert trial.params == small.trials[number].params
    stored = recipes.study_from(json.loads(larger.user_attrs["climb/recipe"]))
    assert stored.proxy.model.hidden == 32 and stored.seed == 0
    assert main([*command, "--mixtures", "5", "--top", "2"]) == 0
    assert capsys.readouterr().out == first
    assert len(all_trials(larger)) == 5
    assert main([*command, "--mixtures", "6"]) == 2
    assert "another transfer" in capsys.readouterr().err
