"""An entry of somebody's own that goes wrong is one line that names it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler

pytest.importorskip("torch")

from climb_opt import MixtureSpace, UserError, cli
from climb_opt.baselines import fixed_mixture
from climb_opt.exports import prepare, render
from climb_opt.proxy.reweight.base import Weights, made
from climb_opt.recipes import Choice
from climb_opt.samplers.design import initial_design
from climb_opt.samplers.own import own_sampler
from climb_opt.selection.rules import Evidence
from climb_opt.shards import Corpus
from climb_opt.study.working import build_pruner
from test_reweight import Turning, train

SPACE = MixtureSpace({"web": 6, "code": 3, "math": 1})


def broken(*anything: Any, **more: Any) -> Any:
    raise KeyError("mine")


def leaves(*anything: Any, **more: Any) -> Any:
    raise SystemExit(3)


def words(*anything: Any) -> list[str]:
    return ["web"]


def empty(space: MixtureSpace) -> np.ndarray:
    return np.zeros(len(space))


def owing(space: MixtureSpace) -> np.ndarray:
    return np.array([1.0, 0.5, -0.5])


class Steers(Turning):
    """Does at step 4 what it is told to, or names no steps."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def when(self, steps: int) -> Any:
        return 4 if self.how == "a step" else super().when(steps)

    def weigh(self, training: Any) -> Any:
        if self.how == "changes the trial":
            training.mixture[:] = 1.0
        if self.how == "exits":
            raise SystemExit(3)
        every = dict(zip(training.domains, training.mixture, strict=True))
        given = {"nothing": None, "an array": training.mixture}
        return given.get(self.how, Weights(reading=every))  # type: ignore[arg-type]


class Beside(RandomSampler):
    """Raises before a trial, or after one."""

    def __init__(self, space: MixtureSpace, *, seed: int, when: str) -> None:
        super().__init__(seed)
        setattr(self, when, broken)


def drawn(name: str) -> object:
    return initial_design(SPACE, name, np.random.default_rng(0), 4)


def taken(name: str) -> object:
    nothing: Any = None
    return Evidence(*[nothing] * 5).taken_by(name)


def written(name: str) -> str:
    return render(name, prepare({"web": 1.0}, study="s"))


@pytest.mark.parametrize(
    ("kind", "run"),
    [
        ("rule", taken),
        ("format", written),
        ("baseline", lambda name: fixed_mixture(SPACE, name)),
        ("design", drawn),
        ("pruner", lambda name: build_pruner(Choice(name))),
        ("proxy.reweight:", lambda name: made(Choice(name))),
    ],
)
@pytest.mark.parametrize(
    ("entry", "raised"), [("broken", r"KeyError\('mine'\)"), ("leaves", r"SystemExit\(3\)")]
)
def test_an_entry_that_raises_is_told_by_its_name(
    kind: str, run: Callable[[str], object], entry: str, raised: str
) -> None:
    with pytest.raises(UserError, match=rf"^{kind} 'test_own_entries:{entry}' raised {raised}\.$"):
        run(f"test_own_entries:{entry}")


@pytest.mark.parametrize(("entry", "said"), [("empty", "all are 0"), ("owing", "one is -0.5")])
def test_a_mixture_of_nothing_or_less_is_refused(entry: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"'test_own_entries:{entry}' must .*, but {said}"):
        fixed_mixture(SPACE, f"test_own_entries:{entry}")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (written, r"format 'test_own_entries:words' must return text, but returned \['web'\]"),
        (
            lambda name: build_pruner(Choice(name)),
            "pruner 'test_own_entries:words' must be an optuna.pruners.BasePruner, but is",
        ),
        (
            lambda name: made(Choice(name)),
            "proxy.reweight: 'test_own_entries:words' has no method when; see docs/phases.md",
        ),
    ],
)
def test_an_entry_that_is_something_else_is_refused(
    run: Callable[[str], object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run("test_own_entries:words")


@pytest.mark.parametrize("when", ["before_trial", "after_trial"])
def test_a_sampler_that_raises_beside_a_trial_is_told_by_its_name(when: str) -> None:
    name = "test_own_entries:Beside"
    sampler = own_sampler(name, SPACE, lambda: Beside(SPACE, seed=0, when=when))
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(UserError, match=rf"sampler '{name}' raised KeyError\('mine'\)"):
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)


def test_an_exit_that_nothing_names_is_one_line_with_its_place() -> None:
    with pytest.raises(UserError, match=r"test_own_entries.py, line \d+, called sys.exit\(3\)"):
        cli._run(Namespace(run=leaves))
    ours = {"__name__": "ours"}
    exec(compile("def end(args): raise SystemExit(1)", cli.__file__, "exec"), ours)
    with pytest.raises(SystemExit):  # a rank that ends its group
        cli._run(Namespace(run=ours["end"]))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("a step", "before step 0: it names no steps, such as .*, but 4"),
        ("nothing", r"before step 4: it gives None, not Weights\(reading=..., losses=...\)"),
        ("an array", r"before step 4: it gives array\(.*, not Weights\("),
        ("a mapping", "before step 4: it gives {'web': .*, not a number for each domain"),
        ("exits", r"before step 4, raised SystemExit\(3\) in weigh"),
        ("changes the trial", "before step 4, raised ValueError.*read-only.* in weigh"),
    ],
)
def test_a_reweighter_that_goes_wrong_fails_its_trial_by_its_name(
    tiny_corpus: Corpus, tmp_path: Path, how: str, message: str
) -> None:
    with pytest.raises(RuntimeError, match=f"reweight 'test_own_entries:Steers', {message}"):
        train(tiny_corpus, tmp_path, "test_own_entries:Steers", {"how": how})
