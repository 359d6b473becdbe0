"""Scores mean what they say: every byte counts, weights are lm-eval's, a NaN is no score."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lm_eval")
import datasets
import lm_eval
import torch
from lm_eval.tasks import TaskManager

from climb_opt.errors import TrialFailed, UserError
from climb_opt.evaluators.harness import LMEval
from climb_opt.evaluators.labels import suspicions
from climb_opt.evaluators.language_model import ProxyLM
from climb_opt.shards import Corpus
from climb_opt.tokenizer import corpus_tokenizer
from evaluating import questions, write_group, write_task


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def lm(tiny_corpus: Corpus) -> ProxyLM:
    return ProxyLM(corpus_tokenizer(tiny_corpus.tokenizer_file, tiny_corpus.eos), tiny_corpus.eos)


def filled(network: Any, value: float) -> Any:
    """A copy of a network whose logits are all `value`."""
    same = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in (same.lm_head.weight, same.get_input_embeddings().weight):
            parameter.fill_(value)
    return same


def rows_file(path: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    path.write_text("\n".join(map(json.dumps, rows)))
    return {"words": str(path)}


# --- bits per byte -------------------------------------------------------------------------------


def test_rows_that_do_not_fit_are_counted_once(
    tiny_corpus: Corpus,
    network: Any,
    accelerator: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [
        {"query": "say", "choices": ["two", "a"], "label": 0},
        {"query": "say", "choices": ["two " * 60, "a"], "label": 1},
        {"query": "the cat sat on a mat " * 9, "choices": ["two", "a"], "label": 0},
    ]
    evaluator = LMEval(tiny_corpus, tasks=["words"], files=rows_file(tmp_path / "q.jsonl", rows))
    for _ in range(2):
        evaluator.evaluate(network, accelerator)
    said = "the proxy reads 32 tokens: of 3 rows of words 1 have an answer longer than that"
    assert caplog.text.count(said) == 1
    facts = evaluator.facts()
    assert facts["long_answers"] == {"words": 1} and facts["cut_questions"] == {"words": 1}


def test_blanks_before_an_answer_are_bytes_of_it(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path
) -> None:
    rows = questions(4)
    write_task(tmp_path, "words", rows, doc_to_text="{{ask}}:   ", target_delimiter="")
    evaluator = LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))
    uniform = evaluator.evaluate(filled(network, 0.0), accelerator)["words/bpb"]
    asked = evaluator._mine["words"]
    expected = []
    for document, requests in asked:
        (_, answer), _, after = requests[document.right[0]]
        assert answer.startswith("   ")
        expected.append(len(after) * math.log2(network.config.vocab_size) / len(answer.encode()))
    assert uniform == pytest.approx(np.mean(expected), rel=1e-6)


# --- groups, filters, metrics --------------------------------------------------------------------


def theirs(lm: ProxyLM, folder: Path, tasks: list[str], **options: Any) -> dict[str, Any]:
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    options = {"bootstrap_iters": 10, **options}
    found: dict[str, Any] = lm_eval.simple_evaluate(
        lm, tasks=tasks, task_manager=manager, log_samples=False, **options
    )
    return found


@pytest.mark.parametrize("by_size", [True, False])
def test_groups_weigh_their_tasks_as_their_file_says(
    tiny_corpus: Corpus,
    network: Any,
    accelerator: Any,
    tmp_path: Path,
    lm: ProxyLM,
    by_size: bool,
) -> None:
    write_task(tmp_path, "small", questions(3))
    write_task(tmp_path, "large", questions(11, shift=3), tag="some")
    write_task(tmp_path, "other", questions(5, shift=20), tag="some")
    write_group(tmp_path, "inner", ["large", "other"], None)
    aggregates = [{"metric": "acc", "weight_by_size": by_size}]
    write_group(tmp_path, "outer", ["small", "inner"], aggregates)
    names = ["outer", "inner", "some", "small", "large", "other"]
    evaluator = LMEval(tiny_corpus, tasks=names, include_path=str(tmp_path))
    scores = evaluator.evaluate(network, accelerator)
    assert set(evaluator.components()) <= set(scores)
    lm.attach(network, accelerator)
    found = theirs(lm, tmp_path, ["outer"])
    group = found["groups"]["outer"]
    assert scores["outer/acc"] == pytest.approx(group["acc,none"])
    assert scores["outer/acc_stderr"] == pytest.approx(group["acc_stderr,none"])
    for name in ("small", "large", "other"):
        theirs_own = found["results"][name]
        assert scores[f"{name}/acc"] == pytest.approx(theirs_own["acc,none"])
        assert scores[f"{name}/acc_stderr"] == pytest.approx(theirs_own["acc_stderr,none"])
    sizes = np.array([3, 11, 5]) if by_size else np.ones(3)
    for metric in ("acc_norm", "bpb"):  # not named in the group's file: weighed alike
        parts = [scores[f"{name}/{metric}"] for name in ("small", "large", "other")]
        assert scores[f"outer/{metric}"] == pytest.approx(np.average(parts, weights=sizes))
        for over_documents in ("inner", "some"):
            mean = np.average(parts[1:], weights=[11, 5])
            assert scores[f"{over_documents}/{metric}"] == pytest.approx(mean)


def test_filters_and_several_metrics_are_lm_evals(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path, lm: ProxyLM
) -> None:
    metrics = [
        {"metric": metric, "aggregation": aggregation, "higher_is_better": better}
        for metric, aggregation, better in (
            ("acc", "mean", True),
            ("acc_bytes", "mean", True),
            ("mcc", "matthews_corrcoef", True),
            ("brier_score", "brier_score", False),
            ("acc_mutual_info", "mean", True),
        )
    ]
    filters = [
        {"name": name, "filter": [{"function": "take_first"}]} for name in ("plain", "other")
    ]
    write_task(
        tmp_path, "words", questions(12), metric_list=metrics, filter_list=filters, repeats=2
    )
    write_task(tmp_path, "single", questions(12), metric_list=metrics, filter_list=filters[:1])
    names = ["words", "single"]
    evaluator = LMEval(tiny_corpus, tasks=names, include_path=str(tmp_path))
    scores = evaluator.evaluate(network, accelerator)
    lm.attach(network, accelerator)
    # It bootstraps in forked processes, which wait for ever where a thread of ours held a lock.
    found = theirs(lm, tmp_path, names, bootstrap_iters=0)["results"]
    for metric in ("acc", "acc_bytes", "mcc", "brier_score", "acc_mutual_info"):
        for name in ("plain", "other"):
            ours = scores[f"words/{metric},{name}"]
            assert ours == pytest.approx(found["words"][f"{metric},{name}"])
        assert scores[f"single/{metric}"] == pytest.approx(found["single"][f"{metric},plain"])
    assert {"words/bpb", "single/bpb"} <= set(evaluator.components())


def test_metrics_that_cannot_be_computed_are_found_before_training(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    broken = [{"metric": "acc", "aggregation": "perplexity", "higher_is_better": True}]
    nothing = [{"metric": "f1", "aggregation": "f1", "higher_is_better": True}]
    write_task(tmp_path, "words", questions(4), metric_list=nothing)  # of three classes
    with pytest.raises(UserError, match="task words: its metrics cannot be computed"):
        LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))
    write_task(tmp_path / "b", "words", questions(4), metric_list=broken)
    assert LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path / "b")).components() == [
        "words/acc",
        "words/bpb",
    ]


# --- models that have diverged -------------------------------------------------------------------


def test_log_likelihoods_that_are_no_numbers_fail_the_trial(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path
) -> None:
    write_task(tmp_path, "words", questions(5))
    evaluator = LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))
    with pytest.raises(TrialFailed, match="is not a number in 5 of 5 rows of words, row 1 first"):
        evaluator.evaluate(filled(network, math.nan), accelerator)


def test_the_perplexity_of_a_hopeless_model_is_infinite(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    perplexity = [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}]
    write_task(
        tmp_path,
        "ends",
        questions(4),
        output_type="loglikelihood",
        doc_to_choice=None,
        doc_to_target=" mat",
        metric_list=perplexity,
    )
    evaluator = LMEval(tiny_corpus, tasks=["ends"], include_path=str(tmp_path))
    for nats in (-5000.0, -math.inf):
        monkeypatch.setattr(
            ProxyLM, "_loglikelihood_tokens", lambda self, asked, n=nats: [(n, False)] * len(asked)
        )
        scores = evaluator.evaluate(network, accelerator)
        assert scores["ends/perplexity"] == math.inf
    assert scores["ends/bpb"] == math.inf and "ends/bpb_stderr" not in scores


# --- columns of labels ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "texts", "doubt"),
    [
        ([1, 2, 3, 4] * 5, ["a", "b", "c", "d", "e"], "no row has label 0 (20 rows, labels 1 to 4"),
        ([2] * 20, ["a", "b", "c", "d"], "all 20 rows have label 2"),
        ([0] * 8, ["a", "b"], "all 8 rows have label 0"),
        ([0, 1, 2] * 3, ["a", "b", "c"], None),
        ([1, 1], ["a", "b"], None),  # an accident
        ([1, 2], ["a", "b", "c"], None),
    ],
)
def test_columns_that_are_surely_wrong_are_said(
    labels: list[int], texts: list[str], doubt: str | None
) -> None:
    found = suspicions(labels, [texts] * len(labels))
    assert len(found) == (doubt is not None)
    assert doubt is None or found[0].startswith(doubt)


def test_a_right_answer_that_is_always_the_longest_is_said() -> None:
    labels = [0, 1, 2] * 4
    choices = [["no"] * k + ["certainly not"] + ["maybe"] * (2 - k) for k in labels]
    assert suspicions(labels, choices) == ["the right answer is the longest choice in all 12 rows"]
    assert suspicions(labels, [["no", "maybe", "certainly not"]] * 12) == []


def test_doubts_about_a_file_name_it_and_constant_answers_are_not_doubted(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"query": f"q {i}", "choices": ["a", "b", "c", "d"], "label": 1 + i % 3} for i in range(12)
    ]
    LMEval(tiny_corpus, tasks=["words"], files=rows_file(tmp_path / "q.jsonl", rows))
    assert "task words: no row has label 0 (12 rows, labels 1 to 3, 4 choices)" in caplog.text
    assert "q.jsonl" in caplog.text
    caplog.clear()
    write_task(tmp_path, "pairs", questions(12), doc_to_target=0)  # the author put it first
    LMEval(tiny_corpus, tasks=["pairs"], include_path=str(tmp_path))
    assert "rows have label" not in caplog.text
