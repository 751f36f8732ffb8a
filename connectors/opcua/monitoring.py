"""The subscription of one session: what is asked of the server for each tag, and what it granted.

Each item is created on its own terms: one that the server refuses is a finding and is tried again, and never keeps the
others from being collected.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from asyncua import Client, ua

from connectors.opcua.inspection import TagProblem, inspect
from connectors.opcua.mapping import parse_node, status_name
from connectors.opcua.reading import NODES_PER_REQUEST_MAX, ask, resolve
from schemas.plant import Cell, Tag
from schemas.settings import OpcUaSettings

KEEP_ALIVE_COUNT = 1
"""A publish response at every publishing interval, empty if nothing changed: each one proves what is complete."""
LIFETIME_S = 60.0
"""How long the server keeps the subscription while we send no publish request."""
NOTIFICATIONS_MAX = 5_000
"""Values in one publish response."""
_FILTER_REFUSED = frozenset({0x80440000, 0x80430000, 0x80450000, 0x808E0000})
"""BadMonitoredItemFilterUnsupported, ..FilterInvalid, BadFilterNotAllowed, BadDeadbandFilterInvalid."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a client handle stands for."""

    tag: int | None
    """None: only watched for the PackML state."""
    is_state: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    item: Item
    name: str
    node: ua.NodeId
    deadband: float


class Monitoring:
    """The monitored items of one cell in one session."""

    def __init__(self, client: Client, cell: Cell, settings: OpcUaSettings) -> None:
        """Prepare; use `create`."""
        self._client, self._cell, self._settings = client, cell, settings
        self._state = parse_node(cell.state_node, cell.namespace) if cell.state_node else None
        self._items: dict[int, Item] = {}
        self._findings: dict[str, tuple[TagProblem, ...]] = {}
        self._fresh: set[int] = set()
        self._subscription_id = 0
        self.publishing_s = settings.publishing_ms / 1000
        self.keep_alive_s = self.publishing_s
        self.sampling_s = settings.sampling_ms / 1000
        """The longest that the server granted."""

    @classmethod
    async def create(
        cls,
        client: Client,
        cell: Cell,
        settings: OpcUaSettings,
        on_publish: Callable[[ua.PublishResult], Awaitable[None]],
    ) -> Monitoring:
        """Inspect the tags and subscribe to those that fit.

        Args:
            client: A session that is up.
            cell: What to collect.
            settings: Intervals and queue.
            on_publish: Awaited with each publish response; the next request leaves when it returns.

        Raises:
            ConnectionFault: the server did not answer.
        """
        monitoring = cls(client, cell, settings)
        await monitoring._subscribe(on_publish)
        await monitoring.collect_missing()
        return monitoring

    @property
    def collected(self) -> frozenset[int]:
        """Tag ids with a monitored item."""
        return frozenset(item.tag for item in self._items.values() if item.tag is not None)

    @property
    def fresh(self) -> frozenset[int]:
        """Tag ids for which every new source time comes, also with an unchanged value."""
        return frozenset(self._fresh)

    @property
    def problems(self) -> tuple[TagProblem, ...]:
        """Findings, in the order of `plant.toml`."""
        return tuple(problem for found in self._findings.values() for problem in found)

    @property
    def complete(self) -> bool:
        """Whether everything that was wanted is collected."""
        return not self._missing() and (self._state is None or any(item.is_state for item in self._items.values()))

    def item(self, handle: int) -> Item | None:
        """Return what the handle stands for."""
        return self._items.get(handle)

    async def collect_missing(self) -> None:
        """Inspect and subscribe what is not collected yet.

        Raises:
            ConnectionFault: the server did not answer.
        """
        missing = self._missing()
        inspection = await inspect(self._client, self._cell, missing)
        for tag in missing:
            self._findings[tag.name] = tuple(p for p in inspection.problems if p.tag == tag.name)
        wanted = [
            _Wanted(Item(tag.id, self._is_state(tag)), tag.name, inspection.nodes[tag.name], tag.deadband)
            for tag in missing
            if tag.name in inspection.nodes
        ]
        wanted += await self._state_alone()
        for start in range(0, len(wanted), NODES_PER_REQUEST_MAX):
            await self._create_items(wanted[start : start + NODES_PER_REQUEST_MAX])

    async def _subscribe(self, on_publish: Callable[[ua.PublishResult], Awaitable[None]]) -> None:
        parameters = ua.CreateSubscriptionParameters()
        parameters.RequestedPublishingInterval = self._settings.publishing_ms
        parameters.RequestedMaxKeepAliveCount = KEEP_ALIVE_COUNT
        parameters.RequestedLifetimeCount = max(3, math.ceil(LIFETIME_S / self.publishing_s))
        parameters.MaxNotificationsPerPublish = NOTIFICATIONS_MAX
        parameters.PublishingEnabled = True
        granted = await ask(self._client.uaclient.session.create_subscription(parameters, callback=on_publish))
        self._subscription_id = granted.SubscriptionId
        self.publishing_s = granted.RevisedPublishingInterval / 1000
        self.keep_alive_s = self.publishing_s * granted.RevisedMaxKeepAliveCount

    async def _state_alone(self) -> list[_Wanted]:
        """Want the state node for itself when it is no tag's node."""
        if self._state is None or any(self._is_state(tag) for tag in self._cell.tags):
            return []
        if any(item.is_state for item in self._items.values()):
            return []
        (node,) = await resolve(self._client, [self._state])
        if isinstance(node, ua.NodeId):
            self._findings.pop("state_node", None)
            return [_Wanted(Item(None, True), "state_node", node, 0.0)]
        remedy = "Correct state_node in plant.toml or load the PLC program."
        problem = TagProblem("state_node", f"node {self._cell.state_node}: {node}", remedy, False)
        self._findings["state_node"] = (problem,)
        return []

    async def _create_items(self, wanted: Sequence[_Wanted]) -> None:
        """Create with the best filter; items whose filter is refused once more without."""
        refused = await self._attempt(wanted, filtered=True)
        if refused:
            await self._attempt(refused, filtered=False)

    async def _attempt(self, wanted: Sequence[_Wanted], *, filtered: bool) -> list[_Wanted]:
        """Create items and return those whose filter was refused."""
        parameters = ua.CreateMonitoredItemsParameters()
        parameters.SubscriptionId = self._subscription_id
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        first = len(self._items) + 1
        # Handles are known before the request leaves: values may come before its answer does.
        for handle, want in enumerate(wanted, start=first):
            self._items[handle] = want.item
            parameters.ItemsToCreate.append(self._request(handle, want, filtered=filtered))
        results = await ask(self._client.uaclient.session.create_monitored_items(parameters))
        refused = []
        for handle, want, result in zip(range(first, first + len(wanted)), wanted, results, strict=True):
            if result.StatusCode.is_good():
                self._granted(want, result, filtered=filtered)
                continue
            self._items[handle] = Item(None, False)
            if filtered and result.StatusCode.value & 0xFFFF0000 in _FILTER_REFUSED:
                refused.append(want)
            else:
                self._not_granted(want, int(result.StatusCode.value))
        return refused

    def _granted(self, want: _Wanted, result: ua.MonitoredItemCreateResult, *, filtered: bool) -> None:
        self.sampling_s = max(self.sampling_s, result.RevisedSamplingInterval / 1000)
        # With a deadband the trigger is value and status only (OPC 10000-4, 7.22.2).
        if filtered and want.item.tag is not None and not want.deadband:
            self._fresh.add(want.item.tag)

    def _not_granted(self, want: _Wanted, status: int) -> None:
        problem = f"the server refused to monitor it ({status_name(status)})"
        remedy = "Look into the server's limits of monitored items and the collector's rights."
        finding = TagProblem(want.name, problem, remedy, False)
        self._findings[want.name] = (*self._findings.get(want.name, ()), finding)

    def _request(self, handle: int, want: _Wanted, *, filtered: bool) -> ua.MonitoredItemCreateRequest:
        request = ua.MonitoredItemCreateRequest()
        request.ItemToMonitor.NodeId = want.node
        request.ItemToMonitor.AttributeId = ua.AttributeIds.Value
        request.MonitoringMode = ua.MonitoringMode.Reporting
        asked = request.RequestedParameters
        asked.ClientHandle = handle
        asked.SamplingInterval = self._settings.sampling_ms
        asked.QueueSize = self._settings.queue
        asked.DiscardOldest = True
        if filtered:
            asked.Filter = _filter(want.deadband)
        return request

    def _missing(self) -> list[Tag]:
        collected = self.collected
        return [tag for tag in self._cell.tags if tag.node and tag.id not in collected]

    def _is_state(self, tag: Tag) -> bool:
        return bool(tag.node) and self._state is not None and parse_node(tag.node, self._cell.namespace) == self._state


def _filter(deadband: float) -> ua.DataChangeFilter:
    chosen = ua.DataChangeFilter()
    chosen.Trigger = ua.DataChangeTrigger.StatusValue if deadband else ua.DataChangeTrigger.StatusValueTimestamp
    chosen.DeadbandType = int(ua.DeadbandType.Absolute if deadband else ua.DeadbandType.None_)
    chosen.DeadbandValue = deadband
    return chosen
