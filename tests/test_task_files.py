"""Task files of one's own: what they cannot mean is told before lm-eval reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
import datasets

from climb_opt.errors import UserError
from climb_opt.evaluators.harness import LMEval
from climb_opt.shards import Corpus
from evaluating import questions, write_group, write_task


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric_list": [{"metric": "accu"}]}, r"words\.yaml: unknown metric 'accu'.*mean 'acc'"),
        (
            {"metric_list": [{"metric": "acc", "aggregation": "meen"}]},
            r"words\.yaml: unknown aggregation 'meen'.*mean 'mean'",
        ),
        ({"metric_list": {"metric": "acc"}}, r"words\.yaml: metric_list must be a list of"),
        ({"metric_list": [{"agg": "mean"}]}, r"words\.yaml: metric_list: the key 'metric' is"),
        (
            {"metric_list": [{"metric": "own"}], "process_results": "x"},
            r"words\.yaml: metric 'own' needs an aggregation",
        ),
        ({"metrics": []}, r"words\.yaml: unknown key 'metrics'"),
        (
            {"validation_split": "valid"},
            r"words: validation_split is 'valid', which .*words\.jsonl.*'validation'\? Splits: val",
        ),
        ({"fewshot_split": "trian", "num_fewshot": 2}, "words: fewshot_split is 'trian', which"),
        ({"test_split": "x"}, "words: test_split is 'x', which"),
        ({"num_fewshot": "two"}, r"words\.yaml: num_fewshot must be a whole .* is 'two'\."),
        ({"num_fewshot": -1}, r"words\.yaml: num_fewshot must be a whole number from 0"),
        ({"repeats": 0}, r"words\.yaml: repeats must be a whole number from 1, but is 0\."),
        ({"repeats": True}, r"words\.yaml: repeats must be a whole number from 1, but is True"),
        ({"filter_list": []}, r"words\.yaml: filter_list must be a list of mappings"),
        ({"filter_list": "take_first"}, "filter_list must be a list .* but is 'take_first'"),
        ({"filter_list": [{"name": "a"}]}, "filter_list: .* is no filter; write it as"),
        ({"filter_list": [{"filter": []}]}, "filter_list: the key 'name' is missing"),
        ({"filter_list": [{"name": "a", "filter": [{}]}]}, "the key 'function' is missing in {}"),
        (
            {"filter_list": [{"name": "a", "filter": [{"function": "take_frist"}]}]},
            r"words\.yaml: unknown filter 'take_frist'\. Did you mean 'take_first'",
        ),
        (
            {"filter_list": [{"name": "a", "filter": [{"function": "take_first"}]}] * 2},
            "filter_list: the name 'a' is given twice",
        ),
    ],
)
def test_what_a_task_file_cannot_mean_is_found_before_training_with_what_there_is(
    tiny_corpus: Corpus, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    write_task(tmp_path, "words", questions(6), **changes)
    with pytest.raises(UserError, match=said):
        LMEval(tiny_corpus, tasks=["words"], include_path=str(tmp_path))


def test_tasks_of_a_group_and_what_they_include_are_checked(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    write_task(tmp_path, "words", questions(6), metric_list=None, include="base.yml")
    write_group(tmp_path, "both", ["words"], None)
    (tmp_path / "base.yml").write_text("metric_list: [{metric: acc_nrm}]\n")
    with pytest.raises(UserError, match=r"unknown metric 'acc_nrm'\. Did you mean 'acc_norm'"):
        LMEval(tiny_corpus, tasks=["both"], include_path=str(tmp_path))
