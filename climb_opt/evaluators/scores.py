"""Answers -> scores, by lm-eval's own aggregation and its weights of groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lm_eval.api.metrics import mean
from lm_eval.config.group import AggMetricConfig

from climb_opt.evaluators.answers import BPB, Answer, Key
from climb_opt.evaluators.tasks import LoadedTask
from climb_opt.metrics import STDERR


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
