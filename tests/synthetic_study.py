"""Studies made of formulas, as a search leaves them: for tests of what reads studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from climb_opt.attributes import AGGREGATE, COMPONENTS, SLOT
from climb_opt.recipes import read_study, to_json
from climb_opt.simplex import MixtureSpace

ODD_NAMES = (
    "quotes \"double\" and 'single'",
    "web/news/2024",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "emoji 🧪👩‍🔬",
    "pipe | star * `code` [link](http://x)",
    "new\nline\ttab \x1b[31mred\x00",
    "عربي ‮override",
    "中文领域",
    "a" * 120,
)


@dataclass(frozen=True)
class Law:
    """A smooth made-up score: bits per byte that fall with some domains and rise with others."""

    pull: np.ndarray
    floor: float = 1.2

    def __call__(self, weights: np.ndarray) -> float:
        return float(self.floor + 0.8 * np.exp(-3.0 * np.sqrt(weights) @ self.pull))


@dataclass(frozen=True)
class Shape:
    """What the study looks like."""

    domains: Sequence[str] | int = 21
    rounds: tuple[int, ...] = (64, 32, 16)
    noise: float = 0.004
    failures: int = 3
    direction: str = "minimize"
    components: int = 1
    name: str = "synthetic"
    baselines: tuple[str, ...] = ("prior", "uniform")
    done: int | None = None  # slots finished; None: all
    facts: bool = True
    seed: int = 0
    overrides: tuple[str, ...] = field(default=())


def make_space(shape: Shape) -> MixtureSpace:
    names = shape.domains
    if isinstance(names, int):
        names = [f"domain-{k:03d}" for k in range(names)]
    rng = np.random.default_rng(shape.seed)
    tokens = np.round(1e6 * np.exp(rng.normal(0, 1.0, len(names))))
    return MixtureSpace(dict(zip(names, tokens.tolist(), strict=True)))


def make_law(shape: Shape, space: MixtureSpace) -> Law:
    rng = np.random.default_rng(shape.seed + 1)
    return Law(rng.normal(0.2, 0.6, len(space)))


def build_study(
    shape: Shape, storage: optuna.storages.BaseStorage | str | None = None
) -> optuna.Study:
    """A finished (or, with `done`, half-finished) search: better mixtures in later rounds."""
    space = make_space(shape)
    law = make_law(shape, space)
    rng = np.random.default_rng(shape.seed + 2)
    study = optuna.create_study(study_name=shape.name, direction=shape.direction, storage=storage)
    _describe(study, shape, space)
    writer = _Writer(study, shape, space, law, rng)
    for name in shape.baselines:
        weights = space.prior if name == "prior" else np.full(len(space), 1 / len(space))
        writer.add(f"baseline/{name}", weights)
    best = space.prior
    slot, limit = 0, sum(shape.rounds) if shape.done is None else shape.done
    for index, size in enumerate(shape.rounds):
        draws = space.sample_mixed(rng, max(size * (1 + 20 * index), 2))
        if index:
            near = rng.dirichlet(40 * best + 0.05, size=len(draws))
            draws = np.concatenate([draws, space.project(near)])
        scores = np.array([law(w) for w in draws]) + rng.normal(0, 0.02, len(draws))
        order = np.argsort(scores)[:size] if index else np.arange(size)
        for weights in draws[order]:
            if slot >= limit:
                return study
            writer.add(slot, weights)
            slot += 1
        best = min(draws[order], key=law)
    return study


class _Writer:
    def __init__(
        self,
        study: optuna.Study,
        shape: Shape,
        space: MixtureSpace,
        law: Law,
        rng: np.random.Generator,
    ) -> None:
        self.study, self.shape, self.space, self.law, self.rng = study, shape, space, law, rng
        self.left = shape.failures
        self.clock = datetime(2026, 11, 20, 8, 0, 0)

    def add(self, slot: int | str, weights: np.ndarray) -> None:
        if self.left and slot in (3, 9, 20):
            self.left -= 1
            self._trial(slot, weights, None)
        value = self.law(weights) + self.rng.normal(0, self.shape.noise)
        self._trial(slot, weights, value)

    def _trial(self, slot: int | str, weights: np.ndarray, value: float | None) -> None:
        attrs: dict[str, Any] = {SLOT: slot}
        if value is None:
            attrs["climb/error"] = "loss is nan at step 37 <b>on rank 0</b>"
        else:
            value = value if self.shape.direction == "minimize" else -value
            attrs[COMPONENTS] = self._components(value)
            if self.shape.facts:
                attrs["climb/facts"] = {
                    "seconds": 41.5,
                    "tokens": 262_144,
                    "device": "cpu",
                    "devices": 1,
                    "climb_opt": "0.1.0",
                    "torch": "2.13.0",
                }
        trial = create_trial(
            state=TrialState.FAIL if value is None else TrialState.COMPLETE,
            value=value,
            params=self.space.params(weights),
            distributions=self.space.distributions(),
            user_attrs=attrs,
        )
        trial.datetime_start = self.clock
        self.clock += timedelta(seconds=45)
        trial.datetime_complete = self.clock
        self.study.add_trial(trial)

    def _components(self, value: float) -> dict[str, float]:
        tilt = [0.05 * np.sin(1.0 + k) for k in range(self.shape.components)]
        names = component_names(self.shape)
        return {n: value + t - float(np.mean(tilt)) for n, t in zip(names, tilt, strict=True)}


def component_names(shape: Shape) -> list[str]:
    metric = "bpb" if shape.direction == "minimize" else "quality"  # bits per byte are better low
    return [f"task{k}/{metric}" for k in range(shape.components)]


def _describe(study: optuna.Study, shape: Shape, space: MixtureSpace) -> None:
    names = component_names(shape)
    recipe = read_study(
        "demo",
        [
            f"rounds={list(shape.rounds)}",
            f"score={json.dumps(names)}",
            f"direction={shape.direction}",
            f"baselines={json.dumps(list(shape.baselines))}",
            *shape.overrides,
        ],
    )
    study.set_user_attr("climb/recipe", to_json(recipe))
    study.set_user_attr(AGGREGATE, recipe.coefficients())
    tokens = {d: round(1e8 * p) for d, p in zip(space.domains, space.prior.tolist(), strict=True)}
    study.set_user_attr("climb/corpus", {"name": "synthetic", "digest": "0", "tokens": tokens})
