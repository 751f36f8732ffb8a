"""A simulated cell as a real process for tests, and clients that speak to it over TCP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from asyncua import Client, Node, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from connectors.opcua import pki
from connectors.plant.codes import Code, State

NAMESPACE = "urn:jidoka:plant"
CLIENT_URI = "urn:jidoka:test:client"
READY_WITHIN_S = 60.0
T = ua.VariantType


class CellProcess:
    """One process of `connectors.plant.process`, and the certificate with which a test connects."""

    def __init__(self, data: Path, *options: str, speed: float = 20.0) -> None:
        self.data, self.options, self.speed = data, options, speed
        self.own = pki.ensure_certificate(data / "client", application_uri=CLIENT_URI, common_name="Test client")
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str) -> dict:
        """Start, wait for the ready line, and let the test's certificate in."""
        words = ["--data", str(self.data / "plant"), "--speed", str(self.speed), "--seed", "1", *self.options, *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "connectors.plant.process", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.end()[1]
        self.ready = json.loads(line)
        pki.trust(self.data / "plant" / "pki", self.own.certificate)
        return self.ready

    def end(self, *, kill: bool = False) -> tuple[int, str]:
        """End it; return exit code and what it said on stderr."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        _, errors = self.process.communicate(timeout=READY_WITHIN_S)
        return self.process.returncode, errors

    def password(self, user: str) -> str:
        return (self.data / "plant" / "users" / f"{user}.password").read_text().strip()

    @asynccontextmanager
    async def connect(
        self,
        user: str | None,
        *,
        password: str | None = None,
        own: pki.OwnCertificate | None = None,
        secure: bool = True,
    ) -> AsyncIterator[Partner]:
        client = Client(self.ready["url"], timeout=10)
        client.application_uri = CLIENT_URI
        if user is not None:
            client.set_user(user)
            client.set_password(self.password(user) if password is None else password)
        own = own or self.own
        if secure:
            await client.set_security(
                SecurityPolicyBasic256Sha256,
                str(own.certificate),
                str(own.key),
                server_certificate=self.ready["certificate"],
            )
        async with client:
            yield Partner(client, await client.get_namespace_index(NAMESPACE))


class Partner:
    """A connected client that knows the cell's nodes by their string identifiers."""

    def __init__(self, client: Client, namespace: int) -> None:
        self.client, self._namespace, self._beat = client, namespace, 0

    def id(self, identifier: str) -> ua.NodeId:
        return ua.NodeId(identifier, self._namespace)

    def node(self, identifier: str) -> Node:
        return self.client.get_node(self.id(identifier))

    async def read(self, identifier: str) -> ua.DataValue:
        return await self.node(identifier).read_data_value(raise_on_bad_status=False)

    async def value(self, identifier: str) -> float:
        return (await self.read(identifier)).Value.Value

    async def write(self, identifier: str, value: object, kind: ua.VariantType) -> None:
        await self.node(identifier).write_value(ua.DataValue(ua.Variant(value, kind)))

    async def beat(self) -> None:
        self._beat = (await self.value("Cell1.AgentHeartbeat")) + 1
        await self.write("Cell1.AgentHeartbeat", self._beat, T.UInt32)

    async def call(self, method: str, *arguments: ua.Variant) -> list:
        answer = await self.node(method.rpartition(".")[0]).call_method(self.id(method), *arguments)
        return answer if isinstance(answer, list) else [answer]

    async def execute(
        self, command_id: str, verb: str, args: Sequence[float] = (), old: Sequence[float] = (), *,
        epoch: int = 1, sha256: str = "0" * 64, ttl_ms: int = 10_000, beat: bool = True,
    ) -> tuple[State, Code, str]:  # fmt: skip
        if beat:
            await self.beat()
        state, code, detail = await self.call(
            "Cell1.Execute", ua.Variant(command_id, T.String), ua.Variant(epoch, T.Int64), ua.Variant(sha256, T.String),
            ua.Variant(verb, T.String), doubles(args), doubles(old), ua.Variant(ttl_ms, T.UInt32),
        )  # fmt: skip
        return State(state), Code(code), detail

    async def query(self, command_id: str, *, epoch: int = 1) -> tuple[State, Code, str]:
        state, code, detail = await self.call(
            "Cell1.Query", ua.Variant(command_id, T.String), ua.Variant(epoch, T.Int64)
        )
        return State(state), Code(code), detail


def doubles(values: Sequence[float]) -> ua.Variant:
    return ua.Variant(list(values), T.Double, is_array=True)
