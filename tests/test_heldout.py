"""Held-out loss: bits per byte of a corpus's targets and domains."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from climb_opt import recipes
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError
from climb_opt.evaluators import heldout as heldout_module
from climb_opt.evaluators.built import check_foretold
from climb_opt.evaluators.heldout import HeldOutLoss
from climb_opt.proxy import model as models
from climb_opt.recipes import Choice, ModelRecipe
from climb_opt.shards import Corpus
from scoring import by_hand


def test_bits_per_byte_is_nats_over_log_two_over_bytes(
    tiny_corpus: Corpus, network: Any, accelerator: Any
) -> None:
    evaluator = HeldOutLoss(tiny_corpus, target="sums", domains=True, max_tokens=None)
    names = ["sums/bpb", *(f"heldout/{d.name}/bpb" for d in tiny_corpus.domains)]
    assert evaluator.components() == names
    scores = evaluator.evaluate(network, accelerator)
    assert scores.keys() == {*names, *(f"{n}_stderr" for n in names)}
    stream = tiny_corpus.target("sums")
    nats = by_hand(network, tiny_corpus, np.asarray(tiny_corpus.read(stream)), 32)
    assert scores["sums/bpb"] == pytest.approx(nats / math.log(2) / stream.bytes, rel=1e-6)
    assert 0 < scores["sums/bpb_stderr"] < 0.1 * scores["sums/bpb"]


def test_fewer_tokens_are_the_first_documents_and_their_bytes(
    tiny_corpus: Corpus, network: Any, accelerator: Any
) -> None:
    evaluator = HeldOutLoss(tiny_corpus, target=["sums"], max_tokens=100)
    tokens = np.asarray(tiny_corpus.read(tiny_corpus.target("sums")))[:100]
    tokens = tokens[: np.flatnonzero(tokens == tiny_corpus.eos)[-1] + 1]
    tokenizer = Tokenizer.from_file(str(tiny_corpus.tokenizer_file))
    text = tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
    expected = by_hand(network, tiny_corpus, tokens, 32) / math.log(2) / len(text.encode())
    got = evaluator.evaluate(network, accelerator)["sums/bpb"]
    assert got == pytest.approx(expected, rel=1e-6)
    whole_document_is_longer = HeldOutLoss(tiny_corpus, target="sums", max_tokens=2)
    assert math.isfinite(whole_document_is_longer.evaluate(network, accelerator)["sums/bpb"])


def test_bytes_are_those_of_the_text_where_a_tokenizer_does_not_decode_to_it(
    tiny_corpus: Corpus, tmp_path: Path, network: Any, accelerator: Any
) -> None:
    folder = Path(shutil.copytree(tiny_corpus.path, tmp_path / "corpus"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (stream,) = manifest["targets"].values()
    stream["bytes"] *= 2  # as if half of them had been normalised away
    (folder / "manifest.json").write_text(json.dumps(manifest))
    one, half = (
        HeldOutLoss(corpus, target="sums").evaluate(network, accelerator)["sums/bpb"]
        for corpus in (tiny_corpus, Corpus.load(folder))
    )
    assert half == pytest.approx(one / 2, rel=1e-6)


def test_batches_of_any_size_give_the_same_score(
    tiny_corpus: Corpus, network: Any, accelerator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = HeldOutLoss(tiny_corpus, target="sums")
    one = evaluator.evaluate(network, accelerator)["sums/bpb"]
    monkeypatch.setattr(heldout_module, "LOGITS", 1)
    assert evaluator.evaluate(network, accelerator)["sums/bpb"] == pytest.approx(one, rel=1e-6)


def test_a_uniform_model_spends_log2_of_the_vocabulary_a_token(
    tiny_corpus: Corpus, accelerator: Any
) -> None:
    recipe = ModelRecipe(hidden=16, layers=1, heads=2)
    flat = models.build(recipe, models.configure(recipe, tiny_corpus, 32), seed=0).eval()
    for parameter in flat.parameters():
        parameter.data.zero_()
    stream = tiny_corpus.target("sums")
    text_tokens = int((np.asarray(tiny_corpus.read(stream)) != tiny_corpus.eos).sum())
    expected = math.log2(320) * text_tokens / stream.bytes
    score = HeldOutLoss(tiny_corpus, target="sums", max_tokens=None).evaluate(flat, accelerator)
    assert score["sums/bpb"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "prose"}, "no target 'prose'. Targets: sums"),
        ({"target": []}, "has no target set"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
    ],
)
def test_what_is_not_held_out_cannot_be_scored(
    tiny_corpus: Corpus, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        HeldOutLoss(tiny_corpus, **options)


def test_what_a_corpus_will_not_have_held_out_is_refused_before_it_is_built() -> None:
    recipe = CorpusRecipe(inputs=("docs",), output="out/small", target=("sky=topic:stars",))
    bare = replace(recipe, target=(), heldout=0)
    with pytest.raises(UserError, match="has no target set; build it with one"):
        HeldOutLoss.foretold(bare)
    with pytest.raises(UserError, match="is to be built with none; give it `heldout`"):
        HeldOutLoss.foretold(bare, domains=True)
    assert HeldOutLoss.foretold(recipe) == ["sky/bpb"]
    assert HeldOutLoss.foretold(recipe, domains=True) is None


@pytest.mark.parametrize("silent", ["only_on_the_cluster:Score", "test_heldout:NextToken"])
def test_an_evaluator_that_says_nothing_of_a_corpus_to_be_built_is_asked_when_it_is_there(
    silent: str,
) -> None:
    corpus = CorpusRecipe(inputs=("docs",), output="out/small", target=("sky=topic:stars",))
    recipe = replace(recipes.read_study("demo"), score=["mine/acc"])
    check_foretold(replace(recipe, evaluators=[Choice(silent), Choice("heldout")]), corpus)
    with pytest.raises(UserError, match="has no target 'skyy'"):
        wrong = Choice("heldout", {"target": "skyy"})
        check_foretold(replace(recipe, evaluators=[Choice(silent), wrong]), corpus)


class NextToken:
    """As in docs/extend.md, which says nothing of it."""
