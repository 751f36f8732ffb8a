"""The exception tree: faults of the outside and of what people wrote into files.

    JidokaError
    ├── ConfigError          a configuration file; names file, field and remedy
    ├── RecordingError       a recording that cannot be read; names file, row or column, and remedy
    ├── LogError             the event store
    │   ├── Fenced           version, position or epoch do not match: another writer was here; nothing was written
    │   ├── LogCorrupt       a stored record does not verify; names the first bad position and its kind
    │   └── LogHalted        a commit failed (disk full, I/O error); nothing more is accepted until a restart
    ├── ConnectionFault      an outside partner did not answer or refused the connection
    └── CodecError           bytes that are not what they claim to be

Expected outcomes (refused, rejected, unknown, unusable) are values, not exceptions: see `schemas.outcomes`.
"""

from __future__ import annotations


class JidokaError(Exception):
    """Base of everything that this program raises on purpose."""


class ConfigError(JidokaError):
    """A configuration file is missing, malformed or contradicts another one."""

    def __init__(self, file: str, field: str, problem: str, remedy: str) -> None:
        self.file, self.field, self.problem, self.remedy = file, field, problem, remedy
        super().__init__(f"{file}: {field}: {problem}. {remedy}")


class RecordingError(JidokaError):
    """A recording cannot be used as it is."""

    def __init__(self, file: str, where: str, problem: str, remedy: str) -> None:
        self.file, self.where, self.problem, self.remedy = file, where, problem, remedy
        super().__init__(f"{file}: {where}: {problem}. {remedy}")


class LogError(JidokaError):
    """The event store could not do what was asked."""


class Fenced(LogError):
    """Another writer moved the stream, the input position or the epoch. Nothing was written."""


class LogCorrupt(LogError):
    """A stored record does not verify."""

    def __init__(self, position: int, kind: str, detail: str) -> None:
        self.position, self.kind, self.detail = position, kind, detail
        super().__init__(f"record {position}: {kind}: {detail}")


class LogHalted(LogError):
    """A commit failed and what is on disk is uncertain: the store refuses to go on until it is opened again."""


class ConnectionFault(JidokaError):
    """The partner did not answer, or refused, in a way that a person or a retry can mend."""


class CodecError(JidokaError):
    """Bytes that are not what they claim to be."""
