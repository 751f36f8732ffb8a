"""What may be noted at the broker as read: never a position before the letters that belong before it are there."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

import kafka.errors as errors
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from connectors.kafka.codec import Message
from connectors.kafka.letters import Letterbox
from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings

COMMIT_WITHIN_MS: Final = 2_000
"""Wall time for the broker to note positions."""
LETTERS_MAX: Final = 2_000
"""Letters that wait for the broker; then nothing more is fetched."""
PASSING: Final = (
    errors.CommitFailedError, errors.RebalanceInProgressError, errors.IllegalGenerationError,
    errors.UnknownMemberIdError, errors.RetriableError, ConnectionFault,
)  # fmt: skip
"""Why a commit may fail and the next one succeed, or another reader's count."""


class Committer:
    """Of one group. Any thread may say what is safe; one thread sends it."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Begin with nothing.

        Args:
            settings: Brokers and security.
        """
        self.commits_n = self.letters_n = 0
        """Commits that succeeded, letters that a broker has."""
        self._letterbox = Letterbox(settings)
        self._lock = threading.Lock()
        self._safe: dict[TopicPartition, int] = {}
        self._letters: list[Message] = []
        # How far the broker knows us to be, of what is ours. Of the sending thread alone.
        self._noted: dict[TopicPartition, int] = {}

    @property
    def full(self) -> bool:
        """Whether so many letters wait that nothing more should be fetched."""
        return len(self._letters) >= LETTERS_MAX

    def refuse(self, letter: Message) -> None:
        """Put this on `dead-letters.v1`, before any position that is safe from now on."""
        with self._lock:
            self._letters.append(letter)

    def safe(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note that everything before these is durable."""
        with self._lock:
            self._safe.update(positions)

    def begin(self, consumer: Any, new: Mapping[TopicPartition, int], known: Mapping[TopicPartition, int]) -> None:
        """Note at once where reading begins of what nobody has read; and how far the rest is.

        Raises:
            KafkaError: it is not noted.
        """
        if new:
            consumer.commit(_committable(new), timeout_ms=COMMIT_WITHIN_MS)
        self._noted.update({**known, **new})

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Leave what is somebody else's now."""
        with self._lock:
            for place in places:
                self._safe.pop(place, None)
                self._noted.pop(place, None)

    def send(self, consumer: Any) -> None:
        """Send the letters, then note the positions. What fails is sent by the next call.

        Raises:
            KafkaError: nothing is noted; if it is one of `PASSING`, the next call may succeed.
            ConnectionFault: letters are not known to be there.
        """
        with self._lock:
            # Taken together: no position without the letters that were there before it.
            positions, letters = dict(self._safe), list(self._letters)
        if letters:
            self._letterbox.send(letters)
            self.letters_n += len(letters)
            with self._lock:
                del self._letters[: len(letters)]
        # Another process may have come further meanwhile: nothing goes back.
        ours = {place: offset for place, offset in positions.items() if offset > self._noted.get(place, offset)}
        if ours:
            consumer.commit(_committable(ours), timeout_ms=COMMIT_WITHIN_MS)
            self.commits_n += 1
            self._noted.update(ours)
        with self._lock:
            self._safe = {place: offset for place, offset in self._safe.items() if positions.get(place) != offset}

    def close(self) -> None:
        """End the connection for letters."""
        self._letterbox.close()


def _committable(positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {place: OffsetAndMetadata(offset, "", -1) for place, offset in positions.items()}
