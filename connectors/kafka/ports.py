"""Ports of the loopback for local brokers."""

from __future__ import annotations

import random
import socket

from connectors.kafka.properties import HOST
from schemas.errors import ConnectionFault

PORTS = range(20_000, 32_000)
"""Below the ports that the system gives to outgoing connections: otherwise, while a broker is away, a client that
tries again and again may be given the broker's own port, and hold it."""


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback on which nothing listens, all different.

    Raises:
        ConnectionFault: there are not so many.
    """
    found: list[int] = []
    with_room = random.SystemRandom().sample(PORTS, len(PORTS))
    for port in with_room:
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise ConnectionFault(f"{HOST}: no {count} free ports between {PORTS.start} and {PORTS.stop}.")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of the loopback."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return False
    return True
