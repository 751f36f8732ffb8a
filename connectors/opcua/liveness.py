"""Whether a cell's source lives, and which of its tags went silent. Pure: told what arrived and what time it is.

A session that is up proves little: a PLC program can stand still behind a server that runs. So the PLC's heartbeat
must change, and each tag is watched for what can be expected of it.
"""

from __future__ import annotations

from connectors.opcua.mapping import is_good
from connectors.ordering import Sample
from schemas.plant import Cell, Group, Tag


class Liveness:
    """Watches one cell through one session. Begin a new one for each session."""

    def __init__(self, cell: Cell, *, dead_after_s: float) -> None:
        """Begin with nothing seen.

        Args:
            cell: Its heartbeat, groups and tags.
            dead_after_s: Wall time after which a heartbeat that did not change counts as dead.
        """
        self._cell, self._dead_after_s = cell, dead_after_s
        self._heartbeat_id = cell.tag(cell.plc_heartbeat).id if cell.plc_heartbeat else None
        self._beat: float | None = None
        self._beat_changed_s: float | None = None
        self._publish_s: float | None = None
        self._begun_at: int | None = None
        self._seen: dict[int, tuple[int, int]] = {}

    def begin(self, at: int) -> None:
        """Start to expect values at this agent time, microseconds since 1970 UTC."""
        self._begun_at = at

    def published(self, wall_s: float) -> None:
        """Note a publish response, keep-alives too, by the monotonic clock."""
        self._publish_s = wall_s

    def saw(self, tag: int, sample: Sample, *, received_at: int, wall_s: float) -> None:
        """Note a sample, in the order of arrival."""
        self._seen[tag] = (sample.source_at, received_at)
        if tag == self._heartbeat_id and is_good(sample.status) and sample.value == sample.value:
            # The first value proves nothing: it is what the server remembers.
            if self._beat is not None and sample.value != self._beat:
                self._beat_changed_s = wall_s
            self._beat = sample.value

    def alive(self) -> bool:
        """Whether the server published and the heartbeat changed lately; a cell without one needs the first only.

        Age is measured against the last publish response, not the present: a consumer that is slow to take our
        output must not make the PLC look dead. Silence of the server ends the session by itself.
        """
        if self._publish_s is None or self._heartbeat_id is None:
            return self._publish_s is not None
        changed = self._beat_changed_s
        return changed is not None and self._publish_s - changed <= self._dead_after_s

    def stale(self, collected: frozenset[int], fresh: frozenset[int], *, now: int) -> tuple[int, ...]:
        """Return the tag ids from which a value was due and did not come, ascending.

        A tag that is not collected is always stale; one that never came, after its `hold_s`. A tag of a cyclic group
        is due when the group's counter moved on: a machine that stands still owes nothing. One of a periodic group is
        due within `hold_s`.

        Args:
            collected: Tag ids with a monitored item.
            fresh: Those of them for which the server reports every new source time, also of an unchanged value. From
                the others nothing can be expected: an unchanged value is not stale.
            now: Agent time, microseconds since 1970 UTC.
        """
        groups = {group.id: group for group in self._cell.groups}
        return tuple(
            sorted(
                tag.id
                for tag in self._cell.tags
                if tag.node and (tag.id not in collected or self._overdue(tag, groups[tag.group], tag.id in fresh, now))
            )
        )

    def _overdue(self, tag: Tag, group: Group, fresh: bool, now: int) -> bool:
        hold_us = int(tag.hold_s * 1e6)
        if tag.id not in self._seen:
            return self._begun_at is not None and now - self._begun_at > hold_us
        if not fresh:
            return False
        source_at, received_at = self._seen[tag.id]
        if group.trigger is None:
            return now - received_at > hold_us
        trigger = self._seen.get(self._cell.tag(group.trigger).id)
        return trigger is not None and trigger[0] - source_at > hold_us
