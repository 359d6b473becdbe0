"""lm-eval tasks on the in-memory proxy: stock tasks by name, and local multiple-choice files.

lm-eval's own task objects bring prompts, answers and metrics; requests are built and tokenised once
a search, since for a tiny proxy that costs more than the model (0.22 of 0.33 CPU-seconds per 200
documents, measured). Documents are dealt out to the ranks.

Beside lm-eval's metrics every multiple-choice and log-likelihood task gives `<task>/bpb`: bits per
UTF-8 byte of the right answer as lm-eval presents it (with its leading space). Accuracy moves in
steps of 1 / documents and sits at chance for small proxies; bits per byte do neither.

A proxy searched on a test set has seen it: components scored on a test split may be reported, but a
study's score may not name them unless `allow_test` says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate.utils import gather_object
from lm_eval import __version__ as lm_eval_version
from lm_eval.api.metrics import mean
from tokenizers import Tokenizer

from climb_opt.errors import UserError
from climb_opt.evaluators.contamination import find_overlaps
from climb_opt.evaluators.file_task import read_rows
from climb_opt.evaluators.language_model import ProxyLM, Request
from climb_opt.evaluators.tasks import (
    LoadedTask,
    documents,
    file_task,
    right_answer,
    right_choices,
    stock_tasks,
)
from climb_opt.shards import Corpus
from climb_opt.tokenizer import corpus_tokenizer

log = logging.getLogger(__name__)


@dataclass
class _Requests:
    """This rank's documents of a task, and what is asked about them, as tokens."""

    documents: list[tuple[Any, Any, list[Any]]] = field(default_factory=list)
    tokens: list[Request] = field(default_factory=list)


class LMEval:
    """Scores of lm-eval tasks.

    Args:
        tasks: names: of `files`, else of stock tasks, groups or tags of lm-eval.
        split: the split of stock tasks that is scored.
        limit: score only the first documents of each task.
        shots: examples in the prompt of stock tasks; None for each task's own number.
        include_path: a folder of your own task files in lm-eval's YAML, beside the stock ones.
        files: task name -> a local file of rows {"query", "choices", "label"}; names that begin
            like a stock task (arc_easy, arc_challenge, piqa, hellaswag) use its prompt.
        prompts: task name of `files` -> another prompt, in which {{query}} stands for the question.
        allow_test: let a study's score name components measured on a test split.
        decontaminate: count, for every task, the rows that share 13 tokens in a row with the
            corpus's training shards; reads the whole corpus once.

    Components are "<task>/<metric>"; for a group, the mean over its documents.

    Raises:
        UserError: an unknown task (with near names), a file with a bad row, a split that the task
            does not have, a task that needs generated text, data that cannot be loaded.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        tasks: Sequence[str],
        split: Literal["validation", "test"] = "validation",
        limit: int | None = None,
        shots: int | None = None,
        include_path: str | None = None,
        files: Mapping[str, str] | None = None,
        prompts: Mapping[str, str] | None = None,
        allow_test: bool = False,
        decontaminate: bool = False,
    ) -> None:
        tasks, files = [tasks] if isinstance(tasks, str) else list(tasks), files or {}
        if not tasks:
            raise UserError("lm-eval: tasks must name at least one task.")
        if split not in ("validation", "test"):
            raise UserError(f"lm-eval: split must be validation or test, but is {split!r}.")
        if limit is not None and limit < 1:
            raise UserError(f"lm-eval: limit must be at least 1, but is {limit}.")
        unused = sorted(({*files} | {*(prompts or {})}) - {*tasks})
        if unused:
            raise UserError(f"lm-eval: a file or prompt is given for {unused[0]!r}, not a task.")
        self._allow_test, self._limit = allow_test, limit
        self._rows = {name: read_rows(Path(path)) for name, path in files.items()}
        stock = [name for name in tasks if name not in files]
        loaded = stock_tasks(stock, split, shots, include_path) if stock else {}
        for name, rows in self._rows.items():
            prompt = (prompts or {}).get(name)
            loaded[name] = file_task(name, rows, Path(files[name]), prompt)
        self._tasks = [loaded[name] for name in tasks]
        self._check_shared_rows()
        tokenizer = corpus_tokenizer(corpus.tokenizer_file, corpus.eos)
        self._lm = ProxyLM(tokenizer, corpus.eos)
        self._ranks: tuple[int, int] | None = None
        self._requests: dict[str, _Requests] = {}
        self._facts = self._describe(corpus, tokenizer, decontaminate)
        for task in self._tasks:
            log.info("lm-eval: %s is scored on its %s split.", task.name, task.split)

    def components(self) -> list[str]:
        """The names of the scores, without standard errors."""
        return [f"{task.name}/{metric}" for task in self._tasks for metric in task.metrics]

    def reported(self) -> list[str]:
        """Components measured on a test split: to report, not to search on."""
        if self._allow_test:
            return []
        tests = [task for task in self._tasks if task.split == "test"]
        return [f"{task.name}/{metric}" for task in tests for metric in task.metrics]

    def facts(self) -> dict[str, Any]:
        """What was scored on what: version, splits, documents, overlaps with the corpus."""
        return dict(self._facts)

    def evaluate(self, model: Any, accelerator: Any) -> dict[str, float]:
        """Every component and, for plain means, its standard error; the same on every rank."""
        ranks = (int(accelerator.process_index), int(accelerator.num_processes))
        if self._ranks != ranks:
            self._requests = {
                task.name: _build_requests(task, self._lm, self._limit, *ranks)
                for task in self._tasks
            }
            self._ranks = ranks
        self._lm.attach(model, accelerator)
        scores: dict[str, float] = {}
        for task in self._tasks:
            # A rank may hold no document of a small task, but all take part in the gathering.
            answers = gather_object(_answers(self._requests[task.name], self._lm))
            scores.update(_scores(task, sorted(answers, key=lambda answer: answer[0])))
        self._lm.attach(None, None)
        return scores

    # --- checks -----------------------------------------------------------------------------

    def _check_shared_rows(self) -> None:
        if self._allow_test:
            return
        seen: dict[tuple[str, tuple[str, ...]], str] = {}
        for task in sorted(self._tasks, key=lambda task: task.split != "test"):  # tests first
            for row in self._rows.get(task.name, ()):
                key = (row["query"], tuple(row["choices"]))
                if task.split == "test":
                    seen[key] = task.name
                elif key in seen:
                    raise UserError(
                        f"lm-eval: task {task.name!r} shares rows with the test set "
                        f"{seen[key]!r}, e.g. {row['query'][:60]!r}. Take them out, or set "
                        "allow_test: true."
                    )

    def _describe(
        self, corpus: Corpus, tokenizer: Tokenizer, decontaminate: bool
    ) -> dict[str, Any]:
        scored = {
            task.name: [(part, doc) for part in task.parts for doc in documents(part, self._limit)]
            for task in self._tasks
        }
        facts: dict[str, Any] = {
            "lm_eval": lm_eval_version,
            "splits": {task.name: task.split for task in self._tasks},
            "documents": {name: len(docs) for name, docs in scored.items()},
        }
        if decontaminate:
            texts = {
                name: [f"{part.doc_to_text(doc)} {right_answer(part, doc)}" for part, doc in docs]
                for name, docs in scored.items()
            }
            facts["contaminated_rows"] = find_overlaps(corpus, tokenizer, texts)
            for name, count in facts["contaminated_rows"].items():
                log.warning(
                    "lm-eval: %d of %d rows of %s share 13 tokens with the training shards.",
                    *(count, len(texts[name]), name),
                )
        return facts


# --- requests and answers --------------------------------------------------------------------


def _build_requests(
    task: LoadedTask, lm: ProxyLM, limit: int | None, rank: int, world: int
) -> _Requests:
    built = _Requests()
    for part in task.parts:
        docs = documents(part, limit)
        for number in range(rank, len(docs), world):
            doc = docs[number]
            context = part.fewshot_context(doc, num_fewshot=part.config.num_fewshot or 0)
            instances = part.construct_requests(
                doc=doc,
                ctx=context,
                metadata=(part.config.task, number, 1),
                apply_chat_template=False,
                chat_template=None,
            )
            instances = instances if isinstance(instances, list) else [instances]
            built.documents.append((part, doc, instances))
            if part.OUTPUT_TYPE != "loglikelihood_rolling":
                built.tokens += [lm.encode(*instance.args) for instance in instances]
    return built


Answer = tuple[tuple[str, int], dict[str, Any]]


def _answers(requests: _Requests, lm: ProxyLM) -> list[Answer]:
    """(part, document's number) -> its metrics' values, for each document of this rank."""
    scored = iter(lm._loglikelihood_tokens(requests.tokens))
    answers = []
    for part, doc, instances in requests.documents:
        rolling = part.OUTPUT_TYPE == "loglikelihood_rolling"
        responses: list[Any] = (
            lm.loglikelihood_rolling(instances) if rolling else [next(scored) for _ in instances]
        )
        values = part.process_results(doc, responses)
        if not rolling:
            values["bpb"] = _bits_per_byte(part, doc, instances, responses)
        answers.append(((part.config.task, instances[0].doc_id), values))
    return answers


def _bits_per_byte(task: Any, doc: Any, instances: list[Any], responses: list[Any]) -> float:
    right = right_choices(task, doc) if task.OUTPUT_TYPE == "multiple_choice" else [0]
    bits = [-responses[i][0] / math.log(2) / len(instances[i].args[1].encode()) for i in right]
    return min(bits)


def _scores(task: LoadedTask, answers: list[Answer]) -> dict[str, float]:
    scores = {}
    for metric in task.metrics:
        values = [value[metric] for _, value in answers]
        aggregate = mean if metric == "bpb" else task.parts[0].aggregation()[metric]
        name = f"{task.name}/{metric}"
        scores[name] = float(aggregate(values))
        if aggregate is mean and len(values) > 1:
            scores[f"{name}_stderr"] = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    return scores
