"""A proxy on a device that is neither the CPU nor one of CUDA, and that has no double precision."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from climb_opt.errors import Interrupted
from climb_opt.evaluators.harness import LMEval
from climb_opt.evaluators.heldout import HeldOutLoss
from climb_opt.influence.curvature import DiagonalFisher
from climb_opt.influence.gradients import Differentiator, dot, of_mixture
from climb_opt.proxy.data import Sequences
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import Choice, ProxyRecipe
from climb_opt.shards import Corpus
from evaluating import questions
from second_device import DEVICE, SecondDevice, second_device
from training import SMALL, Watch

JOB = Job("slot-0", {"web": 0.5, "code": 0.3, "math": 0.2}, seed=0)


@pytest.fixture
def group() -> ProxyGroup:
    return ProxyGroup("fp32")


@pytest.fixture
def device(group: ProxyGroup, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecondDevice]:
    with second_device(group, monkeypatch) as device:
        yield device


@pytest.mark.parametrize("method", [None, "doremi", "ado"])
def test_a_proxy_trains_stops_and_goes_on_there(
    tiny_corpus: Corpus, group: ProxyGroup, device: SecondDevice, tmp_path: Path, method: str | None
) -> None:
    reweight = None if method is None else Choice(method)
    recipe: ProxyRecipe = replace(SMALL, reweight=reweight, average=0.25)
    trainer = Trainer(tiny_corpus, recipe, group, directory=tmp_path)
    whole = trainer.train(replace(JOB, name="whole"), Watch())
    assert whole.facts["device"] == DEVICE.type and whole.losses is not None
    assert whole.losses[-1] < whole.losses[0] - 1.0
    with pytest.raises(Interrupted):
        trainer.train(JOB, Watch(stop_after=14 + 16 * (method == "doremi")))  # after its reference
    again = trainer.train(JOB, Watch())
    assert again.facts["resumed_at"] == 14
    pairs = zip(whole.model.parameters(), again.model.parameters(), strict=True)
    for one, other in pairs:
        assert device.holds(one) and device.holds(other) and torch.equal(one, other)


def test_scores_there_are_those_of_the_cpu(
    tiny_corpus: Corpus,
    network: Any,
    group: ProxyGroup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "q.jsonl"
    rows = [{"query": q["ask"], "choices": q["options"], "label": q["right"]} for q in questions(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    heldout = HeldOutLoss(tiny_corpus, domains=True)
    tasks = LMEval(tiny_corpus, tasks=["q"], files={"q": str(file)})

    def found(model: Any) -> tuple[dict[str, float], np.ndarray, list[float]]:
        accelerator = group.accelerator
        scores = heldout.evaluate(model, accelerator) | tasks.evaluate(model, accelerator)
        terms = [float(t.detach()) for t in tasks.terms("q/bpb", model, accelerator)]
        return scores, heldout.token_nats(model, accelerator), terms

    scores, nats, terms = found(network)
    with second_device(group, monkeypatch):
        there = found(copy.deepcopy(network).to(DEVICE))
    assert there[0] == scores and np.array_equal(there[1], nats) and there[2] == terms


def test_influence_is_measured_there(
    tiny_corpus: Corpus, network: Any, group: ProxyGroup, device: SecondDevice
) -> None:
    model = Differentiator(copy.deepcopy(network).to(DEVICE), group)
    sample = of_mixture(Sequences(tiny_corpus, 16), {"web": 1.0}, 256, 0)
    gradient = model.of(model.terms(sample))
    fisher = DiagonalFisher(model, sample, damping=0.1)
    assert device.holds(gradient) and fisher.damping > 0
    solved = dot(fisher.solve(gradient), gradient.cpu())
    assert 0 < solved < dot(gradient, gradient) / fisher.damping
