"""The derivation beside its parts: what a start with other detectors leaves behind."""

from __future__ import annotations

from pipelines.derive import Derivation
from schemas.facts import AnomalyCleared
from tests.support.builders import START, detected, started
from tests.support.demo import demo_rules


def test_an_episode_that_the_detectors_no_longer_know_ends_as_forgotten_at_the_next_start():
    """Was: nobody ever cleared it, and its incident stayed open for ever."""
    derivation = Derivation(demo_rules())
    derivation.fold(detected())
    derived = derivation.feed_fact(started(START + 1))
    assert AnomalyCleared(at=START + 1, episode_id="ep1", reason="forgotten") in derived.facts
    assert not derivation.state.episodes


def test_a_start_without_open_episodes_concludes_nothing():
    assert len(Derivation(demo_rules()).feed_fact(started()).facts) == 1
