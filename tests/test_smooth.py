"""Bits per byte of answers as sums with a gradient: they add up to what the evaluator says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
import torch

from climb_opt.evaluators.base import Differentiable
from climb_opt.evaluators.harness import LMEval
from climb_opt.shards import Corpus
from evaluating import questions, write_group, write_task

ROWS = [
    {"query": "two plus", "choices": ["two", "a cat on a mat", "the mat"], "label": 0},
    {"query": "the cat sat " * 20, "choices": ["return x", "on a mat"], "label": 1},
    {"query": "def f(x):", "choices": ["return x", "two " * 40], "label": 1},
]


def added_up(evaluator: LMEval, name: str, network: Any, accelerator: Any) -> float:
    return sum(float(t.detach()) for t in evaluator.terms(name, network, accelerator))


def test_terms_of_files_add_up_long_answers_and_cut_questions_too(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path
) -> None:
    path = tmp_path / "sums.validation.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    evaluator = LMEval(tiny_corpus, tasks=["sums"], files={"sums": str(path)})
    assert isinstance(evaluator, Differentiable)
    assert evaluator.smooth() == ["sums/bpb"], "an accuracy counts answers: it has no gradient"
    scores = evaluator.evaluate(network, accelerator)
    found = added_up(evaluator, "sums/bpb", network, accelerator)
    assert found == pytest.approx(scores["sums/bpb"], rel=1e-5)
    first = next(evaluator.terms("sums/bpb", network, accelerator))
    (slope,) = torch.autograd.grad(first, [network.lm_head.weight])
    assert torch.isfinite(slope).all() and slope.abs().max() > 0
    right = sum(len(row["choices"][row["label"]]) for row in ROWS)  # type: ignore[index,arg-type]
    assert evaluator.tokens_read("sums/bpb") > right / 5


@pytest.mark.parametrize("weighing", [None, True, False])
def test_terms_of_groups_are_weighed_as_lm_eval_weighs_them(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path, weighing: bool | None
) -> None:
    folder = write_task(tmp_path / "tasks", "few", questions(3))
    write_task(folder, "many", questions(9, shift=3))
    aggregates = None if weighing is None else [{"metric": "acc", "weight_by_size": weighing}]
    write_group(folder, "both", ["few", "many"], aggregates)
    evaluator = LMEval(tiny_corpus, tasks=["both"], include_path=str(folder))
    scores = evaluator.evaluate(network, accelerator)
    found = added_up(evaluator, "both/bpb", network, accelerator)
    assert found == pytest.approx(scores["both/bpb"], rel=1e-5)


def test_of_several_right_answers_the_likeliest_counts(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path
) -> None:
    rows = [{**row, "right": [0, 2]} for row in questions(4)]
    folder = write_task(tmp_path / "tasks", "several", rows)
    evaluator = LMEval(tiny_corpus, tasks=["several"], include_path=str(folder))
    scores = evaluator.evaluate(network, accelerator)
    found = added_up(evaluator, "several/bpb", network, accelerator)
    assert found == pytest.approx(scores["several/bpb"], rel=1e-5)
