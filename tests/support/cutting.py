"""A wire to PostgreSQL that somebody cuts: before a COMMIT, after it, or so that it arrives when nobody waits."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Cut = Literal["before", "after", "late", "hang", "farewell"]
"""What happens at the next COMMIT: it is lost with the connection; it is done and its answer is lost; the connection is
lost and it is done later; nothing more comes until the client gives up; or it is done and answered, and in the same
breath the server says that it stops at once."""

_FAREWELL = b"SWARNING\0VWARNING\0C57P01\0Mterminating connection due to immediate shutdown command\0\0"
FAREWELL = b"N" + struct.pack(">I", 4 + len(_FAREWELL)) + _FAREWELL


class Wire:
    """Forwards connections from a port of its own to the server's."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.armed: Cut | None = None
        """Set it to cut at the next COMMIT, once."""
        self.refuses = False
        """Set it to end every new connection at once."""
        self.cuts_n = 0
        self.release = threading.Event()
        """Set it to let a late COMMIT go on to the server."""
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def refuse_all(self) -> None:
        """End all connections, and every new one."""
        self.refuses = True
        for each in self._sockets:
            _cut(each)

    def close(self) -> None:
        """End everything."""
        self.release.set()
        _cut(self._listener)
        for each in self._sockets:
            _cut(each)
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            if self.refuses:
                _cut(client)
                continue
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets.append(server)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = _Line(self, client, server)
            for work in (line.up, line.down):
                self._threads.append(threading.Thread(target=work, daemon=True))
                self._threads[-1].start()


class _Line:
    """One connection, message by message."""

    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket) -> None:
        self._wire, self._client, self._server = wire, client, server
        self._names: dict[bytes, bytes] = {}
        self._swallowed = threading.Event()
        """Answers are not passed on any more."""
        self._answered = threading.Event()
        self._farewell = False

    def up(self) -> None:
        """Client to server."""
        with suppress(OSError, EOFError):
            self._server.sendall(_startup(self._client))
            while True:
                message = _message(self._client)
                if self._is_commit(message) and self._wire.armed is not None:
                    cut, self._wire.armed = self._wire.armed, None
                    self._wire.cuts_n += 1
                    self._at_commit(cut, message)
                    return
                self._server.sendall(message)
        _cut(self._server)

    def down(self) -> None:
        """Server to client."""
        with suppress(OSError):
            while answer := self._server.recv(65536):
                if b"COMMIT\0" in answer:
                    if self._farewell:
                        self._client.sendall(answer + FAREWELL)
                        time.sleep(0.3)  # The server's processes take as long to end; the client reads what it said.
                        answer = b""
                    self._answered.set()
                if not self._swallowed.is_set():
                    self._client.sendall(answer)
        if not self._swallowed.is_set():
            _cut(self._client)

    def _at_commit(self, cut: Cut, message: bytes) -> None:
        if cut == "before":
            _cut(self._server)
            _cut(self._client)
            return
        self._answered.clear()
        self._farewell = cut == "farewell"
        if not self._farewell:
            self._swallowed.set()
        if cut == "hang":
            with suppress(OSError, EOFError):
                while True:
                    _message(self._client)
            _cut(self._server)
            return
        rest = [message]
        while not rest[-1].startswith(b"S"):
            rest.append(_message(self._client))
        if cut == "late":
            _cut(self._client)
            self._wire.release.wait(30)
        self._server.sendall(b"".join(rest))
        self._answered.wait(30)
        _cut(self._client)
        _cut(self._server)

    def _is_commit(self, message: bytes) -> bool:
        kind, body = message[:1], message[5:]
        if kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            self._names[name] = query
        if kind == b"Q":
            return body == b"COMMIT\0"
        return kind == b"B" and self._names.get(body.split(b"\0", 2)[1]) == b"COMMIT"


def _startup(client: socket.socket) -> bytes:
    length = _exactly(client, 4)
    return length + _exactly(client, struct.unpack(">I", length)[0] - 4)


def _message(client: socket.socket) -> bytes:
    head = _exactly(client, 5)
    return head + _exactly(client, struct.unpack(">I", head[1:])[0] - 4)


def _exactly(client: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        more = client.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _cut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire_to(server_port: int) -> Iterator[Wire]:
    """Lay a wire, and take it away."""
    wire = Wire(server_port)
    try:
        yield wire
    finally:
        wire.close()
