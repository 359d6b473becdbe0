"""Branches used again: another score priced without training, and models written for others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

pytest.importorskip("torch")
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import climb_opt
import studying
from branching import branched
from climb_opt.cli import main
from climb_opt.errors import UserError
from climb_opt.exports.from_study import handover_of
from climb_opt.mixtures import schedule_from
from climb_opt.recipes import Choice
from climb_opt.shards import Corpus
from climb_opt.study import open_study, work
from climb_opt.view import all_trials
from studying import PACE

journal = studying.journal  # a fixture
BOTH = Choice("heldout", {"target": "sums", "domains": True})


@pytest.fixture(scope="module")
def place(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search that has ended, `s`."""
    folder = tmp_path_factory.mktemp("again")
    recipe = branched(tiny_corpus, evaluators=(BOTH,), rounds=(2, 1))
    study = open_study(recipe, storage=str(folder / "x.journal"), study_name="s")
    work(study, directory=folder / "runs", pace=PACE)
    return folder


@pytest.fixture
def study(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[optuna.Study]:
    monkeypatch.chdir(place)
    yield open_study(study_name="s", storage="x.journal", create=False)


def test_another_target_is_priced_without_training(study: optuna.Study) -> None:
    before = len(all_trials(study))
    code = climb_opt.rescore(study, ["score=[heldout/code/bpb]"])
    web = climb_opt.rescore(study, ["score=[heldout/web/bpb]"])
    assert code.readout == "ensemble" and code.optimum and code.priced > 4096
    assert code.mixture["code"] > web.mixture["code"] and web.mixture["web"] > 0.5
    assert code.scores["found"] <= min(code.scores.values())
    assert code.trained.n == 7  # six that check, and the target's round
    assert len(all_trials(study)) == before


def test_bounds_and_constraints_are_priced_anew(study: optuna.Study) -> None:
    free = climb_opt.rescore(study, ["score=[heldout/code/bpb]"])
    bound = climb_opt.rescore(study, ["score=[heldout/code/bpb]", "space.upper=0.5"])
    assert max(bound.mixture.values()) <= 0.5 + 1e-9
    assert bound.scores["found"] >= free.scores["found"]
    web = climb_opt.rescore(study, ["score=[heldout/web/bpb]"]).scores["found"]
    limit = [f"constraints={{heldout/web/bpb: {web * 1.02}}}"]
    railed = climb_opt.rescore(study, ["score=[heldout/code/bpb]", *limit])
    assert railed.kept and railed.scores["found"] >= free.scores["found"]
    never = climb_opt.rescore(study, ["constraints={heldout/web/bpb: 0.001}"], mixtures=8)
    assert not never.kept


def test_a_score_that_is_no_sum_over_tokens_is_priced_by_merging(
    study: optuna.Study, tiny_corpus: Corpus
) -> None:
    evaluators = "evaluators=[heldout, 'test_branches_training:Parameters']"
    found = climb_opt.rescore(study, [evaluators, "score=[size/millions]"], mixtures=2)
    assert found.readout == "merge" and not found.optimum
    assert len(set(found.scores.values())) == 1  # models of one size


def test_what_cannot_be_priced_is_one_line(
    study: optuna.Study, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="'proxy' changes what is trained"):
        climb_opt.rescore(study, ["proxy.lr=1"])
    with pytest.raises(
        UserError, match=r"Branch '\w+' is not in .* `climb-opt search s`, .*--runs"
    ):
        climb_opt.rescore(study, directory=tmp_path / "elsewhere")
    with pytest.raises(UserError, match="at least 1, but is 0"):
        climb_opt.rescore(study, mixtures=0)
    plain = replace(branched(tiny_corpus), branches=None, rungs=())
    other = open_study(plain, storage=str(tmp_path / "y.journal"), study_name="p")
    with pytest.raises(UserError, match="whose recipe has branches"):
        climb_opt.rescore(other)


def test_the_command_says_what_it_found(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["rescore", "s", "--storage", "x.journal", "--set", "score=[heldout/code/bpb]"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "the optimum of the ensemble, read off branches" in out and "score of prior" in out
    commands = ("enqueue s FILE", "search s", "confirm s")
    assert all(f"`climb-opt {command} --storage x.journal`" in out for command in commands)
    assert main([*asked, "-f", "json"]) == 0
    assert '"readout": "ensemble"' in capsys.readouterr().out


# --- models --------------------------------------------------------------------------------------


def test_a_branch_and_merged_branches_open_in_transformers(
    study: optuna.Study,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="climb_opt")
    folders = {name: tmp_path / name for name in ("web", "code", "math", "trunk", "merged")}
    for name, folder in folders.items():
        asked = ["export", "s", "--storage", "x.journal", "--format", "model"]
        own = ["--branch", name] if name != "merged" else ["--trial", "8"]
        assert main([*asked, *own, "--output", str(folder)]) == 0, capsys.readouterr().err
    assert "in training" not in caplog.text  # nothing is
    models = {n: AutoModelForCausalLM.from_pretrained(f).state_dict() for n, f in folders.items()}
    assert AutoTokenizer.from_pretrained(folders["merged"]).eos_token == "<|endoftext|>"
    params = all_trials(study)[8].params
    for key, value in models["merged"].items():
        wanted = sum(params[f"w/{name}"] * models[name][key] for name in ("web", "code", "math"))
        assert torch.allclose(value, wanted, atol=1e-5)
    assert not torch.equal(models["web"]["lm_head.weight"], models["trunk"]["lm_head.weight"])


def test_a_model_that_is_not_there_is_one_line(
    study: optuna.Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="No branch 'wbe'"):
        climb_opt.export_model(study, tmp_path / "m", branch="wbe")
    with pytest.raises(UserError, match="nowhere"):
        climb_opt.export_model(study, tmp_path / "m", directory=tmp_path / "nowhere")
    phases = [{"share": 0.5, "mixture": {name: 1.0}} for name in ("web", "code")]
    changing = handover_of(study, mixture=schedule_from({"phases": phases}, "two phases"))
    with pytest.raises(UserError, match="A schedule cannot be merged"):
        climb_opt.export_model(study, tmp_path / "m", branch=changing)
    assert main(["export", "s", "--storage", "x.journal", "--format", "model"]) == 2
    assert main(["export", "s", "--storage", "x.journal", "--format", "yaml", "--branch", "a"]) == 2
    asked = ["export", "s", "--storage", "x.journal", "--format", "model", "--output", "m"]
    assert main([*asked, "--branch", "trunk", "--trial", "8"]) == 2
    assert "--branch 'trunk' is a model by itself, --trial names a" in capsys.readouterr().err


def test_a_model_replaces_its_like_alone(study: optuna.Study, tmp_path: Path) -> None:
    ours, mine = tmp_path / "ours", tmp_path / "mine"
    for branch in ("web", "trunk"):
        climb_opt.export_model(study, ours, branch=branch)
    config = (ours / "config.json").read_text()
    for files in ({"notes.txt": "mine"}, {"config.json": '{"mine": 1}'}, {"config.json": config},
                  {"config.json": '{"mine": 1}', "model.safetensors": ""},
                  {"config.json": config, "model.safetensors": "", "notes.txt": ""}):  # fmt: skip
        mine.mkdir()
        for name, text in files.items():
            (mine / name).write_text(text)
        with pytest.raises(UserError, match=r"mine' holds other things than such a model \("):
            climb_opt.export_model(study, mine, branch="trunk")
        assert {path.name: path.read_text() for path in mine.iterdir()} == files
        shutil.rmtree(mine)


def test_a_confirmation_starts_from_the_same_trunk(study: optuna.Study, place: Path) -> None:
    parts = {path.name for path in (place / "runs" / "branches").iterdir()}
    climb_opt.confirm(study, seeds=1, directory=place / "runs")
    assert {path.name for path in (place / "runs" / "branches").iterdir()} == parts
