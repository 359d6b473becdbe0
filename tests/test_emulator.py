"""Tables, emulators and simulated laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt import UserError
from climb_opt.attributes import COMPONENTS
from climb_opt.emulator import Emulator, MixingLaw, NoisyObjective, Table, models, read_table
from climb_opt.emulator.objective import reference_draws, spread
from climb_opt.samplers.gp import SimplexGPSampler
from climb_opt.simplex import MixtureSpace

MIXTURES = "run,name,web,code,math\na,x,0.5,0.3,0.2\nb,y,0.2,0.2,0.601\nc,z,1.0,0.0,0.0\n"
RESULTS = "run,loss,piqa\nb,2.0,0.6\na,1.0,0.5\nc,3.0,0.7\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "mixtures.csv").write_text(MIXTURES)
    (tmp_path / "results.csv").write_text(RESULTS)
    return tmp_path / "mixtures.csv", tmp_path / "results.csv"


def made_up(n: int = 60, k: int = 4, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(k), n)
    losses = np.stack([2 + np.exp(-3 * weights[:, j]) for j in range(2)], axis=1)
    return Table(tuple(f"d{i}" for i in range(k)), weights, ("one", "two"), losses)


# --- tables --------------------------------------------------------------------------------------


def test_rows_are_joined_by_key_and_renormalised(files: tuple[Path, Path]) -> None:
    table = read_table(*files, key="run")
    assert table.domains == ("web", "code", "math") and table.names == ("loss", "piqa")
    np.testing.assert_allclose(table.weights.sum(1), 1.0, atol=1e-15)
    np.testing.assert_allclose(table.weights[1], np.array([0.2, 0.2, 0.601]) / 1.001)
    assert table.result("loss").tolist() == [1.0, 2.0, 3.0]
    assert sum(table.mean_weights().values()) == pytest.approx(1.0)
    assert len(table.append(table)) == 6


@pytest.mark.parametrize(
    ("what", "old", "new", "message"),
    [
        ("mixtures", "a,x,0.5", "a,x,0.9", "run=a sum to 1.4"),
        ("mixtures", "a,x,0.5,0.3", "a,x,0.9,-0.1", "smallest -0.1"),
        ("mixtures", "0.3,0.2", ",0.2", "'' is not a finite number"),
        ("mixtures", "0.3,0.2", "nan,0.2", "line 2, column 'code'"),
        ("mixtures", "b,y", "a,y", "run='a' is there twice"),
        ("mixtures", "c,z,1.0,0.0,0.0", "c,z,1.0,0.0", "line 4: 4 cells under 5"),
        ("mixtures", "c,z", "d,z", "2 runs are in only one"),
        ("mixtures", "run,name,web,code", "run,name,web,web", "column 'web' twice"),
        ("results", "run,", "trial,", "no column 'run'"),
        ("results", "b,2.0,0.6\na,1.0,0.5\nc,3.0,0.7", "b,2,1\na,1,1\nc,3,1", "column 'piqa' is 1"),
    ],
)
def test_a_bad_table_is_refused_with_the_place(
    files: tuple[Path, Path], what: str, old: str, new: str, message: str
) -> None:
    path = files[0] if what == "mixtures" else files[1]
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        read_table(*files, key="run")


def test_one_column_to_ignore_needs_no_list_and_hides_no_part_of_its_name(
    files: tuple[Path, Path],
) -> None:
    files[1].write_text(files[1].read_text().replace("piqa", "am"))
    assert "am" in read_table(*files, key="run", ignore="name").names


def test_a_domain_that_never_changes_is_refused(files: tuple[Path, Path]) -> None:
    text = MIXTURES.replace("math\n", "math,law\n")
    for row in ("0.3,0.2", "0.2,0.601", "0.0,0.0"):
        text = text.replace(row + "\n", row + ",0.0\n")
    files[0].write_text(text)
    with pytest.raises(UserError, match=r"column 'law' is 0 in every row.*ignore"):
        read_table(*files, key="run")


@pytest.mark.parametrize(
    ("mixtures", "results", "message"),
    [
        ("a,.5,.5,0\n", "a,1,2\n", r"share one run, run='a': .*Give at least two runs\.$"),
        ("a,.5,.5,0\nb,.2,.8,0\n", "a,1,2\nb,3,4\n", r"'math' is 0 .*train\.ignore=\[NAME.*\.$"),
        ("a,.2,.5,.3\nb,.5,.2,.3\n", "a,1,2\nb,3,4\n", r"'math' is 0\.3 .*that differ in it"),
        ("a,0,.5,.5\nb,0,.5,.5\n", "a,1,2\nb,3,4\n", "'web' is 0 .*that differ in it"),
        ("a,.5,.5,0\nb,.2,.7,.1\n", "a,1,2\nb,3,2\n", r"'piqa' is 2 .*Name it in ignore"),
        ("a,.5,.5,0\nb,.2,.7,.1\n", "a,1,2\nb,1,2\n", "'loss' is 1 .*that differ in it"),
        ("a,.5,.5,0\nb,.2,.7,.1\n", "a,1,2\nc,3,4\n", r"drop \(for .*--set train\.unmatched=drop"),
    ],
)  # fmt: skip
def test_what_never_changes_is_refused_with_a_remedy_that_helps(
    files: tuple[Path, Path], mixtures: str, results: str, message: str
) -> None:
    files[0].write_text("run,web,code,math\n" + mixtures)
    files[1].write_text("run,loss,piqa\n" + results)
    with pytest.raises(UserError, match=message):
        read_table(*files, key="run")


def test_unmatched_runs_can_be_dropped(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    files[0].write_text(MIXTURES + "d,w,0.1,0.1,0.8\n")
    assert len(read_table(*files, key="run", unmatched="drop")) == 3
    assert "1 runs are in only one of" in caplog.text
    files[1].write_text("run,loss\nq,1.0\n")
    with pytest.raises(UserError, match="no run in common"):
        read_table(*files, key="run", unmatched="drop")


def test_two_domains_are_enough_and_one_is_not(files: tuple[Path, Path]) -> None:
    files[0].write_text("run,web,code\na,0.5,0.5\nb,0.2,0.8\nc,1.0,0.0\n")
    assert read_table(*files, key="run").domains == ("web", "code")
    files[0].write_text("run,web\na,1.0\nb,1.0\nc,1.0\n")
    with pytest.raises(UserError, match="nothing to mix"):
        read_table(*files, key="run")


def test_files_and_options_that_do_not_exist_are_named(files: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv cannot be read"):
        read_table("nowhere.csv", files[1], key="run")
    with pytest.raises(UserError, match="unmatched must be"):
        read_table(*files, key="run", unmatched="maybe")
    table = read_table(*files, key="run")
    with pytest.raises(UserError, match="No result 'mmlu'"):
        table.result("mmlu")
    with pytest.raises(UserError, match="different results"):
        table.append(Table(table.domains, table.weights, ("loss", "x"), table.results))


# --- emulators -----------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real models, fewer of them, and a short search for the optimum."""
    monkeypatch.setattr(models, "NETWORKS", 1)
    monkeypatch.setattr(models, "FOREST", 1)
    monkeypatch.setattr("climb_opt.emulator.lowest.POPULATION", 30)
    monkeypatch.setattr("climb_opt.emulator.lowest.GENERATIONS", 25)


@pytest.mark.usefixtures("quick")
def test_an_emulator_learns_its_table_and_says_how_well(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    table = made_up()
    emulator = Emulator.fit(table, ["one", "two"], cache=tmp_path)
    truth = table.results.mean(1)
    order = [table.domains.index(d) for d in emulator.space.domains]
    fitted = emulator.score(table.weights[:, order])
    assert np.corrcoef(fitted, truth)[0, 1] > 0.99
    assert emulator.cross_validated.rho > 0.9 and "R2" in emulator.quality()
    weights, value = emulator.optimum()
    assert value <= fitted.min() + 1e-9 and bool(emulator.space.contains(weights))
    again = Emulator.fit(table, ["one", "two"], cache=tmp_path)
    assert again.optimum()[1] == value and len(list(tmp_path.iterdir())) == 1
    Emulator.fit(table, {"one": -1.0}, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("quick")
def test_an_emulator_that_other_code_has_kept_is_fitted_anew(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    table = made_up(40)
    with pytest.MonkeyPatch.context() as before:
        before.setattr("climb_opt.emulator.oracle._made_by", lambda: "an earlier release")
        Emulator.fit(table, ["one"], cache=tmp_path)
    (earlier,) = tmp_path.iterdir()
    earlier.write_bytes(b"what this code cannot read")
    Emulator.fit(table, ["one"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("quick")
def test_an_emulator_of_components_adds_them_up_and_flags_what_it_never_saw() -> None:
    pytest.importorskip("sklearn")
    table = made_up(40)
    order = np.argsort(-table.weights.mean(0), kind="stable")
    emulator = Emulator.fit(table, {"one": 0.25, "two": 0.75}, components=True)
    rows = table.weights[:5, order]
    np.testing.assert_allclose(
        emulator.score(rows), emulator.components(rows) @ np.array([0.25, 0.75])
    )
    assert not emulator.extrapolates(rows).any()
    assert emulator.extrapolates(np.eye(4)).any()


def test_an_emulator_refuses_what_it_cannot_use() -> None:
    with pytest.raises(UserError, match="No result 'three'"):
        Emulator.fit(made_up(), ["three"])
    with pytest.raises(UserError, match="at least one result"):
        Emulator.fit(made_up(), [])
    with pytest.raises(UserError, match="too small"):
        Emulator.fit(made_up(6), ["one"])
    with pytest.raises(UserError, match="same domains, unlike 'd3'"):
        Emulator.fit(made_up(), ["one"], prior={"d0": 1, "d1": 1, "d2": 1})


@pytest.mark.slow
def test_emulators_of_the_published_tables_are_as_good_as_the_shelf_says(tables: Path) -> None:
    pytest.importorskip("sklearn")
    folder = tables / "olmix_dclm"
    dclm = read_table(folder / "dclm_ratios.csv", folder / "dclm_metrics.csv", key="run")
    assert dclm.weights.shape == (127, 24) and dclm.results.shape == (127, 110)
    quality = Emulator.fit(dclm, dclm.names).cross_validated
    assert quality.rho > 0.93 and quality.r2 > 0.90


def test_the_published_tables_read_clean(tables: Path) -> None:
    folder = tables / "regmix"
    whole = read_table(
        folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv", key="index"
    ).append(
        read_table(folder / "test_mixture_1m.csv", folder / "test_pile_loss_1m.csv", key="index")
    )
    assert whole.weights.shape == (768, 17) and whole.results.shape == (768, 13)


# --- simulated laws ------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 1000))
def test_no_mixture_beats_a_laws_optimum(domains: int, tasks: int, seed: int) -> None:
    law = MixingLaw(domains, tasks, seed=seed)
    weights, value = law.optimum()
    assert bool(law.space.contains(weights))
    draws = law.space.sample_mixed(np.random.default_rng(seed), 500)
    assert law.score(draws).min() >= value - 1e-9
    nearby = law.space.project(np.maximum(weights + 0.01 * draws, 0))
    assert law.score(nearby).min() >= value - 1e-9


def test_a_laws_optimum_respects_bounds() -> None:
    space = MixtureSpace({f"d{i}": 1.0 for i in range(8)}, lower=0.02, upper=0.3)
    law = MixingLaw(tasks=3, seed=1, space=space)
    weights, value = law.optimum()
    assert bool(space.contains(weights))
    draws = space.sample_mixed(np.random.default_rng(0), 2000)
    assert law.score(draws).min() >= value


def test_a_law_is_a_function_of_its_seed_and_needs_domains() -> None:
    one, same, other = MixingLaw(5, seed=3), MixingLaw(5, seed=3), MixingLaw(5, seed=4)
    draws = reference_draws(one.space, 10)
    assert np.array_equal(one.score(draws), same.score(draws))
    assert not np.array_equal(one.score(draws), other.score(draws))
    np.testing.assert_allclose(one.components(draws) @ one.coefficients, one.score(draws))
    assert not one.extrapolates(draws).any() and "certified" in one.quality()
    with pytest.raises(UserError, match="needs 1 domain and a task, but got 0 and 5"):
        MixingLaw(0)


# --- as an objective -----------------------------------------------------------------------------


def test_noise_is_a_function_of_seed_and_trial_and_of_the_asked_size() -> None:
    law = MixingLaw(4, seed=0)
    sigma = spread(law)

    def values(**options: object) -> np.ndarray:
        sampler = SimplexGPSampler(law.space, seed=1, n_startup=200)
        study = optuna.create_study(sampler=sampler)
        study.optimize(NoisyObjective(law, **options), n_trials=120)  # type: ignore[arg-type]
        return np.array([t.value for t in study.get_trials(deepcopy=False)])

    exact, noisy = values(), values(noise=0.5, seed=2)
    assert np.array_equal(noisy, values(noise=0.5, seed=2))
    assert (noisy - exact).std() == pytest.approx(0.5 * sigma, rel=0.2)
    parts = values(noise=0.5, seed=2, components=True)
    assert (parts - exact).std() == pytest.approx(0.5 * sigma, rel=0.2)


def test_components_are_stored_and_add_up() -> None:
    law = MixingLaw(4, seed=0)
    study = optuna.create_study(sampler=SimplexGPSampler(law.space, seed=1))
    study.optimize(NoisyObjective(law, noise=0.1, components=True), n_trials=3)
    for trial in study.get_trials(deepcopy=False):
        stored = trial.user_attrs[COMPONENTS]
        assert set(stored) == set(law.names)
        assert np.mean(list(stored.values())) == pytest.approx(trial.value)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_a_noise_that_is_none_is_refused(noise: float) -> None:
    with pytest.raises(UserError, match="noise must be at least 0"):
        NoisyObjective(MixingLaw(3), noise=noise)


def test_an_optimum_at_a_vertex_is_not_certified_below_rounding() -> None:
    gaps = [MixingLaw(21, 1, seed=seed).quality().split()[-1] for seed in range(4)]
    assert min(map(float, gaps)) > 0
