"""TiKMiX while a proxy trains: once before, and at the ends of stages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

pytest.importorskip("torch")

from climb_opt.errors import Interrupted, UserError
from climb_opt.influence.reweighters import TiKMiX, TiKMiXStages
from climb_opt.objective import ProxyObjective
from climb_opt.paths import path_end, path_mean
from climb_opt.proxy.job import Job
from climb_opt.proxy.reweight.base import Sizes, made
from climb_opt.recipes import Choice, study_from
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.study import open_study
from influencing import proxies_of, recipe_data
from training import Watch

FEW = {"tokens": 1_024, "curvature_tokens": 256}


@pytest.fixture
def proxies(tiny_corpus: Corpus, tmp_path: Path) -> Callable[..., ProxyObjective]:
    plain = recipe_data(tiny_corpus)["proxy"]

    def make(name: str, stop: Callable[[], bool] = lambda: False, **options: Any) -> ProxyObjective:
        proxy = {**plain, "reweight": {"name": name, **FEW, **options}}
        return proxies_of(tiny_corpus, tmp_path / name, stop, proxy=proxy)

    return partial(make)


def prior_of(objective: ProxyObjective) -> dict[str, float]:
    return objective.space.mixture(objective.space.prior)


def test_measured_once_the_whole_run_reads_what_was_found(
    proxies: Callable[..., ProxyObjective],
) -> None:
    objective = proxies("tikmix")
    prior = prior_of(objective)
    _, components, facts = objective._work(Job("one", prior, seed=0))
    path = facts["path"]
    mean = path_mean(path)
    assert np.allclose(path["weights"], path["weights"][0], atol=1e-4), "one mixture throughout"
    assert mean["math"] > 1.5 * prior["math"], "the target is sums"
    assert components["sums/bpb"] > 0
    plain = objective.trainer.flops
    assert facts["flops"] == pytest.approx(plain) and plain > 2 * facts["tokens"]


def test_a_later_stage_reads_what_was_found_at_the_end_of_the_one_before(
    proxies: Callable[..., ProxyObjective],
) -> None:
    objective = proxies("tikmix-stages", at=[0.25, 0.5])
    prior = prior_of(objective)
    _, _, facts = objective._work(Job("one", prior, seed=0))
    steps, weights = np.array(facts["path"]["steps"]), np.array(facts["path"]["weights"])
    order = facts["path"]["domains"]
    assert np.allclose(weights[steps <= 10], [prior[d] for d in order], atol=1e-4)
    math = weights[:, order.index("math")]
    assert np.ptp(math[(steps > 10) & (steps <= 20)]) < 1e-9 < abs(math[-1] - math[10])
    assert math[-1] > prior["math"]


def test_a_run_that_was_stopped_between_stages_ends_as_one_that_was_not(
    proxies: Callable[..., ProxyObjective],
) -> None:
    whole = proxies("tikmix-stages")
    job = Job("one", prior_of(whole), seed=0)
    _, components, facts = whole._work(job)
    with pytest.raises(Interrupted):
        proxies("tikmix-stages", stop=Watch(30).stop)._work(Job("two", job.mixture, seed=0))
    again = proxies("tikmix-stages")
    _, resumed, later = again._work(Job("two", job.mixture, seed=0))
    assert later["resumed_at"] > 20
    assert resumed == components and later["path"] == facts["path"]


def test_what_it_costs_is_counted_before() -> None:
    sizes = Sizes(domains=3, steps=40, batch_tokens=512)
    once, thrice = TiKMiX(**FEW).extra(sizes), TiKMiXStages(at=[0.2, 0.4, 0.6], **FEW).extra(sizes)
    assert once.trained == 4 * 1_024 + 256, "three domains, a target, and the curvature"
    assert thrice.trained == 3 * once.trained
    assert TiKMiXStages(at=[0.001]).when(40) == set(), "a stage of less than a step is none"
    assert TiKMiXStages(at=[0.5, 1.0]).when(40) == {20, 40}
    assert TiKMiXStages(at=1.0, **FEW).extra(sizes) == once, "no proxy beside its own"
    assert not hasattr(TiKMiXStages, "reference") and hasattr(TiKMiX, "reference")


def test_measured_at_its_end_a_run_reads_the_prior_and_ends_with_what_was_found(
    proxies: Callable[..., ProxyObjective],
) -> None:
    objective = proxies("tikmix-stages", at=1.0)
    prior = prior_of(objective)
    _, _, facts = objective._work(Job("one", prior, seed=0))
    assert path_mean(facts["path"]) == pytest.approx(prior)
    end = path_end(facts["path"])
    assert sum(end.values()) == pytest.approx(1) and end["math"] > prior["math"] + 0.01
    with pytest.raises(Interrupted):
        proxies("tikmix-stages", at=1.0, stop=Watch(30).stop)._work(Job("two", prior, seed=0))
    _, _, later = proxies("tikmix-stages", at=1.0)._work(Job("two", prior, seed=0))
    assert later["resumed_at"] > 20 and later["path"] == facts["path"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice("tikmix", {"hesian": "fisher"}), "unknown key 'hesian'"),
        (Choice("tikmix", {"damping": 0}), "damping must be positive"),
        (Choice("tikmix", {"mixtures": 8}), "mixtures are of `climb-opt influence`"),
        (Choice("tikmix-stages", {"at": [0.5, 1.1]}), "at must hold shares above 0, to 1"),
        (Choice("tikmix-stages", {"at": []}), "at must hold shares"),
    ],
)
def test_bad_options_are_refused(choice: Choice, words: str) -> None:
    with pytest.raises(UserError, match=words):
        made(choice)


def test_a_score_without_a_gradient_is_refused_before_anything_is_trained(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    rows = tmp_path / "sums.validation.jsonl"
    rows.write_text('{"query": "two plus", "choices": ["two", "a cat"], "label": 0}\n' * 3)
    lm_eval = {"name": "lm-eval", "tasks": ["sums"], "files": {"sums": str(rows)}}
    proxy = {**recipe_data(tiny_corpus)["proxy"], "reweight": "tikmix"}
    changes = {"proxy": proxy, "evaluators": [lm_eval], "score": {"sums/acc": -1.0}}
    with pytest.raises(UserError, match="'sums/acc' has no gradient"):
        proxies_of(tiny_corpus, tmp_path, **changes)
    recipe, storage = study_from(recipe_data(tiny_corpus, **changes)), open_storage(tmp_path / "s")
    with pytest.raises(UserError, match="'sums/acc' has no gradient"):
        open_study(recipe, study_name="untrainable", storage=storage)
    assert optuna.get_all_study_names(storage) == [], "its name is free for what can be trained"
    smooth = study_from(recipe_data(tiny_corpus, **{**changes, "score": ["sums/bpb"]}))
    assert open_study(smooth, study_name="untrainable", storage=storage)
    with pytest.raises(UserError, match="needs a study's score"):
        TiKMiX().check(None)
