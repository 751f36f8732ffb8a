"""OPC UA's words and ours."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from connectors.opcua.mapping import (
    STATUS_BAD_TYPE_MISMATCH,
    ById,
    ByPath,
    browse_path,
    microseconds,
    node_id,
    overflowed,
    parse_node,
    sample_of,
    status_name,
)

RECEIVED_AT = 1_700_000_000_000_000
T = ua.VariantType
WHOLE = {
    T.SByte: (-(2**7), 2**7 - 1), T.Byte: (0, 2**8 - 1), T.Int16: (-(2**15), 2**15 - 1), T.UInt16: (0, 2**16 - 1),
    T.Int32: (-(2**31), 2**31 - 1), T.UInt32: (0, 2**32 - 1), T.Int64: (-(2**63), 2**63 - 1), T.UInt64: (0, 2**64 - 1),
}  # fmt: skip


def data_value(value, kind, status=0, source=None, server=None):
    return ua.DataValue(ua.Variant(value, kind), ua.StatusCode(status), source, server)


@pytest.mark.parametrize(
    "text",
    ["", "/", "/A//B", "/A/", "A/B", "ns=2;s=x", "nsu=;s=x", "nsu=urn:a;s=", "nsu=urn:a;i=x", "nsu=urn:a;i=-1",
     "nsu=urn:a;i=4294967296", "nsu=urn:a;g=x", "nsu=urn:a", "s=x"],
)  # fmt: skip
def test_a_node_written_otherwise_is_refused_with_the_way_to_write_it(text):
    with pytest.raises(ValueError, match=r"write (one of these|a path)"):
        parse_node(text, "urn:cell")


@given(st.lists(st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_any_path_of_names_is_read_back_as_it_was_written(names):
    assert parse_node("/" + "/".join(names), "urn:c") == ByPath("urn:c", tuple(names))


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_a_node_follows_its_namespace_to_whatever_index_it_has_now(number, before):
    namespaces = [f"urn:{n}" for n in range(before)] + ["urn:c"]
    assert node_id(ById("urn:c", f"i={number}"), namespaces) == ua.NodeId(number, before)
    path = browse_path(ByPath("urn:c", ("A", "B")), namespaces)
    assert [e.TargetName for e in path.RelativePath.Elements] == [
        ua.QualifiedName("A", before),
        ua.QualifiedName("B", before),
    ]


def test_a_namespace_that_the_server_lacks_leads_nowhere():
    assert node_id(ById("urn:c", "s=x"), ["urn:other"]) is None
    assert browse_path(ByPath("urn:c", ("A",)), ["urn:other"]) is None


@given(st.sampled_from(sorted(WHOLE)).flatmap(lambda k: st.tuples(st.just(k), st.integers(*WHOLE[k]))))
def test_whole_numbers_become_the_nearest_float_and_keep_good(case):
    kind, value = case
    sample = sample_of(data_value(value, kind), RECEIVED_AT)
    assert (sample.value, sample.status) == (float(value), 0)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**32 - 1))
def test_a_number_keeps_its_value_and_every_bit_of_its_status(value, status):
    sample = sample_of(data_value(value, T.Double, status), RECEIVED_AT)
    assert (sample.value, sample.status) == (value, status)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("status", [0, 0x40000000, 0x80000000])
def test_nan_and_infinity_become_nan_under_their_own_status(value, status):
    sample = sample_of(data_value(value, T.Double, status), RECEIVED_AT)
    assert math.isnan(sample.value)
    assert sample.status == status


@pytest.mark.parametrize(
    ("value", "kind"),
    [("7", T.String), (b"7", T.ByteString), ([1.0, 2.0], T.Double), (None, T.Null), (datetime(2026, 1, 1), T.DateTime)],
)
@pytest.mark.parametrize(("status", "kept"), [(0, False), (0x480, False), (0x40000000, True), (0x80340000, True)])
def test_what_is_no_number_becomes_nan_and_never_stays_good(value, kind, status, kept):
    sample = sample_of(data_value(value, kind, status), RECEIVED_AT)
    assert math.isnan(sample.value)
    assert sample.status == (status if kept else STATUS_BAD_TYPE_MISMATCH)


def test_booleans_are_one_and_zero():
    assert [sample_of(data_value(b, T.Boolean), RECEIVED_AT).value for b in (True, False)] == [1.0, 0.0]


def test_a_value_without_status_is_good():
    assert sample_of(ua.DataValue(ua.Variant(1.0, T.Double), None), RECEIVED_AT).status == 0


TIMES = st.none() | st.datetimes(datetime(1600, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))


@given(TIMES, TIMES)
def test_source_time_falls_back_to_the_servers_and_then_to_ours(source, server):
    sample = sample_of(data_value(1.0, T.Double, 0, source, server), RECEIVED_AT)
    assert sample.server_at == (microseconds(server) or RECEIVED_AT)
    assert sample.source_at == (microseconds(source) or microseconds(server) or RECEIVED_AT)
    assert sample.source_at > 0


@given(st.integers(1, 2**53))
def test_times_are_exact_to_the_microsecond_with_and_without_zone(at):
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    assert microseconds(time) == microseconds(time.replace(tzinfo=None)) == at


@pytest.mark.parametrize(
    ("status", "is_overflow"),
    [(0x480, True), (0x40000480, True), (0x400, False), (0x80, False), (0xC80, False), (0, False)],
)
def test_only_the_data_value_overflow_bit_is_an_overflow(status, is_overflow):
    assert overflowed(status) is is_overflow


def test_a_status_is_named_without_its_info_bits():
    assert status_name(0x80740480) == "BadTypeMismatch"
