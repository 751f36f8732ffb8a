"""The collector against a real server over TCP."""

from __future__ import annotations

import asyncio
import itertools
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asyncua import ua

from connectors.clock import ScaledClock, SystemClock
from schemas.samples import Gap, LineEvent, SampleBatch, Tick
from tests.opcua_collecting import Stage, collecting, plc_process, run, settings
from tests.opcua_plc import DOUBLE, INT32, STRING, UINT32, Plc, broken_tag, cell, free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stage():
    shared = Stage(Plc(free_port()))
    yield shared
    shared.close()


def test_samples_state_and_ticks_come_in_one_gapless_order(stage):
    async def scenario(plc):
        async with collecting(cell(), settings(plc.url)) as got:
            await got.until(lambda: got.alive() and len(got.of(Tick)) >= 3)
            await plc.put("State", 11, INT32)
            await got.until(lambda: len(got.of(LineEvent)) == 2)
            assert [item.seq for item in got.inputs] == list(range(len(got.inputs)))
            assert {(item.source, item.epoch) for item in got.inputs} == {("opcua:cell1", 3)}
            assert [event.value for event in got.of(LineEvent)] == [6, 11]
            assert got.of(Gap) == []
            assert got.collector.problems == ()
            assert {value for value, _ in got.samples(2)} <= {20.0 + n for n in range(7)}

    stage.play(scenario)


def test_every_sample_up_to_complete_until_is_delivered_before_its_tick(stage):
    async def scenario(plc):
        async with collecting(cell(), settings(plc.url), clock=SystemClock()) as got:
            await got.until(lambda: len(got.of(Tick)) >= 5)
            complete, delivered, first = 0, 0, True
            for item in got.inputs:
                if isinstance(item, Tick):
                    assert item.complete_until >= complete
                    assert item.complete_until <= SystemClock().now_us()
                    complete = item.complete_until
                elif isinstance(item, SampleBatch) and not first:
                    assert item.source_at.min() > complete
                    delivered += len(item)
                else:
                    first = first and not isinstance(item, SampleBatch)
            assert delivered > 50
            assert got.collector.counters.late_n == 0
            ages_s = [(b.complete_until - a.complete_until) / 1e6 for a, b in itertools.pairwise(got.of(Tick)[2:])]
            assert all(0.5 < age_s < 2.0 for age_s in ages_s)

    stage.play(scenario)


def test_an_unchanged_value_comes_again_with_each_new_source_time(stage):
    async def scenario(plc):
        async with collecting(cell(), settings(plc.url)) as got:
            await got.until(lambda: len(got.samples(3)) == 1)
            for _ in range(3):
                await plc.put("Temperature", 40.0)
                await asyncio.sleep(0.01)
            await got.until(lambda: len(got.samples(3)) == 4)
            assert {value for value, _ in got.samples(3)} == {40.0}

    stage.play(scenario)


def test_bad_nan_and_text_values_arrive_as_nan_with_a_status_that_is_not_good(stage):
    async def scenario(plc):
        async with collecting(cell(), settings(plc.url)) as got:
            await got.until(lambda: len(got.samples(3)) == 1)
            await plc.put("Temperature", 41.0, status=0x40000000)
            await plc.put("Temperature", None, ua.VariantType.Null, status=0x808C0000)
            await plc.put("Temperature", math.nan)
            await got.until(lambda: len(got.samples(3)) == 4)
            assert [status for _, status in got.samples(3)] == [0, 0x40000000, 0x808C0000, 0]
            assert [value == value for value, _ in got.samples(3)] == [True, True, False, False]

    stage.play(scenario)


def test_an_overflow_of_the_servers_queue_is_counted_and_becomes_a_gap_of_that_tag(stage):
    async def scenario(plc):
        async with collecting(cell(), settings(plc.url)) as got:
            await got.until(lambda: len(got.samples(3)) == 1)
            await plc.put("Temperature", 41.0, status=0x480)
            await got.until(lambda: len(got.samples(3)) == 2)
            assert [(gap.tags, gap.reason) for gap in got.of(Gap)] == [((3,), "the server's queue overflowed")]
            assert got.collector.counters.overflow_n == 1

    stage.play(scenario)


def test_a_lost_publish_response_is_seen_by_its_number_and_becomes_a_gap(stage):
    async def scenario(plc):
        async with collecting(cell(), settings(plc.url)) as got:
            await got.until(lambda: got.alive())
            (subscription,) = plc.server.iserver.subscription_service.subscriptions.values()
            subscription._notification_seq += 2
            await got.until(lambda: len(got.of(Gap)) == 1)
            assert got.of(Gap)[0].tags == ()
            assert "missing" in got.of(Gap)[0].reason
            assert got.collector.counters.sequence_gaps_n == 1

    stage.play(scenario)


def test_a_bad_node_does_not_stop_the_others_is_stale_and_is_taken_in_when_it_appears(stage):
    async def scenario(plc):
        plant_cell = cell(tags=[*cell().model_dump()["tags"], broken_tag(9)])
        async with collecting(plant_cell, settings(plc.url), retry_s=0.5) as got:
            await got.until(lambda: got.alive())
            assert [(p.tag, p.collected) for p in got.collector.problems] == [("broken_9", False)]
            assert "BadNoMatch" in got.collector.problems[0].problem
            assert got.of(Tick)[-1].stale == (9,)
            await plc.add("Nowhere", 3.5, DOUBLE, unit="N", limits=(0.0, 100.0))
            await got.until(lambda: got.samples(9) == [(3.5, 0)])
            await got.until(lambda: got.of(Tick)[-1].stale == ())
            assert got.collector.problems == ()
            assert got.of(Gap) == []

    stage.play(scenario)


def test_another_unit_keeps_a_tag_out_and_another_range_or_no_unit_is_only_reported(stage):
    async def scenario(plc):
        await plc.add("InBar", 1.0, DOUBLE, unit="bar", limits=(0.0, 100.0))
        await plc.add("Wide", 2.0, DOUBLE, unit="N", limits=(0.0, 200.0))
        await plc.add("Silent", 3.0, DOUBLE)
        await plc.add("Text", "x", STRING)
        nodes = ["InBar", "Wide", "Silent", "Text"]
        extra = [broken_tag(10 + n, node=f"/Cell1/{node}") for n, node in enumerate(nodes)]
        async with collecting(cell(tags=[*cell().model_dump()["tags"], *extra]), settings(plc.url)) as got:
            await got.until(lambda: got.alive())
            found = {p.tag: (p.collected, p.problem) for p in got.collector.problems}
            assert {tag: collected for tag, (collected, _) in found.items()} == {
                "broken_10": False,
                "broken_11": True,
                "broken_12": True,
                "broken_13": False,
            }
            assert found["broken_10"][1] == "node /Cell1/InBar: unit is 'bar' there and 'N' in plant.toml"
            assert "EURange is 0.0..200.0 there and 0.0..100.0" in found["broken_11"][1]
            assert "not a scalar number" in found["broken_13"][1]
            assert got.samples(10) == got.samples(13) == []
            assert (got.samples(11), got.samples(12)) == ([(2.0, 0)], [(3.0, 0)])

    stage.play(scenario)


def test_a_frozen_heartbeat_makes_the_cell_dead_while_samples_flow_and_no_gap_is_told(stage):
    async def scenario(plc):
        async with collecting(cell(), settings(plc.url)) as got:
            await got.until(got.alive)
            plc.beating = False
            await got.until(lambda: not got.alive())
            before = len(got.samples(2))
            await got.until(lambda: len(got.samples(2)) > before + 5)
            assert not got.alive()
            plc.beating = True
            await got.until(got.alive)
            assert got.of(Gap) == []

    stage.play(scenario)


def test_a_server_killed_three_times_is_found_again_with_exactly_one_gap_each():
    async def scenario():
        port = free_port()
        async with collecting(cell(), settings(f"opc.tcp://127.0.0.1:{port}/"), clock=SystemClock()) as got:
            await got.until(lambda: len(got.of(Tick)) >= 2)
            assert not any(tick.alive for tick in got.of(Tick))
            for outages in range(3):
                async with plc_process(port) as process:
                    await got.until(got.alive, patience_s=10.0)
                    assert len(got.of(Gap)) == outages
                    process.kill()
                    await got.until(lambda: not got.alive(), patience_s=5.0)
                    down = len(got.of(Tick))
                    await got.until(lambda down=down: len(got.of(Tick)) > down)
                    assert not any(tick.alive for tick in got.of(Tick)[down:])
            assert_one_gap_comes_before_the_samples_after_each_outage(got.inputs)
            assert [item.seq for item in got.inputs] == list(range(len(got.inputs)))

    run(scenario, 120)


def assert_one_gap_comes_before_the_samples_after_each_outage(inputs):
    gaps = [n for n, item in enumerate(inputs) if isinstance(item, Gap)]
    assert len(gaps) == 2
    for n in gaps:
        gap, before, after = inputs[n], inputs[:n], inputs[n + 1 :]
        assert gap.tags == ()
        assert "connection lost" in gap.reason
        assert gap.from_at < gap.until_at
        dead = [item for item in before if isinstance(item, Tick)][-1]
        assert not dead.alive
        # From the last alive tick's word on, nothing is known until the new session's first samples.
        assert gap.from_at >= max(t.complete_until for t in before if isinstance(t, Tick) and t.alive)
        assert next(item for item in after if isinstance(item, SampleBatch)).source_at.max() > gap.from_at


def test_a_namespace_that_moved_in_the_restart_is_resolved_anew():
    async def scenario():
        port = free_port()
        async with collecting(cell(), settings(f"opc.tcp://127.0.0.1:{port}/")) as got:
            for moved in (0, 2):
                plc = Plc(port)
                plc.other_namespaces_n = moved
                async with plc:
                    assert plc.index == 2 + moved
                    await got.until(got.alive)
                    before = len(got.samples(2))
                    await got.until(lambda before=before: len(got.samples(2)) > before + 2)
                await got.until(lambda: not got.alive())
            assert len(got.of(Gap)) == 1

    run(scenario)


def test_a_server_that_stops_publishing_is_left_and_found_again(stage):
    async def scenario(plc):
        async with collecting(cell(), settings(plc.url)) as got:
            await got.until(got.alive)
            (subscription,) = plc.server.iserver.subscription_service.subscriptions.values()
            subscription._task.cancel()
            await got.until(lambda: len(got.of(Gap)) == 1)
            await got.until(got.alive)
            assert "no publish response for 1 s" in got.of(Gap)[0].reason

    stage.play(scenario)


def test_a_slow_consumer_holds_the_server_back_and_loses_nothing(stage):
    async def scenario(plc):
        async with collecting(cell(), settings(plc.url, queue=1000)) as got:
            await got.until(got.alive)
            got.may_take.clear()
            counts = list(range(1, 201))
            for count in counts:
                await plc.put("CycleCount", count, UINT32)
                await asyncio.sleep(0.02)
            assert got.collector._mailbox.full()
            got.may_take.set()
            await got.until(lambda: got.samples(1)[-1][0] == counts[-1])
            assert [value for value, _ in got.samples(1)][-200:] == counts
            assert got.of(Gap) == []
            await got.until(got.alive)

    stage.play(scenario)


def test_values_of_a_faster_plant_are_complete_in_its_own_time(stage):
    async def scenario(plc):
        speed = 10.0
        clock = ScaledClock(SystemClock().now_us(), speed)
        async with collecting(cell(), settings(plc.url), clock=clock) as got:
            for count in range(1, 100):
                at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=clock.now_us())
                await plc.put("CycleCount", count, UINT32, at=at)
                await asyncio.sleep(0.03)
            complete, taken = 0, 0
            for item in got.inputs:
                if isinstance(item, Tick):
                    complete = item.complete_until
                elif isinstance(item, SampleBatch):
                    ours = item.source_at[item.tag == 1]
                    taken += len(ours)
                    # The first is what the server remembered from before we came.
                    assert taken <= 1 or (ours > complete).all()
            assert taken > 50
            assert len(got.of(Tick)) > 15

    stage.play(scenario)


def test_observing_loads_nothing_that_can_write():
    code = (
        "import sys, connectors.opcua.subscribe, connectors.opcua.checks, connectors.robots; "
        "assert 'connectors.opcua.actuate' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


WRITES = ("write_value", "write_attribute", "set_value", "call_method", "WriteValue", "CallMethodRequest", ".call(")


@pytest.mark.parametrize("path", sorted((ROOT / "connectors" / "opcua").glob("*.py")), ids=lambda path: path.name)
def test_only_actuate_mentions_what_can_write_or_call(path):
    mentioned = [word for word in WRITES if word in path.read_text()]
    assert bool(mentioned) == (path.name == "actuate.py"), mentioned
