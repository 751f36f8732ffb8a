"""A plant's own JSON messages: what becomes a sample or event, and the reason for everything that does not."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.kafka.instants import instant
from connectors.kafka.mapping import Mapped, MappedEvent, NotOurs, Unmappable, map_message
from connectors.kafka.starting import start_of
from connectors.kafka.stream_order import StreamOrder
from connectors.kafka.streams import StreamMapping, checked
from pipelines.config import load
from schemas.errors import ConfigError
from schemas.line import PackMLState
from schemas.samples import Gap, LineEvent, SampleBatch, Tick
from schemas.streams import Stream, Streams, StreamTime, steps
from tests.support.demo import CONFIG

PLANT = load(CONFIG).plant
AT = 1_769_860_800_000_000
"""2026-01-31T12:00:00Z."""
TIME = {"path": "ts", "format": "iso8601"}
FORCE = {"tag": "grip_force_n", "unit": "N", "path": "force"}
LIFT = {"tag": "lift_current_a", "unit": "A", "path": "lift.current"}
NOON = "2026-01-31T12:00:00Z"


def mapping(**changes: object) -> StreamMapping:
    usual = {"topic": "press.values", "cell": "cell1", "time": TIME, "values": [FORCE, LIFT]}
    stream = Stream.model_validate({**usual, **changes})
    return checked(Streams(streams=(stream,)), PLANT)[0]


def understood(message: object, by: bytes | None = None, **changes: object):
    """Map a message with the key `by`."""
    value = message if isinstance(message, bytes) else json.dumps(message).encode()
    return map_message(mapping(**changes), by, value)


def reason(message: object, **changes: object) -> str:
    outcome = understood(message, **changes)
    assert isinstance(outcome, Unmappable), outcome
    return outcome.reason


def test_fields_of_a_message_become_samples():
    outcome = understood({"ts": NOON, "force": 31.5, "lift": {"current": 2}})
    assert isinstance(outcome, Mapped)
    assert [(s.tag, s.tag_id, s.unit, s.at, s.value, s.status) for s in outcome.samples] == [
        ("grip_force_n", 2, "N", AT, 31.5, 0), ("lift_current_a", 5, "A", AT, 2.0, 0),
    ]  # fmt: skip
    assert (outcome.events, outcome.problems) == ((), ())


def test_a_field_that_is_not_there_has_no_sample():
    outcome = understood({"ts": NOON, "force": True})
    assert [(s.tag, s.value) for s in outcome.samples] == [("grip_force_n", 1.0)]


SIGNALS = {
    "each": "signals",
    "time": {"path": "$.header.t", "format": "ms"},
    "status": {"path": "q", "codes": {"good": 0, "bad": 0x80000000}},
    "values": [
        {"tag": "grip_force_n", "unit": "N", "path": "v", "where": {"path": "id", "equals": "GF"}, "unit_path": "eu"},
        {"tag": "lift_current_a", "unit": "A", "path": "v", "where": {"path": "id", "equals": 17}},
    ],
}


def test_elements_of_a_list_are_records_of_their_own():
    signals = [{"id": "GF", "v": 30, "q": "good", "eu": "N"}, {"id": 17, "v": None, "q": "bad"}]
    outcome = understood({"header": {"t": AT // 1000}, "signals": signals}, **SIGNALS)
    force, lift = outcome.samples
    assert (force.tag, force.value, force.status, force.at) == ("grip_force_n", 30.0, 0, AT)
    assert (lift.tag, math.isnan(lift.value), lift.status) == ("lift_current_a", True, 0x80000000)


@pytest.mark.parametrize(("signal", "words"), [
    ({"id": "GF", "v": 30, "q": "good", "eu": "kN"}, "[0] grip_force_n: the message says unit 'kN', the tag is in 'N'"),
    ({"id": "GF", "v": 30, "q": "good"}, "[0] grip_force_n: the message says unit nothing, the tag is in 'N'"),
    ({"id": "GF", "v": "30", "q": "good", "eu": "N"}, "[0] grip_force_n: '30' at 'v' is no number"),
    ({"id": "GF", "v": None, "q": "good", "eu": "N"}, "[0] grip_force_n: nothing at 'v' is no number"),
    ({"id": "GF", "v": [1], "q": "good", "eu": "N"}, "[0] grip_force_n: [1] at 'v' is no number"),
    ({"id": "GF", "v": 30, "q": "so-so", "eu": "N"}, "[0] status 'so-so' at 'q' is not known, only good, bad"),
    ({"id": "GF", "v": 30, "eu": "N"}, "[0] status nothing at 'q' is not known, only good, bad"),
    ({"id": "XX", "v": 30}, '[0] nothing in it is mapped: {"id":"XX","v":30}'),
    (7, "[0] nothing in it is mapped: 7"),
])  # fmt: skip
def test_a_record_that_cannot_be_used_says_why_and_leaves_the_others(signal, words):
    message = {"header": {"t": AT // 1000}, "signals": [signal]}
    assert reason(message, **SIGNALS) == words
    message["signals"].append({"id": 17, "v": 1.5, "q": "good"})
    outcome = understood(message, **SIGNALS)
    assert ([s.tag for s in outcome.samples], outcome.problems) == (["lift_current_a"], (words,))


def test_unknown_signals_are_passed_over_where_that_is_wanted():
    message = {"header": {"t": AT // 1000}, "signals": [{"id": "XX", "v": 30}]}
    assert understood(message, **SIGNALS, pass_over_unknown=True) == NotOurs()
    message["signals"].append({"id": "GF", "v": "30", "q": "good", "eu": "N"})
    assert isinstance(understood(message, **SIGNALS, pass_over_unknown=True), Unmappable)


@pytest.mark.parametrize(("message", "words"), [
    (b"", "not JSON"),
    (b"{'ts': 1}", "not JSON"),
    (b'{"ts": "2026-01-31T12:00:00Z", "force": NaN}', "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    ({"force": 1}, "no time at 'ts' (there are 'force')"),
    ([1, 2], "nothing in it is mapped: [1,2]"),
    ({"ts": NOON}, 'nothing in it is mapped: {"ts":"2026-01-31T12:00:00Z"}'),
    ({"ts": NOON, "force": "31.5"}, "grip_force_n: '31.5' at 'force' is no number"),
    (b'{"ts": "2026-01-31T12:00:00Z", "force": 1e999}', "not JSON (Number out of range"),
    ({"ts": "yesterday", "force": 1}, "time 'yesterday' is not ISO 8601, e.g. 2026-01-31T12:00:00.000Z"),
    ({"ts": "2026-01-31", "force": 1}, "time '2026-01-31' is a date without a time of day"),
    ({"ts": 1_769_860_800, "force": 1}, "time 1769860800 is no text: the format is not iso8601"),
])  # fmt: skip
def test_what_is_not_understood_has_a_reason(message, words):
    assert reason(message).startswith(words)


def test_a_message_without_value_is_told():
    assert map_message(mapping(), b"k", None) == Unmappable("no value: a message that only deletes")


def test_messages_of_others_are_left_by_key_and_by_content():
    message = {"ts": NOON, "force": 1, "machine": "press3"}
    assert understood(message, b"press4", key="press3") == NotOurs()
    assert understood(message, None, key="press3") == NotOurs()
    assert isinstance(understood(message, b"press3", key="press3"), Mapped)
    assert understood(message, where={"path": "machine", "equals": "press4"}) == NotOurs()
    assert isinstance(understood(message, where={"path": "machine", "equals": "press3"}), Mapped)


STATE = {"values": [], "state": {"path": "mode", "states": {"RUN": "EXECUTE", "3": "HELD", "true": "IDLE"}},
         "text": {"path": "note"}}  # fmt: skip


@pytest.mark.parametrize(("mode", "state"), [("RUN", "EXECUTE"), (3, "HELD"), (3.0, "HELD"), ("3", "HELD"),
                                             (True, "IDLE")])  # fmt: skip
def test_a_state_becomes_a_packml_state(mode, state):
    outcome = understood({"ts": NOON, "mode": mode}, **STATE)
    assert outcome.events == (MappedEvent("packml.state", AT, PackMLState[state]),)


def test_a_state_that_is_not_mapped_says_which_are():
    assert reason({"ts": NOON, "mode": "OFF"}, **STATE) == "state 'OFF' at 'mode' is not mapped, only RUN, 3, true"


def test_text_becomes_a_line_event_and_a_number_does_not():
    outcome = understood({"ts": NOON, "note": " batch 7 "}, **STATE)
    assert outcome.events == (MappedEvent("text", AT, text="batch 7"),)
    assert reason({"ts": NOON, "note": 7}, **STATE) == "text: 7 at 'note' is no text"


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(("value", "format_", "zone", "at"), [
    ("2026-01-31T12:00:00Z", "iso8601", "UTC", AT),
    ("2026-01-31T13:00:00+01:00", "iso8601", "UTC", AT),
    ("2026-01-31T13:00:00", "iso8601", BERLIN, AT),
    ("2026-01-31 12:00:00.000001", "iso8601", "UTC", AT + 1),
    ("2026-01-31T12:00:00.000001999Z", "iso8601", "UTC", AT + 1),
    ("2026-10-25T01:59:59", "iso8601", BERLIN, 1_792_886_399_000_000),
    ("2026-10-25T03:00:00", "iso8601", BERLIN, 1_792_893_600_000_000),
    (AT // 1_000_000, "s", "UTC", AT),
    (AT / 1_000_000 + 0.25, "s", "UTC", AT + 250_000),
    (str(AT // 1_000_000), "s", "UTC", AT),
    (AT // 1000, "ms", "UTC", AT),
    (AT + 7, "us", "UTC", AT + 7),
    ((AT + 7) * 1000 + 999, "ns", "UTC", AT + 7),
])  # fmt: skip
def test_times_are_read_exactly(value, format_, zone, at):
    assert instant(value, StreamTime(path="t", format=format_, zone=zone)) == at


@pytest.mark.parametrize(("value", "format_", "zone", "words"), [
    ("2026-10-25T02:30:00", "iso8601", BERLIN, r"is there twice in Europe/Berlin \(daylight saving\)"),
    ("2026-03-29T02:30:00", "iso8601", BERLIN, r"does not exist in Europe/Berlin \(daylight saving\)"),
    (AT // 1_000_000, "ms", "UTC", "is not between 2000 and 2100: the format is another"),
    (AT // 1000, "s", "UTC", "is not between 2000 and 2100"),
    (0, "s", "UTC", "is not between 2000 and 2100"),
    (1e300, "s", "UTC", "is not between 2000 and 2100"),
    (True, "s", "UTC", "is no number"),
    ("noon", "s", "UTC", "'noon' is no number: the format is not s"),
    ("nan", "s", "UTC", "is no number"),
    ({"t": 1}, "us", "UTC", "is no number"),
])  # fmt: skip
def test_times_that_could_be_wrong_are_refused(value, format_, zone, words):
    with pytest.raises(ValueError, match=words):
        instant(value, StreamTime(path="t", format=format_, zone=zone))


@given(st.integers(946_684_800_000_000, 4_102_444_799_999_999))
def test_every_instant_reads_back_from_numbers_of_every_exact_unit(at):
    for unit, value in (("us", at), ("ns", at * 1000), ("ms", at // 1000)):
        assert instant(value, StreamTime(path="t", format=unit)) == (at if unit != "ms" else at // 1000 * 1000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["ts", "force", "lift", "id", "v", "q",
        "signals", "header", "t", "mode", "note", "eu", "current"]), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(JSON, st.sampled_from([{}, SIGNALS, STATE]))
def test_no_message_whatever_makes_it_fail_or_gives_a_good_value_that_is_none(message, changes):
    outcome = map_message(mapping(**changes), None, json.dumps(message).encode())
    if isinstance(outcome, Mapped):
        assert all(math.isfinite(s.value) or s.status >> 30 for s in outcome.samples)
    else:
        assert isinstance(outcome, (Unmappable, NotOurs))


@pytest.mark.parametrize(("path", "found"), [
    ("a.b", ("a", "b")), ("$.a", ("a",)), ("$", ()), ("a[0][1].b", ("a", 0, 1, "b")), ('["x.y"].z', ("x.y", "z")),
    ("Größe-2", ("Größe-2",)),
])  # fmt: skip
def test_paths_are_taken_apart(path, found):
    assert steps(path) == found


@pytest.mark.parametrize("path", [".a", "a..b", "a[x]", "a[", 'a["', "a b", "a]", "a.$"])
def test_a_path_that_is_none_is_refused_at_load(path):
    with pytest.raises(ValidationError, match="is not understood at"):
        mapping(time={"path": path, "format": "s"})


@pytest.mark.parametrize(("changes", "field", "words"), [
    ({"cell": "cell9"}, "streams.0.cell", "plant.toml has no cell 'cell9'"),
    ({"topic": "anomalies.v1"}, "streams.0.topic", "one of the agent's own topics"),
    ({"time": {**TIME, "zone": "Mars/Base"}}, "streams.0.time.zone", "unknown time zone 'Mars/Base'"),
    ({"values": [FORCE, {**LIFT, "tag": "lift_a"}]}, "streams.0.values.1.tag", "cell 'cell1' has no tag 'lift_a'"),
    ({"values": [{**FORCE, "tag": "force_deviation_n"}]}, "streams.0.values.0.tag", "only a derived tag"),
    ({"values": [{**FORCE, "unit": "kN"}]}, "streams.0.values.0.unit", "comes in 'kN' and the tag is in 'N'"),
])  # fmt: skip
def test_an_entry_that_contradicts_the_plant_is_refused(changes, field, words):
    with pytest.raises(ConfigError) as caught:
        mapping(**changes)
    assert (caught.value.file, caught.value.field) == ("streams.toml", field)
    assert words in caught.value.problem


@pytest.mark.parametrize(("changes", "words"), [
    ({"values": []}, "neither values nor state nor text"),
    ({"state": {"path": "m", "states": {"RUN": "RUNNING"}}}, "which is no PackML state: use one of"),
    ({"state": {"path": "m", "states": {}}}, "states is empty"),
    ({"status": {"path": "q", "codes": {"x": -1}}}, "is no StatusCode"),
    ({"time": {"path": "t", "format": "minutes"}}, "'iso8601'"),
])  # fmt: skip
def test_an_entry_that_contradicts_itself_is_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        mapping(**changes)


def order(*places: object) -> StreamOrder:
    entry = mapping(**STATE, disorder_s=2.0, dead_after_s=10.0)
    made = StreamOrder(entry.cell, [entry.stream], epoch=3)
    made.read_from(places or [0])
    return made


def at(second: float, place: int = 0) -> dict[str, object]:
    return {"place": place, "received_at": AT + int(second * 1e6), "wall_s": second}


def tick(source: StreamOrder, second: float, *, answering: bool = True) -> tuple[float, bool]:
    """Tick; return how far it is complete, in seconds behind noon, and whether it is alive."""
    word = source.tick(answering=answering, wall_s=second)[-1]
    assert isinstance(word, Tick)
    return (word.complete_until - AT) / 1e6, word.alive


def force(second: float, value: float = 1.0) -> Mapped:
    outcome = understood({"ts": AT + int(second * 1e6), "force": value}, time={"path": "ts", "format": "us"})
    assert isinstance(outcome, Mapped)
    return outcome


def state(second: float, mode: str = "RUN") -> Mapped:
    message = {"ts": AT + int(second * 1e6), "mode": mode}
    outcome = understood(message, **{**STATE, "time": {"path": "ts", "format": "us"}})
    assert isinstance(outcome, Mapped)
    return outcome


def test_samples_events_and_ticks_of_a_cell_come_in_one_order():
    source = order()
    out = [*source.take(force(1), **at(1)), *source.take(state(2), **at(2)), *source.take(state(3), **at(3))]
    out += [*source.take(force(4), **at(4)), *source.tick(answering=True, wall_s=5.0)]
    assert [type(item) for item in out] == [SampleBatch, LineEvent, SampleBatch, Tick, Tick]
    assert [(item.source, item.epoch, item.seq) for item in out] == [("kafka:cell1", 3, n) for n in range(5)]
    assert (out[0].source_at.tolist(), out[0].server_at.tolist()) == ([AT + 1_000_000], [AT + 1_000_000])
    assert (out[1].value, out[1].source_at) == (PackMLState.EXECUTE, AT + 2_000_000)
    # Rows begin at the first tick: it is before the first sample.
    assert [(each.complete_until, each.alive) for each in out[3:]] == [(AT + 999_999, True), (AT + 2_000_000, True)]


def test_what_was_read_to_its_end_is_complete_up_to_then_and_silence_ends_the_source():
    source = order()
    assert source.tick(answering=True, wall_s=0.0) == []
    source.take(force(1), **at(1))
    assert tick(source, 2) == (-1.0, True)
    source.complete(0, AT + 8_000_000)
    assert tick(source, 11) == (6.0, True)
    source.complete(0, AT + 12_000_000)
    assert tick(source, 11.5) == (10.0, False)


def test_while_the_broker_is_away_nothing_is_complete_so_that_the_backlog_comes_in_time():
    source = order()
    source.take(force(1), **at(1))
    assert [tick(source, second, answering=False) for second in (2, 60)] == [(-1.0, False), (-1.0, False)]
    source.take(force(3), **at(61))
    assert (tick(source, 61), source.late_n) == ((1.0, True), 0)


def test_cell_is_as_complete_as_its_slowest_partition():
    source = order("a", "b")
    source.take(force(100), **at(100, "a"))
    (batch,) = source.tick(answering=True, wall_s=100.0)
    assert isinstance(batch, SampleBatch)
    source.take(force(20), **at(101, "b"))
    assert (tick(source, 101), source.ahead) == ((18.0, True), {"a"})
    source.complete("b", AT + 99_000_000)
    assert (tick(source, 102), source.ahead) == ((97.0, True), frozenset())
    source.read_from(["a"])
    assert tick(source, 103) == (98.0, True)


def test_sample_of_long_ago_makes_no_rows_of_the_time_since():
    source = order()
    source.take(force(-10_000), **at(0))
    source.take(force(0), **at(0))
    ticks = [item.complete_until - AT for item in source.tick(answering=True, wall_s=0.0) if isinstance(item, Tick)]
    assert ticks == [-902_000_000, -2_000_000]


def test_backlog_is_told_before_the_second_is_over():
    source = order()
    source.take(force(0), **at(1000))
    assert (source.due, tick(source, 1000), source.due) == (True, (-2.0, True), False)
    source.take(force(59.999999), **at(1000))
    assert source.due is False
    source.take(force(60), **at(1000))
    assert source.due is True


def test_messages_that_cannot_be_read_any_more_are_a_gap():
    source = order()
    assert source.lost(0, since_at=AT, now=AT + 9, reason="gone")[-1] == Gap(
        "kafka:cell1", 3, 0, (), AT, AT + 9, "gone"
    )
    source.take(force(5), **at(6))
    batch, gap = source.lost(0, since_at=AT, now=AT + 9_000_000, reason="gone")
    assert (len(batch), gap.from_at, gap.until_at) == (1, AT + 5_000_000, AT + 9_000_000)


def test_a_plant_clock_that_runs_ahead_does_not_end_rows_early_and_a_late_sample_is_counted():
    source = order()
    source.take(force(3600), **at(1))
    batch, _, word = source.tick(answering=True, wall_s=2.0)
    assert (batch.source_at.tolist(), word.complete_until) == ([AT + 3_600_000_000], AT - 1_000_000)
    source.take(force(-5), **at(3))
    assert (source.late_n, source.latest_us) == (1, 4_000_000)


@pytest.mark.parametrize(("message", "kind"), [
    (b"no", "not JSON"), ({"force": 1}, "time"), ({"ts": NOON}, "not mapped"), ({"ts": NOON, "force": "1"}, "number"),
])  # fmt: skip
def test_reasons_are_counted_by_their_kind(message, kind):
    outcome = understood(message)
    assert isinstance(outcome, Unmappable)
    assert outcome.reason.kind == kind


def test_entries_of_one_topic_and_cell_begin_at_one_place():
    entries = [{"topic": "t", "cell": "cell1", "time": TIME, "values": [FORCE], "from": begin} for begin in
               ("earliest", "latest")]  # fmt: skip
    assert Streams.model_validate({"streams": entries[:1]}).streams[0].begin == "earliest"
    with pytest.raises(ValidationError, match="'t' differ in from"):
        Streams.model_validate({"streams": entries})


@pytest.mark.parametrize(("known", "more", "offset", "lost"), [
    (None, {}, 90, ""),
    (None, {"first": "earliest"}, 10, ""),
    (None, {"grown": True}, 10, ""),
    (None, {"collected": True}, 90, "forgotten"),
    (9, {}, 10, "messages 9 to 9 were deleted"),
    (10, {}, 10, ""),
    (90, {}, 90, ""),
    (91, {}, 10, "made anew"),
])  # fmt: skip
def test_reading_goes_on_where_it_was_or_tells_what_is_lost(known, more, offset, lost):
    usual = {"first": "latest", "grown": False, "collected": False}
    start = start_of(known, 10, 90, **{**usual, **more})
    assert (start.offset, lost in start.lost, bool(lost), start.new) == (offset, True, bool(start.lost), known is None)
