"""lm-eval's tasks: found by name, loaded, and set to the split that is to be scored."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from lm_eval.tasks import TaskManager

from climb_opt.errors import UserError
from climb_opt.evaluators.file_task import FileTask, Row, split_of


@dataclass(frozen=True)
class LoadedTask:
    """What a recipe names: one lm-eval task, or the tasks of a group or tag."""

    name: str
    parts: tuple[Any, ...]
    split: str
    metrics: tuple[str, ...]


def file_task(name: str, rows: list[Row], path: Path, prompt: str | None) -> LoadedTask:
    """A local file as a task; its name states its split."""
    parts = (FileTask(name, rows, prompt),)
    return LoadedTask(name, parts, split_of(path), _metrics(parts))


def stock_tasks(
    names: list[str], split: str, shots: int | None, include_path: str | None = None
) -> dict[str, LoadedTask]:
    """lm-eval's own tasks, groups and tags of these names, and those of `include_path`.

    Raises:
        UserError: an unknown name, data that cannot be loaded, or no such split.
    """
    if include_path is not None and not Path(include_path).is_dir():
        raise UserError(f"lm-eval: include_path {include_path!r} is not a folder of task files.")
    entries = {}
    for name in names:
        manager = _task_manager(include_path, include_path is None)
        if name not in manager.all_tasks and include_path is not None:
            manager = _task_manager(include_path, True)
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, n=3)
            hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
            raise UserError(
                f"lm-eval: unknown task {name!r}.{hint} `lm-eval ls tasks` lists all "
                f"{len(manager.all_tasks)}; local files are named with `files`."
            )
        try:
            parts = tuple(manager.load([name])["tasks"].values())
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
        entries[name] = LoadedTask(name, parts, split, _metrics(parts))
    return entries


@functools.cache
def _task_manager(include_path: str | None, stock: bool) -> Any:
    # With the stock tasks it reads all of lm-eval's task files: 8 CPU-seconds (measured).
    return TaskManager(include_path=include_path, include_defaults=stock)


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


def _metrics(parts: tuple[Any, ...]) -> tuple[str, ...]:
    common = [m for m in parts[0].aggregation() if all(m in t.aggregation() for t in parts)]
    kinds = {task.OUTPUT_TYPE for task in parts}
    if "generate_until" in kinds:
        raise UserError(
            f"lm-eval: task {parts[0].config.task!r} asks the proxy to write text, which is not "
            "offered; choose a multiple-choice or log-likelihood task."
        )
    return tuple(common if "loglikelihood_rolling" in kinds else [*common, "bpb"])


def documents(task: Any, limit: int | None) -> list[Any]:
    """The documents that are scored: the first `limit` of the task's split."""
    docs = task.eval_docs
    return list(docs) if limit is None else [docs[i] for i in range(min(limit, len(docs)))]


def right_choices(task: Any, doc: Any) -> list[int]:
    """The places of the right answers among a document's choices."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    choices = task.doc_to_choice(doc)
    golds = gold if isinstance(gold, list) else [gold]
    return [choices.index(g) if isinstance(g, str) else int(g) for g in golds]


def right_answer(task: Any, doc: Any) -> str:
    """The text of the (first) right answer."""
    if task.OUTPUT_TYPE != "multiple_choice" or task.multiple_input:
        return str(task.doc_to_target(doc))
    return str(task.doc_to_choice(doc)[right_choices(task, doc)[0]])
