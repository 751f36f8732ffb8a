"""The PLC on the network: a real OPC UA server (asyncua) that paces the plant to a clock and publishes what it does.

SignAndEncrypt with Basic256Sha256, and only partners whose certificate a person has trusted; without security only by
flag. It listens on the loopback interface only. Source and server times are plant time. What is published comes from
`tags`, who may do what from `access`.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from asyncua import Server, ua
from asyncua.ua import ObjectIds

from connectors.clock import ScaledClock
from connectors.opcua.pki import ensure_certificate
from connectors.plant.access import CellInternalServer, Users, ensure_passwords
from connectors.plant.methods import LoseConnection, Methods, Outage, Restart
from connectors.plant.nodes import AddressSpace
from connectors.plant.station import SECOND_US, Station
from connectors.plant.tags import SWITCHES, Published
from schemas.plant import Cell

HOST = "127.0.0.1"
SPEED_MAX = 20.0
"""Over OPC UA. Physics would do 100, the server would not."""
RESTART_S = 2.0
"""Wall time without a PLC when it restarts."""
OUTAGES_MAX = 8
"""Outages that wait for the end of the present one."""
LATE_S = 1.0
"""Wall time by which the plant may lag behind its clock before it is said, once."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_log = logging.getLogger(__name__)


class CellServer:
    """One cell on the network. `start`, then `serve` until cancelled, then `stop`."""

    def __init__(
        self, config: Cell, station: Station, clock: ScaledClock, *, data: Path, port: int = 0, insecure: bool = False
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            config: The cell whose tags are offered.
            station: PLC and plant.
            clock: Plant time; its speed is at most `SPEED_MAX`.
            data: Folder for certificates (`pki/`) and passwords (`users/`), made at the first start.
            port: 0 takes a free one.
            insecure: Also offer security None, and let anyone read without a user.
        """
        if not clock.speed <= SPEED_MAX:
            raise ValueError(f"speed {clock.speed} is above {SPEED_MAX}: run longer simulations in one process")
        self._config, self._station, self._clock = config, station, clock
        self._data, self._port, self._insecure = data, port, insecure
        self._nodes: dict[str, ua.NodeId] = {}
        self._outages: asyncio.Queue[Outage] = asyncio.Queue(OUTAGES_MAX)
        self._operating: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens; the real port once started."""
        return f"opc.tcp://{HOST}:{self._port}/jidoka/{self._config.id}"

    @property
    def application_uri(self) -> str:
        """What its certificate says."""
        return f"urn:jidoka:plc:{self._config.id}"

    async def start(self) -> None:
        """Make what the first start makes, build the address space, listen, and let the plant run.

        Raises:
            ConfigError: certificates that cannot be used.
            OSError: the port is taken.
        """
        pki = self._data / "pki"
        own = ensure_certificate(pki, application_uri=self.application_uri, common_name=f"Jidoka {self._config.id} PLC")
        users = Users(ensure_passwords(self._data / "users"), trusted=None if self._insecure else pki)
        self._internal = CellInternalServer(users)
        self._server = Server(iserver=self._internal)
        await self._server.init()
        await self._server.set_application_uri(self.application_uri)
        self._server.set_server_name(f"Jidoka {self._config.id}")
        self._server.disable_clock(True)
        self._server.set_force_server_timestamp(False)
        await self._server.load_certificate(own.certificate)
        await self._server.load_private_key(own.key)
        encrypted = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt
        self._server.set_security_policy([encrypted] + [ua.SecurityPolicyType.NoSecurity] * self._insecure)
        self._server.set_identity_tokens([ua.UserNameIdentityToken] + [ua.AnonymousIdentityToken] * self._insecure)
        await self._build()
        self._server.set_endpoint(self.url)
        await self._server.start()
        self._port = self._server.bserver.port
        for endpoint in self._internal.endpoints:
            endpoint.EndpointUrl = self.url
            endpoint.Server.DiscoveryUrls = [self.url]
        self._operating = asyncio.create_task(self._operate())

    async def serve(self) -> None:
        """Run, with the outages that are asked for, until cancelled. A fault of the simulation ends it."""
        while True:
            waiting = asyncio.create_task(self._outages.get())
            assert self._operating is not None
            try:
                await asyncio.wait({waiting, self._operating}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            if self._operating.done():
                self._operating.result()
            match waiting.result():
                case LoseConnection(seconds):
                    await self._server.bserver.stop()
                    await asyncio.sleep(seconds)
                    await self._server.bserver.start()
                case Restart():
                    await self._restart()

    async def stop(self) -> None:
        """Stop the plant, drop everybody and close the ledger."""
        await self._halt()
        await self._internal.end_sessions()
        await self._server.stop()
        await asyncio.sleep(0)
        self._station.close()

    # -------------------------------------------------------------- helpers

    async def _build(self) -> None:
        namespace = await self._server.register_namespace(self._config.namespace)
        space = AddressSpace(self._server, namespace)
        self._nodes = await space.tags(self._config)
        root = self._config.robots[0].node.strip("/")
        methods = Methods(self._station, changed=self._publish_changes, outage=self._ask_for_outage)
        self._internal.guarded.methods = await methods.add(space, root)
        self._heartbeat = await space.variable(
            self._config.agent_heartbeat_node, ua.Variant(0, ua.VariantType.UInt32), ObjectIds.UInt32
        )
        enable = self._nodes[self._config.enable_tag]
        self._internal.guarded.writers = {
            self._heartbeat: (str(self._heartbeat.Identifier), ua.VariantType.UInt32, self._take_heartbeat),
            enable: (str(enable.Identifier), ua.VariantType.Boolean, self._take_enable),
        }

    def _ask_for_outage(self, outage: Outage) -> None:
        if self._outages.full():
            raise ValueError(f"{OUTAGES_MAX} outages wait already")
        self._outages.put_nowait(outage)

    async def _operate(self) -> None:
        """Pace the plant: physics in a thread, then publish when the clock has come to it."""
        at_us, warned = self._clock.now_us(), False
        second = -(-at_us // SECOND_US) * SECOND_US
        await self._publish(self._station.start(at_us))
        while True:
            work = self._station.begin()
            await self._publish_changes()
            outcome = await asyncio.to_thread(self._station.compute, work, at_us)
            ends_at = at_us + outcome.takes_us
            while second <= ends_at:
                await self._clock.sleep_until(second)
                await self._publish(self._station.second(second))
                await self._show_time(second)
                second += SECOND_US
            await self._clock.sleep_until(ends_at)
            await self._publish(self._station.finish(work, outcome, ends_at))
            at_us = ends_at
            late_s = (self._clock.now_us() - ends_at) / SECOND_US / self._clock.speed
            if late_s > LATE_S and not warned:
                _log.warning(
                    "the plant is %.1f s behind its clock: this machine is too slow for speed %s",
                    late_s,
                    self._clock.speed,
                )
                warned = True

    async def _restart(self) -> None:
        """Take the PLC's power away: no sessions, no heartbeats, no counters; ledger and set-points stay."""
        await self._server.bserver.stop()
        await self._halt()
        await self._internal.end_sessions()
        down_us = self._clock.now_us()
        await asyncio.sleep(RESTART_S)
        self._station.cell.stand((self._clock.now_us() - down_us) / SECOND_US)
        self._station.restart()
        await self._publish(self._station.publisher.image.values())
        await self._take_heartbeat(ua.Variant(0, ua.VariantType.UInt32))
        await self._server.bserver.start()
        self._operating = asyncio.create_task(self._operate())

    async def _halt(self) -> None:
        if self._operating is not None:
            self._operating.cancel()
            await asyncio.wait({self._operating})

    async def _publish_changes(self) -> None:
        await self._publish(self._station.changes(self._clock.now_us()))

    async def _publish(self, published: Iterable[Published]) -> None:
        server_at = _datetime(self._clock.now_us())
        for shown in published:
            good = shown.status >> 30 == 0
            value = bool(shown.value) if good and shown.name in SWITCHES else shown.value
            kind = ua.VariantType.Boolean if shown.name in SWITCHES else ua.VariantType.Double
            await self._server.write_attribute_value(
                self._nodes[shown.name],
                ua.DataValue(
                    ua.Variant(value, kind) if good else ua.Variant(None, ua.VariantType.Null),
                    ua.StatusCode(shown.status),
                    SourceTimestamp=_datetime(shown.source_at),
                    ServerTimestamp=max(server_at, _datetime(shown.source_at)),
                ),
            )

    async def _show_time(self, at_us: int) -> None:
        """Let the server's own clock be the plant's: partners compare it with theirs."""
        now = _datetime(at_us)
        await self._internal.current_time_node.write_value(now)
        status = await self._internal.server_status_node.read_value()
        await self._internal.server_status_node.write_value(replace(status, CurrentTime=now))

    async def _take_heartbeat(self, value: ua.Variant) -> None:
        self._station.plc.agent_beat(int(value.Value))
        now = _datetime(self._clock.now_us())
        await self._server.write_attribute_value(
            self._heartbeat, ua.DataValue(value, SourceTimestamp=now, ServerTimestamp=now)
        )

    async def _take_enable(self, value: ua.Variant) -> None:
        self._station.set_permissive("agent_enable", bool(value.Value))
        await self._publish_changes()


def _datetime(at_us: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=at_us)
