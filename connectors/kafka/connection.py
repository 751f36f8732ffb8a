"""Kafka settings to what the clients are made with, and what goes wrong in the words of whoever has to mend it.

Both libraries hide why they could not connect behind a timeout; `probe` asks each broker once, by hand, and says.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest
from kafka.errors import KafkaError

from connectors.kafka.faults import LIBRARY_FAULTS, explained, explained_refusal
from connectors.kafka.sockets import DIRECT
from connectors.passwords import read_password
from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings

PROBE_WITHIN_S = 5.0
"""Wall time for one broker's answer to a probe."""
BOOTSTRAP_WITHIN_S = 10.0
"""Wall time in which a client must find its brokers once the probe went well."""
CLOSE_WITHIN_S = 1.0
RECONNECT_MS_MAX = 1_000
"""Wall time between two attempts of a kafka-python client to reach a broker. Its own bound is 30 s: so long we would
stay away from a broker that is back."""
MECHANISM = "SCRAM-SHA-512"
C = TypeVar("C")


class Secret(str):
    """A password that does not show itself where settings are printed: kafka-python logs its own."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every kafka-python client is made with: producer, consumer, admin.

    Raises:
        ConnectionFault: a file that the settings name cannot be used.
    """
    return {**aiokafka_arguments(settings), "proxy_url": DIRECT, "reconnect_backoff_max_ms": RECONNECT_MS_MAX}


def aiokafka_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every aiokafka client is made with.

    Raises:
        ConnectionFault: a file that the settings name cannot be used.
    """
    return {"bootstrap_servers": list(settings.bootstrap), **_security(settings)}


def faust_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """Return `broker` and `broker_credentials` of a Faust app.

    Raises:
        ConnectionFault: a file that the settings name cannot be used.
    """
    # Faust takes a second to load, and only detection workers have it.
    from faust import SASLCredentials, SSLCredentials

    broker = ";".join(f"kafka://{address}" for address in settings.bootstrap)
    secured = _security(settings)
    credentials: SASLCredentials | SSLCredentials | None = None
    if settings.user is not None:
        credentials = SASLCredentials(
            username=secured["sasl_plain_username"],
            password=secured["sasl_plain_password"],
            mechanism=MECHANISM,
            ssl_context=secured.get("ssl_context"),
        )
    elif settings.security == "SSL":
        credentials = SSLCredentials(context=secured["ssl_context"])
    return {"broker": broker, "broker_credentials": credentials}


def connect(make: Callable[..., C], settings: KafkaSettings, **more: Any) -> C:
    """Make a kafka-python client, after a look whether a broker is there and lets us in.

    Args:
        make: `KafkaProducer`, `KafkaConsumer` or `KafkaAdminClient`.
        settings: Whom to connect to, and as whom.
        more: Further arguments of the client.

    Raises:
        ConnectionFault: with host and port, the setting, and what to do.
    """
    check_reachable(settings)
    arguments = {"bootstrap_timeout_ms": int(BOOTSTRAP_WITHIN_S * 1000), **client_arguments(settings), **more}
    try:
        return make(**arguments)
    except KafkaError as error:
        raise translate(error, settings) from error


def check_reachable(settings: KafkaSettings) -> None:
    """Do as `probe`, also inside of a running event loop, which it then blocks.

    Raises:
        ConnectionFault: as `probe`.
    """
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, probe(settings)).result()


async def probe(settings: KafkaSettings) -> None:
    """Return when one of the brokers answers and lets us in.

    Raises:
        ConnectionFault: none does; tells what the first one said.
    """
    secured = _security(settings)
    faults: list[ConnectionFault] = []
    for address in settings.bootstrap:
        try:
            async with asyncio.timeout(PROBE_WITHIN_S):
                await _ask(address, secured)
            return
        except LIBRARY_FAULTS as error:
            faults.append(explained(error, address, settings, within_s=PROBE_WITHIN_S))
    raise faults[0]


def translate(error: Exception, settings: KafkaSettings, *, doing: str = "") -> ConnectionFault:
    """Say what a client's error means, and what to do.

    Args:
        error: What kafka-python or aiokafka raised.
        settings: Of the client.
        doing: What was being done, e.g. `create topics`.
    """
    return explained_refusal(error, settings, doing) or explained(
        error, ", ".join(settings.bootstrap), settings, within_s=BOOTSTRAP_WITHIN_S
    )


async def _ask(address: str, secured: dict[str, Any]) -> None:
    """Connect, log in, and ask for the brokers: a listener with users takes only then notice of who has none."""
    host, _, port = address.rpartition(":")
    connection = AIOKafkaConnection(host, int(port), request_timeout_ms=int(PROBE_WITHIN_S * 1000), **secured)
    connected = True
    try:
        await connection.connect()
        await connection.send(MetadataRequest([]))
    except OSError:
        connected = False
        raise
    finally:
        # A goodbye over TLS takes a few turns of the loop, which ends with the probe.
        closed = connection.close()
        await (asyncio.wait([closed], timeout=CLOSE_WITHIN_S) if connected and closed else asyncio.sleep(0.01))


def _security(settings: KafkaSettings) -> dict[str, Any]:
    arguments: dict[str, Any] = {"security_protocol": settings.security}
    if settings.security.endswith("SSL"):
        arguments["ssl_context"] = _tls(settings)
    if settings.user is not None:
        arguments["sasl_mechanism"] = MECHANISM
        arguments["sasl_plain_username"] = settings.user.name
        arguments["sasl_plain_password"] = Secret(read_password(settings.user))
    return arguments


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(settings, "ca", settings.ca, error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate:
        key = Path(settings.key)
        try:
            if key.stat().st_mode & 0o077:
                raise ConnectionFault(f"kafka.key: others can read {key}. Run: chmod 600 {key}")
            context.load_cert_chain(settings.certificate, settings.key)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(settings, "certificate", f"{settings.certificate} with {key}", error) from error
    return context


def _unusable(settings: KafkaSettings, field: str, file: str, error: Exception) -> ConnectionFault:
    why = getattr(error, "strerror", None) or str(error)
    return ConnectionFault(f"kafka.{field}: {file}: {why}. Put PEM files there, or correct the setting.")
