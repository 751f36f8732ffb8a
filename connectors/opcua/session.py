"""One session to one server: opened with checks that name their remedy, closed without leftovers, begun anew for ever.

Each attempt makes a fresh asyncua `Client` (a used one can hang), and none reconnects by itself: what was lost in an
outage must be known to whoever subscribed, so the outage has to be visible. Only wall time matters here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from asyncua import Client, ua
from asyncua.client.ua_client import UaClientState
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.crypto.uacrypto import CertProperties

from connectors.opcua import pki
from connectors.opcua.faults import LIBRARY_FAULTS, AccessRefused, translate, untrusted
from connectors.passwords import read_password
from schemas.errors import ConfigError, ConnectionFault
from schemas.settings import OpcUaSettings, User

APPLICATION_URI = "urn:jidoka:agent"
COMMON_NAME = "Jidoka agent"
REFUSED_BACKOFF_S = 30.0
"""Least wait after a refused user: servers lock accounts after a few wrong passwords."""
SESSION_TIMEOUT_S = 60.0
"""How long a server keeps the session of a client that died."""
REQUEST_TIMEOUT_S = 60.0
"""Bound of any single request that has none of its own."""
CLOSE_TIMEOUT_S = 2.0
PROBE_S = 10.0
"""Between asyncua's own probes, and their timeout. At its default of 1 s a busy moment of ours ends the session."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Link:
    """A session that is up."""

    client: Client
    lost: asyncio.Future[str]
    """Done with the reason when the connection is gone."""

    @property
    def up(self) -> bool:
        """Whether a request given to it now would leave."""
        return not self.lost.done() and self.client.state is UaClientState.CONNECTED


@asynccontextmanager
async def open_session(settings: OpcUaSettings, user: User | None) -> AsyncIterator[Link]:
    """Connect once, with all checks, and close cleanly at the end.

    Raises:
        ConnectionFault: with the problem and what a person can do about it.
    """
    client = Client(settings.url, timeout=REQUEST_TIMEOUT_S, watchdog_intervall=PROBE_S)
    client.application_uri, client.name, client.description = APPLICATION_URI, COMMON_NAME, COMMON_NAME
    client.session_timeout = SESSION_TIMEOUT_S * 1000
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def on_lost(error: Exception) -> None:
        if not lost.done():
            lost.set_result(f"connection lost ({error})" if str(error) else "connection lost")

    client.connection_lost_callback = on_lost
    try:
        await _connect(client, settings, user)
        _heed_cancellation()
        yield Link(client, lost)
    finally:
        await _close(client)


async def keep_session(
    settings: OpcUaSettings,
    user: User | None,
    work: Callable[[Link], Awaitable[None]],
    *,
    rng: np.random.Generator,
    on_fault: Callable[[ConnectionFault], None],
) -> None:
    """Run `work` in a session, again in a fresh one whenever it ends or raises ConnectionFault. Returns only cancelled.

    Args:
        settings: Bounds of the back-off: it doubles from `backoff_s` to `backoff_s_max` and begins anew after a
            session in which `work` was reached.
        user: Who logs in; None: anonymous.
        work: Gets the link; should return or raise when `link.lost` is done.
        rng: Each wait is drawn from the upper half of the present back-off, so that many clients do not come at once.
        on_fault: Told of every failure, before the wait.
    """
    backoff_s, told = settings.backoff_s, ""
    while True:
        least_s = 0.0
        try:
            async with open_session(settings, user) as link:
                backoff_s, told = settings.backoff_s, ""
                await work(link)
            fault: ConnectionFault = ConnectionFault(f"{settings.url}: session ended")
        except ConnectionFault as error:
            fault = error
            least_s = REFUSED_BACKOFF_S if isinstance(error, AccessRefused) else 0.0
        _heed_cancellation()
        if str(fault) != told:
            told = str(fault)
            _log.warning("%s", told)
        on_fault(fault)
        await asyncio.sleep(max(least_s, backoff_s * rng.uniform(0.5, 1.0)))
        backoff_s = min(2 * backoff_s, settings.backoff_s_max)


async def fetch_certificate(settings: OpcUaSettings) -> bytes:
    """Ask for the endpoints, without a session, and return the server's certificate (DER) of the one with our policy.

    Raises:
        ConnectionFault: the server does not answer or offers no such endpoint.
    """
    client = Client(settings.url, timeout=REQUEST_TIMEOUT_S)
    try:
        return await _server_certificate(client, settings)
    except (TimeoutError, *LIBRARY_FAULTS) as error:
        raise translate(error, settings, None) from error
    finally:
        await _abort(client)


def _heed_cancellation() -> None:
    """Be cancelled if we were: before Python 3.12 `asyncio.wait_for`, which asyncua uses, can lose a cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _connect(client: Client, settings: OpcUaSettings, user: User | None) -> None:
    try:
        if settings.security == "SignAndEncrypt":
            await _secure(client, settings)
        elif user is not None and not settings.allow_password_in_clear:
            raise ConnectionFault(
                f"{settings.url}: security None would send the password of {user.name!r} in clear. Use SignAndEncrypt."
            )
        if user is not None:
            client.set_user(user.name)
            client.set_password(read_password(user))
        async with asyncio.timeout(settings.connect_timeout_s):
            await client.connect()
    except ConfigError as error:
        raise ConnectionFault(f"{settings.url}: {error}") from error
    except (TimeoutError, *LIBRARY_FAULTS) as error:
        raise translate(error, settings, user) from error


async def _secure(client: Client, settings: OpcUaSettings) -> None:
    """Choose the endpoint and check the server's certificate before anything but the question is sent."""
    folder = Path(settings.certificates)
    own = pki.ensure_certificate(folder, application_uri=APPLICATION_URI, common_name=COMMON_NAME)
    der = await _server_certificate(client, settings)
    if not pki.is_trusted(folder, der):
        raise untrusted(folder, der, settings.url)
    async with asyncio.timeout(settings.connect_timeout_s):
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            own.certificate,
            own.key,
            server_certificate=CertProperties(der, "der"),
            mode=ua.MessageSecurityMode.SignAndEncrypt,
        )


async def _server_certificate(client: Client, settings: OpcUaSettings) -> bytes:
    async with asyncio.timeout(settings.connect_timeout_s):
        endpoints = await client.connect_and_get_server_endpoints()
    for endpoint in endpoints:
        if (
            endpoint.SecurityPolicyUri == SecurityPolicyBasic256Sha256.URI
            and endpoint.SecurityMode == ua.MessageSecurityMode.SignAndEncrypt
            and endpoint.ServerCertificate
        ):
            # Some servers send the whole chain: the first certificate is the server's own.
            length = int.from_bytes(endpoint.ServerCertificate[2:4], "big") + 4
            return bytes(endpoint.ServerCertificate[:length])
    offered = sorted({f"{e.SecurityPolicyUri.rpartition('#')[2]}/{e.SecurityMode.name}" for e in endpoints})
    raise ConnectionFault(
        f"{settings.url}: no endpoint with Basic256Sha256/SignAndEncrypt, only {', '.join(offered) or 'none'}. "
        "Enable it in the server, or set opcua.security to None if this network is closed."
    )


async def _close(client: Client) -> None:
    """End session, channel and socket, also while being cancelled; a silent partner is not waited for."""
    # In a task of its own: asyncua swallows a cancellation that meets it while it closes, and we would run on for ever.
    closing = asyncio.create_task(_end(client))
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait([closing])
        raise


async def _end(client: Client) -> None:
    if client.state is UaClientState.CONNECTED:
        await _finish(asyncio.create_task(client.disconnect()))
    else:
        client.uaclient.request_disconnect()
    session = client.uaclient.session
    # What asyncua leaves running when the socket broke first: it cancels its publish loop, but never waits for it.
    for task in (
        session._publish_task,
        client._supervisor_task,
        client._stale_watchdog_task,
        client._renew_channel_task,
    ):
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=CLOSE_TIMEOUT_S)
    await _abort(client)


async def _finish(task: asyncio.Task[None]) -> None:
    """Wait for a goodbye, and break it off when it takes too long."""
    _, pending = await asyncio.wait([task], timeout=CLOSE_TIMEOUT_S)
    if pending:
        task.cancel()
        await asyncio.wait([task], timeout=CLOSE_TIMEOUT_S)
    elif (error := task.exception()) is not None:
        _log.debug("close: %r", error)


async def _abort(client: Client) -> None:
    protocol = client.uaclient.protocol
    if protocol is not None and protocol.transport is not None:
        protocol.transport.abort()
    # A transport closes its socket in the next turn of the loop.
    await asyncio.sleep(0)
