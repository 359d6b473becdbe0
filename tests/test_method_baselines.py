"""Baselines of which a method sets the weights, in an ordinary search."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

pytest.importorskip("torch")

from climb_opt import (
    MixtureSpace,
    SimplexGPSampler,
    best_mixture,
    cli,
    compare_rules,
    confirm,
    export,
    recipes,
)
from climb_opt.attributes import COMPONENTS, FACTS, METHOD, PATH, RUNG, SLOT
from climb_opt.errors import UserError
from climb_opt.paths import path_mean
from climb_opt.recipes import read_study, study_from
from climb_opt.reports.planned.costs import costs_of, costs_text
from climb_opt.reports.report import contents_of
from climb_opt.reports.snapshot import take
from climb_opt.shards import Corpus
from climb_opt.study import open_study, status, work
from climb_opt.study.asked import check_choices
from climb_opt.study_recipe import MethodBaseline
from climb_opt.view import StudyView, read_history

PROXY = {
    "model": {"hidden": 16, "layers": 1, "heads": 2}, "tokens": 2048, "sequence": 16,
    "batch_tokens": 256, "compile": False,
}  # fmt: skip
METHODS = """
import numpy as np
from climb_opt.proxy.reweight.base import Weights


class Off:
    rereads = True

    def when(self, steps):
        return (2,)

    def start(self, training):
        return Weights(reading=training.mixture)

    def weigh(self, training):
        return Weights(reading=2 * training.mixture)

    def state(self):
        return {}

    def load(self, state):
        pass
"""


@pytest.fixture
def data(tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    return {
        "corpus": str(tiny_corpus.path),
        "proxy": PROXY,
        "evaluators": [{"name": "heldout", "target": "sums", "max_tokens": 500}],
        "score": ["sums/bpb"],
        "rounds": [3],
        "baselines": ["prior", "doremi"],
        "sampler": "simplex-gp",
        "max_attempts": 2,
        "confirm_seeds": 1,
    }


def run(name: str, data: dict[str, Any]) -> Any:
    Path(f"{name}.yaml").write_text(json.dumps(data), encoding="utf-8")
    assert cli.main(["search", f"{name}.yaml"]) == 0
    return open_study(name, create=False)


def slots(study: Any) -> dict[Any, Any]:
    return {t.user_attrs[SLOT]: t for t in study.trials}


# --- the key -------------------------------------------------------------------------------------


def test_a_method_is_named_alone_or_with_its_options(data: dict[str, Any]) -> None:
    given = ["prior", "doremi", {"reweight": "ado", "name": "slow", "delay": 4},
             {"reweight": {"name": "tikmix", "tokens": 64}}, {"reweight": "mine:Own"}]  # fmt: skip
    recipe = study_from({**data, "baselines": given})
    assert recipe.named == ("prior", "doremi", "slow", "tikmix", "mine:Own")
    assert recipe.fixed == ("prior",)
    assert recipe.methods["slow"].options == {"delay": 4}
    assert recipe.methods["tikmix"].options == {"tokens": 64}
    assert study_from(json.loads(recipes.to_json(recipe)), stored=True) == recipe
    assert all(isinstance(b, MethodBaseline) for b in recipe.baselines[1:])


def test_baselines_of_fixed_mixtures_are_stored_as_before(data: dict[str, Any]) -> None:
    stored = json.loads(recipes.to_json(study_from({**data, "baselines": ["prior", "unimax"]})))
    assert stored["baselines"] == ["prior", "unimax"]
    twice = study_from({**stored, "baselines": ["prior", "prior"]}, stored=True)
    assert twice.named == ("prior", "prior")  # as a study of before may hold it


@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        (["doremi", "doremi"], "two are named 'doremi'"),
        (["prior", "prior"], "two are named 'prior'"),
        (["doremi", {"reweight": "doremi", "eta": 2.0}], "give a method another name"),
        ([{"reweight": "doremi", "name": "uniform"}], "cannot be named 'uniform'"),
        ([{"reweight": "doremi", "name": "found"}], "cannot be named 'found'"),
        ([{"reweight": "doremi", "name": "observed"}], "cannot be named 'observed'"),
        ([{"reweight": "doremi", "name": "a/b"}], "cannot be named 'a/b'"),
        ([{"reweight": "doremi", "name": " "}], "cannot be named ' '"),
        ([{"reweight": "doremi", "name": 3}], r"baselines\[0\].name: expected str"),
        ([{"name": "temperature", "exponent": 0.3}], "expected the name of a fixed mixture"),
        ([{"reweight": 3}], "expected a name or"),
        ([3], r"baselines\[0\]: expected str"),
    ],
)
def test_baselines_that_cannot_be_told_apart_are_refused(
    data: dict[str, Any], baselines: list[Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        study_from({**data, "baselines": baselines})


@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        (["dormi"], "Did you mean 'doremi'"),
        ([{"reweight": "dormi"}], "Unknown reweighter 'dormi'. Did you mean 'doremi'"),
        ([{"reweight": "doremi", "etta": 2}], "unknown key 'etta'. Did you mean 'eta'"),
    ],
)
def test_unknown_methods_and_options_are_named(
    data: dict[str, Any], baselines: list[Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_choices(study_from({**data, "baselines": baselines}))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"proxy": {"command": "train {trial}", "tokens": 4096}}, "proxy.command trains by itself"),
        ({"branches": {"read": ["merge"]}}, "but branches prices mixtures that do not change"),
        ({"branches": {"read": []}}, "but branches prices mixtures"),
        ({"also": {"other": {"score": ["web/bpb"]}}}, "but also has several objectives"),
    ],
)
def test_a_search_that_no_method_could_serve_is_refused(
    data: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        study_from({**data, **more})


def test_an_option_out_of_range_is_said_before_the_study_has_its_name(
    data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data["baselines"] = [{"reweight": "doremi", "eta": -1}]
    Path("bad.yaml").write_text(json.dumps(data), encoding="utf-8")
    assert cli.main(["search", "bad.yaml"]) == 2
    assert "eta must be positive" in capsys.readouterr().err


# --- a search ------------------------------------------------------------------------------------


def test_a_search_trains_compares_and_confirms_it(
    data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data["baselines"] = ["prior", "doremi", {"reweight": "ado", "name": "slow"}]
    study = run("by", data)
    said = capsys.readouterr().out
    assert "baseline/doremi       score" in said and "baseline/slow" in said
    trial = slots(study)["baseline/doremi"]
    assert trial.state == TrialState.PRUNED and not trial.params
    assert trial.value == pytest.approx(trial.user_attrs[COMPONENTS]["sums/bpb"])
    assert trial.user_attrs[METHOD] == "doremi" and len(trial.user_attrs[PATH]["steps"]) == 8
    plain = slots(study)["baseline/prior"].user_attrs[FACTS]
    assert trial.user_attrs[FACTS]["flops"] == pytest.approx(plain["flops"] * 8 / 3)
    # Nothing is learnt from it, and nobody takes it for the best mixture.
    history = read_history(study, StudyView(study).space)
    assert len(history) == 4 and [m.name for m in history.methods] == ["doremi", "slow"]
    assert study.best_trial.params and "simplex-gp" in str(StudyView(study).recipe)
    # It is shown beside the fixed mixtures.
    now = status(study)
    assert now.methods["doremi"] == trial.value and now.done and now.finished == 6
    assert take(study).baseline_scores()["doremi"] == trial.value
    assert cli.main(["best", "by"]) == 0 and cli.main(["status", "by"]) == 0
    said = capsys.readouterr().out
    assert f"doremi scored {trial.value:.6g} with weights that a method set" in said
    assert "a baseline whose weights a method set: score" in said
    # The rules of paths keep the better method's.
    first = min(history.methods, key=lambda m: m.value)
    assert best_mixture(study, rule="path-mean").mixture == pytest.approx(
        path_mean(first.path), abs=1e-6
    )
    assert "path-mean" in compare_rules(study)
    assert "phases" in export(study, "json", trial=trial.number, phases=2)
    with pytest.raises(UserError, match=rf"no mixture\. .* --phases N .*{trial.number}\)"):
        export(study, "json", trial=trial.number)
    assert cli.main(["report", "by", "--output", "page.html"]) == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "Path of the weights" in page and "that doremi set" in page and "that slow set" in page
    # Confirmed by the method, and its mean as a mixture.
    assert cli.main(["confirm", "by", "--rules", "path-mean", "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "doremi, slow: trained by the method again with each seed" in said
    retrained = slots(open_study("by-confirm", create=False))
    again = retrained["doremi/seed-1"]
    assert again.user_attrs[PATH] != trial.user_attrs[PATH] and not again.params
    assert retrained["path-mean/seed-1"].params
    assert again.user_attrs[FACTS]["seed"] == retrained["found/seed-1"].user_attrs[FACTS]["seed"]
    assert cli.main(["report", "by", "--output", "page.html"]) == 0
    assert "trained by the method again" in Path("page.html").read_text(encoding="utf-8")
    assert contents_of(study, every_rule=False).confirmation is not None


def test_what_a_method_scored_is_weighed_against_what_is_promised() -> None:
    space = MixtureSpace({"web": 7, "code": 2, "math": 1}, upper={"math": 0.2})
    study = optuna.create_study(sampler=SimplexGPSampler(space, seed=0))
    study.optimize(lambda trial: (space.suggest(trial)["code"] - 0.5) ** 2, n_trials=20)
    before = best_mixture(study)
    assert not before.as_good and before.predicted is not None
    sign, spread = StudyView(study).sign, float(np.ptp([t.value for t in study.trials if t.value]))
    mean = [0.5, 0.2, 0.3]  # outside the bounds, which no method knows
    path = {"domains": list(before), "steps": [1], "weights": [mean], "mean": mean}
    for name, better in (("worse", -1.0), ("better", 1.0)):
        value = before.predicted.mean - sign * better * spread
        attrs = {SLOT: f"baseline/{name}", METHOD: name, PATH: path}
        study.add_trial(create_trial(state=TrialState.PRUNED, value=value, user_attrs=attrs))
        found = best_mixture(study)
        assert dict(found) == dict(before) and found.predicted == before.predicted
        said = "The baseline 'better' is as good for all that is known: the gain over it is -"
        assert found.as_good.startswith(said) if better > 0 else not found.as_good
    kept = space.project(np.array(mean)).tolist()
    assert list(best_mixture(study, rule="path-mean").values()) == pytest.approx(kept)


@pytest.mark.parametrize("sampler", ["climb", "tpe", "cma-es", "nsga2", "gp-optuna"])
def test_every_sampler_goes_on_beside_it(data: dict[str, Any], sampler: str) -> None:
    data.update(sampler=sampler, rounds=[2, 1])
    if sampler == "climb":
        data["sampler"] = {"name": "climb", "predictor": "loglinear", "pool_size": 64}
    study = run("beside", data)
    assert sum(t.state == TrialState.COMPLETE for t in study.trials) == 4


def test_tikmix_is_measured_on_the_studys_score(data: dict[str, Any]) -> None:
    data["baselines"] = [{"reweight": "tikmix", "tokens": 64}]
    study = run("influenced", data)
    trial = slots(study)["baseline/tikmix"]
    mean = path_mean(trial.user_attrs[PATH])
    assert StudyView(study).space.weights(mean, normalise=True).sum() == pytest.approx(1)


def test_in_a_study_of_phases_a_method_begins_with_one_mixture(data: dict[str, Any]) -> None:
    data.update(phases=[0.5, 0.5], baselines=["prior", "doremi"], rounds=[2])
    study = run("phased", data)
    trial = slots(study)["baseline/doremi"]
    assert trial.value is not None and "phases" not in trial.user_attrs[FACTS]
    found = best_mixture(study, rule="path-mean")
    assert found["1/web"] == pytest.approx(found["2/web"])
    assert cli.main(["confirm", "phased"]) == 0
    assert "doremi/seed-1" in slots(open_study("phased-confirm", create=False))


def test_on_a_ladder_it_is_trained_at_the_target(data: dict[str, Any]) -> None:
    rounds = [{"trials": 2, "proxy": {"tokens": 1024}}, {"trials": 1, "proxy": {}}]
    study = run("rungs", {**data, "rounds": rounds, "sampler": "climb"})
    trial = slots(study)["baseline/doremi"]
    assert trial.user_attrs[RUNG] == 1
    ladder = StudyView(study).ladder
    assert ladder is not None
    assert ladder.spent([trial]) == pytest.approx(ladder.costs[1] * 8 / 3)
    assert json.loads(json.dumps(ladder.to_data()))[1]["methods"] == {
        "baseline/doremi": pytest.approx(ladder.costs[1] * 8 / 3)
    }


# --- what it costs -------------------------------------------------------------------------------


def test_a_budget_pays_for_what_a_method_trains_beside_its_proxy(data: dict[str, Any]) -> None:
    plain = study_from(data)
    costs, ladder = costs_of(plain, 512, None)
    target = ladder.costs[-1]
    assert costs.total == pytest.approx((3 + 1 + 8 / 3) * target)
    assert costs.named_trials == pytest.approx(1 + 8 / 3)
    assert "Baseline doremi takes" in "\n".join(costs_text(costs))
    del data["rounds"]
    bought = study_from({**data, "budget": {"flops": 5.5 * target}})
    corpus = Corpus.load(data["corpus"])
    flops = costs_of(bought, corpus.vocab_size, 1e30, corpus.tokens())[1].costs[-1]
    with pytest.raises(UserError, match="more for doremi"):
        short = study_from({**data, "budget": {"flops": 4.5 * flops}})
        open_study(short, storage="runs/short.journal", study_name="short")
    enough = study_from({**data, "budget": {"flops": 5.7 * flops}})
    study = open_study(enough, storage="runs/enough.journal", study_name="enough")
    plan = StudyView(study).plan
    assert plan.left([]) == pytest.approx((5.7 - 1 - 8 / 3) * flops)
    work(study)
    tried = slots(open_study("enough", storage="runs/enough.journal", create=False))
    assert [s for s in tried if isinstance(s, int)] == [0, 1]
    assert StudyView(study).plan.left(study.trials) < flops


def test_stated_flops_of_a_proxy_are_those_of_a_plain_trial(data: dict[str, Any]) -> None:
    data["proxy"] = {**PROXY, "flops": 1e9}
    study = run("stated", {**data, "rounds": [1]})
    tried = slots(study)
    assert tried["baseline/prior"].user_attrs[FACTS]["flops"] == 1e9
    assert tried["baseline/doremi"].user_attrs[FACTS]["flops"] == pytest.approx(8e9 / 3)


# --- what goes wrong -----------------------------------------------------------------------------


def test_weights_off_the_simplex_fail_the_trial_and_the_search_goes_on(
    data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("off_methods.py").write_text(METHODS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    data["baselines"] = ["prior", {"reweight": "off_methods:Off"}]
    study = run("off", data)
    sys.modules.pop("off_methods")
    now = status(study)
    assert now.given_up == ("baseline/off_methods:Off",) and now.finished == 4
    assert len(now.failures) == 2 and "sum to 2, not to 1" in now.failures[0].reason
    assert "Given up after repeated failures: baseline/off" in capsys.readouterr().out
    assert cli.main(["confirm", "off", "--seeds", "1"]) == 0  # with what it began with


def test_another_method_is_refused_with_the_difference(data: dict[str, Any]) -> None:
    open_study(study_from(data), storage="runs/x.journal", study_name="x")
    other = {**data, "baselines": ["prior", {"reweight": "doremi", "eta": 2.0}]}
    with pytest.raises(UserError, match=r"another recipe: baselines.*eta"):
        open_study(study_from(other), storage="runs/x.journal", study_name="x")


def test_an_objective_of_ones_own_cannot_train_it(data: dict[str, Any]) -> None:
    study = open_study(study_from(data), storage="runs/own.journal", study_name="own")
    with pytest.raises(UserError, match="doremi: a method sets the weights of proxies that"):
        work(study, objective=lambda trial: 0.0)
    with pytest.raises(UserError, match="this objective trains its own"):
        confirm(study, objective=lambda trial: 0.0)


def test_stopped_in_the_middle_it_goes_on_to_the_same_end(data: dict[str, Any]) -> None:
    data |= {"proxy": {**PROXY, "checkpoint_every": 2, "tokens": 4096}, "seeds": "common"}
    whole = slots(run("whole", {**data, "rounds": [1]}))["baseline/doremi"]
    recipe = study_from({**data, "rounds": [1], "baselines": ["doremi"]})
    study = open_study(recipe, storage="runs/cut.journal", study_name="cut")
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += 1
        return looks > 30

    with pytest.raises(Exception, match="stopped at step"):
        work(study, stop=stop, directory="runs/cut")
    work(study, directory="runs/cut")
    attempts = [t for t in study.trials if t.user_attrs[SLOT] == "baseline/doremi"]
    assert [t.state for t in attempts] == [TrialState.FAIL, TrialState.PRUNED]
    assert attempts[1].user_attrs[METHOD] == "doremi"
    assert attempts[1].value == whole.value
    assert attempts[1].user_attrs[PATH] == whole.user_attrs[PATH]


def test_an_arm_of_an_ablation_is_by_one_method(data: dict[str, Any]) -> None:
    from climb_opt.ablation.recipe.reading import ablation_from

    base = {**data, "proxy": PROXY}
    arms = {"mine": {"rounds": [], "baselines": ["doremi"]}}
    with pytest.raises(UserError, match=r"write proxy: {reweight: doremi}"):
        ablation_from({"base": base, "arms": arms, "reference": "mine", "objective": "live",
                       "budget": {"trials": 4}, "test": {"study": {}}})  # fmt: skip


def test_shipped_recipes_read_as_before() -> None:
    assert read_study("demo").named == ("prior", "uniform")
    assert read_study("demo", ["baselines=[prior, doremi]"]).methods.keys() == {"doremi"}
