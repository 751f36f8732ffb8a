"""A calibration made beforehand: rows of normal operation from a historian, adopted before the first row is judged.

It holds the rows themselves, not what one detector makes of them: every detector of the suite learns from them as from
a warm-up. As a file of the configuration it is adopted with a fact and replayed with it. Tags not in it warm up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np

from pipelines.features.packed import Floats, pack, unpack
from schemas.errors import CodecError, ConfigError
from schemas.plant import Cell, Tag

FILE: Final = "calibration.msgpack"
VERSION: Final = 1
ROWS_MIN: Final = 20
REMEDY: Final = f"Take {FILE} away, so that the tags warm up, or make it again with jidoka calibrate"


@dataclass(frozen=True, slots=True, eq=False)
class GroupNormal:
    """Normal rows of some tags of one group."""

    group: str
    tags: tuple[str, ...]
    units: tuple[str, ...]
    """Of the tags, as they were when it was made."""
    block: Floats
    """Shape `(rows, tags)`, oldest first, no NaN."""
    widen: Floats
    """Shape `(tags,)`, at least 1: what a tag's spread is multiplied with, since people called alarms of it false."""


def encode_calibration(cells: Mapping[str, Sequence[GroupNormal]]) -> bytes:
    """Return the file for some cells, by path. Equal calibrations give equal bytes."""
    return pack(
        {
            "version": VERSION,
            "cells": {
                path: [
                    {"group": n.group, "tags": n.tags, "units": n.units, "block": n.block, "widen": n.widen}
                    for n in normals
                ]
                for path, normals in sorted(cells.items())
            },
        }
    )


def cells_of(data: bytes) -> tuple[str, ...]:
    """Return the paths of the cells that a file calibrates.

    Raises:
        ConfigError: it is no calibration, or of another version.
    """
    return tuple(_cells(data))


def normals_for(data: bytes, cell: Cell) -> tuple[GroupNormal, ...]:
    """Return what a file says of one cell; nothing if it does not name it.

    Raises:
        ConfigError: it is no calibration, or it is of other tags or units than the cell's.
    """
    if not data:
        return ()
    try:
        normals = [GroupNormal(**given) for given in _cells(data).get(cell.path, ())]
    except TypeError as error:
        _fail(cell.path, f"it is not what a calibration holds ({error})")
    for normal in normals:
        _check(normal, cell)
    return tuple(normals)


def sha256_of(data: bytes) -> str:
    """Return the hash of a calibration, 64 hex digits; empty for none."""
    return hashlib.sha256(data).hexdigest() if data else ""


def _cells(data: bytes) -> dict[str, Any]:
    try:
        state = unpack(data)
    except CodecError as error:
        _fail("(whole file)", str(error))
    if state.get("version") != VERSION or not isinstance(state.get("cells"), dict):
        _fail("version", f"it is {state.get('version')!r}, this program reads {VERSION}")
    cells: dict[str, Any] = state["cells"]
    return cells


def _check(normal: GroupNormal, cell: Cell) -> None:
    there = {tag.name: tag for tag in cell.tags if tag.group == normal.group}
    for name, unit in zip(normal.tags, normal.units, strict=True):
        _check_tag(f"{cell.path}: {name}", there.get(name), unit, normal.group)
    rows, tags = np.shape(normal.block) if np.ndim(normal.block) == 2 else (0, 0)
    if rows < ROWS_MIN or tags != len(normal.tags) or not np.isfinite(normal.block).all():
        _fail(
            f"{cell.path}: {normal.group}", f"{rows} rows of {tags} tags, not {ROWS_MIN} or more of {len(normal.tags)}"
        )
    if np.shape(normal.widen) != (tags,) or not (np.asarray(normal.widen) >= 1).all():
        _fail(f"{cell.path}: {normal.group}: widen", "it is below 1, or not one number a tag")


def _check_tag(field: str, tag: Tag | None, unit: str, group: str) -> None:
    if tag is None:
        _fail(field, f"plant.toml has no such tag in group {group!r}")
    if tag.unit != unit:
        _fail(field, f"it was calibrated in {unit!r} and plant.toml has {tag.unit!r}")
    if tag.role != "process" or not tag.watch:
        _fail(field, "plant.toml does not have it watched")


def _fail(field: str, problem: str) -> NoReturn:
    raise ConfigError(FILE, field, problem, REMEDY)
