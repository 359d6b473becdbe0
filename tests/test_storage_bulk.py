"""What `Database` writes and reads in bulk is, row by row, what Optuna writes and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from climb_opt.attributes import BEAT, SLOT
from climb_opt.storages import (
    open_storage,
)
from servers import MariaDB, Postgres, closed_engines, grpc_proxy, mysql, postgres  # noqa: F401

optuna.logging.set_verbosity(optuna.logging.ERROR)


def trials_of_every_kind(study: optuna.Study) -> None:
    weights = {f"w/{k}": k / 10 for k in range(5)}
    kinds: dict[str, Any] = {n: optuna.distributions.FloatDistribution(0, 1) for n in weights}
    mixed = {**weights, "n": 3, "c": "b"}
    mixed_kinds = {
        **kinds,
        "n": optuna.distributions.IntDistribution(1, 9),
        "c": optuna.distributions.CategoricalDistribution(["a", "b"]),
    }
    attrs = {SLOT: 4, BEAT: {"count": 0, "at": 1.5}, "text": "ünïcode"}
    for state, value in ((TrialState.COMPLETE, 0.25), (TrialState.RUNNING, None)):
        study.add_trial(
            create_trial(
                state=state,
                value=value,
                params=mixed,
                distributions=mixed_kinds,
                user_attrs=attrs,
                system_attrs={"fixed_params": weights},
                intermediate_values={1: 2.0, 2: float("inf"), 7: float("nan")},
            )
        )
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=float("-inf"), params={}))
    study.add_trial(create_trial(state=TrialState.WAITING, params=weights, distributions=kinds))
    study.add_trial(create_trial(state=TrialState.FAIL))
    study.tell(study.ask(kinds), 3.0)  # the waiting one
    study.add_trial(create_trial(state=TrialState.WAITING, params=weights, distributions=kinds))


def check_bulk(url: str) -> None:
    ours = optuna.create_study(storage=open_storage(url), study_name="ours")
    trials_of_every_kind(ours)
    stock = optuna.load_study(study_name="ours", storage=url)
    mine = optuna.load_study(study_name="ours", storage=open_storage(url))
    read, expected = mine.get_trials(), stock.get_trials()
    assert len(read) == 6
    for ours_read, theirs in zip(read, expected, strict=True):
        # NaN is not equal to itself, so the intermediate values are compared as text.
        assert repr(ours_read.intermediate_values) == repr(theirs.intermediate_values)
        ours_read.intermediate_values = theirs.intermediate_values = {}
        assert ours_read == theirs and ours_read._trial_id == theirs._trial_id
        assert list(ours_read.params) == list(theirs.params)
    # A running trial that ends is seen to have ended; new ones are seen.
    stock.tell(1, 5.0)
    stock.tell(stock.ask(), 6.0)
    assert [t.value for t in mine.get_trials(deepcopy=False)][1] == 5.0
    assert len(mine.get_trials(deepcopy=False)) == 6  # ask took the waiting one
    with pytest.raises(KeyError):
        mine._storage.get_all_trials(10_000)


def test_what_is_written_and_read_in_bulk_is_what_optuna_writes_and_reads(tmp_path: Path) -> None:
    check_bulk(f"sqlite:///{tmp_path / 'x.db'}")


@pytest.mark.postgres
def test_bulk_on_postgres(postgres: Postgres) -> None:  # noqa: F811
    check_bulk(postgres.fresh())


def test_optuna_still_has_the_methods_that_are_replaced() -> None:
    assert callable(RDBStorage._get_prepared_new_trial) and callable(RDBStorage._get_trials)


@pytest.mark.postgres
def test_bulk_on_mysql(mysql: MariaDB) -> None:  # noqa: F811
    check_bulk(mysql.fresh())
