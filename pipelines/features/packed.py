"""State as bytes and back: msgpack with numpy arrays as an extension. Equal state gives equal bytes.

Not a wire format: only snapshots are written so, and a snapshot names the version that may read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import CodecError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]
"""Counts, sequence numbers and times in microseconds since 1970 UTC."""

_ARRAY = 1
"""Extension code of an array: `[dtype, shape, bytes]`, itself msgpack."""


def pack(state: Mapping[str, Any]) -> bytes:
    """Return `state` as bytes. Values may be arrays and whatever msgpack knows; NaN and -0.0 keep their bits."""
    return msgspec.msgpack.encode(state, enc_hook=_to_extension)


def unpack(data: bytes) -> dict[str, Any]:
    """Return what `pack` was given; arrays are new and writable.

    Raises:
        CodecError: not bytes of `pack`.
    """
    try:
        state = msgspec.msgpack.decode(data, ext_hook=_from_extension)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise CodecError(f"not a packed state of {len(data)} bytes: {error}") from error
    if not isinstance(state, dict):
        raise CodecError(f"a packed state is a mapping, not {type(state).__name__}")
    return state


def _to_extension(value: object) -> msgspec.msgpack.Ext:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"cannot pack {type(value).__name__}")
    parts = (value.dtype.str, value.shape, value.tobytes())
    return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(parts))


def _from_extension(code: int, data: memoryview) -> NDArray[Any]:
    if code != _ARRAY:
        raise ValueError(f"unknown extension {code}")
    dtype, shape, raw = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    return np.frombuffer(raw, dtype=np.dtype(dtype)).reshape(shape).copy()
