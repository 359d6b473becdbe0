"""Methods that set weights while a proxy trains: what they change, resume and cost; DoReMi."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from climb_opt.choices import Choice
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.paths import path_mean
from climb_opt.proxy import checkpoint
from climb_opt.proxy.cost import shape_size, trial_cost
from climb_opt.proxy.data import MixtureIndex
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job, Outcome
from climb_opt.proxy.reweight.base import Extra, Weights, made
from climb_opt.proxy.reweight.doremi import DoReMi, move_weights
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import ProxyRecipe, study_from
from climb_opt.shards import Corpus
from training import SMALL, Watch

RECIPE = replace(SMALL, lr=ProxyRecipe().lr, compile=False, precision="fp32")
STEPS = 16

# What DoReMi's own training loop, before there was this plug, made of the tiny corpus with seed 3
# and eta 5: alpha of steps 1, 5, 9, 13 and 16, of web, code and math, and the mean of all.
BEFORE = [
    [0.409684, 0.221806, 0.368509],
    [0.770687, 0.0501014, 0.179211],
    [0.890193, 0.0537922, 0.056015],
    [0.809645, 0.148413, 0.0419417],
    [0.432018, 0.51973, 0.0482522],
]
MEAN_BEFORE = {"web": 0.7256617, "code": 0.1423248, "math": 0.1320135}


class Turning:
    """Reads another domain most in each quarter of the run; keeps the losses it was shown."""

    rereads = True

    def __init__(self, most: float = 0.8) -> None:
        self.most, self.shown = most, []

    def when(self, steps: int) -> Any:
        return range(steps // 4, steps, steps // 4)

    def start(self, training: Any) -> Weights:
        return self._weights(training, 0)

    def weigh(self, training: Any) -> Weights:
        self.shown.append(training.losses)
        return self._weights(training, training.step)

    def state(self) -> dict[str, Any]:
        return {"shown": self.shown}

    def load(self, state: dict[str, Any]) -> None:
        self.shown = list(state["shown"])

    def _weights(self, training: Any, step: int) -> Weights:
        k = len(training.domains)
        weights = np.full(k, (1 - self.most) / (k - 1))
        weights[step * 4 // training.steps % k] = self.most
        return Weights(reading=weights)


class Heavier(Turning):
    """As `Turning`, by its losses' weights as well."""

    def _weights(self, training: Any, step: int) -> Weights:
        weights = super()._weights(training, step).reading
        return Weights(weights, weights)

    def extra(self, sizes: Any) -> Extra:
        return Extra(trained=2 * sizes.batch_tokens * sizes.domains)


class Odd(Turning):
    """Gives at step 4 whatever it was made with."""

    def __init__(self, given: Any, rereads: bool = True) -> None:
        super().__init__()
        self.given, self.rereads = given, rereads  # type: ignore[misc]

    def weigh(self, training: Any) -> Weights:
        return Weights(reading=np.array(self.given, dtype=float))


def train(
    corpus: Corpus,
    folder: Path,
    method: str,
    options: dict[str, Any] | None = None,
    watch: Watch | None = None,
    **changes: Any,
) -> Outcome:
    recipe = replace(RECIPE, reweight=Choice(method, options or {}), **changes)
    trainer = Trainer(corpus, recipe, ProxyGroup("fp32"), directory=folder)
    return trainer.train(Job("slot", corpus.tokens(), seed=3), watch or Watch())


def weights_of(outcome: Outcome) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in outcome.model.parameters()])


METHODS = ["doremi", "ado", "test_reweight:Turning", "test_reweight:Heavier"]


# --- DoReMi -------------------------------------------------------------------------------------


def test_weights_follow_the_algorithm() -> None:
    alpha = move_weights(np.array([0.5, 0.25, 0.25]), np.array([0.0, np.log(2.0), 0.0]))
    expected = 0.999 * np.array([0.5, 0.5, 0.25]) / 1.25 + 0.001 / 3
    assert np.allclose(alpha, expected)
    steady = move_weights(np.full(4, 0.25), np.full(4, 3.0))
    assert np.allclose(steady, 0.25)


def test_smoothing_keeps_every_domain_alive() -> None:
    alpha = np.full(3, 1 / 3)
    for _ in range(500):
        alpha = move_weights(alpha, np.array([10.0, 0.0, 0.0]))
    assert alpha.min() >= 1e-3 / 3 * 0.999
    assert alpha.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("micro", [None, 64])
def test_doremi_takes_the_path_that_its_own_loop_took(
    tiny_corpus: Corpus, tmp_path: Path, micro: int | None
) -> None:
    outcome = train(tiny_corpus, tmp_path, "doremi", {"eta": 5.0}, micro_batch_tokens=micro)
    path = outcome.facts["path"]
    assert path["steps"] == list(range(1, STEPS + 1))
    assert np.allclose([path["weights"][s] for s in (0, 4, 8, 12, 15)], BEFORE, rtol=1e-3)
    assert path_mean(path) == pytest.approx(MEAN_BEFORE, rel=1e-4)


def test_a_proxy_reading_what_the_reference_never_saw_gets_more_weight_there(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    # The reference knows "math" best, so the proxy trails it there.
    outcome = train(tiny_corpus, tmp_path, "doremi", {"reference": {"math": 1.0}})
    mixture = path_mean(outcome.facts["path"])
    assert max(mixture, key=mixture.__getitem__) == "math"


@pytest.mark.parametrize("options", [{"eta": 0.0}, {"eta": float("nan")}, {"smoothing": 1.0}])
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="eta must be positive"):
        DoReMi(**options)


# --- any method ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("micro", [None, 64])
def test_a_run_stopped_at_any_step_ends_with_the_same_bits(
    tiny_corpus: Corpus, tmp_path: Path, method: str, micro: int | None
) -> None:
    def again(folder: str, watch: Watch | None = None) -> Outcome:
        return train(tiny_corpus, tmp_path / folder, method, None, watch, micro_batch_tokens=micro)

    whole, looks = again("whole"), 0
    while True:
        looks += 1
        assert looks < 50
        try:
            outcome = again("stopped", Watch(5))  # five steps at a time, in the reference too
        except Interrupted:
            continue
        break
    assert looks > 3
    assert torch.equal(weights_of(outcome), weights_of(whole))
    assert outcome.facts["path"] == whole.facts["path"]
    assert outcome.facts["epochs"] == whole.facts["epochs"]
    assert outcome.losses is not None and np.array_equal(outcome.losses, whole.losses)


def test_a_reference_that_is_trained_is_not_trained_again(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(tiny_corpus, tmp_path, "doremi", watch=Watch(STEPS + 5))
    state = torch.load(tmp_path / "slot-reference" / checkpoint.FILE, weights_only=True)
    assert state["step"] == STEPS and "reweight" not in state
    watch = Watch(STEPS - 5)  # as many looks as the proxy has steps left
    assert train(tiny_corpus, tmp_path, "doremi", watch=watch).status == "finished"


@pytest.mark.parametrize("damage", ["alpha", "reading", "path"])
def test_a_checkpoint_that_does_not_fit_starts_its_run_afresh(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    whole = train(tiny_corpus, tmp_path / "a", "doremi")
    with pytest.raises(Interrupted):
        train(tiny_corpus, tmp_path / "b", "doremi", watch=Watch(STEPS + 9))
    proxy = tmp_path / "b" / "slot" / checkpoint.FILE
    state = torch.load(proxy, weights_only=True)
    held = state["reweight"]["method"] if damage == "alpha" else state["reweight"]
    held[damage] = held[damage][:2]
    torch.save(state, proxy)
    again = train(tiny_corpus, tmp_path / "b", "doremi")
    assert torch.equal(weights_of(again), weights_of(whole))
    assert "does not fit this trial" in caplog.text


@pytest.mark.parametrize(
    "other", [None, Choice("doremi", {"eta": 2.0}), Choice("test_reweight:Turning")]
)
def test_another_method_does_not_go_on_from_a_checkpoint(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture, other: Choice | None
) -> None:
    with pytest.raises(Interrupted):
        train(tiny_corpus, tmp_path, "doremi", watch=Watch(STEPS + 9))
    recipe = replace(RECIPE, reweight=other)
    trainer = Trainer(tiny_corpus, recipe, ProxyGroup("fp32"), directory=tmp_path)
    outcome = trainer.train(Job("slot", tiny_corpus.tokens(), seed=3), Watch())
    assert outcome.facts["resumed_at"] == 0
    assert "another mixture, seed, recipe or method" in caplog.text


def test_what_is_read_follows_the_weights_exactly_and_in_the_usual_order(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[np.ndarray] = []
    whole = MixtureIndex.ids

    def ids(self: MixtureIndex, start: int, stop: int) -> np.ndarray:
        found = whole(self, start, stop)
        if stop - start and (not read or start == sum(map(len, read))):
            read.append(found)
        return found

    monkeypatch.setattr(MixtureIndex, "ids", ids)
    outcome = train(tiny_corpus, tmp_path, "test_reweight:Turning")
    trainer = Trainer(tiny_corpus, RECIPE, ProxyGroup("fp32"), directory=tmp_path)
    sequences, batch = trainer.sequences, trainer.batch
    order = np.concatenate(read)
    assert len(order) == STEPS * batch
    one = MixtureIndex(sequences, {"web": 1.0}, total=len(order), seed=3)
    domains = one.domain_of(order)
    quarters = np.split(domains, 4)
    planned = np.zeros(3)
    for place, quarter in enumerate(quarters):
        weights = np.full(3, 0.1)
        weights[place % 3] = 0.8
        planned += weights * len(quarter)
        counts = np.bincount(np.concatenate(quarters[: place + 1]), minlength=3)
        assert np.abs(counts - planned).max() < 1, "what rounding leaves is not left twice"
    # A domain's i-th sequence is the same whatever is read beside it.
    assert np.array_equal(order[domains == 0], one.ids(0, int((domains == 0).sum())))
    mean = path_mean(outcome.facts["path"])
    assert list(mean.values()) == pytest.approx(planned / planned.sum())


def test_a_method_sees_each_domains_mean_loss_since_it_was_asked(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(tiny_corpus, tmp_path, "test_reweight:Turning", {"most": 1.0}, Watch(5))
    state = torch.load(tmp_path / "slot" / checkpoint.FILE, weights_only=True)
    (first,) = state["reweight"]["method"]["shown"]
    losses = state["losses"][:4]
    assert first[0].item() == pytest.approx(losses.mean().item(), rel=1e-5)
    assert torch.isnan(first[1:]).all(), "nothing else was read"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0.5, 0.5, "nan"], "gives domain 'math' the weight nan"),
        ([0.5, 0.7, -0.2], "gives domain 'math' the weight -0.2"),
        ([float("inf"), 0.0, 0.0], "gives domain 'web' the weight inf"),
        ([0.5, 0.5], r"gives weights of shape \(2,\), not \(3,\)"),
        ([0.5, 0.5, 0.5], "gives weights that sum to 1.5, not to 1"),
    ],
)
def test_a_trial_with_weights_that_are_no_mixture_fails_with_its_reason(
    tiny_corpus: Corpus, tmp_path: Path, given: list[Any], message: str
) -> None:
    where = "reweight 'test_reweight:Odd', before step 4: it "
    with pytest.raises(TrialFailed, match=where + message):
        train(tiny_corpus, tmp_path, "test_reweight:Odd", {"given": given})


def test_a_method_that_says_it_does_not_change_what_is_read_may_not(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    options = {"given": [0.2, 0.3, 0.5], "rereads": False}
    with pytest.raises(TrialFailed, match="changes what is read, but says `rereads = False`"):
        train(tiny_corpus, tmp_path, "test_reweight:Odd", options)


def test_a_domain_is_repeated_no_more_often_than_allowed(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(TrialFailed, match=r"'math' would be repeated .*; proxy.max_epochs is 0\.5"):
        train(tiny_corpus, tmp_path, "doremi", max_epochs=0.5)


@pytest.mark.parametrize(
    ("method", "times"), [("doremi", 2 + 2 / 3), ("test_reweight:Heavier", 1 + 6 / STEPS)]
)
def test_what_a_method_uses_is_counted_before_and_after(
    tiny_corpus: Corpus, tmp_path: Path, method: str, times: float
) -> None:
    size = shape_size(RECIPE.model, tiny_corpus.vocab_size)
    recipe = replace(RECIPE, reweight=Choice(method))
    plain, cost = trial_cost(RECIPE, size, 3), trial_cost(recipe, size, 3)
    assert cost.flops == pytest.approx((plain.flops or 0) * times)
    facts = train(tiny_corpus, tmp_path, method).facts
    assert (facts["flops"], facts["tokens"]) == (pytest.approx(cost.flops), cost.tokens)
    assert trial_cost(replace(recipe, flops=1e12), size, 3).flops == 1e12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proxy": {"reweight": "doremy"}}, "Unknown reweighter 'doremy'. Did you mean 'doremi'"),
        ({"proxy": {"reweight": {"name": "doremi", "rate": 1}}}, "unknown key 'rate'"),
        ({"proxy": {"reweight": {"eta": 1}}}, "proxy.reweight: expected a name"),
        ({"proxy": {"reweight": "doremi"}, "phases": [0.5, 0.5]}, "drop phases or reweight"),
        ({"proxy": {"reweight": "doremi", "command": "x"}}, "drop reweight"),
        ({"proxy": {"reweight": "doremi"}, "branches": {}, "sampler": "simplex-gp"}, "drop"),
    ],
)
def test_mistakes_are_named_before_any_training(
    tiny_corpus: Corpus, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    from climb_opt.objective import ProxyObjective

    usual = {"corpus": str(tiny_corpus.path), "evaluators": ["heldout"], "score": ["sums/bpb"]}
    with pytest.raises(UserError, match=message):
        ProxyObjective(tiny_corpus, study_from({**usual, **changes}), directory=tmp_path)


@pytest.mark.parametrize("method", ["Still", "Anew", "Alike"])
def test_a_method_of_the_benchmark_is_a_whole_one(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "bench")
    assert made(Choice(f"bench_reweight:{method}")).when(16) is not None


def test_loss_by_chunks_is_that_of_whole_logits(tiny_corpus: Corpus) -> None:
    from climb_opt.proxy import model
    from climb_opt.proxy.loss import TrainingLoss, can_chunk

    config = model.configure(RECIPE.model, tiny_corpus, RECIPE.sequence)
    network = model.build(RECIPE.model, config, seed=0)
    if not can_chunk(network):
        pytest.skip("this torch has no linear cross-entropy in chunks")
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, tiny_corpus.vocab_size, (70, 17), generator=rng)
    shares = torch.rand(70, generator=rng)
    found = []
    for chunked in (True, False):
        network.zero_grad()
        loss, each = TrainingLoss(network, chunked=chunked)(tokens, shares)
        assert not each.requires_grad
        assert loss.item() == pytest.approx((each * shares).sum().item(), rel=1e-5)
        loss.backward()
        found.append([each, *(p.grad.clone() for p in network.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_method_of_the_page_runs(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "phases.md").read_text(encoding="utf-8")
    body = page.partition("```python\n# my_methods.py\n")[2].partition("```")[0]
    (tmp_path / "my_methods.py").write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    outcome = train(tiny_corpus, tmp_path, "my_methods:Lagging", {"every": 4, "power": 2.0})
    weights = outcome.facts["path"]["weights"]
    assert weights[0] == weights[3] != weights[4]
