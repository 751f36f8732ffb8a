"""The PLC's durable memory: what became of each command, the retained set-points, and the epoch floor.

All that one command changes is ONE SQLite transaction with `synchronous=FULL`, committed before its effect. So after a
power cut either the ledger knows the command and the set-point is in force, or neither.

The ledger is a ring of `ENTRIES_MAX` commands. An id that falls out is kept as bits of a Bloom filter (B. H. Bloom,
Space/time trade-offs in hash coding with allowable errors, CACM 13(7), 1970), durable like the rest. The filter has no
false negatives, so an id that was once executed is never called "never seen"; it has false positives, so a *new* id may
be called "forgotten" and is then not executed: 1 in 850 after 72,000 commands (5 months of 20 an hour), 1 in 10 after
190,000. That is the safe way to be wrong; `bits_set_pct` tells when the filter wants to be emptied by a person.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connectors.plant.codes import Code, State
from schemas.errors import ConfigError, LogHalted

ENTRIES_MAX = 256
FILTER_BITS = 1 << 20
FILTER_HASHES = 7
EPOCH_FLOOR = "epoch_floor"

_TABLES = """
CREATE TABLE IF NOT EXISTS ledger(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, verb TEXT NOT NULL,
    state INTEGER NOT NULL, code INTEGER NOT NULL, detail TEXT NOT NULL, deadline_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS retained(name TEXT PRIMARY KEY, value);
CREATE TABLE IF NOT EXISTS evicted(word INTEGER PRIMARY KEY, bits INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One command and what became of it."""

    command_id: str
    sha256: str
    verb: str
    state: State
    code: Code
    detail: str
    deadline_at: int = 0
    """Plant time, microseconds since 1970 UTC, by which a waiting command must have begun; 0: it waits no more."""


class Ledger:
    """See the module. Not thread-safe: the PLC's one thread owns it, whichever that is.

    Whatever writes raises `LogHalted` when the disk does not take it, and nothing of it is kept.
    """

    def __init__(self, path: Path | None) -> None:
        """Open or make the ledger.

        Args:
            path: The file; None keeps everything in memory, for runs on a virtual clock.

        Raises:
            ConfigError: the file is not a ledger or cannot be opened.
        """
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise ConfigError(
                str(path), "ledger", f"cannot be opened ({error})", "Restore the file, or give another data folder."
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def retained(self) -> dict[str, float]:
        """Return every retained value by its name."""
        return dict(self._db.execute("SELECT name, value FROM retained"))

    def epoch_floor(self) -> int:
        """Return the lowest epoch that is still listened to."""
        row = self._db.execute("SELECT value FROM retained WHERE name = ?", (EPOCH_FLOOR,)).fetchone()
        return int(row[0]) if row else 0

    def find(self, command_id: str) -> Entry | None:
        """Return the entry, or None: not in the ledger (any more)."""
        row = self._db.execute(
            "SELECT id, sha256, verb, state, code, detail, deadline_at FROM ledger WHERE id = ?", (command_id,)
        ).fetchone()
        return _entry(row) if row else None

    def running(self) -> Entry | None:
        """Return the command that was begun and not yet settled, or None."""
        row = self._db.execute(
            "SELECT id, sha256, verb, state, code, detail, deadline_at FROM ledger WHERE state = ?", (State.RUNNING,)
        ).fetchone()
        return _entry(row) if row else None

    def was_evicted(self, command_id: str) -> bool:
        """Whether the id fell out of the ring. Never False for one that did; rarely True for one that did not."""
        for word, mask in _bits(command_id):
            row = self._db.execute("SELECT bits FROM evicted WHERE word = ?", (word,)).fetchone()
            if row is None or not row[0] & mask:
                return False
        return True

    def bits_set_pct(self) -> float:
        """Return how full the filter is, in percent; at 50 one new id in 128 is called forgotten."""
        return 100.0 * sum(bin(row[0]).count("1") for row in self._db.execute("SELECT bits FROM evicted")) / FILTER_BITS

    def record(self, entry: Entry, *, retain: Mapping[str, float], epoch: int) -> None:
        """Commit a new command, the values that it changes and the epoch floor, all or nothing; durable on return."""
        with _transaction(self._db):
            self._db.execute(
                "INSERT INTO ledger(id, sha256, verb, state, code, detail, deadline_at) VALUES(?,?,?,?,?,?,?)",
                (entry.command_id, entry.sha256, entry.verb, entry.state, entry.code, entry.detail, entry.deadline_at),
            )
            self._retain({**retain, EPOCH_FLOOR: max(epoch, self.epoch_floor())})
            self._evict()

    def begin(self, command_id: str) -> None:
        """Commit that a waiting command begins."""
        with _transaction(self._db):
            self._db.execute("UPDATE ledger SET deadline_at = 0 WHERE id = ?", (command_id,))

    def settle(self, command_id: str, state: State, code: Code, detail: str) -> None:
        """Commit the outcome of a running command."""
        with _transaction(self._db):
            self._db.execute(
                "UPDATE ledger SET state = ?, code = ?, detail = ? WHERE id = ?", (state, code, detail, command_id)
            )

    def retain(self, values: Mapping[str, float]) -> None:
        """Commit values that change without a command."""
        with _transaction(self._db):
            self._retain(values)

    def raise_floor(self, epoch: int) -> None:
        """Commit a higher epoch floor."""
        self.retain({EPOCH_FLOOR: epoch})

    def _retain(self, values: Mapping[str, float]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO retained(name, value) VALUES(?, ?)", list(values.items()))

    def _evict(self) -> None:
        # A running command never falls out: its outcome is still to come.
        oldest = self._db.execute(
            "SELECT seq, id FROM ledger WHERE state != ? ORDER BY seq LIMIT max(0, (SELECT count(*) FROM ledger) - ?)",
            (State.RUNNING, ENTRIES_MAX),
        ).fetchall()
        for seq, command_id in oldest:
            for word, mask in _bits(command_id):
                self._db.execute(
                    "INSERT INTO evicted(word, bits) VALUES(?, ?) ON CONFLICT(word) DO UPDATE SET bits = bits | ?",
                    (word, mask, mask),
                )
            self._db.execute("DELETE FROM ledger WHERE seq = ?", (seq,))


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE to COMMIT, or ROLLBACK if anything failed inside."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except sqlite3.Error as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise LogHalted(
            f"the PLC's memory cannot be written ({error}): nothing was done; make room and start again"
        ) from error


def _entry(row: tuple[str, str, str, int, int, str, int]) -> Entry:
    command_id, sha256, verb, state, code, detail, deadline_at = row
    return Entry(command_id, sha256, verb, State(state), Code(code), detail, deadline_at)


def _bits(command_id: str) -> list[tuple[int, int]]:
    """Return word and mask (32 bits a word) of each of the id's bits in the filter."""
    digest = hashlib.sha256(command_id.encode()).digest()
    numbers = [int.from_bytes(digest[4 * i : 4 * i + 4], "little") % FILTER_BITS for i in range(FILTER_HASHES)]
    return [(number >> 5, 1 << (number & 31)) for number in numbers]
