"""Opening, joining, working on and steering a study."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import optuna
import pytest
import yaml
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import TrialState

import studying
from climb_opt import recipes
from climb_opt import study as studies
from climb_opt.attributes import AGGREGATE, CORPUS, FACTS, RECIPE, ROUNDS, SEED, SLOT
from climb_opt.errors import UserError
from climb_opt.plan import attempts_by_slot
from climb_opt.recipes import Choice, SpaceRecipe, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import open_storage
from climb_opt.study import open_study, working
from climb_opt.view import StudyView, all_trials
from conftest import write_tiny_corpus
from studying import PACE, finished, score

optuna.logging.set_verbosity(optuna.logging.ERROR)

recipe, journal = studying.recipe, studying.journal  # fixtures


# --- open and join -----------------------------------------------------------------------------


def test_a_study_holds_all_that_a_worker_elsewhere_needs(
    recipe: StudyRecipe, journal: str, tiny_corpus: Corpus
) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    assert studies.read_recipe(study) == recipe
    stored = study.user_attrs
    assert stored[CORPUS] == {
        "name": "tiny",
        "digest": tiny_corpus.digest,
        "tokens": tiny_corpus.tokens(),
    }
    assert stored[AGGREGATE] == {"sums/bpb": 1.0}
    joined = open_study("s", storage=journal)
    assert studies.read_recipe(joined) == recipe
    assert StudyView(joined).space.domains == MixtureSpace(tiny_corpus.tokens()).domains


def test_the_study_is_named_after_the_file_of_its_recipe(
    recipe: StudyRecipe, journal: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(json.loads(recipes.to_json(recipe))))
    study = open_study(str(file), storage=journal)
    assert study.study_name == "mine" and studies.read_recipe(study) == recipe
    again = open_study(str(file), storage=journal, overrides=["seed=0"])
    assert again.study_name == "mine"
    other = open_study(str(file), storage=journal, study_name="b", overrides=["seed=5"])
    assert studies.read_recipe(other).seed == 5


def test_another_recipe_is_refused_and_the_difference_shown(
    recipe: StudyRecipe, journal: str
) -> None:
    open_study(recipe, storage=journal, study_name="s")
    changed = replace(recipe, seed=7, rounds=(4, 2))
    with pytest.raises(UserError, match=r"rounds: \[3, 2\] -> \[4, 2\]; seed: 0 -> 7") as caught:
        open_study(changed, storage=journal, study_name="s")
    assert "a new study (`--from s` begins it" in str(caught.value)
    assert "only `--study-name s`" in str(caught.value)
    with pytest.raises(UserError, match="seed: 0 -> 3"):
        open_study("s", storage=journal, overrides=["seed=3"])
    elsewhere = replace(recipe, corpus="somewhere/else")
    open_study(elsewhere, storage=journal, study_name="s")  # the same corpus may lie elsewhere


def test_a_recipe_stored_before_a_key_existed_is_the_same_recipe(
    recipe: StudyRecipe, journal: str
) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    older = json.loads(study.user_attrs[RECIPE])
    del older["confirm_seeds"]  # as an older version would have written it
    study.set_user_attr(RECIPE, json.dumps(older))
    open_study(recipe, storage=journal, study_name="s")


def test_a_study_of_a_newer_version_is_told_as_that(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    newer = json.loads(study.user_attrs[RECIPE]) | {"tomorrow": 1}
    study.set_user_attr(RECIPE, json.dumps(newer))
    with pytest.raises(UserError, match=r"'s' was made by another version.*unknown key 'tomorrow'"):
        open_study("s", storage=journal, overrides=["seed=0"])


def test_another_corpus_is_refused(recipe: StudyRecipe, journal: str, tmp_path: Path) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    other = tmp_path / "other"
    other.mkdir()
    write_tiny_corpus(other, tokens=10_000)
    with pytest.raises(UserError, match="the same corpus"):
        studies.make_objective(study, corpus=other)
    elsewhere = r"elsewhere, .*search: --set corpus=FOLDER; for other commands: --corpus FOLDER\)"
    with pytest.raises(UserError, match=elsewhere):
        studies.make_objective(study, corpus=other)
    with pytest.raises(UserError, match=f"No corpus at .* {elsewhere}"):
        studies.make_objective(study, corpus=tmp_path / "missing")


def test_studies_of_other_programs_are_left_alone(recipe: StudyRecipe, journal: str) -> None:
    foreign = optuna.create_study(study_name="s", storage=open_storage(journal))
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    for call in (
        lambda: open_study(recipe, storage=journal, study_name="s"),
        lambda: studies.read_recipe(open_study("s", storage=journal)),
    ):
        with pytest.raises(UserError, match="was not made by climb_opt"):
            call()
    assert len(all_trials(foreign)) == 1


def test_a_study_whose_creator_died_is_completed_by_the_next(
    recipe: StudyRecipe, journal: str
) -> None:
    optuna.create_study(study_name="s", storage=open_storage(journal))
    study = open_study(recipe, storage=journal, study_name="s")
    assert studies.read_recipe(study) == recipe


def test_an_unknown_name_lists_what_there_is(recipe: StudyRecipe, journal: str) -> None:
    open_study(recipe, storage=journal, study_name="climb-mine")
    with pytest.raises(UserError, match=r"Did you mean 'climb-mine'\?.*Shipped recipes: .*demo"):
        open_study("climb-min", storage=journal)
    with pytest.raises(UserError, match=r"No study 's' .* Studies: climb-mine\."):
        open_study(study_name="s", storage=journal)
    with pytest.raises(UserError, match="Name a recipe or a study"):
        open_study(storage=journal)
    with pytest.raises(UserError, match="needs study_name"):
        open_study(recipe, storage=journal)


def test_nothing_is_created_when_the_corpus_is_missing_or_the_bounds_are_impossible(
    recipe: StudyRecipe, journal: str
) -> None:
    for wrong, said in (
        (replace(recipe, corpus="missing"), "No corpus at"),
        (replace(recipe, space=SpaceRecipe(upper=0.1)), "No mixture meets the bounds"),
    ):
        with pytest.raises(UserError, match=said):
            open_study(wrong, storage=journal, study_name="s")
    assert optuna.get_all_study_names(open_storage(journal)) == []


# --- work --------------------------------------------------------------------------------------


def test_a_worker_runs_the_plan_and_every_trial_says_what_it_was_made_with(
    recipe: StudyRecipe, journal: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="climb_opt.workers")
    study = open_study(recipe, storage=journal, study_name="s")

    def objective(trial: optuna.Trial) -> float:
        value = score(trial)
        trial.set_user_attr(FACTS, {"tokens": 4096, "epochs": {"web": 0.5}, "devices": "1 x cpu"})
        if trial.user_attrs[SLOT] == 1 and len(attempts_by_slot(all_trials(study))[1]) == 1:
            raise RuntimeError("once")
        return value

    studies.work(study, objective=objective, pace=PACE)
    assert finished(study) == ["baseline/prior", "baseline/uniform", 0, 2, 1, 3, 4]
    said = [(r.levelname, r.message) for r in caplog.records if r.message.startswith("Trial")]
    assert ("WARNING", "Trial 3 (slot 1) failed: RuntimeError: once") in said and len(said) == 8
    assert said[0] == ("INFO", f"Trial 0 (slot baseline/prior): {study.trials[0].value:.6g}")
    for trial in all_trials(study):
        facts = trial.user_attrs[FACTS]
        assert facts["recipe"] == recipes.digest(recipe) and facts["tokens"] == 4096
        assert facts["corpus"] == study.user_attrs[CORPUS]["digest"]
        assert facts["seed"] == trial.user_attrs[SEED]
        assert facts["seconds"] >= 0 and facts["devices"] == "1 x cpu"
        assert {"version", "python", "optuna", "numpy", "host", "cpu", "cores"} <= set(facts)
    uniform = all_trials(study)[1].params
    first, *retries = attempts_by_slot(all_trials(study))[1]
    assert {t.user_attrs[SEED] for t in retries} == {first.user_attrs[SEED]}
    assert uniform == pytest.approx({"w/web": 1 / 3, "w/code": 1 / 3, "w/math": 1 / 3})


def test_a_code_checkout_is_named_by_its_commit() -> None:
    from climb_opt.provenance import provenance

    commit = provenance().get("commit")
    in_checkout = (Path(studies.__file__).parents[2] / ".git").exists()
    assert (commit is not None) == in_checkout
    if commit is not None:
        assert len(str(commit).removesuffix("+changes")) == 12


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        (Choice("climb", {"preset": "paper"}), "ClimbSampler"),
        (Choice("tpe", {"n_startup_trials": 3}), "SimplexSampler"),
        (Choice("random"), "SimplexSampler"),
    ],
)
def test_the_sampler_is_the_one_the_recipe_names(
    recipe: StudyRecipe, choice: Choice, kind: str, tiny_corpus: Corpus
) -> None:
    space = MixtureSpace(tiny_corpus.tokens())
    sampler = studies.build_sampler(replace(recipe, sampler=choice), space)
    assert type(sampler).__name__ == kind


def test_a_sampler_is_told_of_the_rounds_that_search(
    recipe: StudyRecipe, tiny_corpus: Corpus
) -> None:
    space = MixtureSpace(tiny_corpus.tokens())
    verified = replace(recipe, sampler=Choice("climb"), rounds=(4, 2, 2), verify=3)
    sampler = studies.build_sampler(verified, space)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: space.suggest(trial)["code"], n_trials=5)
    assert study.user_attrs[ROUNDS] == [4, 1]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice("climbb"), "Did you mean 'climb'"),
        (Choice("climb", {"poolsize": 3}), "Did you mean 'pool_size'"),
        (Choice("climb", {"seed": 3}), "a key of the study"),
        (Choice("climb", {"preset": "nvidia"}), "Unknown preset"),
    ],
)
def test_a_sampler_that_cannot_be_made_is_told(
    recipe: StudyRecipe, choice: Choice, said: str, tiny_corpus: Corpus
) -> None:
    space = MixtureSpace(tiny_corpus.tokens())
    with pytest.raises(UserError, match=said):
        studies.build_sampler(replace(recipe, sampler=choice), space)


def test_an_unknown_baseline_lists_the_known(recipe: StudyRecipe, tiny_corpus: Corpus) -> None:
    space = MixtureSpace(tiny_corpus.tokens())
    with pytest.raises(UserError, match=r"Unknown baseline 'flat'. Known: prior, uniform"):
        studies.baselines(replace(recipe, baselines=("flat",)), space)


def test_every_name_that_the_package_offers_is_there(recipe: StudyRecipe, journal: str) -> None:
    assert all(hasattr(studies, name) for name in studies.__all__)
    study = open_study(recipe, storage=journal, study_name="s")
    assert studies.space_of(study).domains == ("web", "code", "math")


@pytest.mark.parametrize(
    ("raised", "closed"),
    # Who is told twice to stop leaves at once: other ranks no longer listen.
    [(None, 1), (UserError("of the objective"), 1), (KeyboardInterrupt(), 0)],
)
def test_proxies_are_closed_whatever_an_objective_raises(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException | None, closed: int
) -> None:
    proxies = Mock(is_main=True)
    monkeypatch.setattr(working, "make_objective", lambda *_, **__: proxies)
    run = Mock(side_effect=raised)
    with nullcontext() if raised is None else pytest.raises(type(raised)):
        studies.with_proxies(optuna.create_study(), run)
    assert run.call_args.args[0] is proxies and proxies.close.call_count == closed


def test_a_training_is_ended_by_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    make, stop, run = Mock(), Mock(side_effect=[False, True, False]), Mock()
    monkeypatch.setattr(working, "make_objective", make)
    studies.with_proxies(optuna.create_study(), run, stop=stop)
    ends = make.call_args.kwargs["stop"]
    assert [ends(), ends()] == [False, True]
    run.call_args.args[1].set()  # its trial is lost
    assert ends()


def test_a_pruner_that_cannot_be_made_is_told() -> None:
    assert isinstance(studies.build_pruner(None), NopPruner)
    assert isinstance(studies.build_pruner(Choice("median", {})), MedianPruner)
    for choice, said in (
        (Choice("medium"), "Did you mean 'median'"),
        (Choice("median", {"warmup": 3}), "unknown key 'warmup'"),
        (Choice("threshold", {}), "pruner 'threshold': .* lower or upper"),
        (Choice("percentile", {"percentile": 200.0}), "pruner 'percentile': "),
    ):
        with pytest.raises(UserError, match=said):
            studies.build_pruner(choice)


def hopeless(trial: optuna.Trial) -> float:
    value = score(trial)
    trial.report(1.0, step=1)
    if trial.should_prune():
        raise optuna.TrialPruned
    return value


@pytest.mark.parametrize(("key", "pruned"), [(False, [3, 4]), (True, [0, 1, 2, 3, 4])])
@pytest.mark.parametrize("own", [True, False])
def test_one_key_decides_whether_round_one_is_pruned_for_proxies_and_own_objectives(
    recipe: StudyRecipe, journal: str, tmp_path: Path, key: bool, pruned: list[int], own: bool
) -> None:
    wanted = replace(
        recipe,
        proxy=replace(recipe.proxy, batch_tokens=512, report_every=4),
        pruner=Choice("threshold", {"upper": 0.001}),
        prune_first_round=key,
    )
    study = open_study(wanted, storage=journal, study_name="s")
    studies.work(study, directory=tmp_path, pace=PACE, objective=hopeless if own else None)
    trials = all_trials(study)
    states = {slot: TrialState.PRUNED for slot in pruned}
    assert {t.user_attrs[SLOT]: t.state for t in trials} == {
        "baseline/prior": TrialState.COMPLETE,
        "baseline/uniform": TrialState.COMPLETE,
        **{slot: states.get(slot, TrialState.COMPLETE) for slot in range(5)},
    }


@pytest.mark.parametrize("key", [False, True])
def test_a_sampler_sees_its_bracket_of_hyperband_whatever_is_said_of_round_one(
    recipe: StudyRecipe, journal: str, key: bool
) -> None:
    options = {"min_resource": 1, "max_resource": 9, "reduction_factor": 3}
    wanted = replace(
        recipe,
        sampler=Choice("random"),
        pruner=Choice("hyperband", options),
        prune_first_round=key,
        rounds=(6, 6),
        baselines=(),
    )
    study = open_study(wanted, storage=journal, study_name="s")
    brackets: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        filtered = optuna.pruners._filter_study(trial.study, all_trials(trial.study)[trial.number])
        brackets.append(len(filtered.get_trials(deepcopy=False)))
        value = score(trial)
        for step in range(1, 10):
            trial.report(value + 1 / step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    studies.work(study, objective=objective, pace=PACE)
    assert isinstance(study.pruner, HyperbandPruner)
    assert brackets[-1] < 12  # not all trials: those of its bracket
    early = [t.state for t in all_trials(study) if t.user_attrs[SLOT] < 6]
    assert (TrialState.PRUNED in early) == key
    assert TrialState.PRUNED in [t.state for t in all_trials(study)]


def test_a_stored_recipe_with_the_old_option_opens_and_is_read_as_the_key(
    recipe: StudyRecipe, journal: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = replace(recipe, pruner=Choice("median", {"n_min_trials": 2}))
    study = open_study(wanted, storage=journal, study_name="s")
    stored = json.loads(study.user_attrs[RECIPE])
    stored["pruner"]["options"]["first_round"] = True
    study.set_user_attr(RECIPE, json.dumps(stored))
    recipes._say_moved.cache_clear()
    again = studies.read_recipe(open_study(study_name="s", storage=journal))
    assert again == replace(wanted, prune_first_round=True)
    assert caplog.text.count("read as prune_first_round: true.") == 1
    assert open_study(again, storage=journal, study_name="s")


def test_work_on_a_confirm_study_names_the_command_for_it(
    recipe: StudyRecipe, journal: str
) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    study.set_user_attr("climb/confirm", {})
    with pytest.raises(UserError, match="climb-opt confirm"):
        studies.work(study, objective=score)


def test_a_real_proxy_search_runs_and_resumes(
    recipe: StudyRecipe, journal: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    small = replace(recipe, rounds=(1, 1), baselines=("prior",))
    study = open_study(small, storage=journal, study_name="s")
    studies.work(study, directory=tmp_path / "runs", stop=lambda: bool(finished(study)), pace=PACE)
    assert finished(study) == ["baseline/prior"]
    studies.work(study, directory=tmp_path / "runs", pace=PACE)
    assert finished(study) == ["baseline/prior", 0, 1]
    facts = all_trials(study)[-1].user_attrs[FACTS]
    assert facts["tokens"] > 0 and set(facts["epochs"]) == {"web", "code", "math"}
