"""Stock Optuna samplers on the simplex: the same proposals as on the free space, to the bit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIISampler,
    PartialFixedSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from climb_opt import (
    ClimbSampler,
    MixtureSpace,
    SimplexGPSampler,
    SimplexSampler,
    UserError,
    best_mixture,
    compare_rules,
    lookup,
    read_history,
)
from climb_opt.attributes import FREE
from climb_opt.measures import distance as measured
from climb_opt.samplers.encodings import make_encoding
from climbing import SPACE, TARGET, distance, mixtures
from wrapping import loss, stock_mixtures

BASES: dict[str, Callable[[], BaseSampler]] = {
    "random": lambda: RandomSampler(seed=3),
    "qmc": lambda: QMCSampler(seed=3, scramble=True),
    "tpe": lambda: TPESampler(seed=3, n_startup_trials=6),
    "tpe-univariate": lambda: TPESampler(seed=3, n_startup_trials=6, multivariate=False),
    "cma-es": lambda: CmaEsSampler(seed=3, popsize=5),
    "nsga2": lambda: NSGAIISampler(seed=3, population_size=6),
    "gp": lambda: GPSampler(seed=3, n_startup_trials=4, deterministic_objective=True),
}


# --- transparency ----------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["softmax", "gamma", "stick-breaking"])
@pytest.mark.parametrize("base", [name for name in BASES if name != "gp"])
def test_proposals_are_those_of_the_stock_sampler_to_the_bit(base: str, encoding: str) -> None:
    study = optuna.create_study(sampler=SimplexSampler(SPACE, BASES[base](), encoding=encoding))
    study.optimize(distance, n_trials=24)
    expected = stock_mixtures(BASES[base](), encoding, 24)
    np.testing.assert_array_equal(mixtures(study), expected)


def test_optunas_gaussian_process_proposes_the_same_too() -> None:
    study = optuna.create_study(sampler=SimplexSampler(SPACE, BASES["gp"]()))
    study.optimize(distance, n_trials=8)
    np.testing.assert_array_equal(mixtures(study), stock_mixtures(BASES["gp"](), "softmax", 8))


@pytest.mark.parametrize("base", ["qmc", "cma-es", "nsga2"])
def test_the_base_goes_on_where_it_was_after_a_restart(base: str, tmp_path: Any) -> None:
    """Every process has its own sampler; the base's state lies in the real storage."""

    def restarted(objective: Callable[[optuna.Trial], Any], make: Callable[[], BaseSampler]) -> Any:
        path = str(tmp_path / f"{len(list(tmp_path.iterdir()))}.log")
        for _ in range(4):
            storage = JournalStorage(JournalFileBackend(path))
            study = optuna.create_study(
                storage=storage, study_name="s", sampler=make(), load_if_exists=True
            )
            study.optimize(objective, n_trials=7)
        return study

    wrapped = restarted(distance, lambda: SimplexSampler(SPACE, BASES[base]()))
    coded = make_encoding("softmax", SPACE)
    free = coded.distributions()

    def stock(trial: optuna.Trial) -> float:
        u = [trial.suggest_float(name, d.low, d.high) for name, d in free.items()]
        return loss(SPACE.project(coded.decode(np.array(u))))

    plain = restarted(stock, BASES[base])
    assert [t.value for t in wrapped.trials] == [t.value for t in plain.trials]
    if base == "cma-es":
        key = "cma:generation"
        generations = [t.system_attrs.get(key) for t in wrapped.trials]
        assert generations == [t.system_attrs.get(key) for t in plain.trials]
        assert max(g for g in generations if g is not None) >= 3


def test_running_trials_are_seen_as_the_stock_sampler_sees_them() -> None:
    def run(sampler: BaseSampler, suggest: Callable[[optuna.Trial], float]) -> list[float]:
        study = optuna.create_study(sampler=sampler)
        values, held = [], []
        for i in range(24):
            trial = study.ask()
            values.append(suggest(trial))
            held.append((trial, values[-1]))
            if i % 3 == 2:  # two or three at a time
                for old, value in held[:2]:
                    study.tell(old, value)
                held = held[2:]
        return values

    coded = make_encoding("softmax", SPACE)

    def free(trial: optuna.Trial) -> float:
        u = [trial.suggest_float(n, d.low, d.high) for n, d in coded.distributions().items()]
        return loss(SPACE.project(coded.decode(np.array(u))))

    for base in ("tpe", "cma-es"):
        assert run(SimplexSampler(SPACE, BASES[base]()), distance) == run(BASES[base](), free)


@pytest.mark.parametrize("base", ["tpe", "cma-es", "nsga2"])
def test_trials_without_our_parameters_do_not_blind_the_base(base: str) -> None:
    # One of them empties the search space that Optuna infers: CMA-ES would turn into random search.
    study = optuna.create_study(sampler=SimplexSampler(SPACE, BASES[base]()))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    study.optimize(distance, n_trials=30)
    random = optuna.create_study(sampler=SimplexSampler(SPACE, BASES["random"]()))
    random.optimize(distance, n_trials=30)
    assert np.median([t.value for t in study.trials[22:]]) < 0.85 * np.median(
        [t.value for t in random.trials]
    )


# --- what the base sees ----------------------------------------------------------------------


class Spy(RandomSampler):
    """Records the finished trials that it is shown."""

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        self.shown = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return {}


def shown(study: optuna.Study, encoding: str) -> list[optuna.trial.FrozenTrial]:
    spy = Spy(seed=0)
    study.sampler = SimplexSampler(SPACE, spy, encoding=encoding)
    study.ask(SPACE.distributions())
    return spy.shown


def imported(weights: np.ndarray, value: float = 1.0) -> optuna.trial.FrozenTrial:
    return create_trial(
        params=SPACE.params(weights), distributions=SPACE.distributions(), value=value
    )


def test_imported_mixtures_are_shown_in_free_coordinates() -> None:
    for encoding in lookup.KINDS["encoding"]:
        study = optuna.create_study()
        study.add_trial(imported(TARGET, 7.0))
        (trial,) = shown(study, encoding)
        coded = make_encoding(encoding, SPACE)
        assert trial.value == 7.0 and list(trial.params) == list(coded.distributions())
        np.testing.assert_allclose(
            coded.decode(np.array(list(trial.params.values()))), TARGET, atol=1e-9
        )
        assert all(trial.distributions[n]._contains(v) for n, v in trial.params.items())


def test_a_mixture_that_the_encoding_cannot_reach_is_hidden() -> None:
    space = MixtureSpace({"web": 0.9, "code": 0.09999, "rare": 0.00001})
    study = optuna.create_study()
    for weights in ([0.0, 0.0, 1.0], [0.6, 0.3, 0.1]):
        params = space.params(np.array(weights))
        study.add_trial(create_trial(params=params, distributions=space.distributions(), value=1.0))
    seen = {}
    for encoding in lookup.KINDS["encoding"]:
        spy = Spy(seed=0)
        SimplexSampler(space, spy, encoding=encoding).sample_relative(
            study, study.ask()._cached_frozen_trial, space.distributions()
        )
        seen[encoding] = [t.number for t in spy.shown]
    assert seen == {"softmax": [1], "gamma": [0, 1], "stick-breaking": [0, 1]}


def test_a_proposal_is_shown_by_the_coordinates_it_came_from() -> None:
    space = MixtureSpace({"a": 1, "b": 1}, upper=0.5)  # every proposal is projected to (.5, .5)
    study = optuna.create_study(sampler=SimplexSampler(space, RandomSampler(seed=0)))
    study.optimize(lambda trial: space.suggest(trial)["a"], n_trials=3)
    spy = Spy(seed=0)
    study.sampler = SimplexSampler(space, spy)
    study.ask(space.distributions())
    stored = [t.system_attrs[FREE] for t in study.trials[:3]]
    assert [list(t.params.values()) for t in spy.shown] == stored
    assert len({tuple(u) for u in stored}) == 3


def test_the_study_keeps_weights_and_the_real_trials_are_left_alone() -> None:
    study = optuna.create_study(sampler=SimplexSampler(SPACE, BASES["tpe"]()))
    study.optimize(distance, n_trials=12)
    assert all(set(t.params) == set(SPACE.parameter_names) for t in study.trials)
    assert np.all(SPACE.contains(mixtures(study)))


# --- any study -------------------------------------------------------------------------------


def test_renaming_domains_changes_nothing_but_names() -> None:
    renamed = MixtureSpace(
        {f"z{9 - i}": p for i, p in enumerate(SPACE.prior)}  # in the reverse alphabetical order
    )
    found = []
    for space in (SPACE, renamed):
        study = optuna.create_study(sampler=SimplexSampler(space, BASES["cma-es"]()))

        def objective(trial: optuna.Trial, space: MixtureSpace = space) -> float:
            return loss(space.weights(space.suggest(trial)))

        study.optimize(objective, n_trials=15)
        found.append([space.weights_of(t) for t in study.trials])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("base", ["random", "tpe", "cma-es", "nsga2"])
def test_a_messy_history_stops_no_sampler(base: str) -> None:
    study = optuna.create_study()
    study.add_trial(imported(TARGET))
    study.add_trial(imported(np.array([1.0, 0, 0, 0, 0])))
    study.add_trial(create_trial(value=1.0))
    study.add_trial(imported(np.array([0.5, 0.5, 0.5, 0, 0])))  # not a mixture
    study.enqueue_trial(SPACE.params(SPACE.prior))
    study.sampler = SimplexSampler(SPACE, BASES[base]())
    study.ask()  # the enqueued one stays running

    def objective(trial: optuna.Trial) -> float:
        value = distance(trial)
        if trial.number % 5 == 0:
            raise optuna.TrialPruned
        if trial.number % 7 == 0:
            raise RuntimeError
        if base != "cma-es":  # which warns that it has no use for them
            trial.set_constraint("piqa", value - 1.0)
        return value if trial.number % 6 else float("nan")

    study.optimize(objective, n_trials=25, catch=(RuntimeError,))
    proposed = np.array([SPACE.weights_of(t) for t in study.trials[5:]])
    assert np.all(SPACE.contains(proposed))


@pytest.mark.parametrize("base", ["random", "tpe", "nsga2"])
def test_several_objectives_are_the_bases_business(base: str) -> None:
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=SimplexSampler(SPACE, BASES[base]())
    )
    study.optimize(lambda t: (distance(t), SPACE.suggest(t)["web"]), n_trials=20)
    assert np.all(SPACE.contains(mixtures(study)))


def test_bounds_hold_for_every_proposal() -> None:
    space = MixtureSpace({"a": 5, "b": 3, "c": 2}, upper={"a": 0.4}, lower={"c": 0.1})
    for encoding in lookup.KINDS["encoding"]:
        sampler = SimplexSampler(space, BASES["tpe"](), encoding=encoding)
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda trial: -space.suggest(trial)["a"], n_trials=15)
        assert all(space.contains(space.weights_of(t)) for t in study.trials)
    found = best_mixture(study)  # which finds prior and bounds in the study
    assert bool(space.contains(space.weights(found)))
    assert found.distance_from_prior == measured(space.weights(found), space.prior)


def test_other_parameters_are_searched_jointly_by_the_base() -> None:
    study = optuna.create_study(sampler=SimplexSampler(SPACE, BASES["tpe"]()))

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        return distance(trial) + abs(np.log10(rate) + 3)

    study.optimize(objective, n_trials=40)
    late = [abs(np.log10(t.params["lr"]) + 3) for t in study.trials[25:]]
    assert np.median(late) < 0.6  # uniform: 1
    assert all(np.all(SPACE.contains(SPACE.weights_of(t))) for t in study.trials)


def test_hyperband_shows_the_base_one_bracket() -> None:
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    spy = Spy(seed=0)
    study = optuna.create_study(  # the name decides which trials share a bracket
        study_name="brackets", sampler=SimplexSampler(SPACE, spy), pruner=pruner
    )
    shown_of, bracket_of = [], []

    def objective(trial: optuna.Trial) -> float:
        value = distance(trial)
        shown_of.append({past.number for past in spy.shown})
        trial.report(value, 1)  # the pruner makes its brackets at the first look
        trial.should_prune()
        bracket_of.append(pruner._get_bracket_id(study, study.trials[trial.number]))
        return value

    study.optimize(objective, n_trials=16)
    assert np.all(SPACE.contains(mixtures(study)))
    assert len(set(bracket_of)) == 3
    for number in range(1, 16):  # the first trial met no bracket yet
        same = {past for past in range(number) if bracket_of[past] == bracket_of[number]}
        assert shown_of[number] == same


def test_threads_draw_distinct_mixtures() -> None:
    study = optuna.create_study(sampler=SimplexSampler(SPACE, BASES["tpe"]()))
    study.optimize(distance, n_trials=30, n_jobs=4)
    assert len(np.unique(mixtures(study), axis=0)) == 30


def test_one_sampler_on_two_studies_mixes_nothing_up() -> None:
    sampler = SimplexSampler(SPACE, Spy(seed=0))
    for value in (1.0, 2.0):
        study = optuna.create_study(sampler=sampler, storage=InMemoryStorage())
        study.add_trial(imported(TARGET, value))
        study.ask(SPACE.distributions())
        assert [t.value for t in sampler._other.shown] == [value]


def test_a_pickled_sampler_goes_on() -> None:
    study = optuna.create_study(sampler=SimplexSampler(SPACE, BASES["tpe"]()))
    study.optimize(distance, n_trials=10)
    study.sampler = pickle.loads(pickle.dumps(study.sampler))
    study.optimize(distance, n_trials=10)
    np.testing.assert_array_equal(mixtures(study), stock_mixtures(BASES["tpe"](), "softmax", 20))


def test_one_domain_is_no_trouble() -> None:
    space = MixtureSpace({"only": 1.0})
    for encoding in lookup.KINDS["encoding"]:
        study = optuna.create_study(
            sampler=SimplexSampler(space, BASES["tpe"](), encoding=encoding)
        )
        study.optimize(lambda trial: space.suggest(trial)["only"], n_trials=12)
        assert {t.params["w/only"] for t in study.trials} == {1.0}


def test_an_unknown_encoding_is_told_the_known_ones() -> None:
    with pytest.raises(UserError, match="softmax, gamma, stick-breaking"):
        SimplexSampler(SPACE, RandomSampler(), encoding="ilr")


@pytest.mark.parametrize(
    "make",
    [
        ClimbSampler,
        SimplexGPSampler,
        lambda space: SimplexSampler(space, RandomSampler()),
        lambda space: best_mixture(optuna.create_study(), space=space),
        lambda space: compare_rules(optuna.create_study(), space=space),
        lambda space: read_history(optuna.create_study(), space),
    ],
)
def test_amounts_are_no_space_and_that_is_said_at_once(make: Callable[[Any], object]) -> None:
    with pytest.raises(UserError, match=r"space must be a MixtureSpace, e\.g\. .*not \{'web': 7\}"):
        make({"web": 7})


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("base", "says"),
    [
        (lambda: None, "base must be a sampler of Optuna's, such as .*, but is None"),
        (lambda: TPESampler, "but is <class"),
        (lambda: ClimbSampler(SPACE), "ClimbSampler proposes mixtures itself; give it to create_s"),
        (lambda: GridSampler({"w/web": [0.5]}), "GridSampler draws from given values"),
        (BruteForceSampler, "BruteForceSampler draws from given values"),
        (
            lambda: PartialFixedSampler({"w/web": 0.5}, TPESampler()),
            "cannot fix the weight 'w/web'; give the space that number",
        ),
    ],
)
def test_a_base_that_cannot_search_mixtures_is_refused_at_once(
    base: Callable[[], Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        SimplexSampler(SPACE, base())


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_is_no_weight_may_be_fixed() -> None:
    base = PartialFixedSampler({"lr": 0.5}, TPESampler(seed=0))
    study = optuna.create_study(sampler=SimplexSampler(SPACE, base))
    study.optimize(lambda t: distance(t) + t.suggest_float("lr", 0, 1), n_trials=3)
    assert {t.params["lr"] for t in study.trials} == {0.5}
