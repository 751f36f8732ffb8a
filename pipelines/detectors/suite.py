"""The detection of one cell: its kept input in, facts out. Pure, and the same for any split into batches.

PackML: statistics neither learn nor count unless the cell was in EXECUTE during the whole row. What is open then stays
open until normal rows of an executing cell clear it: a machine that stands still has proved nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, assert_never

import numpy as np

from pipelines.detectors import DETECTORS
from pipelines.detectors.calibration import normals_for, sha256_of
from pipelines.detectors.config import DetectorConfig
from pipelines.detectors.episodes import Episode, Episodes, Key
from pipelines.detectors.evidence import build
from pipelines.detectors.port import Signal
from pipelines.detectors.watch import Calibration, Watch
from pipelines.features.cell_rows import CellRows
from pipelines.features.line_state import LineStates
from pipelines.features.packed import pack, unpack
from pipelines.features.row import Row
from schemas.anomalies import ClearReason
from schemas.errors import CodecError, ConfigError
from schemas.evidence import Evidence
from schemas.facts import CalibrationAdopted, Detected, LineStateChanged, SourceChanged, SourceGap
from schemas.line import state_name
from schemas.plant import Cell
from schemas.samples import WATCH, Control, Gap, Kept, LineEvent, SampleBatch, Tick

SNAPSHOT_VERSION: Final = 3
"""Raise it with every change of what a snapshot holds."""


@dataclass(slots=True)
class Fed:
    """What one input gave."""

    facts: list[Detected] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    """Rows that closed, oldest first: what effects are verified on."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """By SHA-256: what facts name; to be made durable before them."""
    ended: list[Episode] = field(default_factory=list)
    """Episodes that ended, with what was measured of them."""


class Suite:
    """All detectors of one cell."""

    def __init__(self, cell: Cell, config: DetectorConfig | None = None, calibration: bytes = b"") -> None:
        """Begin with nothing learnt but what was calibrated beforehand.

        Raises:
            ConfigError: unknown detector or parameter, a derived tag that cannot be computed, or a calibration of
                other tags.
        """
        self.cell, self.config = cell, config or DetectorConfig()
        self.rows = CellRows(cell)
        table = {name: DETECTORS[name] for name in _names(self.config)}
        try:
            self.watches = tuple(Watch(columns, table, self.config) for columns in self.rows.columns)
        except TypeError as error:
            raise ConfigError("detectors", "parameters", str(error), "Use the arguments of the class") from error
        self.episodes = Episodes(cell.path, self.config.sha256(), self.config.update_rows)
        self._states = LineStates(required=bool(cell.state_node))
        self._alive: dict[str, bool] = {}
        self._setpoints: dict[str, float] = {}
        self._names = {tag.id: tag.name for tag in cell.tags}
        self._group = {group.id: g for g, group in enumerate(cell.groups)}
        self._calibration_sha256 = sha256_of(calibration)
        for normal in normals_for(calibration, cell):
            watch = self.watches[self._group[normal.group]]
            names = watch.columns.names
            watch.adopt(np.array([names.index(name) for name in normal.tags]), normal.block, normal.widen)
        self._setpoint_slots = tuple(
            tuple((slot, tag.name) for slot, tag in enumerate(columns.tags) if tag.role == "setpoint")
            for columns in self.rows.columns
        )

    def feed(self, kept: Kept) -> Fed:
        """Take one input. All facts carry its time of taking."""
        fed, at = Fed(), kept.at_us
        match kept.input:
            case SampleBatch() as batch:
                self.rows.take(batch)
            case Tick() as tick:
                self._tick(at, tick, fed)
            case LineEvent() as event:
                self._line_event(at, event, fed)
            case Gap() as gap:
                self.rows.take_gap(gap)
                fed.facts.append(self._gap(at, gap))
            case Control() as control:
                self._control(at, control, fed)
            case _:
                assert_never(kept.input)
        fed.ended = self.episodes.take_ended()
        return fed

    # ------------------------------------------------------------------ the five kinds of input

    def _tick(self, at: int, tick: Tick, fed: Fed) -> None:
        before = self._alive.get(tick.source, True) and self._alive.get(WATCH, True)
        if before != tick.alive:
            fed.facts.append(SourceChanged(at=at, source=tick.source, alive=tick.alive))
        self._alive[tick.source] = tick.alive
        if tick.source == WATCH:
            return  # It knows nothing of samples: rows wait for the sources themselves, and go on with them.
        self._alive.pop(WATCH, None)
        for lost in self.rows.hear(at, tick):
            fed.facts.append(self._gap(at, lost))
            # Nobody will ever say that it lives again: it must not count as lost for ever.
            if not self._alive.pop(lost.source, True) and all(self._alive.values()):
                fed.facts.append(SourceChanged(at=at, source=tick.source, alive=True))
        fed.rows = self.rows.tick(tick)
        for row in fed.rows:
            self._judge(at, row, fed)

    def _gap(self, at: int, gap: Gap) -> SourceGap:
        tags = tuple(self._names.get(i, f"unknown_{i}") for i in gap.tags)
        return SourceGap(
            at=at, source=gap.source, tags=tags, from_at=gap.from_at, until_at=gap.until_at, reason=gap.reason
        )

    def _line_event(self, at: int, event: LineEvent, fed: Fed) -> None:
        if event.kind != "packml.state":
            return
        before = self._states.current
        self._states.take(event.source_at, event.value)
        after = self._states.current
        if after is not None and after != before:
            fed.facts.append(LineStateChanged(at=at, state=state_name(after), number=after))

    def _control(self, at: int, control: Control, fed: Fed) -> None:
        for g, watch in enumerate(self.watches):
            slots = watch.slots(control.tags)
            if not len(slots):
                continue
            match control.kind:
                case "rebaseline":
                    learning = [name for name, detector in watch.detectors.items() if detector.learns]
                    self._end(at, g, slots.tolist(), learning, "rebaselined", fed)
                    watch.rebaseline(slots, at + int(control.settle_s * 1e6))
                case "shelve" | "maintenance":
                    self._end(at, g, slots.tolist(), list(watch.detectors), "shelved", fed)
                    watch.shelve(slots, control.until_at)
                case "unshelve":
                    watch.unshelve(slots)
                case "label":
                    pass  # for people who score detectors later: the kept input has it
                case _:
                    assert_never(control.kind)

    def _end(self, at: int, group: int, slots: list[int], detectors: list[str], reason: ClearReason, fed: Fed) -> None:
        keys = [(group, slot, name) for slot in slots for name in detectors]
        fed.facts += self.episodes.end(at, keys, reason, ended_at=at)

    # ------------------------------------------------------------------ one row

    def _judge(self, at: int, row: Row, fed: Fed) -> None:
        g = self._group[row.group]
        watch = self.watches[g]
        for slot, name in self._setpoint_slots[g]:
            value = float(row.values[slot])
            if value == value:
                self._setpoints[name] = value
        if watch.row is None and watch.adopted is not None:
            self._calibrated(at, watch.adopted, fed)
        judgement = watch.judge(
            row,
            executing=self._states.executing(row.start_at, row.end_at),
            stopped_until=self._states.stopped_until(row.end_at),
        )
        for detector, signal in judgement.signals:
            self._signal(at, (g, signal.slot, detector), signal, row, fed)
        if self.episodes.open:
            fed.facts += self.episodes.row(
                at, g, lambda slot: float(watch.z[slot]), lambda slot: self._evidence(row, (g, slot))
            )
        for calibration in judgement.calibrations:
            self._calibrated(at, calibration, fed)

    def _calibrated(self, at: int, calibration: Calibration, fed: Fed) -> None:
        sha256 = calibration.sha256
        fed.blobs[sha256] = calibration.blob
        fed.facts.append(CalibrationAdopted(at=at, group=calibration.group, rows=calibration.rows, sha256=sha256))

    def _signal(self, at: int, key: Key, signal: Signal, row: Row, fed: Fed) -> None:
        g, slot, detector = key
        if not signal.begins:
            fed.facts += self.episodes.end(at, [key], "normal", ended_at=row.end_at)
            return
        tag = self.watches[g].columns.tags[slot]
        severity = self.watches[g].detectors[detector].severity
        evidence = self._evidence(row, (g, slot))
        fed.facts.append(self.episodes.begin(at, key, tag, signal, severity, evidence))

    def _evidence(self, row: Row, subject: tuple[int, int]) -> Evidence:
        state = self._states.name_at(row.end_at)
        return build(self.watches, subject, dict(sorted(self._setpoints.items())), row_at=row.end_at, state=state)

    # ------------------------------------------------------------------ snapshot

    def snapshot(self) -> bytes:
        """Return the whole state. Equal states give equal bytes."""
        return pack(
            {
                "version": SNAPSHOT_VERSION,
                "identity": self._identity,
                "rows": self.rows.state(),
                "watches": [watch.state() for watch in self.watches],
                "episodes": self.episodes.state(),
                "states": self._states.state(),
                "alive": dict(sorted(self._alive.items())),
                "setpoints": dict(sorted(self._setpoints.items())),
            }
        )

    def restore(self, data: bytes) -> None:
        """Go back to a snapshot. What follows is the same, bit for bit, as without the interruption.

        Raises:
            CodecError: not a snapshot, of another version, or of another cell or configuration.
        """
        state = unpack(data)
        if state.get("version") != SNAPSHOT_VERSION:
            raise CodecError(f"snapshot of version {state.get('version')!r}, this program reads {SNAPSHOT_VERSION}")
        if state["identity"] != self._identity:
            raise CodecError(f"snapshot of another cell or detector configuration than {self.cell.path!r}")
        self.rows.load(state["rows"])
        for watch, watch_state in zip(self.watches, state["watches"], strict=True):
            watch.load(watch_state)
        self.episodes.load(state["episodes"])
        self._states.load(state["states"])
        self._alive, self._setpoints = dict(state["alive"]), dict(state["setpoints"])

    def state_sha256(self) -> str:
        """Return the hash of the snapshot, 64 hex digits."""
        return hashlib.sha256(self.snapshot()).hexdigest()

    @cached_property
    def _identity(self) -> str:
        # Of ten thousand tags it takes longer than all else of a snapshot, and never changes.
        parts = self.cell.model_dump_json() + self.config.sha256() + self._calibration_sha256
        return hashlib.sha256(parts.encode()).hexdigest()


def _names(config: DetectorConfig) -> tuple[str, ...]:
    for name in (*config.detectors, *config.parameters):
        if name not in DETECTORS:
            known = ", ".join(DETECTORS)
            raise ConfigError("detectors", name, "there is no such detector", f"Use some of: {known}")
    return config.detectors or tuple(DETECTORS)
