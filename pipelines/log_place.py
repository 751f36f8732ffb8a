"""Where the log of a configuration is: in its data folder, or in the PostgreSQL that several nodes share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from connectors.eventlog.checking import Progress, Verification
from connectors.eventlog.reader import open_readonly
from connectors.eventlog.tables import DB_FILE
from connectors.eventlog.verify import verify
from pipelines.hosting import Folders
from schemas.errors import ConfigError
from schemas.records import Recorded, SignedHead
from schemas.settings import PostgresSettings


class LogReader(Protocol):
    """A log opened for reading."""

    log_id: str

    def read_cell(self, cell: str, *, after: int = 0) -> AsyncIterator[Recorded]:
        """Yield the cell's facts with `version > after`, in order."""

    def read_all(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[Recorded]:
        """Yield all facts with `position > after`, in order; with `follow` wait for more."""

    async def read_at(self, positions: Sequence[int]) -> list[Recorded]:
        """Return the facts at these positions, in their order."""

    async def positions_of(self, subject_id_prefix: str) -> list[int]:
        """Return where facts about an incident, episode, plan, command or request are, in order."""

    async def head(self) -> SignedHead:
        """Return the signed end of the log."""

    async def close(self) -> None:
        """Let go of the log."""


@dataclass(frozen=True, slots=True)
class LogPlace:
    """A log that can be read and verified."""

    folders: Folders
    postgres: PostgresSettings | None = None
    """With absolute paths; None: the log is SQLite in `folders.log`."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        if self.postgres is None:
            return str(self.folders.log / DB_FILE)
        return f"database {self.postgres.database!r} on {self.postgres.host}"

    def open(self) -> LogReader:
        """Open it for reading, while agents run or after.

        Raises:
            ConfigError: the part of the program for PostgreSQL is not installed.
            ConnectionFault: the server cannot be reached.
            LogError: no log is here, or it is not one that we can read.
            LogCorrupt: the database is damaged.
        """
        if self.postgres is None:
            return open_readonly(self.folders.log)
        try:
            from connectors.eventlog.postgres_reader import PostgresReader
        except ImportError as error:
            raise _not_installed() from error
        return PostgresReader(self.postgres)

    def verify(self, progress: Progress = lambda checked, of: None) -> Verification:
        """Check the whole log; in a shared one, that it holds what this node signed last, too.

        Raises:
            ConfigError: the part of the program for PostgreSQL is not installed.
            ConnectionFault: the server cannot be reached.
        """
        if self.postgres is None:
            return verify(self.folders.log, progress=progress)
        try:
            from connectors.eventlog.postgres_verify import verify_postgres
        except ImportError as error:
            raise _not_installed() from error
        own: Path | None = self.folders.log if self.folders.log.is_dir() else None
        return verify_postgres(self.postgres, own, progress=progress)


def _not_installed() -> ConfigError:
    return ConfigError("jidoka.toml", "postgres", "psycopg is not installed", "Run: pip install 'jidoka[postgres]'")
