"""The proxy as lm-eval sees it: every token of every answer is scored, with what precedes it."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("lm_eval")
import torch
from tokenizers import Tokenizer, models

from climb_opt.evaluators.harness import LMEval
from climb_opt.evaluators.language_model import ProxyLM, _pieces
from climb_opt.shards import Corpus
from climb_opt.tokenizer import corpus_tokenizer


@pytest.fixture
def lm(tiny_corpus: Corpus) -> ProxyLM:
    return ProxyLM(corpus_tokenizer(tiny_corpus.tokenizer_file, tiny_corpus.eos), tiny_corpus.eos)


@pytest.mark.parametrize("words", [1, 10, 31, 60, 200])
def test_an_answer_of_any_length_is_scored_by_all_its_bytes(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path, words: int, lm: ProxyLM
) -> None:
    answer = " ".join(["zq"] * words)
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"query": "say", "choices": [answer, "no"], "label": 0}))
    silent = copy.deepcopy(network)
    with torch.no_grad():
        silent.lm_head.weight.zero_()
    evaluator = LMEval(tiny_corpus, tasks=["words"], files={"words": str(file)})
    scores = evaluator.evaluate(silent, accelerator)
    tokens, size = len(lm.tok_encode(f" {answer}")), len(f" {answer}".encode())
    bits = math.log2(network.config.vocab_size)
    assert scores["words/bpb"] == pytest.approx(tokens * bits / size, rel=1e-6)


def test_pieces_are_conditioned_on_what_precedes_them(
    network: Any, accelerator: Any, lm: ProxyLM
) -> None:
    lm.attach(network, accelerator)
    rng = np.random.default_rng(3)
    before, after = rng.integers(1, 280, 9), rng.integers(1, 280, 75)
    whole, total, context = np.concatenate([before, after]), 0.0, 32
    for start in range(9, 84, context // 2):
        end = min(start + context // 2, 84)
        begin = max(0, end - context - 1)
        window = torch.from_numpy(whole[begin:end])[None]
        with torch.no_grad():
            logits = network(input_ids=window[:, :-1]).logits[0].log_softmax(-1)
        nats = logits[torch.arange(len(logits)), window[0, 1:]]
        total += float(nats[start - end :].sum())
    ((found, greedy),) = lm._loglikelihood_tokens([(("", ""), before, after)])
    assert found == pytest.approx(total, rel=1e-5) and not greedy


@given(before=st.integers(1, 90), after=st.integers(0, 200), limit=st.integers(1, 40))
def test_pieces_cover_an_answer_once_and_fit(before: int, after: int, limit: int) -> None:
    whole = np.arange(before + after)
    pieces = list(_pieces(whole[:before], whole[before:], limit))
    assert np.concatenate([[], *(scored for _, scored in pieces)]).tolist() == list(whole[before:])
    for behind, scored in pieces:
        assert 0 < len(scored) <= limit and len(behind) > 0
        assert behind[-1] == scored[0] - 1
        if after > limit:
            assert len(behind) + len(scored) == min(limit + 1, scored[0] + len(scored))


def test_a_tokenizer_that_joins_question_and_answer_loses_nothing_of_it() -> None:
    letters = {letter: number for number, letter in enumerate("abcd", 1)}
    merges = [("b", "c"), ("a", "bc")]
    tokenizer = Tokenizer(models.BPE({"<end>": 0, **letters, "bc": 5, "abc": 6}, merges))
    lm = ProxyLM(tokenizer, 0)
    for context, answer in [("ab", "c"), ("ab", "cd"), ("b", "cdd"), ("a", "d"), ("", "bcd")]:
        (_, scored), before, after = lm.encode(context, answer)
        assert (
            scored == answer and len(before) and tokenizer.decode(after).replace(" ", "") == answer
        )
    (_, scored), before, after = lm.encode("   ", "d")
    assert scored == "   d" and before.tolist() == [0] and after.tolist() == [4]
