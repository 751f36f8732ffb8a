"""Proves a data folder: its log verifies, and replay comes to the same facts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pipelines.hosting import Folders
from pipelines.log_place import LogPlace
from pipelines.replaying import replay_folder
from pipelines.whole_log import WholeLog, read_whole
from schemas.errors import JidokaError
from schemas.settings import PostgresSettings


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of it."""

    good: bool
    text: str


def prove(data: Path, postgres: PostgresSettings | None = None) -> Proof:
    """Verify and replay everything below a data folder, with its log in a database if one is named."""
    place = LogPlace(Folders(data), postgres)
    try:
        verification = place.verify()
        if not verification.ok:
            return Proof(False, f"the log does not verify: {verification}")
        return _replayed(place.folders, read_whole(place))
    except JidokaError as error:
        return Proof(False, f"no proof: {error}")


def _replayed(folders: Folders, log: WholeLog) -> Proof:
    compared, left_out, began = 0, 0, time.perf_counter()
    for cell in log.cells:
        result = replay_folder(folders, log.of(cell), cell, blobs=log.blobs)
        if result.divergence is not None:
            return Proof(False, f"replay differs at position {result.divergence.position}")
        compared, left_out = compared + result.facts_compared, left_out + result.left_out
    took_s = time.perf_counter() - began
    said = f"log of {len(log.records)} facts verifies, {compared} derived facts replay the same in {took_s:.2f} s"
    return Proof(True, said + (f", {left_out} not re-run since their input is not kept any more" if left_out else ""))
