"""lm-eval's tasks: found by name, loaded, and set to the split that is to be scored."""

from __future__ import annotations

import difflib
import functools
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval import utils
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from climb_opt.errors import UserError, brief
from climb_opt.evaluators.file_task import FileTask, Row, split_of
from climb_opt.evaluators.labels import BadRow, right_places
from climb_opt.evaluators.task_files import check_folder, check_tasks, wrong_split


@dataclass(frozen=True)
class LoadedTask:
    """What a recipe names: one lm-eval task, or the tasks of a group or tag.

    `group` is lm-eval's own where its file says how its tasks are weighed.
    """

    name: str
    parts: tuple[Any, ...]
    split: str
    group: Any = None


def file_task(name: str, rows: list[Row], path: Path, prompt: str | None) -> LoadedTask:
    """A local file as a task; its name states its split."""
    with _setting_up(name):
        parts = (FileTask(name, rows, prompt, file=path),)
    return LoadedTask(name, parts, split_of(path))


def stock_tasks(
    names: list[str], split: str, shots: int | None, include_path: str | None = None
) -> dict[str, LoadedTask]:
    """lm-eval's own tasks, groups and tags of these names, and those of `include_path`.

    Raises:
        UserError: an unknown name, data that cannot be loaded, no such split, or a task that the
            proxy cannot answer.
    """
    if include_path is not None and not Path(include_path).is_dir():
        raise UserError(f"lm-eval: include_path {include_path!r} is not a folder of task files.")
    entries = {}
    for name in names:
        manager = manager_of(name, include_path)
        if include_path is not None:
            check_tasks([name], manager.task_index, Path(include_path))
        with _setting_up(name):
            loaded = manager.load([name])
        parts = tuple(loaded["tasks"].values())
        if not parts:
            raise UserError(f"lm-eval: {name!r} names no task.")
        for task in parts:
            _check_kind(task)
            _choose_split(task, split)
            if shots is not None:
                task.set_config("num_fewshot", shots)
        group = loaded.get("groups", {}).get(name)
        weighed = group if group is not None and group.has_aggregation else None
        entries[name] = LoadedTask(name, parts, split, weighed)
    return entries


def manager_of(name: str, include_path: str | None = None) -> Any:
    """lm-eval's manager of the task, group or tag of this name.

    Raises:
        UserError: neither lm-eval nor `include_path` has it.
    """
    manager = _task_manager(include_path, include_path is None)
    if name not in manager.all_tasks and include_path is not None:
        manager = _task_manager(include_path, True)
    if name in manager.all_tasks:
        return manager
    if include_path is not None:
        check_folder(Path(include_path))
    near = difflib.get_close_matches(name, manager.all_tasks, n=3)
    hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    raise UserError(
        f"lm-eval: unknown task {name!r}.{hint} `lm-eval ls tasks` lists all "
        f"{len(manager.all_tasks)}; local files are named with `files`."
    )


def documents(task: Any, limit: int | None) -> list[Any]:
    """The documents that are scored: the first `limit` of the task's split."""
    docs = task.eval_docs
    return list(docs) if limit is None else [docs[i] for i in range(min(limit, len(docs)))]


def source(task: Any, split: str | None) -> str:
    """Where the rows of one of a task's splits come from, for a message."""
    file = getattr(task, "file", None)
    if file is not None:
        return str(file)
    files = (task.config.dataset_kwargs or {}).get("data_files")
    if isinstance(files, dict):
        files = files.get(split)
    if isinstance(files, (list, tuple)) and len(files) == 1:
        files = files[0]
    where = files if isinstance(files, str) else task.config.dataset_path
    return f"{split} split of {where}" if where else f"{split} split"


@contextmanager
def templates_compiled_once() -> Iterator[None]:
    """Within it lm-eval compiles each prompt's template once, not at each use.

    Compiling takes 250 microseconds, filling in 5 (docs/notes/running.md#lm-eval); few-shot
    prompts have dozens.
    """
    utils.env.from_string = functools.lru_cache(maxsize=1024)(utils.env.from_string)
    try:
        yield
    finally:
        del utils.env.from_string


@functools.cache
def _task_manager(include_path: str | None, stock: bool) -> Any:
    # With the stock tasks it reads all of lm-eval's task files: 8 CPU seconds.
    return TaskManager(include_path=include_path, include_defaults=stock)


@contextmanager
def _setting_up(name: str) -> Iterator[None]:
    # A task is data from elsewhere and its author's code: it may raise anything.
    try:
        yield
    except Exception as error:
        loading = _inside(error, ConfigurableTask.download)
        if loading is not None:
            config = loading["self"].config
            place = (config.dataset_kwargs or {}).get("data_files") or config.dataset_path
            raise UserError(
                f"lm-eval: the data of task {name!r} cannot be loaded from {place} "
                f"({brief(error.__cause__ or error)}). Give a local file instead: "
                f"files: {{{name}: path.jsonl.gz}}."
            ) from None
        task = (_inside(error, ConfigurableTask.__init__) or {}).get("self")
        missing = error.args[0] if isinstance(error, KeyError) and error.args else None
        if missing is not None and (wrong := wrong_split(task, missing)):
            raise UserError(wrong) from None
        if not hasattr(task, "task_docs"):
            raise UserError(f"lm-eval: task {name!r} cannot be set up ({brief(error)}).") from None
        raise UserError(_first_row(task, error)) from None


def _inside(error: Exception, function: Any) -> dict[str, Any] | None:
    """What `function` held when the error passed through it; None where it did not."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return next((f.f_locals for f in frames if f.f_code is function.__code__), None)


def _first_row(task: Any, error: Exception) -> str:
    # lm-eval tries a task on its first row while it sets the task up.
    name = task.config.task
    place = source(task, task.config.test_split or task.config.validation_split)
    if not len(task.task_docs):
        return f"lm-eval: task {name} has no rows ({place})."
    why = f"lm-eval cannot read it ({brief(error)})"
    try:
        right_places(task, task.task_docs[0])
    except BadRow as bad:
        why = str(bad)
    except Exception as other:
        why = f"lm-eval cannot read it ({brief(other)})"
    return f"lm-eval: task {name}, row 1: {why} ({place})."


def _check_kind(task: Any) -> None:
    if task.OUTPUT_TYPE == "generate_until":
        raise UserError(
            f"lm-eval: task {task.config.task!r} asks the proxy to write text, which is not "
            "offered; choose a multiple-choice or log-likelihood task."
        )
    if getattr(task, "MULTIMODAL", False):
        raise UserError(
            f"lm-eval: task {task.config.task!r} shows images or sounds, which a proxy cannot "
            "read; choose a task of text."
        )


def _choose_split(task: Any, split: str) -> None:
    has = task.has_test_docs() if split == "test" else task.has_validation_docs()
    named = task.config.test_split if split == "test" else task.config.validation_split
    if has and (wrong := wrong_split(task, named)):
        raise UserError(wrong)
    if not has:
        other = "validation" if split == "test" else "test"
        raise UserError(
            f"lm-eval: task {task.config.task!r} has no {split} split; only its {other} split can "
            f"be scored (split: {other})."
        )
    if split == "validation" and task.has_test_docs():
        task.set_config("test_split", None)  # lm-eval scores the test split where there is one
