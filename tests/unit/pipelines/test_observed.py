"""What a decision service takes of observations: each once, in order, and what is lost is not passed over."""

from __future__ import annotations

import asyncio

from connectors.eventlog.blobs import MemoryBlobs
from pipelines.derive import Derivation
from pipelines.stages.observed import Acceptance, ObservedIntake
from schemas.observations import BEGUN, OFFSET, Delivered, Observation, decode_observation, encode_observation
from schemas.samples import INPUT
from tests.support.staged import CELL, RULES


def observed(position: int, after: int, *, begun_at: int = 5, offset: int = 0) -> Delivered:
    return Delivered(
        offset, Observation(CELL.path, position, after, at=position, begun_at=begun_at, source="s", tick=True)
    )


def accepted(*delivered: Delivered, stored: dict[str, int] | None = None) -> list[tuple[bool, str]]:
    acceptance = Acceptance(stored or {})
    return [(acceptance.accepts(each), acceptance.broken) for each in delivered]


def test_observations_go_on_from_each_other():
    assert accepted(observed(3, 0), observed(4, 3), observed(9, 4)) == [(True, "")] * 3


def test_a_repeated_one_is_not_taken():
    assert [took for took, _ in accepted(observed(3, 0), observed(3, 0), observed(2, 0), observed(4, 3))] == [
        True, False, False, True,
    ]  # fmt: skip


def test_after_a_start_what_the_store_has_is_not_taken_again():
    stored = {INPUT: 4, BEGUN: 5, OFFSET: 11}
    assert accepted(observed(4, 3), observed(5, 4), stored=stored) == [(False, ""), (True, "")]


def test_a_hole_is_told_with_what_is_lost():
    assert accepted(observed(3, 0), observed(9, 7))[1] == (True, "what detection said of inputs 4 to 7 is lost")


def test_detectors_that_began_later_replace_those_before_and_their_late_words_are_not_taken():
    said = accepted(observed(3, 0), observed(4, 0, begun_at=8), observed(5, 3), observed(6, 4, begun_at=8))
    assert said == [(True, ""), (True, "the detectors began anew at input 4"), (False, ""), (True, "")]


def test_detectors_that_began_anew_behind_what_was_decided_wait_until_they_are_beyond_it():
    said = accepted(observed(9, 0), observed(8, 0, begun_at=8), observed(10, 8, begun_at=8))
    assert [took for took, _ in said] == [True, False, True]


def test_a_fresh_log_recovers_to_nothing_known():
    async def fetch(start: int, until: int) -> list[Delivered]:
        raise AssertionError("nothing is to be counted again")

    intake = ObservedIntake(MemoryBlobs(), fetch)
    recovered = asyncio.run(intake.recover(Derivation(RULES), [], {}))
    assert (recovered.behind, recovered.cold, recovered.known) == ([], "", frozenset())
    assert intake.accept(observed(1, 0)) is not None
    assert intake.anew() is None


def test_an_observation_reads_back_as_it_was():
    observation = observed(3, 0).observation
    assert decode_observation(encode_observation(observation)) == observation
