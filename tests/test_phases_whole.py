"""A schedule all the way: trained on several ranks, killed, resumed, searched, handed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

pytest.importorskip("torch")

import climb_opt
from climb_opt import cli
from climb_opt.attributes import FACTS
from climb_opt.corpus.after.megatron import read_pair
from climb_opt.mixtures import schedule_from
from climb_opt.phases import PhasedSpace
from climb_opt.shards import Corpus
from climb_opt.view import StudyView
from test_group import launch, read


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_trial_killed_in_its_second_phase_ends_with_the_same_bits(
    ranks: int, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    command = ("torch.distributed.run", "--standalone", "--max-restarts", "1")
    arguments = ["phased", str(tiny_corpus.path), str(tmp_path)]
    done = launch(arguments, *command, "--nproc_per_node", str(ranks))
    whole, resumed = read(tmp_path, done)
    assert (tmp_path / "was-killed").exists()
    assert whole["facts"]["devices"] == ranks and whole["facts"]["resumed_at"] == 0
    assert resumed["facts"]["resumed_at"] == (8 if ranks == 2 else 4)
    begins = [phase["from_step"] for phase in whole["facts"]["phases"]]
    assert begins == [0, 9] and whole["facts"]["phases"][1]["sequences"] == {"code": 9, "math": 36}
    assert resumed["value"] == whole["value"]
    for fact in ("train_loss", "phases", "epochs", "steps"):
        assert resumed["facts"][fact] == whole["facts"][fact]


@pytest.fixture
def searched(tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A search of two phases, begun and finished at the command line."""
    monkeypatch.chdir(tmp_path)
    recipe = {
        "corpus": str(tiny_corpus.path),
        "phases": [0.75, 0.25],
        "space": {"max_epochs": 3},
        "proxy": {
            "model": {"hidden": 16, "layers": 1, "heads": 2},
            "tokens": 8192,
            "sequence": 16,
            "batch_tokens": 512,
            "lr": 1e-2,
        },
        "evaluators": [{"name": "heldout", "target": "sums", "max_tokens": 700}],
        "score": ["sums/bpb"],
        "rounds": [4],
        "sampler": "simplex-gp",
        "baselines": ["prior"],
        "confirm_seeds": 2,
    }
    (tmp_path / "phased.yaml").write_text(yaml.safe_dump(recipe))
    storage = ["--storage", "s.journal"]
    assert cli.main(["search", "phased.yaml", *storage]) == 0
    assert cli.main(["confirm", "phased", *storage, "--seeds", "1"]) == 0
    return climb_opt.open_study("phased", storage="s.journal", create=False)


def test_a_search_of_phases_is_handed_over(searched: optuna.Study, tmp_path: Path) -> None:
    space = StudyView(searched).space
    assert isinstance(space, PhasedSpace)
    found = space.schedule(space.weights(climb_opt.best_mixture(searched)))
    for trial in searched.trials:
        facts: Any = trial.user_attrs[FACTS]
        assert [phase["from_step"] for phase in facts["phases"]] == [0, 12]
        assert max(facts["epochs"].values()) <= 3.01

    text = climb_opt.export(searched, "json", tokens=6400, sequence=64, batch=10)
    told = json.loads(text)["phases"]
    plain = [{key: phase[key] for key in ("share", "mixture")} for phase in told]
    for ours, theirs in zip(found, schedule_from(plain, "export"), strict=True):
        assert ours.share == theirs.share
        for name, weight in ours.mixture.items():
            assert theirs.mixture.get(name, 0.0) == pytest.approx(weight, abs=2e-6)
    assert [phase["steps"] for phase in told] == [[0, 8], [8, 10]]

    written = climb_opt.materialise(searched, "mixed", tokens=6400, sequence=64, batch=10)
    tokens = [len(read_pair(tmp_path / "mixed" / f"mixture-{n}").tokens) for n in (1, 2)]
    assert tokens == [8 * 640, 2 * 640] and written.total == 6400
    for part, phase in zip(written.phases, found, strict=True):
        shares = {name: n / part.total for name, n in part.tokens.items()}
        assert np.allclose([phase.mixture[name] for name in shares], [*shares.values()], atol=0.002)


def test_an_exported_schedule_can_be_put_in_line(
    searched: optuna.Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    climb_opt.export(searched, "yaml", tmp_path / "again.yaml", trial=2)
    assert cli.main(["enqueue", "phased", "again.yaml", "--storage", "s.journal"]) == 0
    assert "In line: enqueued/again" in capsys.readouterr().out
    space, waiting = StudyView(searched).space, searched.get_trials(deepcopy=False)[-1]
    params = waiting.system_attrs["fixed_params"]
    for name, weight in searched.trials[2].params.items():
        assert params[name] == pytest.approx(weight, abs=2e-6)
    assert set(params) == set(space.parameter_names)
