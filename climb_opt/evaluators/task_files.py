"""One's own task files in lm-eval's YAML, checked before lm-eval loads them.

lm-eval leaves out what it cannot read, keeps the last of two equal keys, and of an unknown metric,
aggregation or split says no more than its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import lm_eval.api.metrics
import lm_eval.filters  # noqa: F401 - both register what there is
from lm_eval.api import registry
from lm_eval.config.task import TaskConfig

from climb_opt.errors import UserError, did_you_mean, listed, within
from climb_opt.yamls import read_yaml

_KEYS = {f.name for f in fields(TaskConfig)} | {"include", "group", "task_list", "class"}
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


def check_folder(folder: Path) -> None:
    """Read every task file below a folder.

    Raises:
        UserError: one is no YAML, has a key twice, or includes a file that is not there.
    """
    for file in sorted(folder.rglob("*.yaml")):
        _read(file)


def check_tasks(names: Iterable[str], index: Any, folder: Path) -> None:
    """Check the files below `folder` of lm-eval's tasks, groups or tags of these names.

    Args:
        index: lm-eval's own, name -> entry.

    Raises:
        UserError: as `check_folder`; an unknown key, metric or aggregation.
    """
    for entry in _entries(names, index, set()):
        if entry.yaml_path is not None and folder.resolve() in entry.yaml_path.resolve().parents:
            config = _read(entry.yaml_path)
            if isinstance(config.get("task"), str) and "class" not in config:
                with within(str(entry.yaml_path)):
                    for check in (_check_keys, _check_metrics, _check_counts, _check_filters):
                        check(config)


def wrong_split(task: Any, split: object) -> str | None:
    """What is wrong with a task whose data lack `split`; None: they have it, or it is no split."""
    data = getattr(task, "dataset", None)
    if data is None or not hasattr(data, "keys") or split in data:
        return None
    given = {key: getattr(task.config, key) for key in _SPLITS}
    given["fewshot_config.split"] = getattr(task.fewshot_cfg, "split", None)
    keys = [key for key, value in given.items() if value == split]
    if not keys:
        return None
    there = [str(name) for name in data]
    place = (task.config.dataset_kwargs or {}).get("data_files") or task.config.dataset_path
    return (
        f"lm-eval: task {task.config.task}: {keys[0]} is {split!r}, which its data do not have "
        f"({place}).{did_you_mean(str(split), there)} Splits: {listed(there)}."
    )


def _entries(names: Iterable[str], index: Any, seen: set[str]) -> Iterator[Any]:
    for name in names:
        entry = index.get(name)
        if entry is None or name in seen:
            continue
        seen.add(name)
        yield entry
        members = (entry.cfg or {}).get("task") if entry.yaml_path is not None else entry.tags
        if not isinstance(members, str):
            inner = [m.get("task") if isinstance(m, dict) else m for m in members or ()]
            yield from _entries([m for m in inner if isinstance(m, str)], index, seen)


def _read(file: Path, chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task's keys with those it includes; !function and the like are null."""
    data = read_yaml(file, any_tags=True)
    if not isinstance(data, dict):
        raise UserError(f"{file}: a task is a mapping of keys, but this holds {type(data)}.")
    merged: dict[str, Any] = {}
    included = data.get("include") or []
    for name in included if isinstance(included, list) else [included]:
        other = (file.parent / str(name)).resolve()
        if not other.is_file():
            raise UserError(f"{file}: include: there is no file {str(name)!r} ({other}).")
        if other in chain or other == file.resolve():
            raise UserError(f"{file}: includes itself through {name}.")
        merged |= _read(other, (*chain, file.resolve()))
    return merged | data


def _check_keys(config: dict[str, Any]) -> None:
    for key in config:
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS)
            raise UserError(f"unknown key {key!r}.{hint} Keys: {', '.join(sorted(_KEYS))}.")


def _check_metrics(config: dict[str, Any]) -> None:
    metrics = config.get("metric_list")
    if metrics is None:
        return
    if not isinstance(metrics, list) or not all(isinstance(m, dict) for m in metrics):
        shape = "a list of mappings, for example [{metric: acc}]"
        raise UserError(f"metric_list must be {shape}, but is {metrics!r}.")
    own = "process_results" in config  # then the names are those its function returns
    for metric in metrics:
        if "metric" not in metric:
            raise UserError(f"metric_list: the key 'metric' is missing in {metric!r}.")
        name, how = metric["metric"], metric.get("aggregation")
        if name is not None and not own and not metric.get("hf_evaluate"):
            _check_known("metric", name, registry.METRIC_REGISTRY)
        if "aggregation" in metric:
            if how is not None:
                _check_known("aggregation", how, registry.AGGREGATION_REGISTRY)
        elif name is not None and str(name) not in registry.METRIC_AGGREGATION_REGISTRY:
            known = ", ".join(registry.AGGREGATION_REGISTRY)
            lacks = f"metric {name!r} needs an aggregation, for example mean"
            raise UserError(f"{lacks}; known: {known}.")


def _check_counts(config: dict[str, Any]) -> None:
    for key, least in (("num_fewshot", 0), ("repeats", 1)):
        value = config.get(key)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= least):
            raise UserError(f"{key} must be a whole number from {least}, but is {value!r}.")


def _check_filters(config: dict[str, Any]) -> None:
    filters = config.get("filter_list")
    if filters is None:
        return
    shape = "for example [{name: first, filter: [{function: take_first}]}]"
    if not isinstance(filters, list) or not filters:
        raise UserError(f"filter_list must be a list of mappings, {shape}, but is {filters!r}.")
    names: list[object] = []
    for one in filters:
        steps = one.get("filter") if isinstance(one, dict) else None
        if not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
            raise UserError(f"filter_list: {one!r} is no filter; write it as {shape}.")
        for place, key in ((one, "name"), *((step, "function") for step in steps)):
            if key not in place:
                raise UserError(f"filter_list: the key {key!r} is missing in {place!r}.")
        for step in steps:
            if step["function"] is not None:  # null: a !function of the file's own
                _check_known("filter", step["function"], registry.FILTER_REGISTRY)
        if one["name"] in names:
            raise UserError(f"filter_list: the name {one['name']!r} is given twice.")
        names.append(one["name"])


def _check_known(what: str, name: object, known: Any) -> None:
    if not isinstance(name, str) or name not in known:
        hint = did_you_mean(str(name), known)
        raise UserError(f"unknown {what} {name!r}.{hint} Known: {listed(sorted(known))}.")
