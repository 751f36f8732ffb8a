"""A small cell and the kept input that feeds it: what the tests of rows and detectors share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from pipelines.detectors.suite import Fed, Suite
from schemas.facts import AnomalyCleared, AnomalyDetected, Detected
from schemas.plant import Asset, Cell, Group, Limits, Range, Tag
from schemas.samples import Control, Gap, Input, Kept, LineEvent, SampleBatch, Tick

T0 = 1_790_000_000_000_000
S = 1_000_000
GOOD, BAD = 0, 0x80000000

COUNT, TORQUE, FORCE, SP, DEVIATION, LEVEL = 1, 2, 3, 4, 5, 6


def small_cell(*, lateness_s: float = 1.0, state_node: str = "", warm_up_rows: int = 20) -> Cell:
    """Return a cell: on a trigger torque, force, set-point and their difference; on a grid the level."""
    wide = Range(low=-1000.0, high=1000.0)

    def tag(number: int, name: str, group: str = "cycle", **fields: object) -> Tag:
        base = {"id": number, "name": name, "asset": "press", "unit": "N", "range": wide, "group": group}
        node = {} if "minus" in fields else {"node": f"/{name}"}
        return Tag.model_validate({**base, "hold_s": 30.0, **node, **fields})

    return Cell(
        id="c",
        path="a/b/c/d/e",
        namespace="urn:test",
        lateness_s=lateness_s,
        state_node=state_node,
        assets=(Asset(id="press", title="Press"),),
        groups=(
            Group(id="cycle", trigger="count", warm_up_rows=warm_up_rows),
            Group(id="grid", period_s=1.0, warm_up_rows=warm_up_rows),
        ),
        tags=(
            tag(COUNT, "count", role="counter", range=Range(low=0, high=1e12)),
            tag(TORQUE, "torque_n", limits=Limits(high=50.0)),
            tag(FORCE, "force_n"),
            tag(SP, "force_sp_n", role="setpoint", hold_s=1e9),
            tag(DEVIATION, "deviation_n", minus=("force_n", "force_sp_n")),
            tag(LEVEL, "level_n", "grid", hold_s=3.0),
        ),
    )


class Feeder:
    """Feeds a suite, one cycle of 2 s after the other, and keeps what it said."""

    def __init__(self, cell: Cell | None = None, suite: Suite | None = None) -> None:
        self.suite = suite or Suite(cell or small_cell())
        self.kept: list[Kept] = []
        self.facts: list[Detected] = []
        self.rows: list[object] = []
        self.count = 0
        self.now = T0
        self.random = np.random.default_rng(0)
        self.level = 20.0

    def put(self, message: Input, at: int | None = None) -> Fed:
        self.kept.append(Kept(len(self.kept) + 1, self.now if at is None else at, message))
        fed = self.suite.feed(self.kept[-1])
        self.facts += fed.facts
        self.rows += fed.rows
        return fed

    def samples(self, samples: Sequence[tuple[int, int, float] | tuple[int, int, float, int]]) -> None:
        self.put(batch(samples))

    def tick(self, at: int | None = None, *, alive: bool = True, stale: tuple[int, ...] = ()) -> Fed:
        return self.put(Tick("s", 1, 0, self.now if at is None else at, alive, stale))

    def gap(self, from_at: int, until_at: int, tags: tuple[int, ...] = ()) -> None:
        self.put(Gap("s", 1, 0, tags, from_at, until_at, "test"))

    def state(self, number: int, at: int | None = None) -> None:
        self.put(LineEvent("s", 1, 0, "packml.state", self.now if at is None else at, number))

    def control(self, kind: str, tags: tuple[int, ...], **fields: object) -> None:
        self.put(Control("s", 1, 0, kind, tags, **fields))  # type: ignore[arg-type]

    def cycles(self, n: int, *, torque: float | None = None, force: float | None = None, status: int = GOOD,
               without: Iterable[int] = ()) -> list[Detected]:  # fmt: skip
        """Run cycles and return the facts they gave. Torque is 10 ± 1, force 15 ± 0.05, level 20 ± 1 unless told."""
        first = len(self.facts)
        for _ in range(n):
            self.now += 2 * S
            self.count += 1
            values = {
                TORQUE: round(10.0 + self.random.standard_normal(), 6) if torque is None else torque,
                FORCE: round(15.0 + 0.05 * self.random.standard_normal(), 6) if force is None else force,
                SP: 15.0,
                COUNT: float(self.count),
                LEVEL: self.level + round(float(self.random.standard_normal()), 6),
            }
            self.samples(
                [(t, self.now, v, status if t == TORQUE else GOOD) for t, v in values.items() if t not in set(without)]
            )
            self.tick()
        return self.facts[first:]


def batch(samples: Sequence[tuple[int, int, float] | tuple[int, int, float, int]]) -> SampleBatch:
    """Return a batch of (tag, source_at, value[, status])."""
    at = np.array([s[1] for s in samples], dtype=np.int64)
    return SampleBatch(
        source="s",
        epoch=1,
        seq=0,
        tag=np.array([s[0] for s in samples], dtype=np.uint32),
        source_at=at,
        server_at=at,
        value=np.array([s[2] for s in samples], dtype=np.float64),
        status=np.array([s[3] if len(s) > 3 else GOOD for s in samples], dtype=np.uint32),
    )


def opened(facts: Sequence[object]) -> list[tuple[str, str]]:
    """Return (detector, tag) of the episodes that opened."""
    return [(f.detector, f.tag) for f in facts if isinstance(f, AnomalyDetected)]


def cleared(facts: Sequence[object]) -> list[str]:
    """Return the reasons of the episodes that cleared."""
    return [f.reason for f in facts if isinstance(f, AnomalyCleared)]
