"""Live arms: real proxies of a few hundred parameters, searched with, judged, resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

pytest.importorskip("torch")

from climb_opt.ablation.recipe.plan import plan_text
from climb_opt.ablation.recipe.reading import ablation_from
from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import arms, runs
from climb_opt.ablation.run.results import Archive
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.ablation.table.comparison import comparisons
from climb_opt.ablation.table.render import markdown
from climb_opt.attributes import DOREMI, PATH
from climb_opt.errors import Interrupted, UserError
from climb_opt.paths import path_mean
from climb_opt.proxy.cost import gpu_hours
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.study import open_study

PROXY = {
    "model": {"hidden": 16, "layers": 1, "heads": 2},
    "tokens": 2048,
    "sequence": 16,
    "batch_tokens": 256,
    "precision": "fp32",
    "compile": False,
}
BASE: dict[str, Any] = {
    "proxy": PROXY,
    "evaluators": [{"name": "heldout", "target": "sums"}],
    "score": ["sums/bpb"],
}
EVERY_DOMAIN = [{"name": "heldout", "target": [], "domains": True}]


def recipe(corpus: Corpus, **changes: Any) -> AblationRecipe:
    return ablation_from(
        {
            "objective": "live",
            "base": {**BASE, "corpus": str(corpus.path)},
            "arms": {
                "uniform": None,
                "random": {"sampler": "random"},
                "doremi": None,
                "climb": {"rounds": [2, 1, 1]},
            },
            "reference": "uniform",
            "budget": {"trials": 4},
            "seeds": 1,
            "test": {"study": {"score": ["heldout/math/bpb"], "evaluators": EVERY_DOMAIN}},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test": {"study": {"evaluators": [{"name": "heldout", "max_tokens": 0}]}}}, "max_tokens"),
        ({"test": {"study": {"score": ["nosuch/bpb"]}}}, "no evaluator gives 'nosuch/bpb'"),
        ({"arms": {"b": {"sampler": {"name": "tpe", "n_ei_candidates": 0}}}}, "arm 'b': sampler"),
    ],
)
def test_what_is_wrong_with_the_last_arm_or_the_test_is_said_before_the_first_arm_searches(
    tiny_corpus: Corpus, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    arms = {"a": {"sampler": "random"}, **changes.get("arms", {})}
    asked = recipe(tiny_corpus, **{**changes, "arms": arms, "reference": "a"})
    with pytest.raises(UserError, match=said):
        run_ablation(asked, Archive(tmp_path), prefix="mini")
    assert not optuna.get_all_study_names(open_storage(str(tmp_path / "studies.journal")))


def test_arms_search_and_are_judged_on_the_test(tiny_corpus: Corpus, tmp_path: Path) -> None:
    asked = recipe(tiny_corpus)
    results = run_ablation(asked, Archive(tmp_path), prefix="mini")
    found = {r.arm: r for r in results}
    assert set(found) == {"uniform", "random", "doremi", "climb"}
    for result in results:
        assert result.final is not None and result.mixture is not None and not result.error
        assert "heldout/math/bpb" in result.scores and "sums/bpb" not in result.scores
        assert sum(result.mixture.values()) == pytest.approx(1.0, abs=1e-6)
    assert (found["climb"].trials, found["climb"].rounds) == (4, (2, 1, 1))
    assert found["climb"].tokens == 4 * 2048 and found["doremi"].tokens == 2 * 2048
    assert len(found["random"].curve) == 4 and found["uniform"].trials == 0
    (table,) = comparisons(asked, results)
    text = markdown("mini", asked, [table])
    assert "test scores of the final mixtures" in text and "With 1 of at least 5 seeds" in text
    # The same again: nothing is trained twice, and the studies are ordinary ones.
    storage = open_storage(str(tmp_path / "studies.journal"))
    before = {s.study_name: s.n_trials for s in optuna.get_all_study_summaries(storage)}
    judge = f"mini/judge-{tiny_corpus.path.name}"
    assert before == {
        "mini/random/seed0": 4, "mini/climb/seed0": 4, "mini/doremi/seed0": 1, judge: 4,
    }  # fmt: skip
    done: list[str] = []
    again = run_ablation(
        asked, Archive(tmp_path), prefix="mini", on_run=lambda run, _: done.append(run.key)
    )
    assert not done
    assert [r.final for r in again] == pytest.approx([r.final for r in results])
    after = {s.study_name: s.n_trials for s in optuna.get_all_study_summaries(storage)}
    assert after == before
    doremi = optuna.load_study(study_name="mini/doremi/seed0", storage=storage)
    assert path_mean(doremi.trials[0].user_attrs[PATH]) == pytest.approx(found["doremi"].mixture)
    assert found["doremi"].flops == pytest.approx(found["climb"].flops / 4 * (2 + 2 / 3))
    attributes = storage.get_study_system_attrs(doremi._study_id)
    written = [str(text) for key, text in attributes.items() if "note" in key]
    assert any("effective domains" in text for text in written), "of the learnt mixture"


def test_a_stopped_ablation_goes_on_where_it_was(tiny_corpus: Corpus, tmp_path: Path) -> None:
    asked = recipe(tiny_corpus, arms={"random": {"sampler": "random"}}, reference=None)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 25

    with pytest.raises(Interrupted):
        run_ablation(asked, Archive(tmp_path), stop=stop)
    assert not (list((tmp_path / "runs").glob("*.json")))
    (result,) = run_ablation(asked, Archive(tmp_path))
    assert result.trials == 4 and result.final is not None
    assert result.failed == 0, "a trial that was stopped and resumed has not failed"


def test_a_budget_in_seconds_ends_a_search_between_two_trials(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    asked = recipe(
        tiny_corpus,
        arms={"random": {"sampler": "random"}},
        reference=None,
        budget={"seconds": 1e-3, "trials": 40},
    )
    (result,) = run_ablation(asked, Archive(tmp_path))
    assert result.trials == 1 and result.final is not None
    assert "at most 40 trials" in plan_text("x", asked)


def test_an_arm_whose_proxies_diverge_does_not_stop_the_others(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    arms = {"wild": {"like": "random", "proxy": {"lr": 1e9, "clip": 1e9}}, "uniform": None}
    asked = recipe(tiny_corpus, arms=arms, reference=None, budget={"trials": 2})
    results = {r.arm: r for r in run_ablation(asked, Archive(tmp_path))}
    assert results["uniform"].final is not None
    assert results["wild"].final is None and "no finished trial" in results["wild"].error
    assert results["wild"].failed >= 2
    (table,) = comparisons(asked, list(results.values()))
    assert any("wild: 1 of 1 runs gave no mixture" in r for r in table.remarks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"doremi": {"doremi": {"rate": 1}}}}, "unknown key 'rate'"),
        ({"base": {"corpus": "nowhere", "proxy": PROXY, "evaluators": ["heldout"],
                   "score": ["sums/bpb"]}}, "No corpus at"),
    ],
)  # fmt: skip
def test_mistakes_stop_before_training(
    tiny_corpus: Corpus, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run_ablation(recipe(tiny_corpus, reference=None, **changes), Archive(tmp_path))


def test_a_changed_test_judges_again_and_a_changed_search_is_told_what_to_do(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def done(**changes: Any) -> dict[str, Any]:
        asked = {"arms": {"random": {"sampler": "random"}}, "budget": {"trials": 2}, **changes}
        (result,) = run_ablation(recipe(tiny_corpus, reference=None, **asked), Archive(tmp_path))
        found = open_study(study_name=name, storage=storage, create=False)
        return {**result.facts, "trials": len(found.trials), "final": result.final}

    storage, name = str(tmp_path / "studies.journal"), "ablation/random/seed0"
    first = done()
    assert first["judged"] == 1 and done() == first
    more = {"study": {"score": ["heldout/code/bpb"], "evaluators": EVERY_DOMAIN}, "seeds": 2}
    changed = done(test=more)
    assert changed["judged"] == 2 and changed["final"] != first["final"]
    assert changed["trials"] == first["trials"] == 2, "nothing was searched again"
    assert "test has changed since runs with it were done" in caplog.text
    base = {**BASE, "corpus": str(tiny_corpus.path), "proxy": {**PROXY, "lr": 0.5}}
    with pytest.raises(UserError, match=r"seed0' was made .*proxy\.lr: .*\. Leave the ablation's"):
        done(base=base)


def test_several_processes_of_one_launch_are_told_what_to_do(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="climb_opt search"):
        run_ablation(recipe(tiny_corpus), Archive(tmp_path))


def test_a_test_set_apart_from_the_searchs_target_is_left(tiny_corpus: Corpus) -> None:
    from climb_opt.evaluators.heldout import HeldOutLoss

    whole = tiny_corpus.read(tiny_corpus.target("sums"))
    searched = HeldOutLoss(tiny_corpus, target="sums", max_tokens=1000)._texts["sums/bpb"].tokens
    left = HeldOutLoss(tiny_corpus, target="sums", skip_tokens=1000)._texts["sums/bpb"].tokens
    assert (left == whole[-len(left) :]).all() and (searched == whole[: len(searched)]).all()
    assert len(searched) <= 1000 <= len(whole) - len(left), "no token is in both"
    with pytest.raises(UserError, match="holds no text"):
        HeldOutLoss(tiny_corpus, target="sums", skip_tokens=10**9)
    with pytest.raises(UserError, match="must not be negative"):
        HeldOutLoss(tiny_corpus, target="sums", skip_tokens=-1)


# --- the plan ----------------------------------------------------------------------------------


def test_arms_with_rungs_are_judged_at_the_target_and_counted_in_flops(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    small = {"tokens": 512}
    asked = recipe(
        tiny_corpus,
        base={**BASE, "corpus": str(tiny_corpus.path), "ladder": [small, {}], "rungs": [1],
              "rounds": [4]},
        arms={
            "uniform": None,
            "doremi": None,
            "random": {"sampler": "random"},
            "rounds": {"sampler": "random", "rounds": [5, 2], "rungs": [0, 1]},
            "chosen": {"sampler": "laddered:Turns", "rungs": [], "rounds": []},
        },
    )  # fmt: skip
    text = plan_text("rungs", asked)
    assert "| rounds, rung 0 | 5 |" in text and "FLOPs of 4 target trials" in text
    results = {r.arm: r for r in run_ablation(asked, Archive(tmp_path), prefix="mini")}
    assert all(r.final is not None and not r.error for r in results.values())
    assert (results["rounds"].trials, results["random"].trials) == (7, 4)
    assert 0 < results["chosen"].flops <= results["random"].flops * (1 + 1e-9)
    assert results["rounds"].flops == pytest.approx(results["random"].flops * (2 + 5 / 4) / 4)
    storage = open_storage(str(tmp_path / "studies.journal"))
    judge = optuna.load_study(study_name=f"mini/judge-{tiny_corpus.path.name}", storage=storage)
    assert not any("climb/rung" in t.user_attrs for t in judge.trials)
    (table,) = comparisons(asked, list(results.values()))
    assert "| FLOPs |" in markdown("mini", asked, [table])


def test_the_plan_states_shapes_tokens_and_hours(tiny_corpus: Corpus) -> None:
    asked = recipe(tiny_corpus, seeds=2)
    text = plan_text("mini", asked)
    assert "1 layer x 16" in text and "| climb | 2/1/1 |" in text and "H100 hours" in text
    assert "| doremi | 1 mixture |" in text and "final mixtures retrained | 8 runs" in text
    assert "In all <0.1 H100 hours" in text and "Not on this machine" not in text
    elsewhere = plan_text("mini", recipe(tiny_corpus, base={**BASE, "corpus": "corpora/far"}))
    assert "Not on this machine: corpora/far; a vocabulary of 32,000 is assumed" in elsewhere
    assert gpu_hours(989e12 * 0.4 * 3600) == pytest.approx(1.0)


def test_every_run_is_named_once(tiny_corpus: Corpus) -> None:
    keys = [run.key for run in runs(recipe(tiny_corpus, seeds=3))]
    assert len(keys) == len(set(keys)) == 12
    assert json.dumps(keys)


def test_doremi_of_the_last_release_is_read_not_trained_again(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    # Version 0.1.0 had a training loop for it, and a key of arms: its studies hold what it found.
    asked = recipe(tiny_corpus, arms={"ours": {"doremi": {"eta": 2}}, "uniform": None})
    (arm, _) = arms(asked)
    method = arm.study.proxy.reweight
    assert method is not None and (method.name, method.options) == ("doremi", {"eta": 2})
    storage = open_storage(str(tmp_path / "studies.journal"))
    old = replace(arm.study, proxy=replace(arm.study.proxy, reweight=None), rounds=(64, 32, 16))
    study = open_study(old, storage=storage, study_name="mini/ours/seed0")
    trial = study.ask()
    trial.set_user_attr(DOREMI, {"web": 0.5, "code": 0.25, "math": 0.25})
    study.tell(trial, 1.0)
    results = {r.arm: r for r in run_ablation(asked, Archive(tmp_path), prefix="mini")}
    assert results["ours"].mixture == {"web": 0.5, "code": 0.25, "math": 0.25}
    assert results["ours"].final is not None and len(study.trials) == 1


def test_schedules_are_judged_as_schedules(tiny_corpus: Corpus, tmp_path: Path) -> None:
    phases = {"sampler": "simplex-gp", "rounds": [1], "phases": [0.5, 0.5]}
    asked = recipe(tiny_corpus, arms={"two": phases, "uniform": None}, budget={"trials": 2})
    results = {r.arm: r for r in run_ablation(asked, Archive(tmp_path), prefix="mini")}
    assert all(r.final is not None and not r.error for r in results.values())
    storage = open_storage(str(tmp_path / "studies.journal"))
    names = optuna.get_all_study_names(storage)
    judge = f"mini/judge-{tiny_corpus.path.name}"
    assert {judge, f"{judge}-0.5-0.5"} <= set(names)
    judged = optuna.load_study(study_name=f"{judge}-0.5-0.5", storage=storage)
    assert {name[:3] for name in judged.trials[0].params} == {"w1/", "w2/"}
