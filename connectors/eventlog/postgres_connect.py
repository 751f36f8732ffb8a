"""A connection to PostgreSQL from its settings, with every wait bounded and every refusal explained.

Nothing is taken from the environment or from files that the settings do not name. Passwords go by SCRAM-SHA-256 only,
so that a server in the middle never sees one, and never into a message.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.types.numeric import Int8BinaryDumper

from connectors.passwords import read_password
from schemas.errors import ConnectionFault
from schemas.settings import PostgresSettings

SCHEMA = "jidoka"
"""Where our tables are, whatever else the database holds."""
VERSION_MIN = 13
"""Of the server."""

Database = psycopg.Connection[tuple[Any, ...]]
_Result = TypeVar("_Result")

_REMEDIES = (
    ("certificate verify failed", "postgres.ca: the server's certificate is not signed by it: name the right file"),
    ("signature failure", "postgres.ca: the server's certificate is not signed by it: name the right file"),
    ("does not match host name", "postgres.host: write the name that is in the server's certificate"),
    ("does not support SSL", 'postgres.tls: turn ssl on in the server, or for a bench set tls = "disable"'),
    ("no encryption", 'postgres.tls: this server wants TLS: set tls = "verify-full" and name postgres.ca'),
    ("SSL off", 'postgres.tls: this server wants TLS: set tls = "verify-full" and name postgres.ca'),
    ("no pg_hba.conf entry", "postgres.user, postgres.database: have the server's pg_hba.conf let them in"),
    ("pg_hba.conf rejects", "postgres.user, postgres.tls: the server's pg_hba.conf refuses them"),
    ("authentication method requirement", "postgres.user: have the server ask for scram-sha-256 in its pg_hba.conf"),
    ("password authentication failed", "postgres.user: see that its name and its password_file are right"),
    ("no password supplied", "postgres.user: the server wants a password: name user and password_file"),
    ("Peer authentication failed", "postgres.user: over a local socket leave it away, or let it in by scram-sha-256"),
    ("is not permitted to log in", "postgres.user: have this role made with LOGIN"),
    ("too many", "postgres: raise max_connections in the server; every process needs four"),
    ("starting up", "postgres: wait until the server is up"),
    ("shutting down", "postgres: start the server again"),
    ("read-only", "postgres.host: this is a standby: name the primary"),
    ("does not exist", "postgres.database, postgres.user: have them made, see docs/event-log.md"),
)  # fmt: skip
"""What a person can do, by a part of what libpq or the server says; the server may speak another language."""


def name_of(settings: PostgresSettings) -> str:
    """Return what a person calls this database; without secrets.

    >>> name_of(PostgresSettings(host="db.plant", tls="require"))
    'postgresql://db.plant:5432/jidoka'
    """
    user = f"{settings.user.name}@" if settings.user else ""
    return f"postgresql://{user}{settings.host}:{settings.port}/{settings.database}"


def connect_options(settings: PostgresSettings, *, writes: bool) -> dict[str, str | int]:
    """Return libpq's parameters; the password is among them.

    Args:
        settings: With absolute paths.
        writes: Whether a server that takes no writes must be refused.

    Raises:
        ConnectionFault: the password's file or the authority's cannot be used.
    """
    bound_s = max(1, round(settings.timeout_s))
    options: dict[str, str | int] = {
        "host": settings.host, "hostaddr": "", "port": settings.port, "dbname": settings.database,
        "application_name": "jidoka", "client_encoding": "utf8", "passfile": os.devnull,
        "sslmode": settings.tls, "gssencmode": "disable",
        "connect_timeout": max(2, bound_s), "target_session_attrs": "read-write" if writes else "any",
        "keepalives_idle": bound_s, "keepalives_interval": 1, "keepalives_count": bound_s,
        "tcp_user_timeout": int(settings.timeout_s * 1000), "options": _session_options(settings),
    }  # fmt: skip
    if settings.ca:
        if not os.access(settings.ca, os.R_OK):
            raise ConnectionFault(f"{settings.ca}: postgres.ca cannot be read: put the authority's certificate there")
        options["sslrootcert"] = settings.ca
    if settings.user is None:
        return options | {"user": pwd.getpwuid(os.geteuid()).pw_name}
    options |= {"user": settings.user.name, "password": read_password(settings.user)}
    if psycopg.pq.version() >= 160000:  # Older ones cannot promise it.
        options["require_auth"] = "scram-sha-256"
    return options


def _session_options(settings: PostgresSettings) -> str:
    bound_ms, bound_s = int(settings.timeout_s * 1000), max(1, round(settings.timeout_s))
    bounds = {
        "search_path": f"{SCHEMA},pg_catalog",
        "statement_timeout": bound_ms,
        # Who stops or vanishes in the middle of a transaction holds the lock of the log's end: the server ends it.
        "idle_in_transaction_session_timeout": bound_ms,
        "tcp_user_timeout": bound_ms,
        "tcp_keepalives_idle": bound_s,
        "tcp_keepalives_interval": 1,
        "tcp_keepalives_count": bound_s,
        "default_transaction_isolation": r"read\ committed",
    }
    return " ".join(f"-c {name}={value}" for name, value in bounds.items())


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that counts as lost when an answer takes longer than `answer_s`: the server may be hung."""

    answer_s = 60.0

    def wait(self, gen: PQGen[_Result], *args: Any, **kwargs: Any) -> _Result:
        """Run one exchange with the server."""
        return super().wait(_bounded(gen, self), *args, **kwargs)


def _bounded(gen: PQGen[_Result], db: BoundedConnection) -> Generator[Any, Any, _Result]:
    until_s = time.monotonic() + db.answer_s
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > until_s:
                db.close()
                raise psycopg.OperationalError(f"no answer within {db.answer_s:g} s: the connection is given up")
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def connect(settings: PostgresSettings, *, writes: bool) -> Database:
    """Connect: every statement a transaction of its own unless begun otherwise, results in binary.

    Raises:
        ConnectionFault: no connection; names the setting and the remedy.
    """
    options = connect_options(settings, writes=writes)
    try:
        db = BoundedConnection.connect(autocommit=True, **options)  # type: ignore[arg-type]
    except psycopg.Error as error:
        raise fault(error, settings) from None  # Its traceback holds the parameters, and the password with them.
    # One timeout is the server's to cancel a statement, the second is for its answer to that.
    db.answer_s = 2 * settings.timeout_s
    db.prepare_threshold = 0
    db.adapters.register_dumper(int, Int8BinaryDumper)
    if db.info.server_version < VERSION_MIN * 10_000:
        db.close()
        raise ConnectionFault(f"{name_of(settings)}: the server is older than {VERSION_MIN}: upgrade it")
    return db


def fault(error: psycopg.Error, settings: PostgresSettings) -> ConnectionFault:
    """Say what a refused connection means, and what to do."""
    said = " ".join(str(error).split())
    remedy = next((remedy for part, remedy in _REMEDIES if part in said), "")
    remedy = remedy or "postgres.host, postgres.port: see that the server runs and can be reached from here"
    return ConnectionFault(f"{name_of(settings)}: {said}. {remedy}")
