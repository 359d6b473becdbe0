"""A trial that others took for dead is trained no further, whatever it is trained for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import climb_opt
from climb_opt.ablation.run.results import Archive
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.attributes import SLOT
from climb_opt.cli import main
from climb_opt.errors import Interrupted
from climb_opt.shards import Corpus
from climb_opt.workers import Pace
from climb_opt.workers.claims import fail
from searching import Formula, the_study
from test_ablation_live import recipe as ablation

STOPPED: list[str] = []


class Lost(Formula):
    """The first trial of a slot that `whose` names is taken for dead while it trains."""

    def __init__(self, stop: Callable[[], bool], whose: str) -> None:
        super().__init__()
        self.stop, self.whose = stop, whose

    def __call__(self, trial: optuna.Trial) -> float:
        slot = str(trial.user_attrs[SLOT])
        if self.whose in slot and not STOPPED:
            fail(trial.study, trial._trial_id, "no sign of its worker")
            until = time.monotonic() + 5
            while not self.stop():
                assert time.monotonic() < until, "nobody told it"
                time.sleep(0.02)
            STOPPED.append(slot)
            raise Interrupted("stopped at step 3 of 9")
        return super().__call__(trial)


@pytest.fixture
def lose(home: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a trial of such slots lost, its workers beating fast."""

    def lose(whose: str) -> None:
        STOPPED.clear()
        make = "climb_opt.study.working.make_objective"
        monkeypatch.setattr(make, lambda *_, stop, **__: Lost(stop, whose))
        monkeypatch.setattr(Pace.__init__, "__defaults__", (0.05, 5.0, 0.05))

    return lose


@pytest.mark.parametrize(
    ("command", "slot"),
    [
        (["search", "mine.yaml"], "0"),
        (
            ["noise", "mine.yaml", "--repeats", "2", "--corner", "0", "--spread", "0"],
            "prior/seed-2",
        ),
        (["confirm", "mine", "--seeds", "1"], "found/seed-1"),
        (["transfer", "mine", "--proxy", "62m", "--mixtures", "4", "--top", "1"], "trial-"),
    ],
)
def test_every_command_stops_it_and_tries_it_again(
    lose: Callable[[str], None], command: list[str], slot: str
) -> None:
    if command[1] == "mine":
        assert main(["search", "mine.yaml"]) == 0
    lose(slot)
    assert main(command) == 0
    (found,) = STOPPED
    assert slot in found


def test_from_python_runs_beside_a_search_stop_it_too(lose: Callable[[str], None]) -> None:
    assert main(["search", "mine.yaml"]) == 0
    lose("found/seed-1")
    assert climb_opt.confirm(the_study(), seeds=1).scores["found"]
    assert STOPPED == ["found/seed-1"]


def test_a_judge_of_an_ablation_stops_it_too(
    lose: Callable[[str], None], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    lose("/seed1000")
    (result,) = run_ablation(
        ablation(tiny_corpus, arms={"uniform": None}, reference=None), Archive(tmp_path)
    )
    assert result.final is not None and len(STOPPED) == 1
