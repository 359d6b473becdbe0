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

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
from accelerate.utils import gather_object
from lm_eval import __version__ as lm_eval_version
from lm_eval.api.metrics import mean
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer

from climb_opt.errors import UserError
from climb_opt.evaluators.contamination import find_overlaps
from climb_opt.evaluators.file_task import FileTask, read_rows, split_of
from climb_opt.evaluators.language_model import ProxyLM, Request
from climb_opt.shards import Corpus

log = logging.getLogger(__name__)


@dataclass
class _Entry:
    """A task as the recipe names it: one lm-eval task, or the parts of a group."""

    name: str
    parts: list[Any]
    split: str
    metrics: list[str]
    # Built when the number of ranks is known: documents of this rank, their requests.
    documents: list[tuple[Any, Any, list[Any]]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


class LMEval:
    """Scores of lm-eval tasks.

    Args:
        tasks: names: of `files`, else of stock tasks, groups or tags of lm-eval.
        split: the split of stock tasks that is scored.
        limit: score only the first documents of each task.
        shots: examples in the prompt of stock tasks; None for each task's own number.
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
        loaded = _stock_tasks(stock, split, shots) if stock else {}
        for name, rows in self._rows.items():
            task = FileTask(name, rows, (prompts or {}).get(name))
            loaded[name] = _Entry(name, [task], split_of(Path(files[name])), _metrics([task]))
        self._entries = [loaded[name] for name in tasks]
        self._check_shared_rows()
        tokenizer = Tokenizer.from_file(str(corpus.tokenizer_file))
        self._lm = ProxyLM(tokenizer, corpus.eos)
        self._built: tuple[int, int] | None = None
        self._overlaps = self._decontaminate(corpus, tokenizer) if decontaminate else {}
        for entry in self._entries:
            log.info("lm-eval: %s is scored on its %s split.", entry.name, entry.split)

    def components(self) -> list[str]:
        """The names of the scores, without standard errors."""
        return [f"{e.name}/{metric}" for e in self._entries for metric in e.metrics]

    def reported(self) -> list[str]:
        """Components measured on a test split: to report, not to search on."""
        if self._allow_test:
            return []
        tests = [entry for entry in self._entries if entry.split == "test"]
        return [f"{e.name}/{metric}" for e in tests for metric in e.metrics]

    def facts(self) -> dict[str, Any]:
        """What was scored on what: version, splits, documents, overlaps with the corpus."""
        return {
            "lm_eval": lm_eval_version,
            "splits": {entry.name: entry.split for entry in self._entries},
            "documents": {
                e.name: sum(len(_docs(t, self._limit)) for t in e.parts) for e in self._entries
            },
            **({"contaminated_rows": self._overlaps} if self._overlaps else {}),
        }

    def evaluate(self, model: Any, accelerator: Any) -> dict[str, float]:
        """Every component and, for plain means, its standard error; the same on every rank."""
        ranks = (int(accelerator.process_index), int(accelerator.num_processes))
        if self._built != ranks:
            for entry in self._entries:
                _build_requests(entry, self._lm, self._limit, *ranks)
            self._built = ranks
        self._lm.attach(model, accelerator)
        scores: dict[str, float] = {}
        for entry in self._entries:
            # Ranks may hold no document of a small task, but all take part in the gathering.
            answers = gather_object(_answers(entry, self._lm))
            scores.update(_scores(entry, sorted(answers, key=lambda answer: answer[0])))
        self._lm.attach(None, None)
        return scores

    # --- checks -----------------------------------------------------------------------------

    def _check_shared_rows(self) -> None:
        if self._allow_test:
            return
        seen: dict[tuple[str, tuple[str, ...]], str] = {}
        for tests in (True, False):
            for entry in self._entries:
                if entry.name not in self._rows or (entry.split == "test") != tests:
                    continue
                for row in self._rows[entry.name]:
                    key = (row["query"], tuple(row["choices"]))
                    if tests:
                        seen[key] = entry.name
                    elif key in seen:
                        raise UserError(
                            f"lm-eval: task {entry.name!r} shares rows with the test set "
                            f"{seen[key]!r}, e.g. {row['query'][:60]!r}. Take them out, or set "
                            "allow_test: true."
                        )

    def _decontaminate(self, corpus: Corpus, tokenizer: Tokenizer) -> dict[str, int]:
        texts = {
            name: [f"{row['query']} {row['choices'][row['label']]}" for row in rows]
            for name, rows in self._rows.items()
        }
        for entry in self._entries:
            if entry.name not in texts:
                docs = [(t, d) for t in entry.parts for d in _docs(t, self._limit)]
                texts[entry.name] = [f"{t.doc_to_text(d)} {_right_answer(t, d)}" for t, d in docs]
        overlaps = find_overlaps(corpus, tokenizer, texts)
        for name, count in overlaps.items():
            if count:
                log.warning(
                    "lm-eval: %d of %d rows of %s share 13 tokens with the training shards.",
                    count,
                    len(texts[name]),
                    name,
                )
        return overlaps


# --- tasks -----------------------------------------------------------------------------------


def _stock_tasks(names: list[str], split: str, shots: int | None) -> dict[str, _Entry]:
    manager = TaskManager()
    entries = {}
    for name in names:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, n=3)
            hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
            raise UserError(
                f"lm-eval: unknown task {name!r}.{hint} `lm-eval ls tasks` lists all "
                f"{len(manager.all_tasks)}; local files are named with `files`."
            )
        try:
            parts = list(manager.load([name])["tasks"].values())
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(
                f"lm-eval: the data of task {name!r} cannot be loaded ({detail}). Give a local "
                f"file instead: files: {{{name}: path.jsonl.gz}}."
            ) from None
        for task in parts:
            _choose_split(task, split)
            if shots is not None:
                task.set_config("num_fewshot", shots)
        entries[name] = _Entry(name, parts, split, _metrics(parts))
    return entries


def _choose_split(task: Any, split: str) -> None:
    has = task.has_test_docs() if split == "test" else task.has_validation_docs()
    if not has:
        other = "validation" if split == "test" else "test"
        raise UserError(
            f"lm-eval: task {task.config.task!r} has no {split} split; only its {other} split can "
            f"be scored (split: {other})."
        )
    if split == "validation" and task.has_test_docs():
        task.set_config("test_split", None)  # lm-eval scores the test split where there is one


def _metrics(parts: list[Any]) -> list[str]:
    common = [m for m in parts[0].aggregation() if all(m in t.aggregation() for t in parts)]
    kinds = {task.OUTPUT_TYPE for task in parts}
    if "generate_until" in kinds:
        raise UserError(
            f"lm-eval: task {parts[0].config.task!r} asks the proxy to write text, which is not "
            "offered; choose a multiple-choice or log-likelihood task."
        )
    return common if "loglikelihood_rolling" in kinds else [*common, "bpb"]


def _docs(task: Any, limit: int | None) -> list[Any]:
    docs = task.eval_docs
    return list(docs) if limit is None else [docs[i] for i in range(min(limit, len(docs)))]


# --- requests and answers --------------------------------------------------------------------


def _build_requests(entry: _Entry, lm: ProxyLM, limit: int | None, rank: int, world: int) -> None:
    entry.documents, entry.requests = [], []
    for task in entry.parts:
        docs = _docs(task, limit)
        for number in range(rank, len(docs), world):
            doc = docs[number]
            shots = task.config.num_fewshot or 0
            context = task.fewshot_context(doc, num_fewshot=shots)
            built = task.construct_requests(
                doc=doc,
                ctx=context,
                metadata=(task.config.task, number, 1),
                apply_chat_template=False,
                chat_template=None,
            )
            instances = built if isinstance(built, list) else [built]
            entry.documents.append((task, doc, instances))
            if task.OUTPUT_TYPE != "loglikelihood_rolling":
                entry.requests += [lm.encode(*instance.args) for instance in instances]


Answer = tuple[tuple[str, int], dict[str, Any]]


def _answers(entry: _Entry, lm: ProxyLM) -> list[Answer]:
    """(task, number) -> metric values, for each document of this rank."""
    if entry.requests:
        scored = iter(lm._loglikelihood_tokens(entry.requests))
    answers = []
    for task, doc, instances in entry.documents:
        if task.OUTPUT_TYPE == "loglikelihood_rolling":
            responses: list[Any] = lm.loglikelihood_rolling(instances)
        else:
            responses = [next(scored) for _ in instances]
        values = task.process_results(doc, responses)
        if task.OUTPUT_TYPE != "loglikelihood_rolling":
            values["bpb"] = _bits_per_byte(task, doc, instances, responses)
        _, number, _ = instances[0].metadata
        answers.append(((task.config.task, number), values))
    return answers


def _bits_per_byte(task: Any, doc: Any, instances: list[Any], responses: list[Any]) -> float:
    right = _right_choices(task, doc) if task.OUTPUT_TYPE == "multiple_choice" else [0]
    bits = [-responses[i][0] / math.log(2) / len(instances[i].args[1].encode()) for i in right]
    return min(bits)


def _right_choices(task: Any, doc: Any) -> list[int]:
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    choices = task.doc_to_choice(doc)
    golds = gold if isinstance(gold, list) else [gold]
    return [choices.index(g) if isinstance(g, str) else int(g) for g in golds]


def _right_answer(task: Any, doc: Any) -> str:
    if task.OUTPUT_TYPE != "multiple_choice" or task.multiple_input:
        return str(task.doc_to_target(doc))
    return str(task.doc_to_choice(doc)[_right_choices(task, doc)[0]])


def _scores(entry: _Entry, answers: list[Answer]) -> dict[str, float]:
    scores = {}
    for metric in entry.metrics:
        values = [value[metric] for _, value in answers]
        aggregate = mean if metric == "bpb" else entry.parts[0].aggregation()[metric]
        name = f"{entry.name}/{metric}"
        scores[name] = float(aggregate(values))
        if aggregate is mean and len(values) > 1:
            scores[f"{name}_stderr"] = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    return scores
