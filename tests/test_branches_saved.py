"""The FLOPs that a report says reading mixtures off branches saved, against those of real runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

pytest.importorskip("torch")

import studying
from branching import BRANCHES, branched
from climb_opt.attributes import FACTS, SLOT
from climb_opt.ladder.branches.saved import saved_by
from climb_opt.recipes import Choice
from climb_opt.shards import Corpus
from climb_opt.study import open_study, work
from climb_opt.view import StudyView, all_trials
from studying import PACE

journal = studying.journal  # a fixture


def counted(trials: Iterable[optuna.trial.FrozenTrial]) -> float:
    """What the training side has counted."""
    return float(sum(trial.user_attrs[FACTS]["flops"] for trial in trials))


def test_what_was_saved_is_what_training_the_same_mixtures_takes(
    tiny_corpus: Corpus, tmp_path: Path, journal: str
) -> None:
    branches = replace(BRANCHES, read=("mixmin", "ensemble", "merge"))
    # Ranks of four mixtures by models this small are chance: the first round is read off anyway.
    recipe = branched(tiny_corpus, branches, rounds=(5, 2), rungs=(0, 2))
    study = open_study(recipe, storage=journal, study_name="branches")
    work(study, directory=tmp_path / "one", pace=PACE)
    view, trials = StudyView(study), list(all_trials(study))
    assert view.ladder is not None
    said = saved_by(view.plan.before, view.ladder, trials)
    slots = {trial.user_attrs[SLOT]: trial for trial in trials}
    parts = [t for s, t in slots.items() if str(s).startswith("branch/") and s != "branch/trunk"]
    assert said.branches == counted(parts) > 0
    checks = [t for s, t in slots.items() if str(s).startswith("check/")]
    assert len(checks) == 4 + 1 and said.checks == counted(checks)
    held = 0 in slots
    assert said.mixtures == (5 if held else 0)
    # The same number of mixtures, trained from the trunk by a search without branches.
    alone = replace(recipe, branches=replace(branches, read=()), rungs=(), baselines=())
    alone = replace(alone, rounds=(5,), sampler=Choice("random"))
    other = open_study(alone, storage=journal, study_name="alone")
    work(other, directory=tmp_path / "two", pace=PACE)
    trained = [t for t in all_trials(other) if t.user_attrs[SLOT] != "branch/trunk"]
    assert 5 * said.trial == pytest.approx(counted(trained))
    assert said.instead == said.mixtures * said.trial
    assert said.net == said.instead - said.branches - said.checks - said.reading


def test_a_mixture_counts_once_and_one_that_was_trained_not_at_all(
    tiny_corpus: Corpus, journal: str
) -> None:
    study = open_study(branched(tiny_corpus), storage=journal, study_name="s")
    view = StudyView(study)
    assert view.ladder is not None
    rows = [("a", 0), ("a", 1), ("b", 1), ("c", 0), ("c", 2)]
    mixtures = {"a": (0.2, 0.3, 0.5), "b": (0.4, 0.3, 0.3), "c": (0.1, 0.1, 0.8)}
    names = view.space.parameter_names
    trials = [
        optuna.trial.create_trial(
            value=1.0,
            params=dict(zip(names, mixtures[name], strict=True)),
            distributions={n: optuna.distributions.FloatDistribution(0, 1) for n in names},
            user_attrs={SLOT: number, "climb/rung": rung},
        )
        for number, (name, rung) in enumerate(rows)
    ]
    said = saved_by(view.plan.before, view.ladder, trials)
    assert said.mixtures == 2
    assert said.instead == 2 * view.ladder.costs[-1]
    assert said.reading == 2 * view.ladder.costs[0] + 2 * view.ladder.costs[1]
    assert said.branches == said.checks == 0
