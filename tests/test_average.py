"""The mean of the last weights is what is scored and kept; training knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from climb_opt import recipes
from climb_opt.errors import Interrupted, UserError
from climb_opt.objective import ProxyObjective
from climb_opt.proxy import checkpoint, model
from climb_opt.proxy.command import CommandTrainer
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import Choice, ModelRecipe, ProxyRecipe, StudyRecipe
from climb_opt.shards import Corpus
from training import SMALL, Watch

JOB = Job("slot-0", {"web": 0.5, "code": 0.3, "math": 0.2}, seed=0)
STEPS = 16
Weights = dict[str, torch.Tensor]


@pytest.fixture
def make(tiny_corpus: Corpus, tmp_path: Path) -> Callable[..., Trainer]:
    def trainer(**changes: Any) -> Trainer:
        recipe = replace(SMALL, **changes)
        return Trainer(tiny_corpus, recipe, ProxyGroup("fp32"), directory=tmp_path)

    return trainer


def weights_of(network: Any) -> Weights:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Looking(Watch):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, Weights] = {}

    def report(self, network: Any, step: int) -> bool:
        self.seen[step] = weights_of(network)
        return super().report(network, step)


@pytest.fixture
def plain(make: Callable[..., Trainer]) -> tuple[dict[int, Weights], np.ndarray]:
    """The weights after every step, and the losses, of a run that averages nothing."""
    watch = Looking()
    outcome = make(report_every=1).train(replace(JOB, name="plain"), watch)
    return {**watch.seen, STEPS: weights_of(outcome.model)}, outcome.losses


@pytest.mark.parametrize(("share", "taken"), [(0.01, 1), (0.1, 2), (0.25, 4), (0.6, 10), (1, 16)])
@pytest.mark.parametrize("tied", [True, False])
def test_the_mean_is_that_of_the_last_steps_and_training_goes_on_without_it(
    make: Callable[..., Trainer], share: float, taken: int, tied: bool
) -> None:
    shape = replace(SMALL.model, tied=tied)
    watch = Looking()
    whole = make(report_every=1, model=shape).train(JOB, watch)
    every = {**watch.seen, STEPS: weights_of(whole.model)}
    watch = Looking()
    averaged = make(average=share, report_every=1, model=shape).train(JOB, watch)
    assert np.array_equal(averaged.losses, whole.losses)
    for step, found in [*watch.seen.items(), (STEPS, weights_of(averaged.model))]:
        begins = STEPS - taken
        last = [every[s] for s in range(begins + 1, step + 1)] or [every[step]]
        for name, value in found.items():
            mean = torch.stack([weights[name].double() for weights in last]).mean(dim=0)
            assert value.dtype == torch.float32
            assert torch.allclose(value.double(), mean, atol=1e-7, rtol=1e-5), (step, name)
    assert averaged.facts["parameters"] == whole.facts["parameters"]
    assert not averaged.model.training


@pytest.mark.parametrize("stopped", [1, 11, 12, 13, 15])
def test_a_run_resumed_from_any_step_has_the_same_mean_to_the_bit(
    make: Callable[..., Trainer], stopped: int
) -> None:
    whole = make(average=0.25).train(replace(JOB, name="whole"), Watch())
    with pytest.raises(Interrupted, match=f"stopped at step {stopped} of 16"):
        make(average=0.25).train(JOB, Watch(stop_after=stopped))
    resumed = make(average=0.25).train(JOB, Watch())
    assert resumed.facts["resumed_at"] == stopped
    assert same(weights_of(resumed.model), weights_of(whole.model))
    assert np.array_equal(resumed.losses, whole.losses)


def test_checkpoints_of_runs_without_a_mean_open_where_none_has_begun(
    make: Callable[..., Trainer],
    plain: tuple[dict[int, Weights], np.ndarray],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = make(average=0.25).train(replace(JOB, name="whole"), Watch())
    for stopped, average, resumed_at in [(9, 0.0, 9), (12, 0.25, 12), (14, 0.0, 14), (14, 0.25, 0)]:
        with pytest.raises(Interrupted):
            make().train(JOB, Watch(stop_after=stopped))
        file = make().directory / JOB.name / checkpoint.FILE
        assert "average" not in torch.load(file, weights_only=True)
        caplog.clear()
        resumed = make(average=average).train(JOB, Watch())
        assert resumed.facts["resumed_at"] == resumed_at
        assert ("does not fit this trial" in caplog.text) == (resumed_at == 0)
        expected = weights_of(whole.model) if average else plain[0][STEPS]
        assert same(weights_of(resumed.model), expected)
        checkpoint.remove(file.parent)


def test_a_mean_that_began_elsewhere_is_not_gone_on_with(
    make: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    whole = make(average=0.5).train(replace(JOB, name="whole"), Watch())
    with pytest.raises(Interrupted):
        make(average=0.25).train(JOB, Watch(stop_after=14))
    anew = make(average=0.5).train(JOB, Watch())
    assert "a mean of 2 weights, not of 6" in caplog.text
    assert same(weights_of(anew.model), weights_of(whole.model))


def test_a_proxy_that_continues_from_a_checkpoint_is_averaged_too(
    make: Callable[..., Trainer], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    model.save(make().train(JOB, Watch()).model, tiny_corpus, tmp_path / "model")
    shape = ModelRecipe(checkpoint=str(tmp_path / "model"))
    last = make(model=shape).train(JOB, Watch()).model
    mean = make(model=shape, average=0.5).train(JOB, Watch()).model
    assert type(mean) is type(last) and not same(weights_of(mean), weights_of(last))


def test_the_mean_is_scored_and_kept(tiny_corpus: Corpus, tmp_path: Path) -> None:
    def objective(average: float) -> ProxyObjective:
        recipe = StudyRecipe(
            corpus=str(tiny_corpus.path),
            proxy=replace(SMALL, average=average, keep=1),
            evaluators=(Choice("heldout", {"max_tokens": 500}),),
            score=["sums/bpb"],
        )
        return ProxyObjective(tiny_corpus, recipe, directory=tmp_path / str(average))

    scores = {share: objective(share)._work(JOB)[1]["sums/bpb"] for share in (0.0, 0.5)}
    assert scores[0.0] != scores[0.5]
    for share, score in scores.items():
        kept = model.load(tmp_path / str(share) / "models" / JOB.name)
        assert objective(share)._evaluate(kept)["sums/bpb"] == pytest.approx(score, rel=1e-6)


def test_a_method_compares_with_the_mean_of_its_reference(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    def weigh(average: float, folder: str, watch: Watch) -> list[list[float]]:
        recipe = replace(SMALL, compile=False, average=average, reweight=Choice("doremi"))
        trainer = Trainer(tiny_corpus, recipe, ProxyGroup("fp32"), directory=tmp_path / folder)
        job = Job("doremi", tiny_corpus.tokens(), seed=0)
        path: list[list[float]] = trainer.train(job, watch).facts["path"]["weights"]
        return path

    whole = weigh(0.5, "whole", Watch())
    assert whole != weigh(0.0, "plain", Watch())
    for patience in (13, 10):  # in the reference's mean, then in the proxy
        with pytest.raises(Interrupted):
            weigh(0.5, "stopped", Watch(patience))
    assert weigh(0.5, "stopped", Watch()) == whole
    # Weights of one reference are not gone on with under another.
    with pytest.raises(Interrupted):
        weigh(0.0, "changed", Watch(25))
    assert weigh(0.5, "changed", Watch()) == whole


def test_recipes_written_before_there_was_a_mean_average_nothing(tiny_corpus: Corpus) -> None:
    assert ProxyRecipe().average == 0.0
    assert recipes.read_proxy({"average": 0.1}).average == 0.1
    assert recipes.read_proxy({"tokens": 4096}).average == 0.0


@pytest.mark.parametrize("average", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_share_that_cannot_be_meant_is_refused(
    make: Callable[..., Trainer], average: float
) -> None:
    with pytest.raises(UserError, match=r"proxy\.average must be in \[0, 1\], but is"):
        make(average=average)


@pytest.mark.parametrize("average", ["a tenth", True, [0.1], None])
def test_a_share_that_is_no_number_is_refused(average: Any) -> None:
    with pytest.raises(UserError, match=r"proxy\.average") as caught:
        recipes.read_proxy({"average": average})
    assert "\n" not in str(caught.value)


def test_a_foreign_trainer_cannot_be_asked_for_a_mean(tiny_corpus: Corpus, tmp_path: Path) -> None:
    recipe = ProxyRecipe(command="train {trial}", average=0.1)
    with pytest.raises(UserError, match=r"proxy\.average is 0\.1, but proxy\.command trains"):
        CommandTrainer(tiny_corpus, recipe, directory=tmp_path)
