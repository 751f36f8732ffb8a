"""The detection of a cell: what opens, what does not, what people can tell it, and what it remembers."""

from __future__ import annotations

import math

import msgspec
import pytest

from pipelines.detectors.config import DetectorConfig
from pipelines.detectors.suite import Suite
from schemas.errors import CodecError, ConfigError
from schemas.facts import (
    AnomalyDetected,
    AnomalyUpdated,
    CalibrationAdopted,
    LineStateChanged,
    SourceChanged,
    SourceGap,
)
from schemas.samples import WATCH, Tick
from tests.feeding import BAD, FORCE, LEVEL, SP, T0, TORQUE, Feeder, S, cleared, opened, small_cell

EXECUTE, HELD = 6, 11


def learnt(**cell: object) -> Feeder:
    """A feeder whose suite has learnt the normal of all its tags."""
    feeder = Feeder(small_cell(**cell))
    if cell.get("state_node"):
        feeder.state(EXECUTE, T0 - S)
    feeder.tick()
    facts = feeder.cycles(30)
    assert any(isinstance(f, CalibrationAdopted) and f.group == "cycle" for f in facts)
    return feeder


def shift_torque(feeder: Feeder, n: int, *, to: float = 30.0) -> list[object]:
    """Cycles with the torque far from normal and never twice the same, so that it is not stuck."""
    return [fact for k in range(n) for fact in feeder.cycles(1, torque=to + (k % 7) / 100)]


def test_healthy_cell_opens_nothing():
    assert opened(learnt().cycles(500)) == []


def test_hard_limit_opens_at_the_second_row_beyond_with_the_onset_of_the_first():
    feeder = learnt()
    first_at = feeder.now + 2 * S
    facts = feeder.cycles(3, torque=60.0)
    (fact,) = [f for f in facts if isinstance(f, AnomalyDetected) and f.detector == "limit"]
    assert (fact.tag, fact.direction, fact.severity, fact.onset_at) == ("torque_n", "up", "high", first_at)
    assert fact.detail == "torque_n: 60 N is above the high limit of 50 N"


@pytest.mark.parametrize(("torque", "expected"), [(50.0, []), (math.nextafter(50.0, 51.0), [("limit", "torque_n")])])
def test_value_on_the_limit_is_within(torque, expected):
    feeder = Feeder(small_cell())
    feeder.tick()
    assert opened(feeder.cycles(5, torque=torque)) == expected


def test_one_row_beyond_a_limit_opens_nothing():
    feeder = learnt()
    assert opened(feeder.cycles(1, torque=60.0) + feeder.cycles(5)) == []


def test_shift_opens_after_three_rows_and_clears_after_five_normal_ones():
    feeder = learnt()
    # A row closes one cycle later than it ends, by the lateness.
    assert opened(shift_torque(feeder, 3)) == []
    assert opened(feeder.cycles(1)) == [("shift", "torque_n")]
    assert cleared(feeder.cycles(4)) == []
    assert cleared(feeder.cycles(1)) == ["normal"]


def test_two_rows_far_away_are_no_shift():
    feeder = learnt()
    assert opened(shift_torque(feeder, 2) + feeder.cycles(5)) == []


def test_hard_limits_hold_before_anything_is_learnt_and_the_evidence_says_high():
    feeder = Feeder(small_cell())
    feeder.tick()
    (fact,) = [f for f in feeder.cycles(4, torque=60.0) if isinstance(f, AnomalyDetected)]
    (torque, *_) = fact.evidence.tags
    assert (torque.tag, torque.bucket, torque.baseline, torque.z) == ("torque_n", "high", None, None)


def test_evidence_ranks_all_watched_tags_of_all_groups_with_the_setpoints():
    feeder = learnt()
    (fact,) = [f for f in feeder.cycles(3, torque=60.0) if isinstance(f, AnomalyDetected) and f.detector == "limit"]
    assert next(t.tag for t in fact.evidence.tags) == "torque_n"
    assert {t.tag for t in fact.evidence.tags} == {"torque_n", "force_n", "deviation_n", "level_n"}
    assert fact.evidence.tags[0].bucket == "very_high"
    assert fact.evidence.setpoints == {"force_sp_n": 15.0}
    assert len(msgspec.json.encode(fact.evidence)) <= 1500


def test_bad_status_is_one_low_episode_and_no_process_finding():
    feeder = learnt()
    facts = feeder.cycles(10, torque=99.0, status=BAD)
    assert opened(facts) == [("quality", "torque_n")]
    assert [f.severity for f in facts if isinstance(f, AnomalyDetected)] == ["low"]
    assert cleared(feeder.cycles(4)) == ["normal"]


def test_value_that_repeats_is_stuck_and_neither_shift_nor_anything_else():
    feeder = learnt()
    assert opened(feeder.cycles(20, torque=30.0)) == [("stuck", "torque_n")]
    assert cleared(feeder.cycles(2)) == ["normal"]


def test_stuck_value_is_in_no_bucket_so_that_nobody_acts_on_it():
    feeder = learnt()
    (fact,) = [f for f in feeder.cycles(20, torque=30.0) if isinstance(f, AnomalyDetected)]
    (torque,) = [t for t in fact.evidence.tags if t.tag == "torque_n"]
    assert (torque.bucket, torque.z, torque.value) == ("unknown", None, 30.0)


def test_stuck_source_silences_the_tag_derived_from_it():
    feeder = learnt()
    assert opened(feeder.cycles(20, force=18.0)) == [("stuck", "force_n")]


def test_tag_that_misses_its_latch_is_stale_although_its_value_is_held():
    feeder = learnt()
    assert opened(feeder.cycles(6, without=[TORQUE])) == [("stale", "torque_n")]
    assert cleared(feeder.cycles(3)) == ["normal"]


def test_unchanged_setpoint_that_is_never_sent_again_is_not_stale():
    feeder = Feeder(small_cell())
    feeder.samples([(SP, T0 - S, 15.0)])
    feeder.tick()
    assert opened(feeder.cycles(60, without=[SP])) == []


def test_silent_grid_tag_is_stale_while_the_source_lives_and_not_while_it_is_lost():
    feeder = learnt()
    assert opened(feeder.cycles(5, without=[LEVEL])) == [("stale", "level_n")]
    lost = learnt()
    for _ in range(20):
        lost.now += S
        lost.tick(alive=False)
    assert opened(lost.facts) == []


def test_gap_and_lost_source_are_told_once():
    feeder = learnt()
    feeder.now += 2 * S
    feeder.tick(alive=False)
    feeder.now += 2 * S
    feeder.tick(alive=False)
    feeder.gap(feeder.now - 4 * S, feeder.now, (TORQUE,))
    feeder.now += S
    feeder.tick()
    told = [f for f in feeder.facts if isinstance(f, SourceChanged | SourceGap)]
    assert [(type(f).__name__, getattr(f, "alive", None)) for f in told] == [
        ("SourceChanged", False), ("SourceGap", None), ("SourceChanged", True)]  # fmt: skip
    assert told[1].tags == ("torque_n",)


def test_statistics_neither_learn_nor_count_outside_execute_and_limits_do():
    feeder = learnt(state_node="/State")
    feeder.state(HELD)
    assert opened(shift_torque(feeder, 8)) == []
    assert opened(shift_torque(feeder, 4, to=60.0)) == [("limit", "torque_n")]


def test_leaving_execute_breaks_a_run_of_excursions():
    feeder = learnt(state_node="/State")
    shift_torque(feeder, 2)
    feeder.state(HELD)
    feeder.cycles(1)
    feeder.state(EXECUTE)
    assert opened(shift_torque(feeder, 2, to=31.0)) == []
    assert opened(feeder.cycles(1)) == []


def test_shift_stays_open_while_the_machine_stands_and_clears_by_normal_rows():
    feeder = learnt(state_node="/State")
    assert opened(shift_torque(feeder, 5)) == [("shift", "torque_n")]
    feeder.state(HELD)
    assert cleared(feeder.cycles(20)) == []
    feeder.state(EXECUTE)
    assert cleared(feeder.cycles(8)) == ["normal"]


def test_changed_state_is_told_once():
    feeder = learnt(state_node="/State")
    feeder.state(HELD)
    feeder.state(HELD)
    told = [(f.state, f.number) for f in feeder.facts if isinstance(f, LineStateChanged)]
    assert told == [("EXECUTE", 6), ("HELD", 11)]


def test_cell_with_a_state_learns_nothing_before_it_is_known():
    feeder = Feeder(small_cell(state_node="/State"))
    feeder.tick()
    assert [f for f in feeder.cycles(40) if isinstance(f, CalibrationAdopted)] == []


def shifted() -> Feeder:
    """A feeder with an open shift of torque and of nothing else."""
    feeder = learnt()
    shift_torque(feeder, 6)
    assert [key[2] for key in feeder.suite.episodes.open] == ["shift"]
    return feeder


def test_rebaselined_tag_clears_is_silent_while_it_settles_and_learns_a_new_normal():
    feeder = shifted()
    feeder.control("rebaseline", (TORQUE,), settle_s=20.0)
    assert cleared(feeder.facts) == ["rebaselined"]
    facts = []
    for k in range(10 + 20 + 1):
        facts += feeder.cycles(1, torque=30.0 + (k % 7) / 10)
    assert opened(facts) == []
    assert [(f.group, f.rows) for f in facts if isinstance(f, CalibrationAdopted)] == [("cycle", 20)]
    assert opened(feeder.cycles(1, torque=45.0) + feeder.cycles(1, torque=46.0) + feeder.cycles(2, torque=47.0)) == [
        ("shift", "torque_n")
    ]


def test_hard_limit_stays_on_while_a_tag_is_rebaselined():
    feeder = learnt()
    feeder.control("rebaseline", (TORQUE,), settle_s=1000.0)
    assert opened(feeder.cycles(4, torque=60.0)) == [("limit", "torque_n")]


@pytest.mark.parametrize("kind", ["shelve", "maintenance"])
def test_shelved_tag_opens_nothing_until_its_time_and_then_does_with_a_new_onset(kind):
    feeder = shifted()
    feeder.control(kind, (TORQUE,), until_at=feeder.now + 20 * S)
    assert cleared(feeder.facts) == ["shelved"]
    for k in range(9):
        assert opened(feeder.cycles(1, torque=60.0 + k)) == []
    facts = []
    for k in range(8):
        facts += feeder.cycles(1, torque=60.0 + k)
    assert sorted(opened(facts)) == [("limit", "torque_n"), ("shift", "torque_n")]
    ids = [f.episode_id for f in feeder.facts if isinstance(f, AnomalyDetected)]
    assert len(set(ids)) == len(ids)


def test_unshelved_tag_is_watched_again():
    feeder = learnt()
    feeder.control("shelve", (TORQUE,), until_at=feeder.now + 1000 * S)
    feeder.control("unshelve", (TORQUE,))
    assert opened(feeder.cycles(4, torque=60.0)) == [("limit", "torque_n")]


def test_long_episode_tells_fresh_evidence_every_twenty_rows():
    feeder = learnt()
    feeder.cycles(3, torque=60.0)
    updates = [f for f in feeder.cycles(39, torque=60.0) if isinstance(f, AnomalyUpdated)]
    limit_id = next(f.episode_id for f in feeder.facts if isinstance(f, AnomalyDetected) and f.detector == "limit")
    assert len([f for f in updates if f.episode_id == limit_id]) == 1
    assert len([f for f in feeder.cycles(2, torque=60.0) if isinstance(f, AnomalyUpdated)]) >= 1


def test_contaminated_warm_up_still_gives_the_normal():
    feeder = Feeder(small_cell())
    feeder.tick()
    facts = feeder.cycles(6, torque=40.0) + feeder.cycles(24)
    assert any(isinstance(f, CalibrationAdopted) for f in facts)
    assert [feeder.cycles(1, torque=40.0 + k / 10) and None for k in range(5)]
    assert ("shift", "torque_n") in opened(feeder.facts)


def test_episode_identity_depends_on_cell_detector_tag_onset_and_configuration_only():
    one, other = learnt(), learnt()
    assert one.cycles(3, torque=60.0) == other.cycles(3, torque=60.0)
    tuned = Feeder(suite=Suite(small_cell(), DetectorConfig(parameters={"shift": {"z_limit": 7.0}})))
    tuned.tick()
    tuned.cycles(30)
    ids = {f.episode_id for f in tuned.cycles(3, torque=60.0) if isinstance(f, AnomalyDetected)}
    assert ids
    assert not ids & {f.episode_id for f in one.facts if isinstance(f, AnomalyDetected)}


@pytest.mark.parametrize(
    ("config", "remedy"),
    [
        (DetectorConfig(detectors=("spike",)), "Use some of: quality, stale"),
        (DetectorConfig(parameters={"shift": {"sigma": 1.0}}), "Use the arguments"),
    ],
)
def test_unknown_detector_or_parameter_is_named_with_a_remedy(config, remedy):
    with pytest.raises(ConfigError, match=remedy):
        Suite(small_cell(), config)


def test_snapshot_of_another_version_cell_or_configuration_is_refused():
    data = learnt().suite.snapshot()
    with pytest.raises(CodecError, match="another cell or detector configuration"):
        Suite(small_cell(lateness_s=3.0)).restore(data)
    with pytest.raises(CodecError, match="not a packed state"):
        Suite(small_cell()).restore(data[:-1])
    state = msgspec.msgpack.decode(data)
    with pytest.raises(CodecError, match="snapshot of version 0"):
        Suite(small_cell()).restore(msgspec.msgpack.encode({**state, "version": 0}))


def test_force_stays_believed_while_another_tag_is_bad():
    feeder = learnt()
    facts = feeder.cycles(1, status=BAD, force=20.0)
    for k in range(6):
        facts += feeder.cycles(1, status=BAD, force=20.0 + k / 100)
    assert ("shift", "force_n") in opened(facts)
    assert FORCE in {tag.id for tag in feeder.suite.cell.tags}


def silence(feeder: Feeder) -> list[object]:
    """What the runtime's own watch puts when no source says anything; it has no time of completeness."""
    return feeder.put(Tick(WATCH, 1, 0, complete_until=0, alive=False)).facts


def test_silence_that_the_watch_tells_ends_with_the_next_tick_and_rows_go_on():
    feeder = learnt()
    rows = len(feeder.rows)
    (lost,) = silence(feeder)
    assert (lost.source, lost.alive) == (WATCH, False)
    # Was: the watch's tick held the rows back for ever, and nothing said that the source was back.
    (back,) = [f for f in feeder.cycles(3) if isinstance(f, SourceChanged)]
    assert (back.source, back.alive) == ("s", True)
    assert len(feeder.rows) > rows + 3
    assert opened(feeder.cycles(4, torque=60.0)) == [("limit", "torque_n")]


def test_source_that_is_lost_when_it_speaks_again_is_not_called_back():
    feeder = learnt()
    feeder.tick(alive=False)
    assert [f.alive for f in silence(feeder)] == [False]
    assert feeder.tick(alive=False).facts == []
    (back,) = feeder.tick().facts
    assert (back.source, back.alive) == ("s", True)


def test_cell_that_moves_to_another_source_while_the_first_is_lost_goes_on_and_counts_as_alive():
    feeder = learnt()
    feeder.now += S
    feeder.tick(alive=False)
    rows, told = len(feeder.rows), len(feeder.facts)
    for second in range(1, 90):
        feeder.samples([(LEVEL, feeder.now + second * S, 20.0)])
        feeder.put(Tick("kafka:c", 1, second, feeder.now + second * S, alive=True), feeder.now + second * S)
    # Was: no row ever again, and the source lost for ever, until the saved state was deleted.
    assert len(feeder.rows) - rows > 80
    assert [(type(f).__name__, f.source) for f in feeder.facts[told:] if isinstance(f, SourceChanged | SourceGap)] == [
        ("SourceGap", "s"),
        ("SourceChanged", "kafka:c"),
    ]
    (back,) = [f for f in feeder.facts[told:] if isinstance(f, SourceChanged)]
    assert back.alive
