"""What `jidoka doctor` asks of the database that holds a shared log. Nothing is changed there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg

from connectors.check import Check, failed
from connectors.eventlog.postgres_connect import SCHEMA, Database, connect, name_of
from schemas.errors import ConnectionFault
from schemas.settings import PostgresSettings

CLOCK_TOLERANCE_S = 1.0
"""Wall time between the database's clock and ours."""
NEEDED = {
    "log": ("SELECT",), "events": ("SELECT", "INSERT"), "subjects": ("SELECT", "INSERT"),
    "writers": ("SELECT", "INSERT"), "blobs": ("SELECT", "INSERT"), "cells": ("SELECT", "INSERT", "UPDATE"),
    "positions": ("SELECT", "INSERT", "UPDATE"), "heads": ("SELECT", "INSERT", "UPDATE"),
    "states": ("SELECT", "INSERT", "UPDATE"),
}  # fmt: skip
"""What deciding and detecting do, by table: `deploy/postgres/roles.sql`."""
TOO_MUCH = ("UPDATE", "DELETE", "TRUNCATE")
"""Of `events`: whoever has it could rewrite history, were it not for the triggers."""
ROLES = "See deploy/postgres/roles.sql."


def check_database(settings: PostgresSettings) -> list[Check]:
    """Run all checks; what cannot be asked without a failed one is left out. Never raises for the server."""
    try:
        db = connect(settings, writes=True)
    except ConnectionFault as fault:
        return [failed("database", fault)]
    try:
        return list(_checks(db, settings))
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        return [Check("database", False, f"{name_of(settings)}: {said}", "See the server's log.")]
    finally:
        db.close()


def _checks(db: Database, settings: PostgresSettings) -> Iterator[Check]:
    version = db.info.server_version // 10_000
    yield Check("database", True, f"{name_of(settings)}: PostgreSQL {version}, as {db.info.user!r}")
    yield _clock(db)
    (made,) = _one(db, "SELECT to_regclass(%s) IS NOT NULL", f"{SCHEMA}.events")
    if not made:
        (may,) = _one(db, "SELECT has_database_privilege(current_database(), 'CREATE')")
        remedy = f"An administrator makes them. {ROLES}"
        yield Check("tables", may, "none yet; the first start makes them" if may else "none", "" if may else remedy)
        return
    yield _rights(db)
    (n, newest) = _one(db, f"SELECT count(*), max(position) FROM {SCHEMA}.states")
    yield Check("states", True, f"{n} cells have saved states" + (f", the newest at input {newest}" if n else ""))
    (position,) = _one(db, f"SELECT max(position) FROM {SCHEMA}.events")
    yield Check("log", True, f"ends at {position or 0}")


def _clock(db: Database) -> Check:
    asked_s = time.time()
    (there_s,) = _one(db, "SELECT extract(epoch FROM clock_timestamp())::float8")
    answered_s = time.time()
    # It was read between the two: within those no offset can be seen.
    offset_s = max(0.0, there_s - answered_s) - max(0.0, asked_s - there_s)
    ok = abs(offset_s) <= CLOCK_TOLERANCE_S
    remedy = "Let both follow one time server (NTP)."
    return Check("clock", ok, f"the database is {offset_s:+.3f} s from this machine", "" if ok else remedy)


def _rights(db: Database) -> Check:
    lacks = [
        f"{right} on {table}"
        for table, rights in NEEDED.items()
        for right in rights
        if not _one(db, "SELECT has_table_privilege(%s, %s)", f"{SCHEMA}.{table}", right)[0]
    ]
    if lacks:
        return Check("rights", False, f"missing: {', '.join(lacks)}", f"Give the user the role jidoka_writer. {ROLES}")
    more = [right for right in TOO_MUCH if _one(db, "SELECT has_table_privilege(%s, %s)", f"{SCHEMA}.events", right)[0]]
    if more:
        return Check("rights", False, f"{', '.join(more)} on events, too", f"Use a user that owns nothing. {ROLES}")
    return Check("rights", True, "may add facts, and change none")


def _one(db: Database, query: str, *values: object) -> tuple[Any, ...]:
    row = db.execute(query, values).fetchone()
    assert row is not None, "one row"
    return row
