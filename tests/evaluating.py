"""lm-eval tasks in files, for tests: rows of a made-up benchmark, and its YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

WORDS = ["the", "cat", "sat", "on", "a", "mat", "two", "plus", "def", "return"]


def questions(count: int, *, choices: int = 3, shift: int = 0) -> list[dict[str, Any]]:
    """Rows {"ask", "options", "right"}, all different, labels in turn."""
    rows = []
    for i in range(count):
        words = [WORDS[(i + shift + k) % len(WORDS)] for k in range(5)]
        options = [f"{words[k]} {i % 7}" for k in range(choices)]
        rows.append(
            {"ask": f"{' '.join(words)} {i + shift}", "options": options, "right": i % choices}
        )
    return rows


def write_task(
    folder: Path,
    name: str,
    rows: list[dict[str, Any]],
    *,
    train: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> Path:
    """A task of these rows: `<name>.jsonl`, `<name>.train.jsonl` and `<name>.yaml`.

    Args:
        changes: keys of the YAML; None takes one away.
    """
    folder.mkdir(exist_ok=True)
    files = {}
    for split, part in (("validation", rows), ("train", train)):
        if part is not None:
            path = folder / (f"{name}.jsonl" if split == "validation" else f"{name}.train.jsonl")
            path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
            files[split] = str(path)
    metrics = [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True}
        for metric in ("acc", "acc_norm")
    ]
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "doc_to_text": "{{ask}}:",
        "doc_to_choice": "options",
        "doc_to_target": "right",
        "metric_list": metrics,
        "metadata": {"version": 1.0},
        **({"training_split": "train"} if train is not None else {}),
        **changes,
    }
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return folder


def write_group(folder: Path, name: str, tasks: list[str], aggregates: list[Any] | None) -> None:
    config: dict[str, Any] = {"group": name, "task": tasks}
    if aggregates is not None:
        config["aggregate_metric_list"] = aggregates
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
