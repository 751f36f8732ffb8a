"""A crash at every point of a corrective story, and again while recovering: nothing twice, nothing lost, all explained.

The points are found by a dry run, so a new append or a new call to a robot is crashed at without being named here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from multiprocessing import get_context

import numpy as np
import pytest

from agent.effects import Dispatch, Effect, QueryCommand
from pipelines.decide import CellService
from pipelines.derive import Derived
from pipelines.executor import Executor
from schemas.errors import LogError
from schemas.samples import Input, Kept
from tests.support.corrective_story import (
    KINDS,
    Kind,
    crash_once,
    crash_twice,
    live,
    points_of,
    quieten,
    violations,
    world,
)
from tests.support.crashing import Points

SHARE = 20
"""One pair in so many is crashed here; `make soak` crashes at all."""
ON_DISK_N = 4
SEED = 20260101


@pytest.fixture(autouse=True)
def _quiet():
    quieten()
    yield
    logging.disable(logging.NOTSET)


@cache
def _labels(kind: Kind) -> list[str]:
    return points_of(kind)[0]


@pytest.fixture(scope="module")
def workers():
    """One process a core of the smallest machine that runs this."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=quieten) as pool:
        yield pool


_SINGLES: dict[Kind, list[tuple[list[str], int]]] = {}


def _singles(kind: Kind, workers: ProcessPoolExecutor) -> list[tuple[list[str], int]]:
    if kind not in _SINGLES:
        n = len(_labels(kind))
        _SINGLES[kind] = list(workers.map(crash_once, [kind] * n, range(n), chunksize=8))
    return _SINGLES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_points_lie_around_everything_durable_and_everything_that_acts(kind):
    what = {label.split("(")[0] for label in _labels(kind)}
    calls = {"store.append", "store.take", "keeper.append", "keeper.sync", "keeper.rotate", "blobs.put"}
    calls |= {"robot.snapshot", "robot.execute"}
    assert what == {f"{when} {call}" for when in ("before", "after") for call in calls}


@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_at_any_point_changes_nothing_about_the_end(kind, workers):
    labels = _labels(kind)
    found = {f"{at} {labels[at]}": bad for at, (bad, _) in enumerate(_singles(kind, workers)) if bad}
    assert found == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_crash_while_recovering_changes_nothing_either(kind, workers):
    labels, rng = _labels(kind), np.random.default_rng(SEED)
    pairs = [(at, again) for at, (_, n) in enumerate(_singles(kind, workers)) for again in range(n)]
    share = [pairs[n] for n in rng.choice(len(pairs), -(-len(pairs) // SHARE), replace=False)]
    found = workers.map(crash_twice, repeat(kind), *zip(*share, strict=True), chunksize=8)
    assert {f"{at} {labels[at]}, then {n}": bad for (at, n), bad in zip(share, found, strict=True) if bad} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_may_have_left_is_asked_for(kind):
    """Recovery crosses `robot.query` only where something may have left: the points show that it does."""
    labels = _labels(kind)
    for at in [n for n, label in enumerate(labels) if label.startswith("after robot.execute")]:
        made = world(kind)
        assert live(made, Points(at)) is None
        points = Points()
        live(made, points)
        assert "before robot.query" in points.labels
        command_id = next(c for what, c, _, _ in made.wire.told if what == "query")
        answers = [(what, state) for what, c, _, state in made.wire.told if c == command_id]
        assert answers == [("execute", "DONE"), ("query", "DONE")]


@pytest.mark.parametrize("kind", KINDS)
def test_log_and_input_on_disk_survive_a_crash_at_any_point_too(kind, tmp_path):
    labels, started_n = points_of(kind, tmp_path / "dry")
    rng = np.random.default_rng(SEED)
    acting = [n for n, label in enumerate(labels) if "robot.execute" in label or "command.intended" in label]
    chosen = {int(n) for n in rng.choice(acting, ON_DISK_N // 2, replace=False)}
    chosen |= {int(n) for n in rng.integers(started_n, len(labels), ON_DISK_N // 2)}
    for at in chosen:
        bad, recovered_n = crash_once(kind, at, tmp_path / f"once-{at}")
        assert bad == [], f"{at} {labels[at]}"
        again = int(rng.integers(recovered_n))
        assert crash_twice(kind, at, again, tmp_path / f"twice-{at}") == [], f"{at} {labels[at]}, then {again}"


# ---------------------------------------------------------------- the invariants can fail


class Resends(Executor):
    """Sends again what may have left, instead of asking."""

    def fulfil(self, effects: Sequence[Effect]) -> None:
        super().fulfil(
            [Dispatch(e.command, e.command.sha256(), 2) if isinstance(e, QueryCommand) else e for e in effects]
        )


class ActsFirst(CellService):
    """Starts what follows from a fact before the fact is durable."""

    async def _write(self, derived: Derived, *, start: bool) -> None:
        if start and derived.effects:
            self._fulfiller.fulfil(derived.effects)
            while self._fulfiller.busy and any(isinstance(e, Dispatch) for e in derived.effects):
                await asyncio.sleep(0)
        await super()._write(Derived(derived.facts, [], derived.blobs), start=start)


class KeepsLast(CellService):
    """Uses an input before it is kept."""

    async def process(self, message) -> None:
        if not isinstance(message, Input):
            await super().process(message)
            return
        keeper = self._intake._keeper
        kept = Kept(keeper.position + 1, self._clock.now_us(), message)
        await self._write_item(kept)
        keeper.append(kept)


def _caught(kind: Kind, label: str, *, executor=Executor, service=CellService) -> list[str]:
    """Crash a mutant at every point of this name; returns what was found."""

    def mutated():
        made = world(kind)
        made.executor, made.service = executor, service
        return made

    dry, found = Points(), []
    live(mutated(), dry)
    for at in [n for n, name in enumerate(dry.labels) if name.startswith(label)]:
        made = mutated()
        assert live(made, Points(at)) is None
        live(made, Points())
        found += violations(made)
    return found


def test_an_executor_that_sends_again_without_asking_is_caught():
    found = _caught("effective", "after robot.execute", executor=Resends)
    assert any("sent again without asking" in text for text in found)


def test_a_service_that_acts_before_its_intent_is_durable_is_caught():
    found = _caught(
        "effective", "before store.append(snapshot.taken/1 guard.judged/1 command.intended", service=ActsFirst
    )
    assert found != []


def test_a_service_that_uses_input_before_it_is_kept_is_caught():
    """The log says that the input was used, the kept input says that it never was: the next start stops at that."""
    with pytest.raises(LogError, match="concluded from 50 inputs and 49 are kept"):
        _caught("effective", "after store.append(anomaly.detected", service=KeepsLast)
