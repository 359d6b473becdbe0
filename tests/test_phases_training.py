"""Training in phases: exact in each, one order of a domain throughout, resumed by one integer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
import torch

from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.proxy.command import CommandTrainer
from climb_opt.proxy.data import Batches, MixtureIndex
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.order import BLOCK, Order, Stretch, largest_remainder
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import ProxyRecipe
from climb_opt.schedules import Phase, Schedule, mean_mixture
from climb_opt.shards import Corpus
from test_data import fake_sequences
from training import SMALL, Watch

TWO = (
    Phase(0.75, {"web": 0.7, "code": 0.3}),
    Phase(0.25, {"web": 0.25, "code": 0.25, "math": 0.5}),
)


def job_of(schedule: Schedule, name: str = "slot-0") -> Job:
    return Job(name, mean_mixture(schedule), seed=0, schedule=schedule)


JOB = job_of(TWO)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[int], list[Stretch], int, float]:
    """Sizes of domains, what is read in each phase, a seed and a share."""
    sizes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=5))
    weights = st.lists(st.integers(0, 9), min_size=len(sizes), max_size=len(sizes)).filter(any)
    stretches = []
    for _ in range(draw(st.integers(1, 4))):
        mixture = {f"d{k}": float(w) for k, w in enumerate(draw(weights))}
        length = draw(st.integers(1, 300))
        stretches.append(Stretch(mixture, length, length))
    return sizes, stretches, draw(st.integers(0, 2**32)), draw(st.sampled_from([1.0, 0.5, 0.2]))


def index_of(sizes: list[int], stretches: list[Stretch], seed: int, share: float) -> MixtureIndex:
    total = sum(stretch.length for stretch in stretches)
    return MixtureIndex(fake_sequences(sizes, share), stretches, total=total, seed=seed)


@given(runs())
@settings(max_examples=60)
def test_counts_are_exact_and_prefixes_near_within_each_phase(run: Any) -> None:
    sizes, stretches, seed, share = run
    index = index_of(sizes, stretches, seed, share)
    domains = index.domain_of(index.ids(0, index.total))
    begin = 0
    for stretch, counts in zip(stretches, index.phase_counts, strict=True):
        weights = np.array([stretch.mixture[f"d{k}"] for k in range(len(sizes))])
        own = domains[begin : begin + stretch.length]
        np.testing.assert_array_equal(counts, largest_remainder(weights, stretch.length))
        np.testing.assert_array_equal(np.bincount(own, minlength=len(sizes)), counts)
        half = np.bincount(own[: stretch.length // 2], minlength=len(sizes))
        assert np.all(
            np.abs(half - counts * (stretch.length // 2) / stretch.length) <= len(sizes) + 1
        )
        begin += stretch.length
    np.testing.assert_array_equal(index.counts, np.bincount(domains, minlength=len(sizes)))
    np.testing.assert_allclose(index.epochs, index.counts / index.pools)


@given(runs(), st.lists(st.integers(0, 9), min_size=5, max_size=5))
@settings(max_examples=60)
def test_a_domains_sequences_come_in_one_order_whatever_the_phases(
    run: Any, other: list[int]
) -> None:
    # So a domain is read through before any of it is repeated, and trials share random numbers.
    sizes, stretches, seed, share = run
    index = index_of(sizes, stretches, seed, share)
    total = index.total
    mixture = {f"d{k}": 1.0 + other[k] for k in range(len(sizes))}
    plain = MixtureIndex(fake_sequences(sizes, share), mixture, total=3 * total, seed=seed)
    ids, all_of = index.ids(0, total), plain.ids(0, 3 * total)
    for k, pool in enumerate(index.pools):
        ours, theirs = ids[index.domain_of(ids) == k], all_of[plain.domain_of(all_of) == k]
        common = min(len(ours), len(theirs))
        np.testing.assert_array_equal(ours[:common], theirs[:common])
        for begin in range(0, len(ours), pool):
            once = ours[begin : begin + pool]
            assert len(set(once.tolist())) == len(once)


@given(runs(), st.integers(0, 1000), st.integers(0, 1000))
@settings(max_examples=40)
def test_any_slice_is_that_of_the_whole_run_also_over_borders(run: Any, a: int, b: int) -> None:
    index = index_of(*run)
    start, stop = sorted((a % (index.total + 1), b % (index.total + 1)))
    np.testing.assert_array_equal(index.ids(start, stop), index.ids(0, index.total)[start:stop])


@given(runs())
@settings(max_examples=30)
def test_one_phase_reads_what_a_mixture_alone_reads(run: Any) -> None:
    sizes, stretches, seed, share = run
    alone = index_of(sizes, stretches[:1], seed, share)
    plain = MixtureIndex(
        fake_sequences(sizes, share), stretches[0].mixture, total=alone.total, seed=seed
    )
    np.testing.assert_array_equal(alone.ids(0, alone.total), plain.ids(0, alone.total))


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7])
def test_a_phase_that_is_left_early_begins_as_the_whole_one(length: int) -> None:
    sizes, mixture = [500, 300, 20], {"d0": 0.55, "d1": 0.44, "d2": 0.01}
    later = Stretch({"d2": 1.0}, 50, 50)
    whole = MixtureIndex(fake_sequences(sizes), mixture, total=3 * BLOCK, seed=3)
    cut = index_of(sizes, [Stretch(mixture, length, 3 * BLOCK), later], 3, 1.0)
    ids = cut.ids(0, cut.total)
    np.testing.assert_array_equal(ids[:length], whole.ids(0, length))
    counts = np.bincount(cut.domain_of(ids[:length]), minlength=3)
    np.testing.assert_array_equal(cut.phase_counts, [counts, [0, 0, 50]])
    order = Order(np.array([0.55, 0.44, 0.01]), np.full(3, 0.5), length, 3 * BLOCK)
    assert order.starts[-1] == length == order.counts.sum()


def test_an_unknown_domain_and_an_empty_phase_are_refused() -> None:
    good = Stretch({"d0": 1.0}, 5, 5)
    with pytest.raises(UserError, match="names domain 'd7'"):
        index_of([9, 9], [good, Stretch({"d7": 1.0}, 5, 5)], 0, 1.0)
    with pytest.raises(UserError, match="Nothing to read: 5 sequences, weights sum to 0"):
        index_of([9, 9], [good, Stretch({"d0": 0.0}, 5, 5)], 0, 1.0)


# --- trained -------------------------------------------------------------------------------------


@pytest.fixture
def make(tiny_corpus: Corpus, tmp_path: Path) -> Callable[..., Trainer]:
    def trainer(folder: str = "runs", **changes: Any) -> Trainer:
        recipe = replace(SMALL, **changes)
        return Trainer(tiny_corpus, recipe, ProxyGroup("fp32"), directory=tmp_path / folder)

    return trainer


def weights_of(trainer: Trainer, job: Job, watch: Watch) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = trainer.train(job, watch).model.state_dict()
    return {name: value.clone() for name, value in state.items()}


def test_phases_end_at_whole_steps_and_a_trial_states_what_each_read(
    make: Callable[..., Trainer],
) -> None:
    trainer = make()  # 16 steps of 32 sequences
    index = trainer.index(JOB)
    batches = Batches(index, batch=trainer.batch)
    read = [np.bincount(index.domain_of(batches.ids(s)), minlength=3) for s in range(16)]
    assert all(row[2] == 0 for row in read[:12]) and all(row[2] > 12 for row in read[12:])
    facts = trainer.train(JOB, Watch()).facts
    assert facts["phases"] == [
        {"from_step": 0, "sequences": {"web": 269, "code": 115}},
        {"from_step": 12, "sequences": {"web": 32, "code": 32, "math": 64}},
    ]
    assert facts["epochs"] == pytest.approx(
        dict(zip(("web", "code", "math"), index.counts / trainer.sequences.sizes, strict=True))
    )
    assert "phases" not in trainer.train(replace(JOB, schedule=None), Watch()).facts


@pytest.mark.parametrize("stop_after", [5, 12, 13])  # in a phase, at its border, after it
def test_a_trial_in_phases_resumes_to_the_same_bits(
    make: Callable[..., Trainer], stop_after: int
) -> None:
    whole = weights_of(make("whole"), JOB, Watch())
    with pytest.raises(Interrupted):
        make().train(JOB, Watch(stop_after=stop_after))
    resumed = make().train(JOB, Watch())
    assert resumed.facts["resumed_at"] == stop_after
    state = resumed.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in whole.items())


OTHERS = {
    "the mean alone": None,
    "other shares": (replace(TWO[0], share=0.5), replace(TWO[1], share=0.5)),
    "another order": (replace(TWO[1], share=0.75), replace(TWO[0], share=0.25)),
    "one weight": (TWO[0], Phase(0.25, {"web": 0.25, "code": 0.2, "math": 0.55})),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_schedule_is_not_resumed(
    make: Callable[..., Trainer], other: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make()
    with pytest.raises(Interrupted):
        trainer.train(JOB, Watch(stop_after=3))
    # The mean is the same throughout: it must be the schedule that tells them apart.
    assert trainer.train(replace(JOB, schedule=OTHERS[other]), Watch()).facts["resumed_at"] == 0
    assert "belongs to another mixture" in caplog.text


def test_one_phase_and_zero_weights_are_the_run_that_they_were(
    make: Callable[..., Trainer],
) -> None:
    trainer = make()
    plain = replace(JOB, schedule=None)
    one = replace(JOB, schedule=(Phase(1.0, dict(JOB.mixture)),))
    assert trainer.fingerprint(plain) == trainer.fingerprint(one)
    zero = (Phase(0.75, {"math": 0.0, **TWO[0].mixture}), TWO[1])
    assert trainer.fingerprint(JOB) == trainer.fingerprint(replace(JOB, schedule=zero))


def test_epochs_are_limited_over_the_whole_run(make: Callable[..., Trainer]) -> None:
    # Math has 177 sequences; half of the last quarter are 64, half of all of it 256.
    make(max_epochs=0.5).index(JOB)
    twice = (Phase(0.75, {"web": 0.6, "math": 0.4}), Phase(0.25, {"math": 1.0}))
    with pytest.raises(TrialFailed, match=r"'math' would be repeated 1\.\d+ times"):
        make(max_epochs=1.4).index(job_of(twice))
    make(max_epochs=1.7).index(job_of(twice))


def test_a_phase_shorter_than_a_step_is_refused(make: Callable[..., Trainer]) -> None:
    short = (replace(TWO[0], share=0.99), replace(TWO[1], share=0.01))
    with pytest.raises(UserError, match=r"Phase 2 of 2 is 0\.01 of 16 steps: less than one"):
        make().train(job_of(short), Watch())


def test_a_command_is_given_the_phases_in_order(tiny_corpus: Corpus, tmp_path: Path) -> None:
    recipe = replace(ProxyRecipe(tokens=10_300, batch_tokens=1000), command="true {trial}")
    trainer = CommandTrainer(tiny_corpus, recipe, directory=tmp_path)
    trial = json.loads(json.dumps(trainer.describe(JOB)))
    assert trial["schema"] == 2 and "weights" not in trial and "megatron_blend" not in trial
    first, second = trial["phases"]
    assert [phase["tokens"] for phase in (first, second)] == [8000, 2300]  # 7.5 of 10 steps
    assert second["weights"] == TWO[1].mixture and second["share"] == 0.25
    assert [float(w) for w in first["megatron_blend"][::2]] == [0.7, 0.3]
    plain = trainer.describe(replace(JOB, schedule=None))
    assert plain["schema"] == 1 and plain["weights"] == JOB.mixture and "phases" not in plain
