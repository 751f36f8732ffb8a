"""Replay L1: kept input and external facts through detectors, verifier and step again; every derived fact is compared.

Compared byte for byte are stream, version, type and payload. Positions in the log, chain and time of recording are not
part of it. Replay cannot act: nothing here knows an actuator, and `refuse_sockets` closes the process.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pipelines.derive import Derivation
from pipelines.recover import Lookahead
from schemas.facts import DERIVED_NAMES, AnyFact, encode, type_name
from schemas.records import Recorded
from schemas.samples import Kept

REFUSED_EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo",
                  "subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty")  # fmt: skip
"""Audit events (docs.python.org, audit events table) by which a process could reach anything."""
PAUSE_US = 60_000_000
"""A longer step between two inputs is a time in which no agent ran."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place where the record and the replay differ."""

    position: int
    recorded: str
    replayed: str


@dataclass(slots=True)
class Replayed:
    """What a replay came to."""

    facts_compared: int = 0
    """Derived ones; external facts are fed, not compared."""
    inputs_fed: int = 0
    incidents: set[str] = field(default_factory=set)
    plant_us: int = 0
    """Agent time that the fed input spans, pauses of more than `PAUSE_US` left out."""
    divergence: Divergence | None = None
    left_out: int = 0
    """Derived facts that were not re-run, since their input is not kept any more."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """First and last log position of each stretch that was re-run; filled in by `pipelines.replaying`."""

    @property
    def plant_s(self) -> float:
        """Agent time that the fed input spans, without pauses."""
        return self.plant_us / 1e6

    def add(self, part: Replayed) -> None:
        """Take in what another stretch came to."""
        self.facts_compared += part.facts_compared
        self.inputs_fed += part.inputs_fed
        self.incidents |= part.incidents
        self.plant_us += part.plant_us
        self.divergence = part.divergence


def refuse_sockets() -> None:
    """Make every further attempt of this process to reach the outside an error. Cannot be undone."""

    def refuse(event: str, _: tuple[object, ...]) -> None:
        if event in REFUSED_EVENTS:
            raise PermissionError(f"replay reaches nothing: {event} refused")

    sys.addaudithook(refuse)


def replay(
    records: Iterable[Recorded],
    inputs: Lookahead[Kept],
    *,
    derivation: Derivation,
    progress: Callable[[Replayed], None] | None = None,
) -> Replayed:
    """Re-derive what `records` (one cell's, in order) say was derived from `inputs`.

    Args:
        records: From the beginning, or from where `derivation` stands.
        inputs: Kept inputs from the same place on.
        derivation: Where to begin, with the configuration of then, or with another one to see what changes.
        progress: Called after every record.
    """
    run = _Run(derivation, inputs)
    for record in records:
        run.take(record)
        if run.result.divergence is not None:
            break
        if progress is not None:
            progress(run.result)
    if run.result.divergence is None:
        run.finish()
    return run.result


class _Run:
    """One pass: facts that were derived and still wait for their record."""

    def __init__(self, derivation: Derivation, inputs: Lookahead[Kept]) -> None:
        self.result = Replayed()
        self._derivation, self._inputs = derivation, inputs
        self._expected: deque[AnyFact] = deque()
        self._last_position = self._fed_at = 0

    def take(self, record: Recorded) -> None:
        until = record.inputs.get("input", 0)
        self._last_position = record.position
        if not self._expected and record.type in DERIVED_NAMES:
            self._feed_until_something(until)
        elif not self._expected:
            self._feed_all(until, record)
            if self.result.divergence is None:
                self._expected.extend(self._derivation.feed_fact(record.fact).facts)
        if self.result.divergence is None:
            self._compare(record)

    def finish(self) -> None:
        if self._expected:
            self._diverge(self._last_position + 1, "", self._expected[0])

    def _feed_until_something(self, until: int) -> None:
        for kept in self._inputs.up_to(until):
            self._feed(kept)
            if self._expected:
                return

    def _feed_all(self, until: int, record: Recorded) -> None:
        for kept in self._inputs.up_to(until):
            self._feed(kept)
            if self._expected:
                self._diverge(record.position, record.data.decode(), self._expected[0])
                return

    def _feed(self, kept: Kept) -> None:
        self._expected.extend(self._derivation.feed(kept).facts)
        self.result.inputs_fed += 1
        step_us = kept.at_us - self._fed_at if self._fed_at else 0
        self.result.plant_us += step_us if step_us <= PAUSE_US else 0
        self._fed_at = kept.at_us

    def _compare(self, record: Recorded) -> None:
        replayed = self._expected.popleft() if self._expected else None
        if replayed is None or type_name(replayed) != record.type or encode(replayed) != record.data:
            self._diverge(record.position, record.data.decode(), replayed)
            return
        self.result.facts_compared += record.type in DERIVED_NAMES
        if record.type == "incident.opened/1":
            self.result.incidents.add(getattr(replayed, "incident_id", ""))

    def _diverge(self, position: int, recorded: str, replayed: AnyFact | None) -> None:
        text = encode(replayed).decode() if replayed is not None else ""
        self.result.divergence = Divergence(position, recorded, text)
