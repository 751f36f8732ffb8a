"""Who may do what on the cell's OPC UA server: users, their passwords, and a session that enforces it item by item.

`asyncua` knows roles per service only and checks a client's certificate only as far as the client shows one when it
creates a session. Here the certificate of the secure channel itself decides (so nobody can show another's), and each
written node and called method is looked up in one table.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from asyncua.server.user_managers import UserManager

from connectors.opcua.pki import is_trusted, reject, write_whole

PASSWORD_BYTES = 24
ANONYMOUS = "anonymous"
SIMULATION_METHODS = (
    "Inject", "ClearFaults", "SetSetpoint", "SetPermissive", "Unhold", "Reset", "LoseConnection", "Restart",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do besides reading, browsing and subscribing. String identifiers of nodes."""

    calls: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()


RIGHTS: dict[str, Rights] = {
    "collector": Rights(),
    "actuator": Rights(calls=frozenset({"Cell1.Execute", "Cell1.Query"}), writes=frozenset({"Cell1.AgentHeartbeat"})),
    "hmi": Rights(writes=frozenset({"Cell1.Permissives.AgentEnable"})),
    "simulation": Rights(calls=frozenset(f"Simulation.{name}" for name in SIMULATION_METHODS)),
    ANONYMOUS: Rights(),
}
"""Nobody has both hands: who reads for the detectors cannot act, and who acts cannot break the plant."""

Writer = Callable[[ua.Variant], Awaitable[None]]
"""Takes a value that may be written; raises ValueError if the plant does not want it."""


def ensure_passwords(folder: Path) -> dict[str, str]:
    """Return each user's password, made at the first start: one file per user, readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    passwords = {}
    for user in RIGHTS.keys() - {ANONYMOUS}:
        path = folder / f"{user}.password"
        if not path.exists():
            write_whole(path, (secrets.token_urlsafe(PASSWORD_BYTES) + "\n").encode(), mode=0o600)
        passwords[user] = path.read_text(encoding="utf-8").strip()
    return passwords


class Users(UserManager):  # type: ignore[misc]  # asyncua's base is untyped
    """Checks the channel's certificate first, then user and password."""

    def __init__(self, passwords: dict[str, str], *, trusted: Path | None) -> None:
        """Begin.

        Args:
            passwords: By user.
            trusted: Certificate folder; None: insecure, anyone may connect, and without a user only read.
        """
        self._passwords, self._trusted = passwords, trusted

    def get_user(
        self, iserver: InternalServer, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        """Return the user, or None: refused."""
        if self._trusted is not None and not is_trusted(self._trusted, certificate):
            if certificate:
                reject(self._trusted, certificate)
            return None
        if username is None:
            return User(role=UserRole.User, name=ANONYMOUS) if self._trusted is None else None
        known = self._passwords.get(username)
        if known is None or not hmac.compare_digest(known.encode(), (password or "").encode()):
            return None
        return User(role=UserRole.User, name=username)


@dataclass(slots=True)
class Guarded:
    """The nodes that anyone but the server itself may touch."""

    methods: dict[ua.NodeId, str] = field(default_factory=dict)
    """Every method of this server by its identifier in `RIGHTS`; others cannot be called."""
    writers: dict[ua.NodeId, tuple[str, ua.VariantType, Writer]] = field(default_factory=dict)


class CellSession(InternalSession):  # type: ignore[misc]  # asyncua's base is untyped
    """A client's session that may do what `RIGHTS` says of its user."""

    guarded: Guarded

    def _rights(self) -> Rights:
        return RIGHTS.get(self.user.name or "", Rights())

    async def call(self, params: list[ua.CallMethodRequest]) -> list[ua.CallMethodResult]:
        """Call methods, each refused or done by itself."""
        results = []
        for request in params:
            name = self.guarded.methods.get(request.MethodId)
            if name is None or name not in self._rights().calls:
                refusal = ua.StatusCodes.BadMethodInvalid if name is None else ua.StatusCodes.BadUserAccessDenied
                results.append(ua.CallMethodResult(StatusCode=ua.StatusCode(refusal)))
            else:
                results += await super().call([request])
        return results

    async def write(self, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Write values, each refused or done by itself. Times that a client sends are not taken over."""
        return [await self._write(item) for item in params.NodesToWrite]

    async def _write(self, item: ua.WriteValue) -> ua.StatusCode:
        name, kind, writer = self.guarded.writers.get(item.NodeId, ("", None, None))
        value = item.Value.Value
        if writer is None or item.AttributeId != ua.AttributeIds.Value:
            return ua.StatusCode(ua.StatusCodes.BadNotWritable)
        if name not in self._rights().writes:
            return ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        if item.IndexRange or value is None or value.VariantType != kind or isinstance(value.Value, list):
            return ua.StatusCode(ua.StatusCodes.BadTypeMismatch)
        await writer(value)
        return ua.StatusCode()

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Read; what depends on the user is answered for this user."""
        results = await super().read(params)
        return [self._own(item, result) for item, result in zip(params.NodesToRead, results, strict=True)]

    def _own(self, item: ua.ReadValueId, result: ua.DataValue) -> ua.DataValue:
        if item.AttributeId == ua.AttributeIds.UserExecutable and item.NodeId in self.guarded.methods:
            return ua.DataValue(ua.Variant(self.guarded.methods[item.NodeId] in self._rights().calls))
        if item.AttributeId == ua.AttributeIds.UserAccessLevel and item.NodeId in self.guarded.writers:
            level = ua.AccessLevel.CurrentRead.mask
            if self.guarded.writers[item.NodeId][0] in self._rights().writes:
                level |= ua.AccessLevel.CurrentWrite.mask
            return ua.DataValue(ua.Variant(level, ua.VariantType.Byte))
        return result


class CellInternalServer(InternalServer):  # type: ignore[misc]  # asyncua's base is untyped
    """Gives clients sessions of the guarded kind, and knows them, so that a restart can end them."""

    def __init__(self, users: Users) -> None:
        super().__init__(user_manager=users)
        self.guarded = Guarded()
        self._clients: list[CellSession] = []

    def create_session(self, name: str, user: User | None = None, external: bool = False) -> InternalSession:
        """Make a session; a client is nobody until it has shown who it is."""
        if not external:
            return super().create_session(name, user or User(role=UserRole.Anonymous), external)
        session = CellSession(self, self.aspace, self.subscription_service, name, user=User(), external=True)
        session.guarded = self.guarded
        self._clients = [s for s in self._clients if s.state.name != "Closed"] + [session]
        return session

    async def end_sessions(self) -> None:
        """End every client's session with its subscriptions, as a restart does."""
        for session in self._clients:
            await session.close_session(True)
        self._clients.clear()
