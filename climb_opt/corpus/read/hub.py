"""Hugging Face datasets: from the hub, streamed shard by shard, or a folder of `save_to_disk`.

The one file that imports `datasets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from climb_opt.corpus.read.files import folder_and_part
from climb_opt.corpus.read.source import LeftOut, Progress, Reader, ReadOptions, Row, Source
from climb_opt.corpus.read.values import rows_of
from climb_opt.errors import UserError, first_line, listed
from climb_opt.extras import need
from climb_opt.unpacking import FAULTS, Damaged

BATCH = 256  # rows at once


def sources(spec: str, left: LeftOut | None = None) -> Iterator[Source]:
    """The shards of `name@config#split` (hub) or of a folder, each read by one process.

    Raises:
        UserError: the dataset cannot be reached, or there is no such config or split.
    """
    rest, split = folder_and_part(spec)
    name, _, config = (rest, "", "") if Path(rest).is_dir() else rest.partition("@")
    extra = {"dataset": name, "config": config or None, "split": split or None}
    found, saved = _open(extra), Path(name).is_dir()
    shards = 1 if saved else max(1, found.num_shards)
    version = str(getattr(found, "_fingerprint", "")) if saved else ""
    for i in range(shards):
        place = {**extra, "shards": shards, "shard": i}
        yield Source("hub", name, f"{name}[{i}]", 0, {}, place, version)


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The rows of a shard, streamed from the hub or read from disk."""
    for row, record in enumerate(records(source)):
        progress(row)
        yield row, record


def records(source: Source) -> Iterator[dict[str, Any]]:
    """The rows of a shard, as mappings."""
    datasets = need("datasets", "Reading Hugging Face datasets", "datasets")
    dataset = _open(dict(source.extra))
    if source.extra["shards"] > 1:
        dataset = dataset.shard(num_shards=source.extra["shards"], index=source.extra["shard"])
    try:
        if dataset.features is None:  # streamed, and its files may differ in their types
            yield from dataset
            return
        # As Arrow has them: no image or sound is decoded, no value is too odd for Python.
        for table in dataset.with_format("arrow").iter(batch_size=BATCH):
            yield from rows_of(table)
    except (*FAULTS, ValueError, datasets.exceptions.DatasetsError) as error:
        # The connection, a damaged file, rows that do not fit together.
        raise Damaged(f"{source.name}: {first_line(error)}") from None


def _open(extra: dict[str, Any]) -> Any:
    datasets = need("datasets", "Reading Hugging Face datasets", "datasets")
    name, config, split = extra["dataset"], extra["config"], extra["split"]
    try:
        if Path(name).is_dir():
            found = datasets.load_from_disk(name)
        else:
            found = datasets.load_dataset(name, config, split=split, streaming=True)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise UserError(f"Dataset {name!r} cannot be opened: {reason}") from None
    if isinstance(found, dict):
        if split not in found:
            raise UserError(
                f"Dataset {name!r} has the splits {listed(found)}; name one: "
                f"hf:{name}#{next(iter(found))}."
            )
        found = found[split]
    return found


HUB = Reader("a Hugging Face dataset, or a saved one's folder", read, prefix="hf", sources=sources)
