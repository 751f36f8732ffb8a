"""After one message that no broker took, or one that was taken in part, nothing more is saved or sent."""

from __future__ import annotations

import asyncio

import pytest

from pipelines.stages.exclusion import Exclusion
from pipelines.stages.outgoing import Outgoing
from schemas.errors import ConnectionFault

LOST = ConnectionFault("no broker took it")


def test_all_that_was_sent_is_waited_for():
    async def story() -> list[bool]:
        outgoing, sent = Outgoing(said.append), [asyncio.get_running_loop().create_future() for _ in range(2)]
        for each in sent:
            outgoing.append(each)
        waiting = asyncio.create_task(outgoing.acknowledged())
        seen = []
        for each in sent:
            each.set_result(None)
            for _ in range(3):
                await asyncio.sleep(0)
            seen.append(waiting.done())
        return [*seen, len(outgoing) == 0]

    said: list[BaseException] = []
    assert (asyncio.run(story()), said) == ([False, True, True], [])


def test_with_nothing_on_its_way_nobody_waits():
    async def story() -> None:
        await asyncio.wait_for(Outgoing(print).acknowledged(), 5)

    asyncio.run(story())


def test_a_wait_that_is_cut_off_forgets_nothing():
    """Was: the list of what is on its way was emptied before the wait, and the next save waited for nothing."""

    async def story() -> bool:
        outgoing, sent = Outgoing(print), asyncio.get_running_loop().create_future()
        outgoing.append(sent)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(outgoing.acknowledged(), 0.01)
        return sent.cancelled()

    assert asyncio.run(story()) is False


def test_what_failed_once_is_never_acknowledged_and_the_first_failure_ends_the_process_before_anything_else():
    async def story() -> list[str]:
        loop, order = asyncio.get_running_loop(), []
        outgoing = Outgoing(lambda error: order.append(f"end: {error}"))
        sent = [loop.create_future() for _ in range(3)]
        for each in sent:
            outgoing.append(each)
        # As a producer does: it fails a batch, and goes on with the next one in its next turn.
        sent[0].set_exception(LOST)
        loop.call_soon(order.append, "the next batch")
        sent[1].set_exception(ConnectionFault("another one"))
        sent[2].set_result(None)
        for _ in range(2):
            with pytest.raises(ConnectionFault, match="no broker took it"):
                await outgoing.acknowledged()
        return order

    assert asyncio.run(story()) == ["end: no broker took it", "the next batch"]


def test_a_message_whose_fate_nobody_will_know_is_a_failure():
    async def story() -> None:
        outgoing, sent = Outgoing(print), asyncio.get_running_loop().create_future()
        outgoing.append(sent)
        sent.cancel()
        await outgoing.acknowledged()

    with pytest.raises(ConnectionFault, match="given up"):
        asyncio.run(story())


@pytest.mark.parametrize("cut", [LOST, asyncio.CancelledError()])
def test_who_waits_behind_somebody_that_was_cut_short_does_not_go_on(cut):
    """Was: a save that waited for its turn saved what a message had changed before it broke off."""

    async def story() -> tuple[list[str], list[object]]:
        alone, done = Exclusion(), []

        async def take() -> None:
            async with alone:
                done.append("half")
                await asyncio.sleep(0.01)
                raise cut

        async def save() -> None:
            async with alone:
                done.append("saved")

        return done, await asyncio.gather(take(), save(), save(), return_exceptions=True)

    done, ended = asyncio.run(story())
    assert (done, [type(each) for each in ended]) == (["half"], [type(cut)] * 3)


def test_one_after_the_other_as_long_as_all_goes_well():
    async def story() -> list[str]:
        alone, done = Exclusion(), []

        async def work(name: str) -> None:
            async with alone:
                done.append(f"{name} begins")
                await asyncio.sleep(0)
                done.append(f"{name} ends")

        await asyncio.gather(work("a"), work("b"))
        return done

    assert asyncio.run(story()) == ["a begins", "a ends", "b begins", "b ends"]
