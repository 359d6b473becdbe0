"""S at the end of a proxy of the prior, and the doors to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

import climb_opt
from climb_opt import MixtureSpace
from climb_opt.cli import main
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.gains.table import read_gains
from climb_opt.influence.measure import Place, measure, targets_of
from climb_opt.influence.mixtures import added_up, candidates, searched
from climb_opt.influence.options import InfluenceOptions
from climb_opt.influence.prior import AtPrior
from climb_opt.objective import ProxyObjective
from climb_opt.proxy import model
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.shards import Corpus
from influencing import OPTIONS, proxies_of, recipe_data
from training import Watch


@pytest.fixture(scope="module")
def group() -> ProxyGroup:
    return ProxyGroup("fp32")


@pytest.fixture
def proxies(tiny_corpus: Corpus, tmp_path: Path) -> Callable[..., ProxyObjective]:
    return partial(proxies_of, tiny_corpus, tmp_path)


@pytest.mark.parametrize("hessian", ["identity", "fisher", "gauss-newton"])
def test_influence_has_the_sign_of_retrained_proxies(
    proxies: Callable[..., ProxyObjective], hessian: Any
) -> None:
    objective = proxies()
    gains = AtPrior(objective, replace(OPTIONS, hessian=hessian)).measure()
    of = dict(zip(objective.space.domains, gains.of_score(objective.space.domains), strict=True))
    assert of["math"] == max(of.values()) > 0, "the target is sums"

    def trained(domain: str) -> float:
        prior = objective.space.mixture(objective.space.prior)
        moved = {d: 0.7 * w + 0.3 * (d == domain) for d, w in prior.items()}
        components = objective._work(Job(domain, moved, seed=0))[1]
        return components["sums/bpb"]

    truth = {domain: -trained(domain) for domain in of}
    assert max(of, key=of.__getitem__) == max(truth, key=truth.__getitem__)


def test_each_domain_helps_its_own_held_out_text_most(
    proxies: Callable[..., ProxyObjective],
) -> None:
    names = ["heldout/web/bpb", "heldout/code/bpb", "heldout/math/bpb"]
    objective = proxies(score=names)
    gains = AtPrior(objective, OPTIONS).measure()
    for name in names:
        row = gains.lowers[name]
        assert max(row, key=row.__getitem__) == name.split("/")[1]
    assert all(r is not None and r > 0.9 for r in gains.facts["reliability"].values())


def test_what_it_costs_is_known_before_and_counted_after(
    proxies: Callable[..., ProxyObjective],
) -> None:
    objective = proxies()
    plain = AtPrior(objective, OPTIONS)
    target = objective.evaluators[0].tokens_read("sums/bpb")  # type: ignore[attr-defined]
    beside = (3 * 2_048 + 512 + target) / plain.trainer.tokens
    assert plain.flops == pytest.approx(plain.trainer.flops * (1 + beside))
    assert plain.measure().facts["flops"] == pytest.approx(plain.flops)
    newton = AtPrior(objective, replace(OPTIONS, hessian="gauss-newton", iterations=4))
    found = newton.measure().facts["flops"]
    assert plain.flops < found <= newton.flops * (1 + 1e-9)
    held = objective.trainer.sequences.sizes * 16  # type: ignore[union-attr]
    more = AtPrior(objective, replace(OPTIONS, tokens=int(held.max())))
    assert held.min() < held.max(), "a domain that holds less is read once, and counted once"
    beside = (held.sum() + 512 + target) / plain.trainer.tokens
    assert more.flops == pytest.approx(more.trainer.flops * (1 + beside))
    open_ = AtPrior(objective, InfluenceOptions())
    assert open_.options.tokens == 4_096, "at least; a tiny proxy trains on little more"


def test_a_proxy_that_goes_on_from_a_trunk_is_measured_with_or_without_it(
    proxies: Callable[..., ProxyObjective],
) -> None:
    trunk = {"trunk": 0.5, "tokens": 2_048, "read": []}
    first, again = (AtPrior(proxies(branches=trunk), OPTIONS) for _ in range(2))
    gains = first.measure()
    here = AtPrior(proxies(branches=trunk), OPTIONS)
    assert first.flops == again.flops == gains.facts["flops"] > here.flops
    found = here.measure()
    assert found.lowers == gains.lowers and found.facts["flops"] == pytest.approx(here.flops)


def test_a_stopped_measurement_resumes_and_keeps_the_trained_proxy(
    proxies: Callable[..., ProxyObjective], tmp_path: Path
) -> None:
    whole = AtPrior(proxies(), OPTIONS, name="whole").measure()
    for after in (5, 36):  # while it trains; between two gradients
        with pytest.raises(Interrupted):
            AtPrior(proxies(stop=Watch(after).stop), OPTIONS).measure()
    assert (tmp_path / "runs" / "influence-end").is_dir()
    again = AtPrior(proxies(), OPTIONS)
    again.trainer.train = None  # type: ignore[assignment,method-assign]
    assert again.measure().lowers == whole.lowers
    assert not list(tmp_path.rglob("*.pt"))


def test_a_score_without_a_gradient_is_refused_before_anything_is_trained(
    proxies: Callable[..., ProxyObjective], tmp_path: Path
) -> None:
    class Counts:
        def __init__(self, corpus: Corpus) -> None:
            pass

        def components(self) -> list[str]:
            return ["words/acc"]

        def evaluate(self, network: Any, accelerator: Any) -> dict[str, float]:
            return {"words/acc": 1.0}

    objective = proxies()
    objective.evaluators.append(Counts(objective.corpus))
    with pytest.raises(UserError, match=r"'words/acc' has no gradient; .*sums/bpb"):
        targets_of(objective.evaluators, {"sums/bpb": 1.0, "words/acc": 1.0})
    with pytest.raises(UserError, match="'other/bpb' is given by no evaluator"):
        targets_of(objective.evaluators, {"other/bpb": 1.0})
    assert list(targets_of(objective.evaluators, {"sums/bpb": 1.0, "words/acc": 0.0}))
    command = proxies(proxy={"command": "true", "flops": 1e9})
    with pytest.raises(UserError, match=r"proxy\.command trains elsewhere"):
        AtPrior(command, OPTIONS)
    with pytest.raises(UserError, match="drop the study's phases"):
        AtPrior(proxies(phases=[0.5, 0.5]), OPTIONS)


def test_a_diverged_proxy_fails_the_measurement(
    proxies: Callable[..., ProxyObjective], group: ProxyGroup
) -> None:
    objective = proxies()
    at = AtPrior(objective, OPTIONS)
    network = model.build(objective.recipe.proxy.model, at.trainer.config, seed=0)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    place = Place(network, group, at.trainer.sequences, {"web": 1.0})
    with pytest.raises(TrialFailed, match="not finite"):
        measure(place, at.targets, replace(OPTIONS, hessian="identity"))


def test_several_mixtures_are_measured_by_themselves(
    proxies: Callable[..., ProxyObjective], group: ProxyGroup
) -> None:
    objective = proxies()
    at = AtPrior(objective, OPTIONS)
    network = model.build(objective.recipe.proxy.model, at.trainer.config, seed=0)
    place = Place(network, group, at.trainer.sequences, {"web": 1.0})
    mixtures = [{"web": 0.5, "math": 0.5}, {"code": 1.0}]
    found = measure(place, at.targets, replace(OPTIONS, hessian="identity"), mixtures)
    columns = dict(zip(at.trainer.sequences.domains, found.lowers[0], strict=True))
    additive = [(columns["web"] + columns["math"]) / 2, columns["code"]]
    assert found.mixtures.mean(axis=0)[0] == pytest.approx(additive, abs=0.02)


# --- doors ---------------------------------------------------------------------------------------


def test_candidates_surround_the_prior_and_keep_the_bounds() -> None:
    space = MixtureSpace({"web": 6, "code": 3, "math": 1}, upper={"web": 0.55})
    rows = candidates(space, 40, 0)
    prior = space.project(space.prior)
    assert rows.shape == (40, 3) and space.contains(rows).all()
    assert np.all(rows >= prior / 2 - 1e-12) and np.all(rows <= prior * 2 + 1e-12)
    assert np.array_equal(rows, candidates(space, 40, 0))
    fixed = MixtureSpace({"web": 1, "code": 1}, lower=0.5, upper=0.5)
    with pytest.raises(UserError, match=r"influence\.mixtures: of .* allow 0; leave mixtures out"):
        candidates(fixed, 4, 0)


def test_noise_alone_leaves_the_range_of_additivity_that_is_said() -> None:
    space = MixtureSpace({"web": 6, "code": 3, "math": 1})
    rows, s = candidates(space, 32, 0), np.array([1.0, 2.0, 4.0])
    rng, held = np.random.default_rng(0), []
    for noise in (0.05, 0.3, 1.0):
        for _ in range(100):
            domains = s + 0.3 * noise * rng.standard_normal((2, 3))
            found = added_up(rows, domains, rows @ s + noise * rng.standard_normal((2, 32)))
            assert found.by_noise is not None and found.correlation is not None
            held.append(found.by_noise[0] <= found.correlation <= found.by_noise[1])
    assert 0.85 < np.mean(held) < 0.97
    # Mixtures that are not what their domains add up to are outside of it.
    other = rows @ s[::-1] + 0.05 * rng.standard_normal((2, 32))
    found = added_up(rows, s + 0.01 * rng.standard_normal((2, 3)), other)
    assert found.by_noise is not None and found.correlation is not None
    assert found.correlation < found.by_noise[0]
    assert added_up(rows[:4], domains, rows[:4] @ s + np.zeros((2, 4))).by_noise is None
    assert added_up(rows[:4], domains, np.zeros((2, 4))).correlation is None


def test_learnt_gains_are_searched_from_wide_to_narrow() -> None:
    space = MixtureSpace({"web": 6, "code": 3, "math": 1})
    gains, rows = np.array([[0.0, 0.2, 1.0], [0.1, 0.0, 1.0]]), candidates(space, 200, 0)
    found = searched(space, gains, rows, gains @ rows.T, 0)
    prior = space.project(space.prior)
    assert np.all(gains @ found >= gains @ prior), "no task is served worse than by the prior"
    assert found[2] > 1.5 * prior[2], "as far as the measured mixtures tell"


def test_a_recipe_is_measured_from_python_and_the_command_line(
    tiny_corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(json.dumps(recipe_data(tiny_corpus)))
    given = ["tokens=1024", "curvature_tokens=256", "mixtures=8"]
    sets = [word for key in given for word in ("--set", f"influence.{key}")]
    assert main(["influence", "mine.yaml", *sets, "--output", "influence.json"]) == 0
    said = capsys.readouterr().out
    assert "math" in said and "TiKMiX-M: 8 mixtures" in said and "trials" in said
    assert "Of sums that are right, noise leaves (90 %): sums/bpb " in said
    held = read_gains("influence.json")
    options = InfluenceOptions(tokens=1_024, curvature_tokens=256, mixtures=8)
    found = climb_opt.measure_influence("mine.yaml", options=options)
    assert found is not None and found.gains.lowers == held.lowers
    assert sum(found.mixture.values()) == pytest.approx(1.0)
    assert found.mixture == held.facts["searched"]
    for wrong, words in (
        ("influence.hessian=newton", "must be one of identity, fisher, ekfac, gauss-newton"),
        ("influence.hesian=fisher", "Did you mean 'hessian'"),
        ("influence.tokens=0", "influence.tokens must be at least 1"),
        ("influence.tokens=1e12", "influence.tokens must be at most the "),
        ("influence.curvature_tokens=1e12", "curvature_tokens must be at most the "),
        ("influence.mixtures=2", "influence.mixtures must be 0, for none, or at least 3, but is 2"),
        ("score=[sums/loss]", "no evaluator gives 'sums/loss'"),
    ):
        assert main(["influence", "mine.yaml", "--set", wrong]) == 2
        assert words in capsys.readouterr().err


def test_a_trunk_lies_where_searches_have_theirs(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trunk = {"trunk": 0.5, "tokens": 2_048, "read": []}
    Path("mine.yaml").write_text(json.dumps(recipe_data(tiny_corpus, branches=trunk)))
    assert climb_opt.measure_influence("mine.yaml", options=OPTIONS) is not None
    assert list(Path("runs/branches").iterdir()) and {p.name for p in Path().iterdir()} == {
        "mine.yaml",
        "runs",
    }


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("questions.jsonl", "'questions.jsonl' exists already and is no measurement of influence"),
        (".", "'.' cannot be written: it is a folder. Give the path of a file."),
        ("questions.jsonl/influence.json", "questions.jsonl' is a file, no folder"),
    ],
)
def test_where_influence_cannot_go_is_refused_before_anything_is_trained(
    tiny_corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(json.dumps(recipe_data(tiny_corpus)))
    Path("questions.jsonl").write_text('{"text": "mine"}\n')
    assert main(["influence", "mine.yaml", "--output", output]) == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out and not Path("runs").exists()
    assert Path("questions.jsonl").read_text() == '{"text": "mine"}\n'
