"""The operator's way in: a local socket (0600) that speaks JSON lines. Who asks is the OS user at the other end.

A request is a fact in the log before anything follows from it; the answer says what followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import pwd
import socket
import struct
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent.ports import Clock
from pipelines.asked import understanding
from pipelines.decide import CellService
from pipelines.status import view
from schemas import facts
from schemas.errors import ConnectionFault
from schemas.facts import AnyFact, OperatorRequested

REQUEST_BYTES_MAX = 65_536
ANSWER_S = 10.0
"""Wall time to wait for what follows from a request."""
ASK_S = 30.0
"""The same for a sentence: a model may be asked about it."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line from a client."""

    kind: str
    """`status`, or a kind of `operator.requested/1`."""
    cell: str = ""
    """Cell path or id; may stay empty where there is only one."""
    target: str = ""
    """A command id may be cut to its first characters, eight or more."""
    command_sha256: str = ""
    """For approve: empty takes the hash of the command as it waits now."""
    args: dict[str, float] = {}
    reason: str = ""
    request_id: str = ""
    """Empty: a new one."""


class OperatorSocket:
    """Serves the cells of one process."""

    def __init__(self, path: Path, services: Mapping[str, CellService], clock: Clock, *, off_file: Path) -> None:
        """Prepare.

        Args:
            path: Of the socket; its folder must exist.
            services: By cell path.
            clock: Agent time for the facts.
            off_file: The off switch that is a file, for the status.
        """
        self._path, self._services, self._clock, self._off_file = path, services, clock, off_file
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. A socket left over from a dead process is replaced; a live one is refused.

        Raises:
            ConnectionFault: another process listens there.
        """
        if self._path.exists():
            _remove_if_dead(self._path)
        listening = _bound(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=REQUEST_BYTES_MAX)

    async def close(self) -> None:
        """Stop listening and take the socket away."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        who = _peer(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line, who)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the client went away or sent a line beyond the limit
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, line: bytes, who: str) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=Request)
            if request.kind == "status":
                return {"ok": True, "cells": self._views()}
            # Off is one key: without a cell it is every cell.
            everywhere = request.kind == "off" and not request.cell
            services = list(self._services.values()) if everywhere else [self._service(request.cell)]
            asked = [(service, self._fact(request, who, service)) for service in services]
        except (msgspec.DecodeError, ValueError) as error:
            return {"ok": False, "error": str(error)}
        # At the same time: a cell that hangs must not keep the others from being switched off.
        answers = await asyncio.gather(*(ask(service, fact) for service, fact in asked))
        return next((answer for answer in answers if not answer["ok"]), answers[0])

    def _views(self) -> list[dict[str, object]]:
        off_file = self._off_file.exists()
        return [view(s.state, s.derivation.rules, off_file=off_file).as_dict() for s in self._services.values()]

    def _service(self, cell: str) -> CellService:
        matching = [s for path, s in self._services.items() if not cell or cell in (path, s.derivation.rules.cell.id)]
        if len(matching) != 1:
            raise ValueError(f"say which cell: {', '.join(self._services)}")
        return matching[0]

    def _fact(self, request: Request, who: str, service: CellService) -> OperatorRequested:
        target, sha256 = request.target, request.command_sha256
        if request.kind in ("approve", "deny", "resolve"):
            target = full_id(target, service)
            progress = service.state.commands.get(target)
            sha256 = sha256 or (progress.sha256 if progress is not None else "")
        if not all(math.isfinite(value) for value in request.args.values()):
            raise ValueError("every value must be a finite number")
        fact = {
            "type": "operator.requested/1",
            "at": self._clock.now_us(),
            "request_id": request.request_id or str(uuid.uuid4()),
            "who": who,
            "kind": request.kind,
            "target": target,
            "command_sha256": sha256,
            "args": request.args,
            "reason": request.reason,
        }
        return msgspec.convert(fact, OperatorRequested)


def full_id(start: str, service: CellService) -> str:
    """Return the command id that begins so.

    Raises:
        ValueError: none does, or more than one.
    """
    matching = [key for key in service.state.commands if len(start) >= 8 and key.startswith(start)]
    if len(matching) != 1:
        raise ValueError(f"{start!r} names {len(matching)} commands: give at least 8 characters of one that waits")
    return matching[0]


async def ask(service: CellService, fact: OperatorRequested) -> dict[str, Any]:
    """Put the request and wait for what follows from it."""
    followed: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def listen(appended: Sequence[AnyFact]) -> None:
        answer = consequence(fact, appended)
        if answer is not None and not followed.done():
            more = understanding(appended, service.derivation.rules) if fact.kind == "ask" else {}
            followed.set_result({**answer, **more})

    service.listeners.append(listen)
    taken, wait_s = False, wait_for(fact.kind)
    try:
        async with asyncio.timeout(wait_s):
            await service.put(fact)
            taken = True
            return await followed
    except TimeoutError:
        what = "taken, but nothing followed" if taken else f"{service.cell}: not taken, its queue stayed full"
        return {"ok": False, "error": f"{what} within {wait_s:g} s: look at jidoka status"}
    finally:
        service.listeners.remove(listen)


def wait_for(kind: object) -> float:
    """Return the wall time to wait for what follows from a request of this kind."""
    return ASK_S if kind == "ask" else ANSWER_S


def consequence(request: OperatorRequested, appended: Sequence[AnyFact]) -> dict[str, Any] | None:
    """Return the answer if these facts are what followed."""
    for fact in appended:
        match fact:
            case facts.RequestRefused(request_id=request.request_id):
                return {"ok": False, "error": f"{fact.rule}: {fact.reason}"}
            case facts.PlanProposed(request_id=request.request_id):
                return _judged(fact.plan_id, appended)
    if request not in appended or request.kind in ("request", "hold", "ask"):
        return None
    return {"ok": True, "did": request.kind, "facts": [facts.type_name(f) for f in appended]}


def _judged(plan_id: str, appended: Sequence[AnyFact]) -> dict[str, Any]:
    dropped = [f for f in appended if isinstance(f, facts.PlanDropped) and f.plan_id == plan_id]
    if dropped:
        return {"ok": False, "error": dropped[0].reason}
    judged = [f for f in appended if isinstance(f, facts.GuardJudged)]
    return {"ok": True, "did": judged[-1].decision, "command_id": judged[-1].command_id}


def call(path: Path, request: Mapping[str, object]) -> dict[str, Any]:
    """Ask a running agent, from another process.

    Raises:
        ConnectionFault: no agent listens there, or it stopped answering.
    """
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(wait_for(request.get("kind")) + 5.0)
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as answer:
                line = answer.readline()
    except OSError as error:
        raise ConnectionFault(f"no agent answers at {path} ({error}): is `jidoka run` running there?") from error
    if not line:
        raise ConnectionFault(f"the agent at {path} hung up")
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def _peer(writer: asyncio.StreamWriter) -> str:
    """Return the OS user at the other end (SO_PEERCRED, unix(7))."""
    credentials = writer.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    _, uid, _ = struct.unpack("3i", credentials)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _bound(path: Path) -> socket.socket:
    """Return a socket that only its owner may connect to, from its first moment on."""
    listening = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o177)  # of the whole process: nothing may be awaited before it is back
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise ConnectionFault(f"{path}: {error.strerror}: use a data folder with a shorter path") from error
    finally:
        os.umask(umask)
    return listening


def _remove_if_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise ConnectionFault(f"another agent listens at {path}: stop it first, or use another data folder")
