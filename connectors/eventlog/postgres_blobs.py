"""Blobs in the shared log's database: bytes by their SHA-256, for nodes that have no disk in common."""

from __future__ import annotations

from hashlib import sha256

from connectors.eventlog.postgres_connect import name_of
from connectors.eventlog.postgres_session import Session
from connectors.eventlog.postgres_tables import make_ready
from schemas.errors import LogCorrupt
from schemas.settings import PostgresSettings


class PostgresBlobs:
    """Satisfies `agent.ports.Blobs`. Calls block until the server answered; may be called in any thread."""

    def __init__(self, settings: PostgresSettings) -> None:
        """Connect, and make the tables if there are none.

        Args:
            settings: With absolute paths.

        Raises:
            ConnectionFault: no connection; names the setting and the remedy.
            LogError: the tables cannot be made.
        """
        self._settings = settings
        self._session = Session(settings, writes=True, first=lambda db: make_ready(db, settings))

    def put(self, data: bytes) -> str:
        """Store and return 64 hex digits. Storing again is free.

        Raises:
            LogError: the server did not take it, or was away for too long; it can be put again.
        """
        name = sha256(data)
        query = "INSERT INTO blobs VALUES (%b, %b) ON CONFLICT DO NOTHING"
        self._session.do(lambda db: db.execute(query, (name.digest(), data)))
        return name.hexdigest()

    def get(self, sha256: str) -> bytes:
        """Return the bytes.

        Raises:
            KeyError: not here.
            LogCorrupt: they no longer have this hash.
            LogError: the server was away for too long.
        """
        key = _digest(sha256)
        query = "SELECT data FROM blobs WHERE sha256 = %b"
        row = self._session.do(lambda db: db.execute(query, (key,), binary=True).fetchone())
        if row is None:
            raise KeyError(sha256)
        data = bytes(row[0])
        _check(data, sha256, name_of(self._settings))
        return data

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()


def _digest(name: str) -> bytes:
    try:
        key = bytes.fromhex(name)
    except ValueError:
        raise KeyError(name) from None
    if key.hex() != name or len(key) != 32:
        raise KeyError(name)
    return key


def _check(data: bytes, name: str, where: str) -> None:
    found = sha256(data).hexdigest()
    if found != name:
        detail = f"{where}: blob {name} has {len(data)} bytes that hash to {found}: restore it from a backup"
        raise LogCorrupt(0, "blob", detail)
