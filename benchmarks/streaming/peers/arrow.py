"""Reads our messages for the peers: batches of samples from Arrow, everything else passed over. Counts and times.

Nothing is checked: no hash, no header against the value, no order. It is the least with which a peer sees the samples.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa

ARROW = b"application/vnd.apache.arrow.stream"
WINDOW_S = 10
"""Of plant time: ten samples of a tag."""
FIRST_TAG = 1000


def is_batch(headers: Any) -> bool:
    """Tell whether a message holds samples."""
    return any(name == "content-type" and content == ARROW for name, content in headers or ())


def columns(value: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tag, source time and value of a batch."""
    with pa.ipc.open_stream(value) as stream:
        batch = stream.read_next_batch()
    return batch.column(0).to_numpy(), batch.column(1).to_numpy(), batch.column(3).to_numpy()


def mean_per_tag(value: bytes) -> np.ndarray:
    """Return the mean of each tag in a batch: what a batched form does in place of a window."""
    tag, _, values = columns(value)
    places = tag - FIRST_TAG
    return np.bincount(places, values) / np.maximum(np.bincount(places), 1)


class Meter:
    """Processor time of this process from the first sample to the last, all threads."""

    def __init__(self, form: str, until: int) -> None:
        self._form, self._until = form, until
        self._samples = self._results = 0
        self._began: tuple[float, float] | None = None

    def took(self, samples: int) -> None:
        """Count samples that are about to be processed; at the last one print and end the process."""
        if self._began is None:
            self._began = time.process_time(), time.perf_counter()
        elif self._samples >= self._until:
            self._print(*self._began)
        self._samples += samples

    def gave(self, results: int = 1) -> None:
        """Count results."""
        self._results += results

    def _print(self, cpu_began_s: float, wall_began_s: float) -> None:
        cpu_s, wall_s = time.process_time() - cpu_began_s, time.perf_counter() - wall_began_s
        said = {"form": self._form, "samples": self._samples, "results": self._results, "cpu_s": cpu_s}
        print(json.dumps({**said, "wall_s": wall_s, "per_cpu_s": self._samples / cpu_s}), flush=True)
        sys.stdout.flush()
        os._exit(0)
