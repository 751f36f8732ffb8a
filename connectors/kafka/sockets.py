"""Sockets of kafka-python 3.0 that are closed when they could not connect.

The library drops such a socket without closing it, so that a client whose broker is away holds more and more of them
until the garbage collector comes. Its own registry of ways to connect takes another class by the scheme of `proxy_url`.
"""

from __future__ import annotations

import socket
from typing import Any

from kafka.net.inet import KafkaNetSocket

DIRECT = "direct://"
"""As `proxy_url` of any kafka-python client: no proxy."""


class DirectSocket(KafkaNetSocket):  # type: ignore[misc]
    """Connects without a proxy, and leaves nothing open behind a failure."""

    SCHEMES = ("direct",)

    async def sock_connect(self, net: Any, sock: socket.socket, sockaddr: Any, timeout_at: float | None = None) -> Any:
        """Connect, or close the socket and raise what the library raises."""
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise
