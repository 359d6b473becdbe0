"""Documents as requests, what a model answers to them, and the scores that come of it.

lm-eval's own code makes metrics' values of log-likelihoods, after the task's filters, and adds
them up, by its weights of groups. Beside them `bpb`: bits per
UTF-8 byte of the right answer, or of the likeliest of several right ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lm_eval.api.metrics import mean
from lm_eval.config.group import AggMetricConfig

from climb_opt.errors import TrialFailed
from climb_opt.evaluators.language_model import ProxyLM, Request
from climb_opt.evaluators.tasks import LoadedTask
from climb_opt.metrics import STDERR

Key = tuple[str, str]  # metric, filter
BPB: Key = ("bpb", "none")


@dataclass(frozen=True)
class Document:
    """One row of a task: what is asked, and which of the answers are right.

    part: the place of its lm-eval task among those of a group; number: its place in the split;
    right: the places of the right answers among `requests`, () where none is marked.
    """

    part: int
    number: int
    doc: Any
    requests: list[Any]
    right: tuple[int, ...]

    @property
    def rolling(self) -> bool:
        """Whether its whole text is asked about."""
        return bool(self.requests[0].request_type == "loglikelihood_rolling")


Asked = tuple[Document, list[Request]]


@dataclass(frozen=True)
class Answer:
    """What became of a document: its metrics' values, as lm-eval aggregates them.

    part, number: as in `Document`. pieces: its longest answer is longer than the model's context.
    cut: the beginning of its question is. valid: all its log-likelihoods are numbers.
    """

    part: int
    number: int
    values: dict[Key, Any]
    pieces: bool = False
    cut: bool = False
    valid: bool = True


def measure(
    part: Any, documents: Sequence[Document], responses: Sequence[Sequence[Any]]
) -> list[dict[Key, Any]]:
    """Each document's metrics, after the task's filters.

    Args:
        responses: of each document, to each of its requests: (log-likelihood, greedy), or the
            log-likelihood alone where the whole text is asked about.
    """
    requests = [request for document in documents for request in document.requests]
    if not requests:
        return []
    given = [response for answers in responses for response in answers]
    for request, response in zip(requests, given, strict=True):
        request.resps = [response] * (request.repeats or 1)
    part._instances = requests
    part.apply_filters()
    found = [_values(part, document) for document in documents]
    part._instances = None
    for request in requests:
        request.resps, request.filtered_resps = [], {}
    return found


def _values(part: Any, document: Document) -> dict[Key, Any]:
    values: dict[Key, Any] = {}
    for name in document.requests[0].filtered_resps:
        answers = [request.filtered_resps[name] for request in document.requests]
        for metric, value in part.process_results(document.doc, answers).items():
            values[metric, name] = value
    return values


def made_up(document: Document) -> list[Any]:
    """Answers of no model, to try a document with: log-likelihoods in the form lm-eval expects."""
    count = len(document.requests)
    if document.rolling:
        return [-1.0]
    return [(-1.0 - (i + document.number) % count, False) for i in range(count)]


def tokenise(documents: Sequence[Document], lm: ProxyLM) -> list[Asked]:
    """What documents ask, as tokens; nothing of those whose whole text is asked about."""
    return [(d, [] if d.rolling else [lm.encode(*r.args) for r in d.requests]) for d in documents]


def answer(task: LoadedTask, asked: list[Asked], lm: ProxyLM) -> list[Answer]:
    """What the model attached to `lm` says to documents of a task."""
    scored = iter(lm._loglikelihood_tokens([r for _, requests in asked for r in requests]))
    responses: list[list[Any]] = [
        lm.loglikelihood_rolling(document.requests)
        if document.rolling
        else [next(scored) for _ in requests]
        for document, requests in asked
    ]
    return list(_measured(task, asked, responses, lm.max_length))


def _measured(
    task: LoadedTask, asked: list[Asked], responses: list[list[Any]], context: int
) -> Iterator[Answer]:
    for index, part in enumerate(task.parts):
        mine = [i for i, (document, _) in enumerate(asked) if document.part == index]
        valid = [i for i in mine if not any(map(_is_nan, responses[i]))]
        values = measure(part, [asked[i][0] for i in valid], [responses[i] for i in valid])
        of_row = dict(zip(valid, values, strict=True))
        for i in mine:
            document, requests = asked[i]
            said = of_row.get(i, {})
            if i in of_row and document.right:
                nats = [(-responses[i][k][0], requests[k][0][1]) for k in document.right]
                said = {**said, BPB: min(n / math.log(2) / len(text.encode()) for n, text in nats)}
            yield Answer(
                index,
                document.number,
                said,
                pieces=any(len(after) > context for _, _, after in requests),
                cut=any(
                    len(after) <= context < len(before) + len(after) - 1
                    for _, before, after in requests
                ),
                valid=i in of_row,
            )


def _is_nan(response: Any) -> bool:
    return math.isnan(response[0] if isinstance(response, tuple) else response)


def try_out(task: LoadedTask, documents: list[Document]) -> list[Answer]:
    """Answers to a task's documents as a model might give them, without one."""
    asked: list[Asked] = [
        (d, [] if d.rolling else [(request.args[:2], [0], [0]) for request in d.requests])
        for d in documents
    ]
    return list(_measured(task, asked, [made_up(document) for document in documents], 1))


def check_valid(task: LoadedTask, answers: list[Answer]) -> None:
    """Raise `TrialFailed` if a log-likelihood was not a number: a model that has diverged."""
    invalid = [answer for answer in answers if not answer.valid]
    if invalid:
        raise TrialFailed(
            f"lm-eval: the proxy's log-likelihood is not a number in {len(invalid)} of "
            f"{len(answers)} rows of {task.name}, row {invalid[0].number + 1} first"
        )


# --- scores ---------------------------------------------------------------------------------------


def add_up(task: LoadedTask, answers: Sequence[Answer]) -> dict[str, float]:
    """`<task>/<metric>`, and `<task>/<metric>_stderr` of plain means.

    A group whose file weighs its tasks is aggregated by it, metrics that it does not name with the
    same weights. Of other groups and tags, a metric is taken over all documents of all tasks.
    """
    of_parts = [[a for a in answers if a.part == i] for i in range(len(task.parts))]
    keys = _keys(task, of_parts)
    scores = _weighed(task, keys, of_parts) if task.group else _pooled(task, keys, answers)
    filters = {name for metric, name in keys if (metric, name) != BPB}
    named = {}
    for (metric, filter_name), (value, stderr) in scores.items():
        single = len(filters) < 2 or (metric, filter_name) == BPB
        name = f"{task.name}/{metric}" if single else f"{task.name}/{metric},{filter_name}"
        named[name] = value
        if stderr is not None:
            named[f"{name}{STDERR}"] = stderr
    return named


Scores = dict[Key, tuple[float, float | None]]  # value, standard error


def _keys(task: LoadedTask, of_parts: list[list[Answer]]) -> list[Key]:
    """What every part gives (a group's file: any part), in the order of their metrics."""
    given = [{key: None for answer in part for key in answer.values} for part in of_parts]
    common = [key for key in given[0] if all(key in keys for keys in given)]
    named = {config.metric for config in task.group.aggregate_metric_list} if task.group else set()
    some = [key for keys in given for key in keys if key[0] in named]
    order = [*dict.fromkeys(metric for part in task.parts for metric in part.aggregation()), "bpb"]
    found = [key for key in dict.fromkeys([*common, *some]) if key[0] in order]
    return sorted(found, key=lambda key: order.index(key[0]))


def _pooled(task: LoadedTask, keys: list[Key], answers: Sequence[Answer]) -> Scores:
    return {key: _aggregate(task.parts[0], key, answers) for key in keys}


def _weighed(task: LoadedTask, keys: list[Key], of_parts: list[list[Answer]]) -> Scores:
    results: dict[str, dict[str, Any]] = {}
    for part, answers in zip(task.parts, of_parts, strict=True):
        mine: dict[str, Any] = {"sample_len": len(answers)}
        for metric, name in keys:
            if not any((metric, name) in answer.values for answer in answers):
                continue
            value, stderr = _aggregate(part, (metric, name), answers)
            mine[f"{metric},{name}"] = value
            mine[f"{metric}_stderr,{name}"] = "N/A" if stderr is None else stderr
        results[part.task_name] = mine
    listed = task.group.aggregate_metric_list
    by_size = any(config.weight_by_size for config in listed)
    others = {metric for metric, _ in keys} - {config.metric for config in listed}
    more = [AggMetricConfig(metric=m, weight_by_size=by_size) for m in sorted(others)]
    found = replace(task.group, aggregate_metric_list=[*listed, *more]).aggregate(results)
    return {
        (metric, name): (
            float(found[f"{metric},{name}"]),
            _number(found.get(f"{metric}_stderr,{name}")),
        )
        for metric, name in keys
        if f"{metric},{name}" in found
    }


def _number(stderr: Any) -> float | None:
    return None if stderr is None or isinstance(stderr, str) else float(stderr)


def _aggregate(part: Any, key: Key, answers: Sequence[Answer]) -> tuple[float, float | None]:
    values = [answer.values[key] for answer in answers if key in answer.values]
    aggregate = mean if key == BPB else part.aggregation()[key[0]]
    try:
        value = float(aggregate(values))
    except OverflowError:  # the perplexity of a model that has diverged
        value = math.inf
    if aggregate is not mean or len(values) < 2 or not np.isfinite(values).all():
        return value, None
    return value, float(np.std(values, ddof=1) / math.sqrt(len(values)))
