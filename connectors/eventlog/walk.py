"""Walk along stored rows and recompute what they claim: the one reader of the chain, for opening and for verifying."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from connectors.eventlog.chain import link

RawRow = tuple[int, bytes, int, bytes, int, bytes, bytes, bytes]
"""The columns of an event with text as stored bytes: a damaged file may hold text that is no UTF-8."""


@dataclass(frozen=True, slots=True)
class Break:
    """The first row that does not fit."""

    position: int
    """Where it, or another row in its place, should have been."""
    row: RawRow
    misfit: Literal["position", "chain", "version"]


class Walk:
    """Where a walk stands and what must come next."""

    def __init__(self, position: int, chain: bytes, *, versions: dict[bytes, int] | None) -> None:
        """Begin after the record at `position`, whose link is `chain`.

        Args:
            position: 0 for the whole log.
            chain: The link there; `genesis` for 0.
            versions: Last version of each cell; None: unknown, so each cell's first row is believed.
        """
        self.position, self.chain = position, chain
        self.versions = {} if versions is None else versions
        self._believe_first = versions is None

    def along(self, rows: Iterable[RawRow]) -> Break | None:
        """Go on over `rows`; stop before the first that does not fit."""
        for row in rows:
            misfit = self._step(row)
            if misfit is not None:
                return Break(self.position + 1, row, misfit)
        return None

    def _step(self, row: RawRow) -> Literal["position", "chain", "version"] | None:
        position, cell, version, _, _, _, _, stored = row
        if position != self.position + 1:
            return "position"
        if link_or_none(self.chain, row) != stored:
            return "chain"
        before = self.versions.get(cell, version - 1 if self._believe_first else 0)
        if version != before + 1:
            return "version"
        self.position, self.chain = position, stored
        self.versions[cell] = version
        return None


def link_or_none(
    before: bytes, row: RawRow, *, position: int | None = None, version: int | None = None
) -> bytes | None:
    """Return the row's link as computed, at another place if one is given; None: its columns are of no such types."""
    at, cell, version_stored, type_, recorded_at, inputs, data, _ = row
    try:
        return link(
            before, at if position is None else position, cell, version_stored if version is None else version,
            type_, recorded_at, inputs, data,
        )  # fmt: skip
    except (TypeError, struct.error):
        return None
