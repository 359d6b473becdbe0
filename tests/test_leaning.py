"""A search that knows the influence of its domains: where it starts, and how its model tilts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest

from climb_opt import MixtureSpace, PhasedSpace, SimplexGPSampler, UserError
from climb_opt.baselines import fixed_mixture
from climb_opt.gains.program import solve
from climb_opt.gains.table import Gains
from climb_opt.gp.fit import process_of
from climb_opt.gp.tilted import Tilted, tilt
from climb_opt.samplers.design import start_mixture
from climb_opt.samplers.leaning import Leaning

SPACE = MixtureSpace({f"d{i}": 10.0 / (i + 1) for i in range(6)})
GAINS = {domain: float(i) for i, domain in enumerate(SPACE.domains)}
MEASURED = Gains({"a/bpb": GAINS}, {"a/bpb": 1.0})


def loss(trial: optuna.Trial) -> float:
    mixture = SPACE.suggest(trial)
    return 3.0 - sum(GAINS[d] * w for d, w in mixture.items()) + 8.0 * mixture["d5"] ** 2


def test_the_tilt_follows_the_results_and_never_turns_around() -> None:
    rng = np.random.default_rng(0)
    gains, roots = rng.normal(size=6), np.sqrt(rng.dirichlet(np.ones(6), size=30))
    assert tilt(gains, roots, 5 - 2 * roots**2 @ gains) == pytest.approx(-2 * gains)
    assert not tilt(gains, roots, 5 + 2 * roots**2 @ gains).any(), "contradicted"
    assert not tilt(np.ones(6), roots, roots[:, 0]).any(), "gains that are all alike"
    assert not tilt(gains, roots[:3], -(roots[:3] ** 2) @ gains).any(), "too few results"


def test_a_tilted_process_is_its_process_plus_a_line() -> None:
    rng = np.random.default_rng(1)
    roots, line = np.sqrt(rng.dirichlet(np.ones(4), size=24)), np.array([1.0, 0.0, -2.0, 0.5])
    values = roots**2 @ line + 0.05 * np.sin(9 * roots[:, 0])
    inner = process_of(roots, values - roots**2 @ line)
    tilted, new = Tilted(inner, line, float(values.std())), np.sqrt(rng.dirichlet(np.ones(4), 3))
    assert tilted.mean(roots) == pytest.approx(values, abs=0.02)
    assert tilted.moments(new)[0] == pytest.approx(inner.moments(new)[0] + new**2 @ line)
    assert np.array_equal(tilted.joint(new)[1], inner.joint(new)[1])
    mean, std, by_mean, by_std = tilted.slope(new[0])
    assert (mean, std) == pytest.approx([v[0] for v in tilted.moments(new[:1])])
    for k, step in enumerate(1e-5 * np.eye(4)):
        up, down = tilted.moments(new[:1] + step), tilted.moments(new[:1] - step)
        assert up[0] - down[0] == pytest.approx(2e-5 * by_mean[k], rel=1e-3, abs=1e-9)
        assert up[1] - down[1] == pytest.approx(2e-5 * by_std[k], rel=1e-2, abs=1e-8)
    later = tilted.imagine(new)
    assert later.mean(new) == pytest.approx(tilted.mean(new), abs=1e-9)
    assert np.all(later.moments(new)[1] < tilted.moments(new)[1])


def test_a_search_begins_with_the_prior_and_the_mixture_of_the_influence() -> None:
    leaning = Leaning(SPACE, MEASURED)
    assert np.array_equal(leaning.start(0, 0, 0), start_mixture(SPACE, 0, 0))
    gains, _ = MEASURED.tasks(SPACE.domains)
    assert np.array_equal(leaning.start(0, 1, 0), solve(SPACE, gains).weights)
    plain = np.array([start_mixture(SPACE, 0, i) for i in range(2, 40)])
    leant = np.array([leaning.start(0, i, 0) for i in range(2, 40)])
    assert SPACE.contains(leant).all() and len(np.unique(leant, axis=0)) == 38
    assert (leant @ leaning.gains).mean() > (plain @ leaning.gains).mean() + 0.3
    assert np.array_equal(leant[1::3], plain[1::3]), "some are as they are drawn"


def test_a_search_with_influence_is_exact_and_repeats_itself(tmp_path: Path) -> None:
    MEASURED.write(tmp_path / "influence.json")

    def searched(influence: object) -> list[float]:
        sampler = SimplexGPSampler(SPACE, influence=influence, seed=0)  # type: ignore[arg-type]
        study = optuna.create_study(sampler=sampler)
        study.optimize(loss, n_trials=14)
        return [t.value for t in study.trials if t.value is not None]

    found = searched(MEASURED)
    assert searched(str(tmp_path / "influence.json")) == searched(GAINS) == found
    assert min(found[8:]) < min(found[:8]), "the model is used from the ninth on"
    wrong = searched({domain: -gain for domain, gain in GAINS.items()})
    assert min(wrong) < 1.0, "a search that was told the opposite finds it all the same"


def test_influence_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data of domain 'd5'"):
        SimplexGPSampler(SPACE, influence={d: g for d, g in GAINS.items() if d != "d5"})
    for wrong in (3, {**GAINS, "d0": "much"}):
        with pytest.raises(UserError, match=r"influence.* expected"):
            SimplexGPSampler(SPACE, influence=wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"gone\.json"):
        SimplexGPSampler(SPACE, influence=str(tmp_path / "gone.json"))
    with pytest.raises(UserError, match="leave it out with components"):
        SimplexGPSampler(SPACE, influence=GAINS, components=True)
    with pytest.raises(UserError, match="leave it out with phases"):
        SimplexGPSampler(PhasedSpace({"a": 1, "b": 1}, (0.5, 0.5)), influence={"a": 1.0, "b": 0.0})
    study = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=SimplexGPSampler(SPACE, influence=GAINS, n_startup=4, seed=0),
    )
    with pytest.raises(UserError, match="several objectives"):
        study.optimize(lambda trial: (loss(trial), -loss(trial)), n_trials=6)


def test_influence_is_a_fixed_mixture_too(tmp_path: Path) -> None:
    MEASURED.write(tmp_path / "influence.json")
    found = fixed_mixture(SPACE, "influence", file=str(tmp_path / "influence.json"))
    assert found == pytest.approx(solve(SPACE, MEASURED.tasks(SPACE.domains)[0]).weights)
    even = fixed_mixture(SPACE, "influence", file=str(tmp_path / "influence.json"), gain=0.0)
    assert even.max() < found.max()
    with pytest.raises(UserError, match=r"influence\.spread must be at least 0"):
        fixed_mixture(SPACE, "influence", file=str(tmp_path / "influence.json"), spread=-1.0)
    with pytest.raises(UserError, match="missing key 'file'"):
        fixed_mixture(SPACE, "influence")
