"""A log of an earlier version is read as today's."""

import json

import pytest

from schemas.errors import CodecError
from schemas.facts import AnyFact, SourceSilent, decode
from schemas.upcast import UPCASTS, upcast

STEPS = {
    "source.quiet/1": lambda raw: {**raw, "type": "source.quiet/2", "silent_s": raw["ms"] / 1000, "ms": None},
    "source.quiet/2": lambda raw: {k: v for k, v in raw.items() if k != "ms"} | {"type": "source.silent/1"},
}
OLD = {"type": "source.quiet/1", "at": 5, "source": "opcua:cell1", "ms": 1500}


def test_steps_follow_one_another_up_to_the_newest_version():
    assert upcast(OLD, STEPS) == {"type": "source.silent/1", "at": 5, "source": "opcua:cell1", "silent_s": 1.5}
    assert OLD["type"] == "source.quiet/1"


def test_a_fact_of_today_is_left_as_it_is():
    raw = {"type": "source.silent/1"}
    assert upcast(raw, STEPS) is raw
    assert upcast({"no": "type"}, STEPS) == {"no": "type"}


def test_decode_reads_an_older_fact_by_its_steps():
    assert decode(json.dumps(OLD).encode(), STEPS) == SourceSilent(at=5, source="opcua:cell1", silent_s=1.5)


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "source.quiet/1"',
        '{"type": "source.quiet/1", "at": 5, "ms": 1}',
        '{"type": "source.quiet/1", "at": "5", "source": "x", "ms": 1}',
        '{"type": "source.quiet/1", "at": 5, "source": "x", "ms": 1, "also": 1}',
        '{"type": "source.unheard/1"}',
        '{"type": 1}',
        "[]",
        "1",
        "\udcff",
    ],
)
def test_what_no_step_makes_a_fact_is_refused(text):
    with pytest.raises(CodecError, match="not a fact"):
        decode(text.encode("utf-8", "surrogatepass"), STEPS)


def test_without_its_step_an_older_fact_is_refused():
    with pytest.raises(CodecError, match=r"source\.quiet/1"):
        decode(json.dumps(OLD).encode())


@pytest.mark.parametrize("back", ["a/1", "a/2"])
def test_a_step_that_leads_nowhere_is_a_mistake(back):
    steps = {"a/1": lambda raw: {"type": "a/2"}, "a/2": lambda raw: {"type": back}}
    with pytest.raises(ValueError, match="not to a newer version"):
        upcast({"type": "a/1"}, steps)


def test_every_step_of_the_table_starts_from_a_type_that_is_no_more():
    today = {kind.__struct_config__.tag for kind in AnyFact.__args__}
    assert not today & set(UPCASTS)
