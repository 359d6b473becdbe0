"""Rows of lm-eval tasks: prompts are lm-eval's own, and bad rows are found before any training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
import datasets
import lm_eval
from lm_eval.tasks import TaskManager

from climb_opt.errors import UserError
from climb_opt.evaluators.harness import LMEval
from climb_opt.evaluators.language_model import ProxyLM
from climb_opt.shards import Corpus
from climb_opt.tokenizer import corpus_tokenizer
from evaluating import questions, write_task


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


def prompts(evaluator: LMEval) -> dict[str, list[str]]:
    """Task -> every prompt with every answer, in the order of the documents."""
    return {
        name: ["|".join(request.args) for document in documents for request in document.requests]
        for name, documents in evaluator._documents.items()
    }


def theirs(
    corpus: Corpus, network: Any, accelerator: Any, folder: Path, tasks: list[str], **options: Any
) -> dict[str, Any]:
    """What lm-eval's own evaluation of the same model gives."""
    lm = ProxyLM(corpus_tokenizer(corpus.tokenizer_file, corpus.eos), corpus.eos)
    lm.attach(network, accelerator)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found: dict[str, Any] = lm_eval.simple_evaluate(
        lm, tasks=tasks, task_manager=manager, bootstrap_iters=0, **options
    )
    return found


SHOTS = {
    "default sampler": {"num_fewshot": 3, "fewshot_split": "train"},
    "first rows": {
        "num_fewshot": 2,
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
    },
    "examples from the scored split": {"num_fewshot": 2, "training_split": None},
    "a prefix and a description": {
        "num_fewshot": 1,
        "fewshot_split": "train",
        "gen_prefix": "It is",
        "description": "Questions.\n",
        "target_delimiter": "\n",
    },
    "examples of one's own": {
        "num_fewshot": 1,
        "training_split": None,
        "fewshot_config": {"samples": questions(4, shift=70)},
    },
}


@pytest.mark.parametrize("how", SHOTS)
def test_prompts_and_scores_are_those_of_lm_eval_itself(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path, how: str
) -> None:
    write_task(tmp_path, "words", questions(9), train=questions(12, shift=30), **SHOTS[how])
    evaluator = LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))
    scores = evaluator.evaluate(network, accelerator)
    found = theirs(tiny_corpus, network, accelerator, tmp_path, ["words"])
    asked = [
        "|".join(request)
        for sample in sorted(found["samples"]["words"], key=lambda sample: sample["doc_id"])
        for request in sample["arguments"]
    ]
    assert prompts(evaluator)["words"] == asked
    for metric in ("acc", "acc_norm"):
        assert scores[f"words/{metric}"] == found["results"]["words"][f"{metric},none"]


def test_shots_of_the_recipe_are_drawn_as_lm_eval_draws_them(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path
) -> None:
    write_task(
        tmp_path, "words", questions(5), train=questions(12, shift=30), fewshot_split="train"
    )
    evaluator = LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path), shots=4, limit=3)
    found = theirs(tiny_corpus, network, accelerator, tmp_path, ["words"], num_fewshot=4, limit=3)
    samples = sorted(found["samples"]["words"], key=lambda sample: sample["doc_id"])
    assert prompts(evaluator)["words"] == ["|".join(r) for s in samples for r in s["arguments"]]


def test_another_worker_and_another_rank_see_the_same_prompts(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path
) -> None:
    write_task(tmp_path, "words", questions(7), train=questions(9, shift=30), num_fewshot=2)
    evaluator = LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))
    again = LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))
    assert prompts(evaluator) == prompts(again)

    class Rank:
        """One of three ranks: shares of the documents, and nobody to gather from."""

        def __init__(self, rank: int) -> None:
            self.process_index, self.num_processes = rank, 3
            self.is_main_process, self.device = rank == 0, accelerator.device
            self.autocast = accelerator.autocast

    shares = []
    for rank in range(3):
        evaluator.evaluate(network, Rank(rank))
        shares += [document.number for document, _ in evaluator._mine["words"]]
    assert sorted(shares) == list(range(7))


Rows = list[dict[str, Any]]


def change(number: int, **values: Any) -> Callable[[Rows], None]:
    return lambda rows: rows[number].update(values)


BAD: dict[str, tuple[Callable[[Rows], None], str, dict[str, Any]]] = {
    "beyond": (change(6, right=3), "row 7: label 3 is not among 0 to 2", {}),
    "beyond, first": (change(0, right=3), "row 1: label 3 is not among 0 to 2", {}),
    "negative": (change(2, right=-1), "row 3: label -1 is not among 0 to 2", {}),
    "missing": (change(2, right=None), "row 3: its label is missing", {}),
    "no choices": (change(4, options=[]), "row 5: it has no choices", {}),
    "no choices, first": (change(0, options=[]), "row 1: it has no choices", {}),
    "null choices": (change(4, options=None), "row 5: choices must be a list", {}),
    "an empty choice": (change(4, options=["a", "", "b"]), "row 5: choice 1 is empty", {}),
    "first choice empty": (change(0, options=["", "a", "b"]), "row 1: choice 0 is empty", {}),
    "twice": (change(4, options=["a", "b", "a"]), "row 5: choices 0 and 2 are both 'a'", {}),
    "a number as question": (
        change(5, ask="17"),
        r"row 6: lm-eval cannot score it \(AssertionError: Context is not a string",
        {"doc_to_text": "{{ask}}"},
    ),
    "no tokens": (
        change(3, ask="x", options=["a", "b", "c"]),
        "row 4: lm-eval cannot score it .*UndefinedError",
        {"doc_to_text": "{{ask if ask != 'x' else nothing}}"},
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_row_that_cannot_be_scored_is_named_before_any_training(
    tiny_corpus: Corpus, tmp_path: Path, what: str
) -> None:
    spoil, message, options = BAD[what]
    rows = questions(8)
    spoil(rows)
    write_task(tmp_path, "words", rows, **options)
    with pytest.raises(UserError, match=rf"^lm-eval: task words, {message}") as caught:
        LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path), decontaminate=True)
    assert str(tmp_path / "words.jsonl") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("", "its label is empty"),
        ("violet", "label 'violet' is none of its choices"),
        ("1", "label '1' is none of its choices"),
    ],
)
def test_labels_that_are_texts_must_be_choices(
    tiny_corpus: Corpus, tmp_path: Path, label: str, message: str
) -> None:
    rows = [{**row, "right": row["options"][row["right"]]} for row in questions(8)]
    write_task(tmp_path / "good", "words", rows)
    LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path / "good"))
    rows[6]["right"] = label
    write_task(tmp_path / "bad", "words", rows)
    with pytest.raises(UserError, match=f"task words, row 7: {message}"):
        LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path / "bad"))


@pytest.mark.parametrize(
    ("rights", "message"),
    [([0, 3], "label 3 is not among 0 to 2"), ([], "no choice is marked"), ([-1], "label -1")],
)
def test_of_several_right_answers_each_must_be_a_choice(
    tiny_corpus: Corpus, tmp_path: Path, rights: list[int], message: str
) -> None:
    rows = [{**row, "right": [row["right"], 0]} for row in questions(6)]
    write_task(tmp_path / "good", "words", rows)
    LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path / "good"))
    rows[3]["right"] = rights
    write_task(tmp_path / "bad", "words", rows)
    with pytest.raises(UserError, match=f"task words, row 4: {message}"):
        LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path / "bad"))


PLAIN = {
    "output_type": "loglikelihood",
    "doc_to_choice": None,
    "doc_to_target": "{{end}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_choice": None,
    "doc_to_target": "{{ask}}",
    "metric_list": [
        {"metric": metric, "aggregation": aggregation, "higher_is_better": False}
        for metric, aggregation in (
            ("word_perplexity", "weighted_perplexity"),
            ("byte_perplexity", "weighted_perplexity"),
            ("bits_per_byte", "bits_per_byte"),
        )
    ],
}


def test_an_ending_of_no_bytes_is_refused(tiny_corpus: Corpus, tmp_path: Path) -> None:
    rows = [{**row, "end": " mat"} for row in questions(6)]
    rows[2]["end"] = ""
    write_task(tmp_path, "ends", rows, **PLAIN)
    with pytest.raises(UserError, match="task ends, row 3: its answer is empty"):
        LMEval(tiny_corpus, tasks=["ends"], include_path=str(tmp_path))


def test_empty_texts_are_counted_unless_all_are(
    tiny_corpus: Corpus,
    network: Any,
    accelerator: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = questions(6)
    for number in (2, 4):
        rows[number]["ask"] = ""
    write_task(tmp_path, "texts", rows, **ROLLING)
    evaluator = LMEval(tiny_corpus, tasks=["texts"], include_path=str(tmp_path))
    assert "2 of 6 rows are empty and count for nothing, row 3 first" in caplog.text
    scores = evaluator.evaluate(network, accelerator)
    found = theirs(tiny_corpus, network, accelerator, tmp_path, ["texts"])["results"]["texts"]
    for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert scores[f"texts/{metric}"] == pytest.approx(found[f"{metric},none"])
    assert "texts/bpb" not in evaluator.components()
    write_task(tmp_path / "all", "texts", [{**row, "ask": ""} for row in rows], **ROLLING)
    with pytest.raises(UserError, match="task texts: every row is empty"):
        LMEval(tiny_corpus, tasks=["texts"], include_path=str(tmp_path / "all"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"right": 3}, "label 3 is not among 0 to 2"),
        ({"right": -1}, "label -1 is not among 0 to 2"),
        ({"options": []}, "it has no choices"),
    ],
)
def test_a_bad_row_among_the_examples_is_named(
    tiny_corpus: Corpus, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    train = questions(6, shift=30)
    train[4].update(values)
    write_task(tmp_path, "words", questions(4), train=train, num_fewshot=1, fewshot_split="train")
    with pytest.raises(UserError, match=f"task words, examples, row 5: {message}") as caught:
        LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))
    assert "words.train.jsonl" in str(caught.value)
    LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path), shots=0)  # none is shown


def test_too_few_examples_are_refused(tiny_corpus: Corpus, tmp_path: Path) -> None:
    write_task(tmp_path, "words", questions(4), train=questions(3, shift=30), fewshot_split="train")
    with pytest.raises(UserError, match="5 examples before each question need 5 rows, but there"):
        LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path), shots=5)
    tmp_path = write_task(tmp_path / "alone", "alone", questions(4))
    with pytest.raises(UserError, match="4 examples before each question need 5 rows"):
        LMEval(tiny_corpus, tasks=["alone"], include_path=str(tmp_path), shots=4)


def test_rows_that_may_stand_before_themselves_are_said(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_task(tmp_path, "words", questions(9), num_fewshot=1, fewshot_split="validation")
    LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))
    assert "task words takes its examples from the rows that are scored" in caplog.text


def test_bad_rows_are_left_out_where_the_recipe_says_so(
    tiny_corpus: Corpus,
    network: Any,
    accelerator: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = questions(8)
    good = [row for i, row in enumerate(rows) if i not in (3, 6)]
    write_task(tmp_path / "good", "words", good)
    rows = [{**row} for row in rows]
    rows[3]["right"], rows[6]["options"] = 9, ["a", "a", "b"]
    write_task(tmp_path / "bad", "words", rows)
    expected = LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path / "good"))
    skipping: dict[str, Any] = {"include_path": str(tmp_path / "bad"), "skip_bad_rows": True}
    evaluator = LMEval(tiny_corpus, tasks=["words"], **skipping)
    assert "row 4: label 9 is not among 0 to 2" in caplog.text
    assert "2 of 8 rows are left out" in caplog.text
    assert evaluator.facts()["documents"] == {"words": 6}
    assert evaluator.evaluate(network, accelerator) == expected.evaluate(network, accelerator)
    write_task(tmp_path / "bad", "words", [{**row, "right": -1} for row in rows])
    with pytest.raises(UserError, match=r"8 of 8 rows cannot be scored\. None of the rows"):
        LMEval(tiny_corpus, tasks=["words"], **skipping)


def test_bad_lines_of_a_file_are_left_out_too(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"query": "two plus", "choices": ["two", "a cat"], "label": 0}
    file = tmp_path / "sums.validation.jsonl"
    lines = [row, {**row, "label": 2}, {**row, "choices": ["a", "a"]}, {**row, "label": 1}]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n{cut")
    options: dict[str, Any] = {"tasks": ["sums"], "files": {"sums": str(file)}}
    with pytest.raises(UserError, match=r"task sums, sums.validation.jsonl, line 2: 'label' must"):
        LMEval(tiny_corpus, **options)
    evaluator = LMEval(tiny_corpus, **options, skip_bad_rows=True)
    assert evaluator.facts()["documents"] == {"sums": 2}
    assert "2 of 5 rows are left out" in caplog.text and "1 of 3 rows are left out" in caplog.text


def test_questions_that_are_numbers_are_questions(
    tiny_corpus: Corpus, network: Any, accelerator: Any, tmp_path: Path
) -> None:
    rows = [{"query": q, "choices": ["two", "a cat"], "label": 0} for q in ("7", "007", "two")]
    file = tmp_path / "sums.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    options: dict[str, Any] = {"files": {"sums": str(file)}, "prompts": {"sums": "{{query}}"}}
    evaluator = LMEval(tiny_corpus, tasks=["sums"], **options)
    assert [p.split("|")[0] for p in prompts(evaluator)["sums"][::2]] == ["7", "007", "two"]
    options["prompts"] = {"sums": "{{question}}"}
    with pytest.raises(UserError, match=r"task sums, row 1: lm-eval cannot read it.*'question'"):
        LMEval(tiny_corpus, tasks=["sums"], **options)


def test_a_task_without_rows_is_refused(tiny_corpus: Corpus, tmp_path: Path) -> None:
    write_task(tmp_path, "words", questions(3))
    (tmp_path / "words.jsonl").write_text("")
    with pytest.raises(
        UserError, match=r"data of task 'words' cannot be loaded from .*words\.jsonl"
    ):
        LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))
