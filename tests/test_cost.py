"""What a trial costs, known before it runs: sizes, FLOPs, rungs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
import transformers

from climb_opt.errors import UserError
from climb_opt.proxy import model
from climb_opt.proxy.cost import Size, shape_size, trial_cost
from climb_opt.proxy.ladders import ladder_of
from climb_opt.recipes import ModelRecipe, ProxyRecipe, read_proxy
from climb_opt.shards import Corpus
from training import SMALL


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


def test_rungs_of_checkpoints_and_commands_are_priced(tiny_corpus: Corpus, tmp_path: Path) -> None:
    config = model.configure(SMALL.model, tiny_corpus, SMALL.sequence)
    model.save(model.build(SMALL.model, config, seed=0), tiny_corpus, tmp_path / "model")
    known = tiny_corpus.vocab_size
    checkpoint = replace(SMALL, model=ModelRecipe(checkpoint=str(tmp_path / "model")))
    shape, again = (ladder_of([p], known).rungs[0] for p in (SMALL, checkpoint))
    assert shape == again and shape.parameters is not None
    missing = replace(SMALL, model=ModelRecipe(checkpoint=str(tmp_path / "no")))
    with pytest.raises(UserError, match=r"^study\.proxy: .*checkpoint .* cannot be read"):
        ladder_of([missing], known)
    with pytest.raises(UserError, match=r"ladder\[0\] .*checkpoint .* cannot be read"):
        ladder_of([missing, SMALL], known)
    command = ProxyRecipe(tokens=500, command="train {trial}")
    with pytest.raises(UserError, match=r"ladder\[1\] .*train.*; state its FLOPs in the key flops"):
        ladder_of([SMALL, command], known)
    stated = ladder_of([SMALL, replace(command, flops=1e12)], known).rungs[1]
    assert (stated.name, stated.flops, stated.tokens) == ("rung 1@500", 1e12, 500)
