"""What must hold for any input: batch splits and interruptions change nothing, bad values never pass for good."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.detectors.suite import Suite
from pipelines.features.cell_rows import CellRows
from pipelines.features.row import Row
from schemas.facts import AnomalyDetected
from schemas.plant import Tag
from schemas.samples import Control, Gap, Input, Kept, LineEvent, SampleBatch, Tick, is_good
from tests.feeding import BAD, COUNT, FORCE, GOOD, LEVEL, SP, T0, TORQUE, S, batch, small_cell

CELL = small_cell(state_node="/State", warm_up_rows=10)
TAGS = (COUNT, TORQUE, FORCE, SP, LEVEL, 999)
GOOD_OR_NOT = st.sampled_from([GOOD, GOOD, GOOD, GOOD, 0x40000000, BAD])
VALUES = st.sampled_from([1.0, 2.0, 3.0, 10.0, 15.0, 60.0, 1001.0, math.nan, math.inf])
SOME_TAGS = st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple)


@st.composite
def sessions(draw: st.DrawFn) -> list[Input]:
    """A source at its worst: time goes on; samples come early, late, twice and not good, with ticks in between."""
    now, messages = T0, [Tick("s", 1, 0, T0, True)]
    for _ in range(draw(st.integers(1, 25))):
        now += draw(st.sampled_from([0, S // 2, S, 2 * S, 5 * S]))
        kind = draw(st.sampled_from(["samples"] * 5 + ["tick"] * 6 + ["gap", "state", "control"]))
        past = st.sampled_from([0, 1, S // 4, S // 2, S, 2 * S, 6 * S]).map(lambda us, now=now: now - us)
        match kind:
            case "samples":
                sample = st.tuples(st.sampled_from(TAGS), past, VALUES, GOOD_OR_NOT)
                messages.append(batch(draw(st.lists(sample, min_size=1, max_size=8))))
            case "tick":
                alive, stale = draw(st.sampled_from([True, True, True, False])), draw(st.just(()) | SOME_TAGS)
                messages.append(Tick("s", 1, 0, now, alive, stale))
            case "gap":
                from_at, until_at = sorted((draw(past), draw(past)))
                messages.append(Gap("s", 1, 0, draw(SOME_TAGS), from_at, until_at, "test"))
            case "state":
                messages.append(LineEvent("s", 1, 0, "packml.state", draw(past), draw(st.sampled_from([6, 11]))))
            case _:
                word = draw(st.sampled_from(["rebaseline", "shelve", "unshelve", "maintenance"]))
                messages.append(Control("s", 1, 0, word, draw(SOME_TAGS), 2.0, now + 5 * S))
    return [*messages, Tick("s", 1, 0, now + 3 * S, True)]


def cycles(seed: int, n: int) -> list[Input]:
    """A run with faults of every kind at random, so that the properties are met with episodes open."""
    random, messages = np.random.default_rng(seed), [LineEvent("s", 1, 0, "packml.state", T0 - S, 6)]
    messages.append(Tick("s", 1, 0, T0, True))
    offset = np.zeros(3)
    for k in range(1, n + 1):
        now = T0 + 2 * k * S
        if random.random() < 0.1:
            offset[random.integers(3)] = random.choice([0.0, 5.0, 60.0])
        torque, force, level = np.array([10.0, 15.0, 20.0]) + offset + random.standard_normal(3)
        status = BAD if k % 50 > 45 else GOOD
        rows = [(TORQUE, now, torque, status), (FORCE, now - 5, force), (LEVEL, now, level), (SP, now, 15.0)]
        messages.append(batch([*rows, (COUNT, now, float(k))][: 5 if k % 17 else 3]))
        messages.append(Tick("s", 1, 0, now, bool(k % 31), (LEVEL,) if k % 37 == 0 else ()))
        if k == 40:
            messages.append(Control("s", 1, 0, "rebaseline", (TORQUE,), 6.0))
        if k % 60 == 0:
            messages.append(Gap("s", 1, 0, (), now - 3 * S, now, "test"))
            messages.append(LineEvent("s", 1, 0, "packml.state", now, 11 if k % 120 else 6))
    return messages


def keep(messages: list[Input]) -> list[Kept]:
    at, kept = T0, []
    for message in messages:
        at = max(at, message.complete_until) if isinstance(message, Tick) else at
        kept.append(Kept(len(kept) + 1, at, message))
    return kept


def found(suite: Suite, kept: list[Kept]) -> list[object]:
    return [fact for one in kept for fact in suite.feed(one).facts]


def split(one: SampleBatch, cuts: list[int]) -> list[SampleBatch]:
    edges = [0, *sorted(c % (len(one) + 1) for c in cuts), len(one)]
    fields = ("tag", "source_at", "server_at", "value", "status")
    return [
        SampleBatch(one.source, one.epoch, one.seq, **{f: getattr(one, f)[a:b] for f in fields})
        for a, b in itertools.pairwise(edges)
    ]


def recut(messages: list[Input], cuts: list[int]) -> list[Input]:
    return [part for m in messages for part in (split(m, cuts) if isinstance(m, SampleBatch) else [m])]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions(), st.lists(st.integers(0, 30), max_size=4))
def test_any_input_gives_the_same_findings_for_any_batch_split(messages, cuts):
    whole, parts = Suite(CELL), Suite(CELL)
    expected = found(whole, keep(messages))
    assert found(parts, keep(recut(messages, cuts))) == expected
    assert parts.state_sha256() == whole.state_sha256()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions(), st.integers(0, 40))
def test_any_input_gives_the_same_findings_after_a_restore_at_any_point(messages, at):
    kept = keep(messages)
    whole, before, after = Suite(CELL), Suite(CELL), Suite(CELL)
    expected = found(whole, kept)
    first = found(before, kept[:at])
    after.restore(before.snapshot())
    assert first + found(after, kept[at:]) == expected
    assert after.snapshot() == whole.snapshot()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 5), max_size=3), st.integers(0, 400))
def test_a_run_with_faults_gives_the_same_findings_cut_and_interrupted(seed, cuts, at):
    messages = cycles(seed, 150)
    whole, before, after = Suite(CELL), Suite(CELL), Suite(CELL)
    expected = found(whole, keep(messages))
    assert any(isinstance(fact, AnomalyDetected) for fact in expected)
    kept = keep(recut(messages, cuts))
    first = found(before, kept[:at])
    after.restore(before.snapshot())
    assert first + found(after, kept[at:]) == expected
    assert after.state_sha256() == whole.state_sha256()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions())
def test_bad_or_stale_value_never_reaches_a_detector_as_good(messages):
    cell_rows, seen = CellRows(CELL), []
    for message in messages:
        match message:
            case SampleBatch():
                cell_rows.take(message)
                columns = (message.tag, message.source_at, message.value, is_good(message.status))
                seen += list(zip(*(column.tolist() for column in columns), strict=True))
            case Gap():
                cell_rows.take_gap(message)
            case Tick():
                for row in cell_rows.tick(message):
                    for k, name in enumerate(row.tags):
                        if row.values[k] == row.values[k] and CELL.tag(name).minus is None:
                            check_believable(CELL.tag(name), row, float(row.values[k]), message, seen)
            case _:
                pass


def check_believable(tag: Tag, row: Row, value: float, tick: Tick, seen: list[tuple[int, int, float, bool]]) -> None:
    """Compare with the definition, sample by sample: a value is a good sample's, in the row or rightly held."""
    known = [(at, v, good and tag.range.low <= v <= tag.range.high) for t, at, v, good in seen if t == tag.id]
    known = sorted((one for one in known if one[0] <= row.end_at), key=lambda one: one[0])
    assert tag.id not in tick.stale
    if any(good and v == value and row.start_at < at for at, v, good in known):
        return
    latest_at, latest, latest_good = known[-1]
    assert (latest_good, latest) == (True, value)
    assert row.end_at - latest_at <= tag.hold_s * S
