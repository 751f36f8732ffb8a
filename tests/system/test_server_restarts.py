"""The plant's server is killed and comes back on the same port, five times, while the agent runs."""

from __future__ import annotations

import asyncio

from pipelines.proof import prove
from tests.support.restarts import BACK_WITHIN_S, outages

TIMES = 5


def test_agent_is_back_by_itself_each_time_with_one_gap_and_no_command(tmp_path):
    async def run():
        return [outage async for outage in outages(tmp_path, TIMES)]

    seen = asyncio.run(run())
    assert [o.back_s is not None and o.back_s <= BACK_WITHIN_S for o in seen] == [True] * TIMES, seen
    assert [o.gaps_n for o in seen] == [1] * TIMES
    assert [o.commands_n for o in seen] == [0] * TIMES
    proof = prove(tmp_path / "agent")
    assert proof.good, proof.text
