"""What trains a rung of a ladder: its cost, and the part of the corpus that it reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
import transformers

from climb_opt.errors import TrialFailed, UserError
from climb_opt.proxy import model
from climb_opt.proxy.command import CommandTrainer
from climb_opt.proxy.cost import Size, shape_size, trial_cost
from climb_opt.proxy.data import MixtureIndex, Sequences
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import ModelRecipe, ProxyRecipe, read_proxy
from climb_opt.shards import Corpus, Domain, Stream
from training import SMALL, Watch

JOB = Job("slot-0", {"web": 0.6, "code": 0.3, "math": 0.1}, seed=3)


# --- the cost of a trial -------------------------------------------------------------------------


@given(
    st.integers(1, 4),
    st.sampled_from([(16, 2, 1), (24, 4, 2), (32, 4, 4)]),
    st.integers(1, 300),
    st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_a_shapes_size_is_that_of_the_model_it_gives(
    layers: int, shape: tuple[int, int, int], vocabulary: int, tied: bool
) -> None:
    hidden, heads, kv_heads = shape
    recipe = ModelRecipe(hidden=hidden, layers=layers, heads=heads, kv_heads=kv_heads, tied=tied)
    if hidden // heads % 2:
        recipe = replace(recipe, heads=2, kv_heads=2)
    corpus = Corpus(Path(), "c", (), {}, "uint16", vocabulary, 0)
    assert shape_size(recipe, vocabulary) == model.size_of(model.configure(recipe, corpus, 32))


def test_flops_are_six_for_each_multiplied_parameter_and_half_of_palms_attention() -> None:
    proxy = ProxyRecipe(
        model=ModelRecipe(hidden=64, layers=2, heads=4, tied=False),
        tokens=10_000, sequence=128, batch_tokens=1024,
    )  # fmt: skip
    size = shape_size(proxy.model, 1000)  # 1024 rows
    inner = 2 * (4 * 64 * 64 + 3 * 64 * 176 + 2 * 64) + 64
    cost = trial_cost(proxy, size)
    assert cost.tokens == 9 * 1024  # whole batches
    assert cost.parameters == inner + 2 * 1024 * 64
    assert cost.flops == 9 * 1024 * (6 * (inner + 1024 * 64) + 6 * 2 * 64 * 128)
    tied = replace(proxy.model, tied=True)  # fewer parameters, as many multiplications
    assert trial_cost(replace(proxy, model=tied), shape_size(tied, 1000)).flops == cost.flops


def test_tables_that_are_looked_up_cost_nothing_and_experts_count_all() -> None:
    config = transformers.GPT2Config(
        vocab_size=64, n_positions=32, n_embd=16, n_layer=3, n_head=2, tie_word_embeddings=True
    )
    size = model.size_of(config)
    assert size.parameters - size.multiplied == 32 * 16  # places; the tied table is multiplied by
    assert (size.layers, size.width) == (3, 16)
    wide = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=32,
    )  # fmt: skip
    assert model.size_of(wide).width == 64  # heads x their width, not the stream's


def test_a_stated_cost_goes_before_the_formula_and_a_command_has_no_other() -> None:
    size = Size(10, 5, 8, 1, 4)
    assert trial_cost(replace(SMALL, flops=1e15), size).flops == 1e15
    command = ProxyRecipe(tokens=777, command="train {trial}")
    assert trial_cost(command, size) == trial_cost(command, None)
    assert trial_cost(command, None).flops is None
    stated = trial_cost(replace(command, flops=2e18), None)
    assert (stated.tokens, stated.flops, stated.parameters) == (777, 2e18, None)
    with pytest.raises(UserError, match=r"proxy\.flops must be positive, but is 0"):
        read_proxy({"include": "tiny", "flops": 0})


def test_a_trial_states_the_flops_it_used(tiny_corpus: Corpus, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_corpus, tmp_path, report_every=4)
    whole = trainer.train(JOB, Watch()).facts["flops"]
    assert whole == trial_cost(SMALL, shape_size(SMALL.model, tiny_corpus.vocab_size)).flops
    pruned = trainer.train(replace(JOB, name="slot-1"), Watch(hopeless_at=4)).facts
    assert pruned["flops"] == pytest.approx(whole * 4 / 16)
    stated = trainer_of(tiny_corpus, tmp_path, flops=1e9).train(JOB, Watch()).facts
    assert stated["flops"] == 1e9


def trainer_of(corpus: Corpus, folder: Path, share: float = 1.0, **changes: Any) -> Trainer:
    recipe = replace(SMALL, **changes)
    sequences = Sequences(corpus, recipe.sequence, share=share)
    return Trainer(corpus, recipe, ProxyGroup("fp32"), directory=folder, sequences=sequences)


# --- pools ---------------------------------------------------------------------------------------


def corpus_of(folder: Path, shards: list[list[int]], length: int = 4) -> Corpus:
    """Domains d0, d1, ... with shards of so many sequences, each token of its own."""
    domains, last = [], 0
    for k, rows in enumerate(shards):
        streams = []
        for n, count in enumerate(rows):
            tokens = count * length + 1
            np.arange(last, last + tokens, dtype=np.uint32).tofile(folder / f"{k}-{n}.bin")
            streams.append(Stream(f"{k}-{n}.bin", tokens, 1, tokens, "0"))
            last += tokens
        domains.append(Domain(f"d{k}", tuple(streams)))
    return Corpus(folder, "c", tuple(domains), {}, "uint32", last, 0)


def test_a_smaller_pool_lies_within_a_larger_one_and_is_spread_over_the_shards(
    tmp_path: Path,
) -> None:
    corpus = corpus_of(tmp_path, [[50] * 8, [3], [1]])
    whole = Sequences(corpus, 4)
    before: set[int] = set()
    for share in (1 / 64, 1 / 16, 1 / 4, 1 / 2, 0.9):
        pool = Sequences(corpus, 4, share=share, beside=whole)
        assert list(pool.sizes) == [max(round(share * n), 1) for n in (400, 3, 1)]
        places = pool.places(np.arange(pool.offsets[-1]))
        assert len(set(places)) == len(places) and before <= set(places.tolist())
        before = set(places.tolist())
        domains = np.searchsorted(whole.offsets, places, side="right") - 1
        assert np.array_equal(np.bincount(domains), pool.sizes)
        np.testing.assert_array_equal(pool.read(np.arange(len(places))), whole.read(places))
    quarter = Sequences(corpus, 4, share=0.25).places(np.arange(100))
    assert np.all(np.bincount(quarter // 50, minlength=8) >= 5)  # 12.5 of each shard, on average


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_pool_is_the_same_whatever_a_trial_reads_of_it(sizes: list[int], seed: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        corpus = corpus_of(Path(folder), [[n] for n in sizes])
        pool = Sequences(corpus, 4, share=0.25)
        mixture = {f"d{k}": 1.0 + seed % (k + 2) for k in range(len(sizes))}
        index = MixtureIndex(pool, mixture, total=3 * sum(sizes), seed=seed)
        read = set(pool.places(index.ids(0, index.total)).tolist())
        assert read <= set(pool.places(np.arange(pool.offsets[-1])).tolist())
        np.testing.assert_allclose(index.epochs, index.counts / pool.sizes)


def test_a_quarter_of_the_tokens_from_a_quarter_of_the_pools_repeats_as_the_whole(
    tmp_path: Path,
) -> None:
    corpus = corpus_of(tmp_path, [[4000], [40], [4]])
    mixture = {"d0": 0.5, "d1": 0.4, "d2": 0.1}
    full = MixtureIndex(Sequences(corpus, 4), mixture, total=2000, seed=0)
    matched = MixtureIndex(Sequences(corpus, 4, share=0.25), mixture, total=500, seed=1)
    whole = MixtureIndex(Sequences(corpus, 4), mixture, total=500, seed=1)
    np.testing.assert_allclose(matched.epochs, full.epochs)
    np.testing.assert_allclose(whole.epochs, full.epochs / 4)


def test_the_whole_of_a_corpus_is_read_in_the_order_it_always_was(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [[50] * 8, [3], [1]])
    plain, stated = Sequences(corpus, 4), Sequences(corpus, 4, share=1.0)
    ids = np.arange(plain.offsets[-1])
    assert stated.places(ids) is ids
    np.testing.assert_array_equal(plain.read(ids), stated.read(ids))


def test_most_epochs_are_those_of_the_target(tiny_corpus: Corpus, tmp_path: Path) -> None:
    # 8192 tokens of math are 2.9 epochs; of a quarter of them, a quarter of the tokens.
    only = replace(JOB, mixture={"math": 1.0})
    for share, tokens in ((1.0, SMALL.tokens), (0.25, SMALL.tokens // 4)):
        trainer_of(tiny_corpus, tmp_path, share, tokens=tokens, max_epochs=3.2).index(only)
        with pytest.raises(TrialFailed, match=r"'math' would be repeated 2\.\d+ times; .* is 2"):
            trainer_of(tiny_corpus, tmp_path, share, tokens=tokens, max_epochs=2).index(only)
    trainer_of(tiny_corpus, tmp_path, tokens=SMALL.tokens // 4, max_epochs=2).index(only)


def test_a_trial_of_another_pool_is_not_resumed(tiny_corpus: Corpus, tmp_path: Path) -> None:
    names = {trainer_of(tiny_corpus, tmp_path, share).fingerprint(JOB) for share in (1, 0.5, 0.25)}
    assert len(names) == 3


def test_a_command_is_told_its_share_and_its_flops_are_noted(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    script = tmp_path / "train.sh"
    script.write_text('echo \'{"a": 1}\' > "$1/scores.json"\n')
    recipe = ProxyRecipe(tokens=5000, command=f"sh {script} {{directory}}", flops=3e12)
    outcome = CommandTrainer(tiny_corpus, recipe, directory=tmp_path, share=0.25).train(
        JOB, Watch()
    )
    assert outcome.facts["flops"] == 3e12
    assert json.loads((tmp_path / "slot-0" / "trial.json").read_text())["share"] == 0.25
    whole = CommandTrainer(tiny_corpus, replace(recipe, flops=None), directory=tmp_path)
    assert whole.describe(JOB)["share"] == 1.0
    assert "flops" not in whole.train(JOB, Watch()).facts
