"""Every input comes back from its message to the last bit; every mutilated message is a CodecError and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from connectors.kafka.codec import VALUE_BYTES_MAX, Message, decode_message, encode_message, tag_table_sha256
from connectors.kafka.dead import dead_letter
from schemas.errors import CodecError
from schemas.line import PackMLState
from schemas.samples import SAMPLE_DTYPES, Control, Gap, Input, Kept, LineEvent, SampleBatch, Tick
from tests.eventlog_support import batch, same_input
from tests.feeding import small_cell

os.environ.setdefault("RUST_BACKTRACE", "0")

CELL = "plant/site/hall/line/cell1"
TAGS = "ab" * 32
COUNTS = st.integers(0, 2**63 - 1)
TIMES = st.integers(-(2**63), 2**63 - 1)
IDS = st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple)
SOURCES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@st.composite
def batches(draw: st.DrawFn) -> SampleBatch:
    n = draw(st.integers(0, 20))
    columns = {name: draw(hnp.arrays(dtype, n)) for name, dtype in SAMPLE_DTYPES.items()}
    return SampleBatch(draw(SOURCES), draw(COUNTS), draw(COUNTS), **columns)


INPUTS: st.SearchStrategy[Input] = st.one_of(
    batches(),
    st.builds(LineEvent, SOURCES, COUNTS, COUNTS, st.sampled_from(["packml.state", "text"]), TIMES, TIMES, TEXTS),
    st.builds(Gap, SOURCES, COUNTS, COUNTS, IDS, TIMES, TIMES, TEXTS),
    st.builds(Tick, SOURCES, COUNTS, COUNTS, TIMES, st.booleans(), IDS),
    st.builds(Control, SOURCES, COUNTS, COUNTS, st.sampled_from(["shelve", "label"]), IDS,
              st.floats(allow_nan=False, allow_infinity=False), TIMES, TEXTS),
)  # fmt: skip


def decoded(message: Message):
    return decode_message(message.key, message.value, message.headers)


def with_header(message: Message, name: str, content: bytes | None) -> list[tuple[str, bytes | None]]:
    """Its headers with one replaced; None: left out."""
    rest = [(n, c) for n, c in message.headers if n != name]
    return rest if content is None else [*rest, (name, content)]


@given(INPUTS, TIMES)
@settings(max_examples=300, deadline=None)
def test_every_input_comes_back_bit_for_bit(item, at):
    got = decoded(encode_message(CELL, at, item, TAGS))
    assert (got.cell, got.at, got.tags_sha256) == (CELL, at, TAGS)
    assert same_input(Kept(1, 1, got.input), Kept(1, 1, item))


@given(INPUTS, TIMES)
@settings(max_examples=50, deadline=None)
def test_equal_inputs_give_equal_bytes(item, at):
    assert encode_message(CELL, at, item, TAGS) == encode_message(CELL, at, item, TAGS)


def test_headers_are_cloud_events_and_tell_what_is_inside_without_opening_it():
    message = encode_message(CELL, 5, batch(7, 3), TAGS)
    said = dict(message.headers)
    assert message.key == CELL.encode()
    assert said["ce_specversion"] == b"1.0"
    assert said["ce_id"] == b"opcua:cell1/7/7"
    assert said["ce_source"] == b"opcua:cell1"
    assert said["ce_type"] == b"jidoka.samples/1"
    assert said["content-type"] == b"application/vnd.apache.arrow.stream"
    assert (said["n"], said["at"], said["epoch"], said["seq"]) == (b"3", b"5", b"7", b"7")
    assert said["sha256"] == hashlib.sha256(message.value).hexdigest().encode()


SMALL = st.sampled_from([encode_message(CELL, 99, item, TAGS) for item in (
    batch(3, 4), Tick("opcua:c", 1, 2, 3, alive=True), Gap("opcua:c", 1, 2, (1,), 3, 4, "lost"),
    LineEvent("opcua:c", 1, 2, "text", 3, 0, "é"), Control("agent", 1, 2, "rebaseline", (1,), 2.5),
)])  # fmt: skip
JUNK = st.binary(max_size=200) | st.sampled_from([
    b"", b"-1", b"-0", b"007", b"+1", b"1_0", b" 1", b"9" * 5000, b"9223372036854775808", b"1e3", b"nan", b"\xff\xfe",
    "٣".encode(), b"null", b"[" * 100_000,
])  # fmt: skip


@given(SMALL, st.data())
@settings(max_examples=600, deadline=None)
def test_any_header_that_is_changed_missing_or_doubled_is_refused(message, data):
    name, before = data.draw(st.sampled_from(message.headers))
    # Another time of taking is as good as this one: only the broker's checksum could tell.
    as_good = re.compile(rb"-?\d+" if name == "at" else b"(?!)")
    content = data.draw(JUNK.filter(lambda junk: junk != before and not as_good.fullmatch(junk)) | st.none())
    with pytest.raises(CodecError):
        decode_message(message.key, message.value, with_header(message, name, content))
    with pytest.raises(CodecError):
        decode_message(message.key, message.value, [*message.headers, (name, before)])
    with pytest.raises(CodecError):
        decode_message(message.key, message.value, [(n, None if n == name else c) for n, c in message.headers])


@given(SMALL, st.data())
@settings(max_examples=300, deadline=None)
def test_two_swapped_headers_are_refused(message, data):
    one, other = data.draw(st.lists(st.sampled_from(message.headers), min_size=2, max_size=2, unique=True))
    if one[1] != other[1]:
        headers = {**dict(message.headers), one[0]: other[1], other[0]: one[1]}
        with pytest.raises(CodecError):
            decode_message(message.key, message.value, list(headers.items()))


def resealed(message: Message, value: bytes) -> list[tuple[str, bytes | None]]:
    """The hash made right again: what is refused then is refused by its content."""
    return with_header(message, "sha256", hashlib.sha256(value).hexdigest().encode())


@given(SMALL, st.binary(max_size=300) | JUNK)
@settings(max_examples=400, deadline=None)
def test_another_value_is_refused_also_with_its_own_hash(message, value):
    with pytest.raises(CodecError):
        decode_message(message.key, value, message.headers)
    with pytest.raises(CodecError):
        decode_message(message.key, value, resealed(message, value))


@given(SMALL, st.data())
@settings(max_examples=400, deadline=None)
def test_a_cut_or_flipped_value_is_refused_or_says_the_same(message, data):
    flipped = bytearray(message.value)
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = message.value[: data.draw(st.integers(0, len(message.value) - 1))]
    for value in (bytes(flipped), cut):
        with pytest.raises(CodecError):
            decode_message(message.key, value, message.headers)
        with contextlib.suppress(CodecError):
            # With its own hash: another number in a field is another input, which no checksum but that one can tell.
            decode_message(message.key, value, resealed(message, value))


@given(SMALL, st.none() | st.binary(max_size=80), st.none() | st.just(b""))
@settings(max_examples=200, deadline=None)
def test_another_key_or_no_value_is_refused(message, key, value):
    if key != message.key:
        with pytest.raises(CodecError):
            decode_message(key, message.value, message.headers)
    with pytest.raises(CodecError):
        decode_message(message.key, value, message.headers)
    with pytest.raises(CodecError):
        decode_message(message.key, message.value, None)


@pytest.mark.timeout(20)
def test_numbers_of_other_kinds_of_int_are_looked_at_at_once():
    # Was: `in range(...)`, which walks through 2^64 numbers for an IntEnum; the collector stood still.
    event = LineEvent("s", 1, 2, "packml.state", 0, PackMLState.EXECUTE)
    message = encode_message(CELL, np.int64(3), event, TAGS)
    assert decode_message(message.key, message.value, message.headers).input == event


@pytest.mark.parametrize("item", [
    Tick("s", 1, 2, 2**63, alive=True),
    Tick("s", 1, 2, 0, alive=True, stale=(2**32,)),
    Gap("s", 1, 2, (-1,), 0, 0, ""),
    Gap("s", 1, 2, (), 0, 10**30, ""),
    LineEvent("s", 1, 2, "packml.state", 0, 2**63),
    Control("s", 1, 2, "rebaseline", (), settle_s=float("nan")),
    Tick("s", -1, 2, 0, alive=True),
    Tick("s", 1, 2**63, 0, alive=True),
    Tick("", 1, 2, 0, alive=True),
])  # fmt: skip
def test_numbers_with_which_nobody_can_calculate_are_refused_on_both_ways(item):
    with pytest.raises(CodecError, match="out of range"):
        encode_message(CELL, 0, item, TAGS)
    value = msgspec.json.encode(item)
    honest = encode_message(CELL, 0, type(item)(**{**msgspec.structs.asdict(EXAMPLES[type(item)])}), TAGS)
    headers = resealed(Message(honest.key, honest.value, honest.headers), value)
    with pytest.raises(CodecError):
        decode_message(honest.key, value, headers)


EXAMPLES = {
    Tick: Tick("s", 1, 2, 0, alive=True),
    Gap: Gap("s", 1, 2, (), 0, 0, ""),
    LineEvent: LineEvent("s", 1, 2, "packml.state", 0, 0),
    Control: Control("s", 1, 2, "rebaseline", ()),
}


def test_a_batch_beyond_the_bound_is_refused_before_a_broker_does():
    n = VALUE_BYTES_MAX // 32 + 1
    zeros = {name: np.zeros(n, dtype) for name, dtype in SAMPLE_DTYPES.items()}
    with pytest.raises(CodecError, match=f"{VALUE_BYTES_MAX} is the most: split it"):
        encode_message(CELL, 0, SampleBatch("s", 0, 0, **zeros), TAGS)


def test_headers_of_others_are_passed_over():
    message = encode_message(CELL, 5, batch(7, 3), TAGS)
    headers = [("traceparent", b"00-1"), ("traceparent", b"00-2"), ("x", None), *message.headers]
    assert decode_message(message.key, message.value, headers).at == 5


def test_the_tag_table_is_told_apart_by_id_name_unit_and_order():
    cell = small_cell()
    first, second, *rest = cell.tags
    others = [
        (second, first, *rest),
        (first.model_copy(update={"unit": "mm"}), second, *rest),
        (first.model_copy(update={"id": 999}), second, *rest),
        (second, *rest),
    ]
    hashes = {tag_table_sha256(cell.model_copy(update={"tags": tags})) for tags in [cell.tags, *others]}
    assert len(hashes) == 5
    assert tag_table_sha256(cell.model_copy(update={"lateness_s": 9.0})) == tag_table_sha256(cell)


def test_a_dead_letter_is_short_and_says_why_and_where_from():
    message = encode_message(CELL, 5, batch(7, 5_000), TAGS)
    letter = dead_letter(message, reason="too large" * 1000, origin="collect telemetry.v1/3")
    said = dict(letter.headers)
    assert letter.key == message.key
    assert message.value.startswith(letter.value)
    assert len(letter.value) == 10_000
    assert said["dead_origin"] == b"collect telemetry.v1/3"
    assert said["dead_value_bytes"] == b"%d" % len(message.value)
    assert said["ce_id"] == b"opcua:cell1/7/7"
    assert len(said["dead_reason"]) == 500
