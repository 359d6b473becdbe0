"""Training: deterministic, resumable, honest about loss, memory and limits."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.proxy import checkpoint, model
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job, Outcome
from climb_opt.proxy.loss import TrainingLoss
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import ModelRecipe
from climb_opt.shards import Corpus
from training import SMALL, Watch

JOB = Job("slot-0", {"web": 0.5, "code": 0.3, "math": 0.2}, seed=0)


@pytest.fixture
def make(tiny_corpus: Corpus, tmp_path: Path) -> Callable[..., Trainer]:
    def trainer(**changes: Any) -> Trainer:
        recipe = replace(SMALL, **changes)
        return Trainer(tiny_corpus, recipe, ProxyGroup("fp32"), directory=tmp_path)

    return trainer


def weights_of(outcome: Outcome) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in outcome.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_training_learns_and_says_what_it_did(make: Callable[..., Trainer]) -> None:
    trainer = make()
    outcome = trainer.train(JOB, Watch())
    assert outcome.losses is not None and len(outcome.losses) == 16
    assert outcome.losses[-3:].mean() < outcome.losses[0] - 1.0  # nats a token, from log 320
    facts = outcome.facts
    assert facts["tokens"] == trainer.tokens == 16 * 512
    assert facts["train_loss"] == pytest.approx(float(outcome.losses[-1:].mean()))
    assert set(facts["epochs"]) == {"web", "code", "math"}
    read = facts["epochs"]["web"] * trainer.sequences.sizes[0]
    assert read == pytest.approx(256)  # half of 512 sequences
    assert facts["devices"] == 1 and facts["device"] == "cpu"
    assert not any((trainer.directory).glob("*/*"))


def test_the_same_job_twice_gives_the_same_weights(make: Callable[..., Trainer]) -> None:
    a = weights_of(make().train(JOB, Watch()))
    b = weights_of(make().train(JOB, Watch()))
    c = weights_of(make().train(replace(JOB, seed=1), Watch()))
    assert same(a, b) and not same(a, c)


@pytest.mark.parametrize("schedule", ["wsd", "cosine"])
def test_an_interrupted_run_resumes_to_the_same_bits(
    make: Callable[..., Trainer], schedule: str
) -> None:
    whole = make(schedule=schedule).train(replace(JOB, name="whole"), Watch())
    for stop_after in (5, 4):
        with pytest.raises(Interrupted, match="stopped at step"):
            make(schedule=schedule).train(JOB, Watch(stop_after=stop_after))
    resumed = make(schedule=schedule).train(JOB, Watch())
    assert resumed.facts["resumed_at"] == 9
    assert same(weights_of(whole), weights_of(resumed))
    assert np.array_equal(whole.losses, resumed.losses)


def test_a_killed_run_resumes_from_its_last_checkpoint(make: Callable[..., Trainer]) -> None:
    whole = make().train(replace(JOB, name="whole"), Watch())

    class Killed(BaseException):
        pass

    class Killer(Watch):
        def report(self, network: Any, step: int) -> bool:
            raise Killed

    with pytest.raises(Killed):
        make(checkpoint_every=4, report_every=10).train(JOB, Killer())
    resumed = make(checkpoint_every=4).train(JOB, Watch())
    assert resumed.facts["resumed_at"] == 8
    assert same(weights_of(whole), weights_of(resumed))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / JOB.name / checkpoint.FILE
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)


def shrink_moments(state: dict[str, Any]) -> None:
    for values in state["optimizer"]["state"].values():
        values["exp_avg"] = values["exp_avg"][:1]


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["model"].popitem(),
        lambda state: state.pop("losses"),
        lambda state: state.update(losses=state["losses"][:3]),
        lambda state: state.update(step=17),
        lambda state: state.update(step="3"),
        lambda state: state["optimizer"]["param_groups"].pop(),
        shrink_moments,
    ],
)
def test_a_checkpoint_that_does_not_fit_leaves_no_trace_in_the_run(
    make: Callable[..., Trainer],
    change: Callable[[dict[str, Any]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = make().train(replace(JOB, name="whole"), Watch())
    trainer = make()
    with pytest.raises(Interrupted):
        trainer.train(JOB, Watch(stop_after=5))
    rewrite(trainer.directory, change)
    anew = make().train(JOB, Watch())
    assert "does not fit this trial" in caplog.text
    assert anew.facts["resumed_at"] == 0
    assert same(weights_of(whole), weights_of(anew))


def test_ranks_that_found_different_checkpoints_begin_again_together(
    make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Interrupted):
        make().train(JOB, Watch(stop_after=5))
    trainer = make()
    monkeypatch.setattr(trainer.group, "gather", lambda value: [value, 0])
    outcome = trainer.train(JOB, Watch())
    assert outcome.facts["resumed_at"] == 0
    assert "checkpoints of different steps (5, 0); starting afresh" in caplog.text


def test_a_checkpoint_of_another_mixture_is_not_resumed(
    make: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Interrupted):
        make().train(JOB, Watch(stop_after=5))
    other = make().train(replace(JOB, mixture={"web": 1.0}), Watch())
    assert other.facts["resumed_at"] == 0
    assert "belongs to another mixture" in caplog.text


def test_micro_batches_add_up_to_the_global_batch(make: Callable[..., Trainer]) -> None:
    whole = make().train(JOB, Watch())
    parts = make(micro_batch_tokens=7 * 16).train(JOB, Watch())  # 32 = 7 + 7 + 7 + 7 + 4
    assert parts.facts["micro_batch_tokens"] == 112
    assert np.allclose(whole.losses, parts.losses, atol=2e-3)


def test_a_loss_that_is_not_finite_fails_the_trial(make: Callable[..., Trainer]) -> None:
    trainer = make(lr=1e30, warmup=0.0)
    with pytest.raises(TrialFailed, match="the loss is not finite at step"):
        trainer.train(JOB, Watch())
    good = make().train(JOB, Watch())  # the search goes on
    assert good.status == "finished"


def limit_memory(monkeypatch: pytest.MonkeyPatch, sequences: int) -> list[int]:
    tried: list[int] = []
    forward = TrainingLoss.forward

    def limited(self: TrainingLoss, tokens: torch.Tensor) -> torch.Tensor:
        tried.append(len(tokens))
        if len(tokens) > sequences:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return forward(self, tokens)

    monkeypatch.setattr(TrainingLoss, "forward", limited)
    return tried


def test_out_of_memory_halves_the_micro_batch_once_and_says_so(
    make: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = make().train(JOB, Watch())
    tried = limit_memory(monkeypatch, 16)
    trainer = make()
    halved = trainer.train(JOB, Watch())
    assert tried[:2] == [32, 16] and halved.facts["micro_batch_tokens"] == 256
    assert "micro-batches of 256 tokens" in caplog.text
    assert np.allclose(whole.losses, halved.losses, atol=2e-3)
    tried.clear()
    trainer.train(JOB, Watch())
    assert set(tried) == {16}  # the next trial starts with what fits


def test_out_of_memory_twice_fails_the_trial(
    make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, 4)
    with pytest.raises(TrialFailed, match=r"out of memory.*256 tokens too"):
        make().train(JOB, Watch())


def test_a_domain_repeated_too_often_is_refused_before_training(
    make: Callable[..., Trainer],
) -> None:
    trainer = make(max_epochs=1.5)
    with pytest.raises(TrialFailed, match=r"'math' would be repeated 2\.\d+ times.*is 1\.5"):
        trainer.train(replace(JOB, mixture={"math": 1.0}), Watch())
    assert trainer.train(replace(JOB, mixture={"web": 1.0}), Watch()).status == "finished"


def test_reports_come_when_asked_and_can_end_a_trial(make: Callable[..., Trainer]) -> None:
    watch = Watch()
    whole = make(report_every=5).train(JOB, watch)
    assert watch.reports == [5, 10, 15]
    assert same(weights_of(whole), weights_of(make().train(JOB, Watch())))  # looking is free
    pruned = make(report_every=5).train(JOB, Watch(hopeless_at=10))
    assert pruned.status == "pruned" and pruned.facts["steps"] == 10


def test_twenty_trials_leave_no_model_behind(make: Callable[..., Trainer]) -> None:
    trainer = make(tokens=512 * 2)
    models = []

    def work(job: Job) -> None:
        models.append(weakref.ref(trainer.train(job, Watch()).model))

    for seed in range(20):
        trainer.group.run(work, replace(JOB, seed=seed))
    assert [ref() for ref in models] == [None] * 20


def test_failed_and_stopped_trials_leave_no_model_behind(make: Callable[..., Trainer]) -> None:
    models = []
    build = model.build

    def remember(*args: Any, **options: Any) -> Any:
        network = build(*args, **options)
        models.append(weakref.ref(network))
        return network

    failing, stopping = make(lr=1e30, warmup=0.0), Watch(stop_after=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "build", remember)
        with pytest.raises(TrialFailed):
            failing.group.run(lambda job: failing.train(job, Watch()), JOB)
        with pytest.raises(Interrupted):
            failing.group.run(lambda job: make().train(job, stopping), JOB)
    assert [ref() for ref in models] == [None] * 2


def test_a_compiled_proxy_compiles_once_for_all_trials(make: Callable[..., Trainer]) -> None:
    import torch._dynamo

    torch._dynamo.reset()
    compiled = torch.compile
    graphs = []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    class Compiled(TrainingLoss):
        pass

    trainer = make(compile=True, tokens=512 * 3)
    original = torch.nn.Module.compile
    torch.nn.Module.compile = lambda self, **kw: original(self, backend=count, **kw)  # type: ignore[method-assign]
    try:
        losses = [trainer.train(replace(JOB, seed=s), Watch()).losses for s in (0, 1, 2)]
    finally:
        torch.nn.Module.compile = original  # type: ignore[method-assign]
        torch._dynamo.reset()
    assert compiled is torch.compile and len(graphs) == 1
    eager = make(tokens=512 * 3).train(JOB, Watch()).losses
    assert np.allclose(losses[0], eager, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 0}, "proxy.tokens must be at least 1, but is 0"),
        ({"sequence": 0}, "proxy.sequence must be at least 1"),
        ({"lr": -1e-3}, "proxy.lr must be at least 0, but is -0.001"),
        ({"warmup": 5.0}, r"proxy.warmup must be in \[0, 1\], but is 5.0"),
        ({"checkpoint_every": 0}, "proxy.checkpoint_every must be at least 1, but is 0"),
        ({"report_every": -2}, "proxy.report_every must be at least 1, but is -2"),
        ({"clip": 0.0}, "proxy.clip must be positive, but is 0.0"),
        ({"max_epochs": 0.0}, "proxy.max_epochs must be positive, but is 0.0"),
        ({"betas": (0.9, 1.0)}, r"proxy.betas\[1\] must be in \[0, 1\), but is 1.0"),
        ({"batch_tokens": 8}, "proxy.batch_tokens .8. holds 0 sequences"),
        ({"micro_batch_tokens": 8}, "must hold at least one sequence"),
        ({"sequence": 100_000}, "Domain 'web' has no whole sequence"),
        ({"model": ModelRecipe(hidden=30, heads=4)}, "must be an even multiple of heads"),
        ({"model": ModelRecipe(heads=4, kv_heads=3)}, "must be a multiple of kv_heads"),
        ({"model": ModelRecipe(kv_heads=-2)}, "proxy.model.kv_heads must be at least 1, but is -2"),
        ({"model": ModelRecipe(intermediate=0)}, "proxy.model.intermediate must be at least 1"),
        ({"model": ModelRecipe(checkpoint="./nothing-here")}, "'./nothing-here' cannot be read"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training(
    make: Callable[..., Trainer], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(**changes)


def save_checkpoint(make: Callable[..., Trainer], corpus: Corpus, folder: Path) -> Outcome:
    outcome = make().train(JOB, Watch())
    model.save(outcome.model, corpus, folder)
    return outcome


def test_a_trained_proxy_opens_as_a_hugging_face_model(
    make: Callable[..., Trainer], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    outcome = save_checkpoint(make, tiny_corpus, tmp_path / "model")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert same(weights_of(outcome), dict(opened.state_dict()))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.decode(tokenizer("two plus two")["input_ids"]) == "two plus two"
    assert tokenizer.eos_token_id == tiny_corpus.eos


def test_a_proxy_continues_from_a_checkpoint(
    make: Callable[..., Trainer], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    first = save_checkpoint(make, tiny_corpus, tmp_path / "model")
    recipe = ModelRecipe(checkpoint=str(tmp_path / "model"))
    second = make(model=recipe).train(JOB, Watch())
    assert first.losses is not None and second.losses is not None
    assert second.losses[0] < first.losses[0] - 1.0
    assert second.facts["parameters"] == first.facts["parameters"]


def test_a_checkpoint_with_another_vocabulary_is_refused(
    make: Callable[..., Trainer], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    save_checkpoint(make, tiny_corpus, tmp_path / "model")
    larger = replace(tiny_corpus, vocab_size=1000)
    recipe = ModelRecipe(checkpoint=str(tmp_path / "model"))
    with pytest.raises(UserError, match=r"knows 320 tokens, but corpus 'tiny'.*with 1000"):
        model.configure(recipe, larger, 16)
    tokenizer = tmp_path / "model" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"!"', '"\\u00b6"'))
    with pytest.raises(UserError, match=r"has another tokenizer than corpus 'tiny'"):
        model.configure(recipe, tiny_corpus, 16)
    with pytest.raises(UserError, match=r"reads at most 16 tokens, but proxy\.sequence is 32"):
        (tmp_path / "model" / "tokenizer.json").unlink()
        model.configure(recipe, tiny_corpus, 32)


def test_one_process_trains_in_one_precision() -> None:
    ProxyGroup("fp32")
    with pytest.raises(UserError, match="already trains in another precision"):
        ProxyGroup("bf16")


def test_logs_of_training_are_quiet(
    make: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="climb_opt"):
        make().train(JOB, Watch())
    assert caplog.text == ""


def test_a_finished_trials_checkpoint_can_be_removed(make: Callable[..., Trainer]) -> None:
    trainer = make()
    with pytest.raises(Interrupted):
        trainer.train(JOB, Watch(stop_after=2))
    assert (trainer.directory / "slot-0" / checkpoint.FILE).is_file()
    checkpoint.remove(trainer.directory / "slot-0")
    assert not (trainer.directory / "slot-0").exists()
