"""The figures of each protocol, from recordings and what was predicted of them. Files without labels are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from pipelines.protocols.layout import Protocol
from pipelines.protocols.marking_nab import mark_nab
from pipelines.protocols.marking_skab import mark_skab
from pipelines.protocols.marking_tep import mark_tep
from pipelines.protocols.marks import Judged, Line


def mark(protocol: Protocol, judged: Sequence[Judged], who: str) -> list[Line]:
    """Return the lines of a protocol: those of the detectors, then those of who does not look. Empty without labels."""
    match protocol:
        case "skab":
            return mark_skab(judged, who)
        case "tep":
            return mark_tep(judged, who)
        case "nab":
            return mark_nab(judged, who)
    assert_never(protocol)
