"""The live demo: a status screen and keys that break the plant, or lines where there is no terminal."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
import os
import sys
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asyncua import ua
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipelines.demo.live_stage import LiveStage
from pipelines.demo.setting import Setting, setting
from pipelines.log_view import clock_text, summary
from pipelines.operator_socket import call
from pipelines.runner import until_failure
from pipelines.screen import answer_text, status_table
from pipelines.status import view
from schemas import facts
from schemas.errors import JidokaError
from schemas.facts import AnyFact, type_name

REFRESH_S = 0.25
LINES_SHOWN = 12
QUIET_TYPES = frozenset({"notification.sent/1", "time.reached/1", "anomaly.updated/1", "config.adopted/1"})
"""Facts that a watcher need not see go by."""

Ask = Callable[..., Awaitable[Mapping[str, Any]]]
"""Asks the agent through its operator socket, so that the log names the person at the keyboard."""
Act = Callable[[LiveStage, Ask], Awaitable[object]]
"""Returns the operator socket's answer, a sentence, or anything that need not be said."""

KEYS: dict[str, tuple[str, Act]] = {
    "o": ("oil on the pads", lambda s, _: s.inject("oil_on_pads")),
    "w": ("worn pad", lambda s, _: s.inject("worn_pad")),
    "p": ("heavier part", lambda s, _: s.inject("heavier_part")),
    "d": ("drive drag", lambda s, _: s.inject("drive_drag")),
    "z": ("seize the regulator", lambda s, _: s.inject("seized_regulator")),
    "s": ("stuck sensor", lambda s, _: s.inject("stuck_sensor", tag="part_slip_mm")),
    "l": ("lose the server for 5 s", lambda s, _: s.lose_server(5.0)),
    "m": ("mend the plant", lambda s, ask: mend(s, ask)),
    "y": ("approve what waits", lambda s, ask: decide(s, ask, "approve")),
    "n": ("deny what waits", lambda s, ask: decide(s, ask, "deny")),
    "4": ("request 400 N", lambda _, ask: ask(kind="request", target="set_grip_force", args={"grip_force_n": 400.0})),
    "h": ("hold", lambda _, ask: ask(kind="hold")),
    "x": ("automation off/on", lambda s, ask: ask(kind="off" if s.state.automation_on else "on")),
}
FAULTS = frozenset("owpdzs")
"""Keys that make sense only once the normal is learnt: before, no diagnosis can tell one fault from another."""
WARMING_UP = "warming up: the normal is being learnt, about three minutes of plant time; then press a key"
NOMINAL = {"grip_force_n": 15.0, "motion_speed_pct": 100.0, "conveyor_speed_pct": 100.0}


async def mend(stage: LiveStage, ask: Ask) -> str:
    """Do what maintenance would: take the faults away, set-points as planned, run again, learn the normal anew."""
    await stage.call("ClearFaults")
    for setpoint, value in NOMINAL.items():
        await stage.set_by_hand(setpoint, value)
    if stage.state.packml_state == "HELD":
        await stage.call("Unhold")
    await ask(kind="rebaseline", reason="maintenance")
    return "faults and set-points are as planned; the normal is learnt anew"


async def decide(stage: LiveStage, ask: Ask, kind: str) -> object:
    """Answer the oldest command that waits for a person."""
    waiting = [c for c in stage.state.commands.values() if c.phase == "awaiting_approval"]
    if not waiting:
        return "nothing waits for you"
    return await ask(kind=kind, target=waiting[0].command.command_id, command_sha256=waiting[0].sha256)


def learnt(seen: Sequence[AnyFact]) -> bool:
    """Whether the normal was learnt, and nobody has said since that all of it moved."""
    for fact in reversed(seen):
        if isinstance(fact, facts.CalibrationAdopted):
            return True
        if isinstance(fact, facts.OperatorRequested) and fact.kind == "rebaseline":
            return False
    return False


async def watch(folder: Path, *, speed: float, seed: int, lines: bool) -> None:
    """Start everything and show it until the user ends it."""
    print(f"starting in {folder} ... (the first start makes keys and certificates)", flush=True)
    if not lines:
        _log_to(folder / "demo.log")
    async with setting(folder, speed=speed, seed=seed, quiet=not lines) as demo:
        stage = LiveStage(demo.runtime, demo.plant, demo.simulation, speed, who=getpass.getuser())
        failing = asyncio.create_task(until_failure(demo.runtime))
        showing = asyncio.create_task(_lines(demo, stage) if lines else _screen(demo, stage))
        done, _ = await asyncio.wait({failing, showing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (failing, showing):
            task.cancel()
        await asyncio.gather(failing, showing, return_exceptions=True)
        for task in done:
            task.result()


def _log_to(path: Path) -> None:
    """Send what the process logs into a file: the screen is for the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=path, format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True)


def _hints(demo: Setting) -> list[str]:
    return [
        f"OPC UA server {demo.url} (Basic256Sha256; connect your own client, user files in {demo.folder}/plant/users)",
        f"other terminal: .venv/bin/jidoka status --data {demo.folder / 'agent'}   (approve, deny, request, hold, off)",
        f"the record:     .venv/bin/jidoka log tail --data {demo.folder / 'agent'} -f   (log verify, replay run)",
    ]


async def _lines(demo: Setting, stage: LiveStage) -> None:
    for hint in _hints(demo):
        print(hint, flush=True)
    shown = 0
    while True:
        for fact in stage.facts[shown:]:
            if type_name(fact) not in QUIET_TYPES:
                print(_fact_line(fact), flush=True)
        shown = len(stage.facts)
        await asyncio.sleep(REFRESH_S)


async def _screen(demo: Setting, stage: LiveStage) -> None:
    async def ask(**wanted: object) -> Mapping[str, Any]:
        return await asyncio.to_thread(call, demo.runtime.folders.socket, wanted)

    console, said, ready = Console(), WARMING_UP, False
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            if learnt(stage.facts) and not ready:
                said = "the normal is learnt: press a key"
            ready = learnt(stage.facts)
            live.update(_picture(demo, stage, said), refresh=True)
            key = await _next_key(pressed, REFRESH_S)
            if key == "q":
                return
            if key in FAULTS and not ready:
                said = WARMING_UP
            elif key in KEYS:
                said = await _pressed(stage, ask, *KEYS[key])


async def _pressed(stage: LiveStage, ask: Ask, title: str, act: Act) -> str:
    """Do what a key says; a refusal of the plant is told, and the demo goes on."""
    try:
        answer = await act(stage, ask)
    except (JidokaError, ua.UaError, OSError, TimeoutError) as error:
        return f"{title}: {error or type(error).__name__}"
    if isinstance(answer, Mapping):
        return f"{title}: {answer_text(answer)}"
    return f"{title}: {answer}" if isinstance(answer, str) else title


def _picture(demo: Setting, stage: LiveStage, said: str) -> Group:
    off_file = demo.runtime.folders.off_file.exists()
    cells = [view(s.state, s.derivation.rules, off_file=off_file).as_dict() for s in demo.runtime.services.values()]
    recent = [f for f in stage.facts if type_name(f) not in QUIET_TYPES][-LINES_SHOWN:]
    keys = [Text(f"[{key}] {title}", "bold") for key, title in [*((k, t) for k, (t, _) in KEYS.items()), ("q", "end")]]
    now = f"plant time {clock_text(demo.runtime.clock.now_us())[:19]} UTC, {demo.speed:g} times as fast as the clock"
    return Group(
        status_table(cells),
        Text("\n".join(map(_fact_line, recent)), no_wrap=True, overflow="ellipsis"),
        Columns(keys, padding=(0, 3)),
        Text(f"> {said}", "bold"),
        Text("\n".join([now, *_hints(demo)]), "dim"),
    )


def _fact_line(fact: AnyFact) -> str:
    return f"{clock_text(fact.at)[11:]}  {type_name(fact).rsplit('/', 1)[0]:<22} {summary(fact)}"


@contextmanager
def _keys() -> Iterator[asyncio.Queue[str]]:
    """Read single keys from the terminal while inside."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    loop = asyncio.get_running_loop()
    tty.setcbreak(handle)

    def read() -> None:
        for key in os.read(handle, 32).decode(errors="ignore"):
            queue.put_nowait(key)

    loop.add_reader(handle, read)
    try:
        yield queue
    finally:
        loop.remove_reader(handle)
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


async def _next_key(pressed: asyncio.Queue[str], within_s: float) -> str:
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(pressed.get(), within_s)
    return ""
