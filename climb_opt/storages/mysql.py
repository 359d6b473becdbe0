"""Optuna's tables in MySQL and MariaDB, made to hold what a search stores.

As Optuna makes them there, an attribute holds 64 KB (a space of 600 domains has more), and the
server's collation takes names for one that differ only by case, accents or blanks at their end:
two domains `C` and `c` would be one parameter, the study `Runs` would open `runs`. So names are
compared byte by byte and values may have any length; Optuna reads and writes the same tables.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

log = logging.getLogger(__name__)

# Byte by byte, blanks at the end count: MariaDB from 10.2, MySQL from 8.0; else all but those.
EXACT = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin", "utf8mb4_bin")
ATTRIBUTES = (
    "study_user_attributes",
    "study_system_attributes",
    "trial_user_attributes",
    "trial_system_attributes",
)
NAMES = {"studies": "study_name", "trial_params": "param_name", **dict.fromkeys(ATTRIBUTES, "key")}
WAIT = 20  # seconds for other sessions to let go of a table


def fit_tables(engine: Engine) -> None:
    """Change what is not so yet; a database that refuses is left as it is, and that is said."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    with engine.connect() as connection:
        changes = list(_changes(connection))
        if not changes:
            return
        try:
            connection.execute(text(f"SET SESSION lock_wait_timeout = {WAIT}"))
            for table, columns in changes:
                connection.execute(text(f"ALTER TABLE {table} {columns}"))
        except DBAPIError as error:
            _say_refused(str(engine.url), str(error.orig))


@cache  # a storage is opened again, once a corpus was built
def _say_refused(database: str, why: str) -> None:
    log.warning(
        "Optuna's tables stay as they are (%s): an attribute holds 64 KB, and names that differ by "
        "case, accents or a blank at the end are one. GRANT ALTER ON the database, or use "
        "PostgreSQL.",
        why,
    )


def _changes(connection: Connection) -> Iterator[tuple[str, str]]:
    from sqlalchemy import text

    known = connection.execute(text("SHOW COLLATION WHERE Charset = 'utf8mb4'")).scalars().all()
    exact = next(name for name in EXACT if name in known)
    columns = connection.execute(
        text(
            "SELECT TABLE_NAME, COLUMN_NAME, COLLATION_NAME, DATA_TYPE, IS_NULLABLE"
            " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
        )
    )
    found: dict[tuple[str, str], Any] = {(row[0], row[1]): row[2:] for row in columns}
    for table, name in NAMES.items():
        wanted = []
        collation, _, nullable = found[table, name]
        if collation != exact:
            null = "NULL" if nullable == "YES" else "NOT NULL"
            kind = f"VARCHAR(512) CHARACTER SET utf8mb4 COLLATE {exact} {null}"
            wanted.append(f"MODIFY `{name}` {kind}")
        if table in ATTRIBUTES and found[table, "value_json"][1] != "longtext":
            wanted.append("MODIFY value_json LONGTEXT CHARACTER SET utf8mb4")
        if wanted:
            yield table, ", ".join(wanted)
