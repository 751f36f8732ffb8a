"""Checks and figures that several processes have: disk, certificate, backlog; and how metric families are made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from connectors.opcua.pki import own_certificate_ends_at
from pipelines.operation.health import Health
from schemas.settings import OpcUaSettings

LAG_MAX: Final = 1_000
"""Messages that may wait without being told as a backlog: some seconds of a busy partition."""
DISK_FREE_MIN_BYTES: Final = 200_000_000
"""Free room below which the next rotation or backup may be the one that fails."""

Labelled = Mapping[Any, float]
"""Values by tuples of label values."""


def counter(name: str, says: str, value: float | Labelled, labels: Sequence[str] = ()) -> Any:
    """Return a counter; its name must end in `_total`."""
    family = CounterMetricFamily(name.removesuffix("_total"), says, labels=labels)
    for of, number in _by_labels(value).items():
        family.add_metric(list(of), number)
    return family


def gauge(name: str, says: str, value: float | Labelled, labels: Sequence[str] = ()) -> Any:
    """Return a gauge."""
    family = GaugeMetricFamily(name, says, labels=labels)
    for of, number in _by_labels(value).items():
        family.add_metric(list(of), number)
    return family


def _by_labels(value: float | Labelled) -> Labelled:
    return value if isinstance(value, Mapping) else {(): value}


def disk(folder: Path) -> Health:
    """Return whether the folder's file system takes writes and has room."""
    if not os.access(folder, os.W_OK):
        return Health("disk", False, f"{folder} cannot be written")
    free = shutil.disk_usage(folder).free
    return Health("disk", free >= DISK_FREE_MIN_BYTES, f"{free / 1e9:.2f} GB free at {folder}")


def free_bytes(folder: Path) -> Any:
    """Return how much room is left, as a metric."""
    says = "Free room on the file system of the data folder."
    return gauge("jidoka_disk_free_bytes", says, float(shutil.disk_usage(folder).free))


def certificate(settings: OpcUaSettings) -> Iterable[Any]:
    """Yield when our own OPC UA certificate ends; nothing without one."""
    if settings.security == "None" or not (ends_at := own_certificate_ends_at(Path(settings.certificates))):
        return
    yield gauge("jidoka_certificate_expiry_timestamp_seconds", "When our own OPC UA certificate ends.", ends_at)
