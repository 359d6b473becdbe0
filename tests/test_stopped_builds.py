"""A build that is told to stop, or whose unit fails, does not wait for what else runs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest
from tqdm import tqdm

from climb_opt.corpus.run.jobs import How, Job
from climb_opt.corpus.run.local import Local
from climb_opt.corpus.stages.bpe import train_tokenizer
from climb_opt.corpus.stages.tokenise import encode, facts_of
from climb_opt.errors import Interrupted, UserError


@dataclass(frozen=True)
class Unit:
    name: str
    documents: int = 0
    bytes: int = 100_000_000  # worth processes


def jobs() -> list[Job[Unit]]:
    return [Job(Unit(name), tqdm(disable=True), 1) for name in ("bad", "endless")]


def test_a_thread_s_task_ends_where_it_next_says_how_it_advances() -> None:
    running, ended = threading.Event(), threading.Event()

    def task(unit: Unit, advance: Any) -> None:
        if unit.name == "bad":
            assert running.wait(30)
            raise UserError("a bad unit")
        running.set()
        try:
            while True:
                advance(0)
        except Interrupted:
            ended.set()
            raise

    with pytest.raises(UserError, match="a bad unit"):
        Local(2).run(task, jobs(), How(threads=2))
    assert ended.is_set()


def bad_or_endless(unit: Unit, advance: Any) -> None:
    """A task for another process."""
    if unit.name == "bad":
        raise UserError("a bad unit")
    time.sleep(600)


def test_another_process_s_task_is_killed() -> None:
    with pytest.raises(UserError, match="a bad unit"):
        Local(2).run(bad_or_endless, jobs(), How(processes=True))


def test_a_long_document_is_left_between_two_calls_of_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from climb_opt.corpus.stages import tokenise

    monkeypatch.setattr(tokenise, "PIECE", 100)
    monkeypatch.setattr(tokenise, "BATCH", 200)
    tokenizer = train_tokenizer(["some words"], 300)
    calls: list[int] = []

    def advance(amount: int) -> None:
        calls.append(amount)
        if len(calls) == 3:
            raise Interrupted("stop")

    with pytest.raises(Interrupted):
        encode(tokenizer, ["x" * 10_000], facts_of(tokenizer), advance)
    assert calls == [200, 200, 200]
