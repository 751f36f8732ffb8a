"""Going on over lost connections to PostgreSQL: what may pass, how long is waited, and what is said in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from connectors.eventlog.postgres_connect import Database, connect, name_of
from schemas.errors import ConnectionFault, LogError
from schemas.settings import PostgresSettings

RETRY_S, RETRY_S_MAX = 0.05, 1.0
"""Pause after the first lost connection; doubled with each one up to the second."""

_Result = TypeVar("_Result")


class Retry:
    """Pauses between attempts, until a bound of time is over."""

    def __init__(self, bound_s: float) -> None:
        """Begin to count at the first failure.

        Args:
            bound_s: How long after the first failure the last attempt may begin.
        """
        self._bound_s, self._until_s, self._pause_s = bound_s, None, RETRY_S  # type: float, float | None, float

    def again(self) -> bool:
        """Wait, then tell whether to try again."""
        if self._until_s is None:
            self._until_s = time.monotonic() + self._bound_s
        rest_s = self._until_s - time.monotonic()
        if rest_s <= 0:
            return False
        time.sleep(min(self._pause_s, rest_s))
        self._pause_s = min(2 * self._pause_s, RETRY_S_MAX)
        return True


_MAY_PASS = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.AdminShutdown,
             psycopg.errors.CrashShutdown, psycopg.errors.CannotConnectNow, psycopg.errors.TooManyConnections,
             psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)  # fmt: skip


def may_pass(error: Exception, db: Database | None) -> bool:
    """Tell whether the same may succeed a little later: the connection was lost, or somebody is in the way."""
    # Without a code of the server it is the client's word on its connection, such as a pipeline that was cut within.
    lost = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    return lost or isinstance(error, (ConnectionFault, *_MAY_PASS)) or db is None or db.closed or db.broken


class Session:
    """A connection that is made again when it is lost, for work that may be done twice. Any thread, one at a time."""

    def __init__(
        self, settings: PostgresSettings, *, writes: bool, first: Callable[[Database], None] = lambda db: None
    ) -> None:
        """Connect.

        Args:
            settings: With absolute paths.
            writes: Whether a server that takes no writes must be refused.
            first: Done once, before anything else.

        Raises:
            ConnectionFault: no connection; names the setting and the remedy.
        """
        self.settings, self._writes = settings, writes
        self._lock = threading.Lock()
        self._closed = False
        self._db: Database | None = connect(settings, writes=writes)
        try:
            first(self._db)
        except BaseException:
            self._db.close()
            raise

    def do(self, work: Callable[[Database], _Result]) -> _Result:
        """Return what `work` returns; it is begun again on a new connection when one is lost.

        Raises:
            LogError: the server refused, or was away for longer than `timeout_s`.
        """
        with self._lock:
            retry = Retry(self.settings.timeout_s)
            while True:
                if self._closed:
                    raise LogError(f"{name_of(self.settings)}: the log is closed")
                try:
                    if self._db is None or self._db.closed:
                        self._db = connect(self.settings, writes=self._writes)
                    return work(self._db)
                except (psycopg.Error, ConnectionFault) as error:
                    if not may_pass(error, self._db):
                        raise refused(error, self.settings) from error
                    self._give_up()
                    if not retry.again():
                        raise away(error, self.settings) from error

    def close(self) -> None:
        """Let go of the connection. Again is free."""
        with self._lock:
            self._closed = True
            self._give_up()

    def _give_up(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None


def away(error: Exception, settings: PostgresSettings) -> LogError:
    """Say that the server did not come back in time."""
    said = " ".join(str(error).split())
    return LogError(f"{name_of(settings)}: no answer within timeout_s = {settings.timeout_s:g}: {said}")


def refused(error: Exception, settings: PostgresSettings) -> LogError:
    """Say what the server refused."""
    said = " ".join(str(error).split())
    return LogError(f"{name_of(settings)}: {said}: {_remedy_of(error)}")


def _remedy_of(error: Exception) -> str:
    match error:
        case psycopg.errors.InsufficientPrivilege():
            return "give postgres.user the role jidoka_writer or jidoka_reader, see deploy/postgres/roles.sql"
        case psycopg.errors.DiskFull():
            return "free the server's disk, then start again"
        case psycopg.errors.ReadOnlySqlTransaction():
            return "postgres.host: this server takes no writes: name the primary"
        case _:
            return "see the server's log"
