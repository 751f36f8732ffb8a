"""A small PLC on OPC UA for tests: a real server over TCP that can misbehave. In process, or its own and killed.

It knows /Cell1 with a heartbeat, a cycle counter, a force, a temperature, a state, and the methods Execute and Query.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from asyncua import Server, ua, uamethod
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

from connectors.opcua import pki
from schemas.plant import Cell

NAMESPACE = "urn:test:plc"
APPLICATION_URI = "urn:test:plc:server"
PASSWORDS = {"collector": "read-only", "actuator": "may-act"}
DOUBLE, UINT32, INT32, STRING = (
    ua.VariantType.Double,
    ua.VariantType.UInt32,
    ua.VariantType.Int32,
    ua.VariantType.String,
)
BEAT_S = 0.1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cell(**changes: object) -> Cell:
    """The stand-in's plant.toml."""

    def tag(number: int, name: str, node: str, unit: str, low: float, high: float, group: str, **more: object) -> dict:
        limits = {"low": low, "high": high}
        return dict(id=number, name=name, asset="a", node=node, unit=unit, range=limits, group=group, **more)

    body: dict = {
        "id": "cell1",
        "path": "e/s/a/l/cell1",
        "namespace": NAMESPACE,
        "assets": [{"id": "a", "title": "A"}],
        "groups": [{"id": "cycle", "trigger": "cycle_count"}, {"id": "status", "period_s": 1.0}],
        "plc_heartbeat": "plc_heartbeat",
        "state_node": "/Cell1/State",
        "agent_heartbeat_node": "/Cell1/AgentHeartbeat",
        "robots": [{"id": "r", "asset": "a", "kind": "opcua_methods", "node": "/Cell1"}],
        "tags": [
            tag(1, "cycle_count", "/Cell1/CycleCount", "1", 0, 1e12, "cycle", role="counter"),
            tag(2, "force_n", "/Cell1/Force", "N", 0, 100, "cycle"),
            tag(3, "temperature_degc", "/Cell1/Temperature", "degC", -20, 150, "status"),
            tag(4, "plc_heartbeat", "/Cell1/Heartbeat", "1", 0, 1e12, "status", role="heartbeat"),
            tag(5, "packml_state", "/Cell1/State", "1", 0, 17, "status", role="state", hold_s=1e9),
        ],
    }
    return Cell.model_validate(body | changes)


def broken_tag(number: int = 9, *, node: str = "/Cell1/Nowhere", unit: str = "N", hold_s: float = 10.0) -> dict:
    limits = {"low": 0, "high": 100}
    body = {"id": number, "name": f"broken_{number}", "asset": "a", "node": node, "unit": unit, "range": limits}
    return body | {"group": "status", "hold_s": hold_s}


class _Users(UserManager):
    def get_user(self, iserver, username=None, password=None, certificate=None):
        if username is None:
            return User(role=UserRole.User)
        return User(role=UserRole.User, name=username) if PASSWORDS.get(username) == password else None


class Plc:
    """The server. Everything is public, so that a test can break it."""

    def __init__(self, port: int, *, folder: Path | None = None, trusts_anyone: bool = False) -> None:
        self.other_namespaces_n = 0
        """Registered before ours: indexes must not be trusted."""
        self.port, self.folder, self.trusts_anyone = port, folder, trusts_anyone
        self.url = f"opc.tcp://127.0.0.1:{port}/"
        self.server = Server(user_manager=_Users())
        self.nodes: dict[str, object] = {}
        self.calls: list[str] = []
        self.answer: tuple[int, int, str] = (1, 0, "done")
        self.delay_s = 0.0
        self.beating = True
        self.agent_beats: list[ua.DataValue] = []

    async def __aenter__(self) -> Plc:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        server = self.server
        await server.init()
        server.set_endpoint(self.url)
        await server.set_application_uri(APPLICATION_URI)
        if self.folder is None:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        else:
            own = pki.ensure_certificate(self.folder, application_uri=APPLICATION_URI, common_name="Test PLC")
            server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
            await server.load_certificate(own.certificate)
            await server.load_private_key(own.key)
            server.set_certificate_validator(self._validate)
        for number in range(self.other_namespaces_n):
            await server.register_namespace(f"urn:test:other{number}")
        self.index = await server.register_namespace(NAMESPACE)
        await self._build()
        await server.start()
        self._beat = asyncio.create_task(self._beat_for_ever())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._beat.cancel()
        await asyncio.wait([self._beat])
        await self.server.stop()

    async def _validate(self, certificate, description) -> None:
        from asyncua.common.utils import ServiceError

        der = certificate.public_bytes(pki.serialization.Encoding.DER)
        if not self.trusts_anyone and not pki.is_trusted(self.folder, der):
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    async def _build(self) -> None:
        self.cell = await self.server.nodes.objects.add_object(self.index, "Cell1")
        await self.add("Heartbeat", 0, UINT32)
        await self.add("AgentHeartbeat", 0, ua.VariantType.UInt16, writable=True)
        await self.add("CycleCount", 0, UINT32)
        await self.add("Force", 20.0, DOUBLE, unit="N", limits=(0.0, 100.0))
        await self.add("Temperature", 40.0, DOUBLE, unit="degC", limits=(-20.0, 150.0))
        await self.add("State", 6, INT32)
        await self.add_methods()

    async def add_methods(self) -> None:
        answers = [INT32, INT32, STRING]
        await self.cell.add_method(
            self.index, "Execute", self._execute,
            [STRING, ua.VariantType.Int64, STRING, STRING, DOUBLE, DOUBLE, UINT32], answers,
        )  # fmt: skip
        await self.cell.add_method(self.index, "Query", self._query, [STRING, ua.VariantType.Int64], answers)

    async def add(self, name, value, kind, *, unit=None, limits=None, writable=False):
        node = await self.cell.add_variable(self.index, name, value, kind)
        if unit is not None:
            eu = ua.EUInformation(DisplayName=ua.LocalizedText(unit))
            await node.add_property(0, "EngineeringUnits", eu)
        if limits is not None:
            await node.add_property(0, "EURange", ua.Range(*limits))
        if writable:
            await node.set_writable()
        self.nodes[name] = node
        return node

    async def put(self, name: str, value: object, kind=DOUBLE, *, status: int = 0, at: datetime | None = None) -> None:
        now = at or datetime.now(UTC)
        written = ua.DataValue(ua.Variant(value, kind), ua.StatusCode(status), now, datetime.now(UTC))
        await self.server.write_attribute_value(self.nodes[name].nodeid, written)

    async def reset(self) -> None:
        """Be again as at the start."""
        self.answer, self.delay_s, self.beating = (1, 0, "done"), 0.0, True
        self.calls.clear()
        await self.put("Temperature", 40.0)
        await self.put("CycleCount", 0, UINT32)
        await self.put("State", 6, INT32)

    async def _beat_for_ever(self) -> None:
        beat = 0
        while True:
            await asyncio.sleep(BEAT_S)
            beat += 1
            if self.beating:
                await self.put("Heartbeat", beat, UINT32)
            await self.put("Force", 20.0 + beat % 7)

    @uamethod
    async def _execute(self, parent, command_id, epoch, digest, verb, args, from_values, ttl_ms):
        self.calls.append(command_id)
        self.last_call = (command_id, epoch, digest, verb, args, from_values, ttl_ms)
        print("called", flush=True)
        await asyncio.sleep(self.delay_s)
        return self._answer()

    @uamethod
    async def _query(self, parent, command_id, epoch):
        await asyncio.sleep(self.delay_s)
        return self._answer()

    def _answer(self) -> tuple[ua.Variant, ua.Variant, ua.Variant]:
        state, code, detail = self.answer
        return ua.Variant(state, INT32), ua.Variant(code, INT32), ua.Variant(detail, STRING)


async def _main(port: int, delay_s: float) -> None:
    async with Plc(port) as plc:
        plc.delay_s = delay_s
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
