"""Checkpoints to continue from: which ones a search may, found out before it trains."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
import transformers

from climb_opt.errors import UserError
from climb_opt.proxy import model
from climb_opt.recipes import ModelRecipe
from climb_opt.shards import Corpus

LLAMA = {"vocab_size": 320, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
         "num_attention_heads": 2, "max_position_embeddings": 64}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"vocab_size": "320"}, "cannot be read: .*vocab_size"),
        ({"num_attention_heads": 3}, "cannot be read: "),
        ({"vocab_size": 100}, "knows 100 tokens, but corpus 'tiny'"),
        ({"hidden_size": 32}, "cannot be read: "),
        ({"num_hidden_layers": 2}, r"lacks 9 of its model's weights, 'model\.layers\.1\."),
        ({}, "cannot be read: .*deserializing"),
        (None, "cannot be read: .*model.safetensors"),
    ],
)
def test_a_checkpoint_that_cannot_be_continued_is_refused_before_any_training(
    tiny_corpus: Corpus, tmp_path: Path, change: dict[str, Any] | None, complaint: str
) -> None:
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    if change is None:
        weights.unlink()
    elif not change:
        os.truncate(weights, weights.stat().st_size // 2)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **(change or {})}))
    with pytest.raises(UserError, match=complaint):
        model.configure(ModelRecipe(checkpoint=str(tmp_path)), tiny_corpus, 16)


def test_only_causal_models_are_continued_of_whatever_family_without_a_tokenizer(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = {"vocab_size": 320, "hidden_size": 16, "num_hidden_layers": 1}
    bert = transformers.BertConfig(**small, num_attention_heads=2, intermediate_size=32)
    transformers.BertForMaskedLM(bert).save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match=r"\(BertLMHeadModel\) is no causal language model"):
        model.configure(ModelRecipe(checkpoint=str(tmp_path / "bert")), tiny_corpus, 16)
    gpt = transformers.GPT2Config(vocab_size=320, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    families = {
        "gpt2": transformers.GPT2LMHeadModel(gpt),
        "mamba": transformers.MambaForCausalLM(transformers.MambaConfig(**small, state_size=4)),
    }
    for name, network in families.items():
        network.save_pretrained(tmp_path / name)
        caplog.clear()
        recipe = ModelRecipe(checkpoint=str(tmp_path / name))
        assert model.configure(recipe, tiny_corpus, 16).vocab_size == 320
        assert "has no tokenizer; only its vocabulary's size was checked" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_checkpoint_whose_json_has_a_byte_order_mark_is_read_as_without(
    tiny_corpus: Corpus, tmp_path: Path, encoding: str
) -> None:
    plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA))
    plain.save_pretrained(tmp_path, max_shard_size="10KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    for file in tmp_path.glob("*.json"):
        file.write_text(file.read_text(encoding="utf-8"), encoding=encoding)
    recipe = ModelRecipe(checkpoint=str(tmp_path))
    config = model.configure(recipe, tiny_corpus, 16)
    built = model.build(recipe, config, seed=0)
    for ours, theirs in zip(built.parameters(), plain.parameters(), strict=True):
        assert ours.equal(theirs)
