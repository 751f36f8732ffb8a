"""Processes in which one message hangs: a plain Faust agent, and the product's detection worker. Run to be killed.

`python -m tests.support.commits plain BROKER TOPIC CONCURRENCY FOLDER` and
`python -m tests.support.commits ours CONFIGURATION WHERE`; each prints `HANGS` when it does.
`python -m tests.support.commits whole CONFIGURATION` is the product's process, and ends as it does.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import faust
from faust.contrib.asgi import faust_app_running

from connectors.eventlog.blobs import FileBlobs
from connectors.eventlog.states import SqliteStates
from pipelines.config import load
from pipelines.detecting import detecting, last_given, make_app
from pipelines.hosting import Folders
from pipelines.stages.detect import Worker
from schemas.records import SavedState

HANGS_AT = 5
"""Offset of the message that hangs."""
MESSAGES_N = 20
COMMIT_EVERY_S = 0.2


async def plain(broker: str, topic: str, concurrency: int, folder: str) -> None:
    """Faust as its documentation shows it: an agent that takes message by message and leaves commits to Faust."""
    app = faust.App(
        f"plain-{topic}", broker=f"kafka://{broker}", store="memory://", datadir=folder, web_enabled=False,
        topic_allow_declare=False, topic_disable_leader=True, broker_commit_interval=COMMIT_EVERY_S,
        consumer_auto_offset_reset="earliest",
    )  # fmt: skip

    async def work(stream):
        async for event in stream.events():
            if event.message.offset == HANGS_AT:
                await hang()

    raw = {"key_serializer": "raw", "value_serializer": "raw", "key_type": bytes, "value_type": bytes}
    app.agent(app.topic(topic, **raw), concurrency=concurrency, name="work")(work)
    async with faust_app_running(app):
        await asyncio.Event().wait()


class HangingStates(SqliteStates):
    """A database that takes no more states from the message on."""

    async def save(self, cell: str, state: SavedState, *, expected: int) -> None:
        if state.offset >= HANGS_AT:
            await hang()
        await super().save(cell, state, expected=expected)


async def ours(folder: str, where: str) -> None:
    """The detection worker as `pipelines.detecting` makes it.

    Where it hangs: `take` while the message is processed (the first of its cell: the topic is asked what was given of
    it), `save` while states are saved, `nowhere`.
    """
    configuration = load(Path(folder))
    kafka = configuration.settings.kafka
    hanging_cell = configuration.plant.cells[-1].path

    async def ask(cell: str) -> int:
        if where == "take" and cell == hanging_cell:
            await hang()
        return await asyncio.to_thread(last_given, kafka, cell)

    app, folders = make_app(configuration, kafka), Folders(configuration.data)
    folders.states.parent.mkdir(parents=True, exist_ok=True)
    states = (HangingStates if where == "save" else SqliteStates)(folders.states)
    rules = {cell.path: configuration.rules_for(cell) for cell in configuration.plant.cells}
    Worker(app, kafka, rules, states, FileBlobs(folders.blobs), snapshot_bytes=10**9, last_given=ask)
    async with faust_app_running(app):
        await asyncio.Event().wait()


async def whole(folder: str) -> None:
    """The detection worker with all that is around it."""
    configuration = load(Path(folder))
    await detecting(configuration, configuration.settings.kafka)


async def hang() -> None:
    print("HANGS", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    match kind:
        case "plain":
            asyncio.run(plain(words[0], words[1], int(words[2]), words[3]))
        case "ours":
            asyncio.run(ours(*words))
        case "whole":
            asyncio.run(whole(*words))
