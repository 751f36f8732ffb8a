"""The supervisor: whatever a child does, it runs again, and what it says is heard."""

from __future__ import annotations

import asyncio
import sys

from pipelines import up
from pipelines.up import LINE_BYTES_MAX, Child, Supervisor

WITHIN_S = 60.0


def supervised(monkeypatch, program: str, starts: int) -> tuple[Child, list[str]]:
    """Run a child that is a piece of Python until it was started so often."""
    monkeypatch.setattr(up, "PAUSE_S", 0.01)
    monkeypatch.setattr(up, "PAUSE_S_MAX", 0.01)
    child, said = Child("child", []), list[str]()
    made = asyncio.create_subprocess_exec

    async def instead(*words, **options):
        return await made(sys.executable, "-c", program, **options)

    async def go() -> None:
        async with Supervisor([child], said.append).running(), asyncio.timeout(WITHIN_S):
            while child.starts < starts:
                await asyncio.sleep(0.01)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", instead)
    asyncio.run(go())
    return child, said


def test_a_child_that_says_a_line_without_end_is_read_on_and_started_again(monkeypatch):
    """Before: the supervisor let go of the child with ValueError, and never started it again."""
    program = f"print('x' * {5 * LINE_BYTES_MAX}); print('behind'); raise SystemExit(3)"
    _, said = supervised(monkeypatch, program, 2)
    assert "child: behind" in said
    assert any("ended with status 3" in line for line in said)


def test_a_child_that_cannot_be_made_is_tried_again(monkeypatch):
    """Before: the supervisor let go of the child with OSError, and never started it again."""
    made, refused = asyncio.create_subprocess_exec, []

    async def instead(*words, **options):
        if not refused:
            refused.append(words)
            raise OSError(11, "Resource temporarily unavailable")
        return await made(sys.executable, "-c", "pass", **options)

    monkeypatch.setattr(up, "PAUSE_S", 0.01)
    monkeypatch.setattr(up, "PAUSE_S_MAX", 0.01)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", instead)
    child, said = Child("child", []), list[str]()

    async def go() -> None:
        async with Supervisor([child], said.append).running(), asyncio.timeout(WITHIN_S):
            while not child.starts:
                await asyncio.sleep(0.01)

    asyncio.run(go())
    assert "Resource temporarily unavailable" in said[0]
