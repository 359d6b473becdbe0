"""Optuna's `RDBStorage`, with the two calls that a search makes all the time done in bulk.

    write a planned trial   6 statements and 1 commit, whatever the number of domains K; Optuna
                            needs 3 K statements, or 2 K and K commits if each weight is suggested
    read trials             one plain select per table; Optuna makes an object of each parameter and
                            parses its distribution twice

The tables, and what is read from them, are Optuna's (the tests compare both, row by row). The two
methods are private to Optuna 5; where they are missing, it goes its own way.

A claim holds the study's lock, so what it costs every worker waits for. On PostgreSQL it takes 25
statements and 17 CPU ms at 21 domains, 36 ms at 240 (`count` of tests/bench/bench_storage.py, 2
cores). With 23, before there were forecasts, it took 19 and 31 ms, by Optuna's own two methods 89
statements and 50 ms, 746 and 390 ms, and a round of 64 by 16 workers at 21 domains 1.4 times as
long.
"""

from __future__ import annotations

import copy
import functools
import json
from collections import defaultdict
from collections.abc import Container
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.orm import Session

Rows = dict[int, list[Any]]  # trial id -> its rows
# May only read: a transaction of PostgreSQL; MySQL's option, a transaction, a server.
READ_ONLY = {"25006", 1290, 1792, 1836}
MOST_NUMBERS = 10_000  # in one statement; databases have their limits


class Database(RDBStorage):
    """See the module."""

    pooled = False  # sessions are shared between transactions: no lock may rest on one

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        from sqlalchemy import event  # loads only where it is used

        try:
            super().__init__(url, engine_kwargs)
        except BaseException:
            if hasattr(self, "engine"):  # who waits must not keep the sessions others wait for
                self.engine.dispose()
            raise
        event.listen(self.engine, "handle_error", _leave_standby)

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> Any:
        if template_trial is None or not template_trial.params:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        bare = copy.copy(template_trial)
        bare.params, bare.user_attrs, bare.system_attrs = {}, {}, {}
        trial: Any = super()._get_prepared_new_trial(study_id, bare, session)
        session.flush()
        _insert_parameters(session, trial.trial_id, template_trial)
        return trial

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        from optuna.storages._rdb.models import TrialModel
        from optuna.storages._rdb.storage import _create_scoped_session
        from sqlalchemy import or_

        wanted = TrialModel.trial_id > trial_id_greater_than
        older = sorted(i for i in included_trial_ids if i <= trial_id_greater_than)
        if older:
            wanted = or_(wanted, TrialModel.trial_id.in_(older))
        trials: list[FrozenTrial] = []
        if states is None and len(older) <= MOST_NUMBERS:
            with _create_scoped_session(self.scoped_session) as session:
                trials = _read(session, (TrialModel.study_id == study_id) & wanted)
        # Nothing new, or no such study: let Optuna say which.
        return trials or super()._get_trials(
            study_id, states, included_trial_ids, trial_id_greater_than
        )


def _leave_standby(context: ExceptionContext) -> None:
    """A server that takes no writes: its sessions count as lost. It is waited for, by new ones, one
    of which meets the primary, or this server when it takes writes again."""
    error = context.original_exception
    said = {getattr(error, "sqlstate", None), getattr(error, "pgcode", None), *error.args[:1]}
    if said & READ_ONLY:
        context.is_disconnect = True


@functools.lru_cache(maxsize=1024)
def distribution(text: str) -> BaseDistribution:
    """A distribution of its JSON; one object for all trials, as distributions never change."""
    return json_to_distribution(text)


def _insert_parameters(session: Session, trial_id: int, template: FrozenTrial) -> None:
    from optuna.storages._rdb import models
    from sqlalchemy import insert

    kinds = template.distributions
    rows: dict[Any, list[dict[str, Any]]] = {
        models.TrialParamModel: [
            {
                "param_name": name,
                "param_value": kinds[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(kinds[name]),
            }
            for name, value in template.params.items()
        ],
        models.TrialUserAttributeModel: _stored(template.user_attrs),
        models.TrialSystemAttributeModel: _stored(template.system_attrs),
    }
    for table, values in rows.items():
        if values:
            session.execute(insert(table), [{"trial_id": trial_id, **row} for row in values])


def _stored(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def _read(session: Session, wanted: ColumnElement[bool]) -> list[FrozenTrial]:
    from optuna.storages._rdb import models as m
    from sqlalchemy import select

    trial = m.TrialModel
    times = trial._datetime_start_utc, trial._datetime_complete_utc
    columns = select(trial.trial_id, trial.number, trial.state, *times)
    found = session.execute(columns.where(wanted).order_by(trial.trial_id)).all()
    if not found:
        return []

    def rows(table: Any, order: Any, *columns: Any) -> Rows:
        query = select(table.trial_id, *columns).join(trial, trial.trial_id == table.trial_id)
        grouped: Rows = defaultdict(list)
        for trial_id, *row in session.execute(query.where(wanted).order_by(order)):
            grouped[trial_id].append(row)
        return grouped

    p, v, i = m.TrialParamModel, m.TrialValueModel, m.TrialIntermediateValueModel
    u, s = m.TrialUserAttributeModel, m.TrialSystemAttributeModel
    params = rows(p, p.param_id, p.param_name, p.param_value, p.distribution_json)
    values = rows(v, v.objective, v.value, v.value_type)
    user = rows(u, u.trial_user_attribute_id, u.key, u.value_json)
    system = rows(s, s.trial_system_attribute_id, s.key, s.value_json)
    step = i.step, i.intermediate_value, i.intermediate_value_type
    steps = rows(i, i.trial_intermediate_value_id, *step)
    to_value, to_step = v.stored_repr_to_value, i.stored_repr_to_intermediate_value
    return [
        FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=[to_value(*row) for row in values[trial_id]] if trial_id in values else None,
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params=_externals(params.get(trial_id, ())),
            distributions={name: distribution(text) for name, _, text in params.get(trial_id, ())},
            user_attrs={key: json.loads(text) for key, text in user.get(trial_id, ())},
            system_attrs={key: json.loads(text) for key, text in system.get(trial_id, ())},
            intermediate_values={n: to_step(*row) for n, *row in steps.get(trial_id, ())},
            trial_id=trial_id,
        )
        for trial_id, number, state, start, complete in found
    ]


def _externals(rows: Any) -> dict[str, Any]:
    return {name: distribution(text).to_external_repr(value) for name, value, text in rows}


def _local(time: datetime | None) -> datetime | None:
    """Stored as naive UTC, shown as naive local time."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
