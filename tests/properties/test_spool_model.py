"""Any sequence of taking, syncing, sending, crashing and losing power: nothing synced is lost, order is kept.

The receiver is the simplest one there is: it drops what does not come after the last of its source. Whatever the spool
does, that must give every synced sample once and in order, with a gap wherever one is missing, and no number twice for
two different messages.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from connectors.kafka.codec import decode_message
from connectors.kafka.intake import Intake
from connectors.kafka.spool import Spool
from connectors.kafka.spoolfiles import Stored
from schemas.samples import Gap, SampleBatch, Tick
from tests.support.crashing import Crash
from tests.support.shaky_disk import ShakyDisk

CELLS = ("a/b/c/d/one", "a/b/c/d/two")
BYTES_MAX = 40_000
FIRST_EPOCH = 1_000


def source_of(cell: str) -> str:
    return f"s:{cell[-3:]}"


@dataclass
class Receiver:
    """What a receiver has of one cell."""

    last: tuple[int, int] = (0, -1)
    last_at: int = 0
    values: list[float] = field(default_factory=list)
    gap_since: bool = False


class SpoolLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 10_000
        self.counts = dict.fromkeys(CELLS, 0)
        self.written: list[tuple[int, str, int]] = []
        """Position, cell, count of what was taken and not lost since."""
        self.synced: dict[str, set[int]] = {cell: set() for cell in CELLS}
        self.sent: dict[tuple[str, int, int], bytes] = {}
        self.receivers = {cell: Receiver() for cell in CELLS}

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        self.disk = ShakyDisk(np.random.default_rng(seed))
        self.open()

    def open(self) -> None:
        self.spool = Spool(self.folder / "spool", bytes_max=BYTES_MAX, first_epoch=FIRST_EPOCH, disk=self.disk)
        self.intake = Intake(self.spool, dict.fromkeys(CELLS, "0" * 64))
        self.read_to = self.spool.acknowledged
        self.unacknowledged: list[Stored] = []
        survived = self.spool.position
        self.written = [each for each in self.written if each[0] <= survived]
        assert not self.spool.damage

    def reopen(self, power: bool) -> None:
        """The process is gone: nothing of it is closed in order, but the system ends its lock and its files."""
        self.disk.calm() if not power else self.disk.lose_power(self.folder / "spool")
        self.spool._halted = "gone"
        self.spool.close()
        self.open()

    def doing(self, step, power: bool) -> None:
        try:
            step()
        except Crash:
            self.reopen(power)

    @rule(cell=st.sampled_from(CELLS), n=st.integers(1, 30), ahead=st.integers(-5, 50), power=st.booleans())
    def take_samples(self, cell: str, n: int, ahead: int, power: bool) -> None:
        self.now += ahead
        first = self.counts[cell]
        self.counts[cell] += n
        values = np.arange(first, first + n, dtype=np.float64)
        at = np.full(n, self.now, np.int64)
        batch = SampleBatch(source_of(cell), 0, 0, np.zeros(n, np.uint32), at, at, values, np.zeros(n, np.uint32))

        def step() -> None:
            if self.intake.take(cell, self.now, batch):
                self.written += [(self.spool.position, cell, count) for count in range(first, first + n)]

        self.doing(step, power)

    @rule(cell=st.sampled_from(CELLS), power=st.booleans())
    def take_tick(self, cell: str, power: bool) -> None:
        tick = Tick(source_of(cell), 0, 0, self.now, alive=True)
        self.doing(lambda: self.intake.take(cell, self.now, tick), power)

    @rule(power=st.booleans())
    def sync(self, power: bool) -> None:
        self.doing(self.spool.sync, power)

    @rule(bytes_max=st.integers(1, 20_000))
    def send(self, bytes_max: int) -> None:
        for stored in self.spool.read(after=self.read_to, bytes_max=bytes_max):
            assert stored.position <= self.spool.synced
            self.read_to = stored.position
            self.unacknowledged.append(stored)
            self.receive(stored)

    @rule()
    def new_producer(self) -> None:
        self.read_to, self.unacknowledged = self.spool.acknowledged, []

    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        n = round(share * len(self.unacknowledged))
        self.spool.acknowledge(self.unacknowledged[:n])
        del self.unacknowledged[:n]

    @rule(power=st.booleans())
    def note(self, power: bool) -> None:
        self.doing(self.spool.note, power)

    @rule(steps=st.integers(1, 12))
    def strike(self, steps: int) -> None:
        self.disk.strike_in = steps

    @rule(power=st.booleans())
    def die(self, power: bool) -> None:
        self.reopen(power)

    @rule()
    def end_in_order(self) -> None:
        self.disk.strike_in = None
        self.spool.close()
        self.open()

    @invariant()
    def what_is_synced_is_promised(self) -> None:
        if hasattr(self, "spool"):
            for position, cell, count in self.written:
                if position <= self.spool.synced:
                    self.synced[cell].add(count)
            self.written = [each for each in self.written if each[0] > self.spool.synced]

    @invariant()
    def the_spool_keeps_its_bound(self) -> None:
        if hasattr(self, "spool"):
            on_disk = sum(path.stat().st_size for path in (self.folder / "spool").glob("spool-*.jk"))
            assert on_disk <= BYTES_MAX

    def receive(self, stored: Stored) -> None:
        got = decode_message(stored.message.key, stored.message.value, stored.message.headers)
        item, receiver = got.input, self.receivers[got.cell]
        place = (item.epoch, item.seq)
        before = self.sent.setdefault((item.source, *place), stored.message.value)
        assert before == stored.message.value, f"{item.source} {place} means two things"
        if place <= receiver.last:
            return
        follows = place == (receiver.last[0], receiver.last[1] + 1)
        assert follows or (place[0] > receiver.last[0] and place[1] == 0), f"{place} after {receiver.last}"
        assert got.at >= receiver.last_at
        receiver.last, receiver.last_at = place, got.at
        if isinstance(item, Gap):
            receiver.gap_since = True
        if isinstance(item, SampleBatch):
            values = item.value.tolist()
            if receiver.values:
                assert values[0] > receiver.values[-1]
                assert values[0] == receiver.values[-1] + 1 or receiver.gap_since, "lost without a word"
            receiver.values += values
            receiver.gap_since = False

    def teardown(self) -> None:
        try:
            if hasattr(self, "spool"):
                self.disk.strike_in = None
                self.spool.sync()
                self.what_is_synced_is_promised()
                self.new_producer()
                while self.spool.acknowledged < self.spool.synced:
                    self.send(10_000)
                    self.acknowledge(1.0)
                for cell in CELLS:
                    assert self.synced[cell] <= set(self.receivers[cell].values)
                assert self.spool.empty
                self.spool.close()
        finally:
            shutil.rmtree(self.folder)


TestSpoolLife = SpoolLife.TestCase
TestSpoolLife.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
