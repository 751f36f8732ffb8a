"""Whatever the outside does (reorders, repeats, drops, restarts), nothing is sent twice, in parallel, or while off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.asking.following import INTERPRETATION
from agent.effects import (
    AskReasoner,
    Dispatch,
    Effect,
    QueryCommand,
    ReadBack,
    ReadSetpoints,
    Rebaseline,
    TakeSnapshot,
    VerifyEffect,
    WakeAt,
    outstanding,
)
from agent.incident import ON_ITS_WAY
from agent.step import Stepped
from schemas import facts
from schemas.facts import AnyFact
from schemas.plans import Completion
from schemas.sentences import Interpretation
from tests.support.builders import plan_text, snapshot, started
from tests.support.story import DONE, FORGOTTEN, NEVER_SEEN, NO_ANSWER, NOT_SENT, REJECTED, RUNNING, Story

SEND_ANSWERS = (DONE, DONE, DONE, NO_ANSWER, NO_ANSWER, RUNNING, REJECTED, NOT_SENT, FORGOTTEN, NEVER_SEEN)
QUERY_ANSWERS = (DONE, DONE, NEVER_SEEN, NEVER_SEEN, NEVER_SEEN, NO_ANSWER, RUNNING, NOT_SENT, REJECTED, FORGOTTEN)
PLANS = (
    plan_text(("set_motion_speed", {"motion_speed_pct": 50.0})),
    plan_text(("set_motion_speed", {"motion_speed_pct": 60.0}), ("set_grip_force", {"grip_force_n": 20.0})),
    plan_text(("set_grip_force", {"grip_force_n": 40.0})),
    plan_text(("clean_pads", {}), ("set_grip_force", {"grip_force_n": 30.0})),
    plan_text(("hold_cell", {})),
    plan_text(("set_conveyor_speed", {"conveyor_speed_pct": 60.0}), asset="drive"),
    '{"findings": []}',
    "nonsense",
)
REQUESTS = (
    ("request", {"target": "set_grip_force", "args": {"grip_force_n": 30.0}}),
    ("request", {"target": "clean_pads"}),
    ("request", {"target": "set_motion_speed", "args": {"motion_speed_pct": 70.0}}),
    ("ask", {"reason": "set the grip force to 40 N and clean the pads"}),
    ("ask", {"reason": "make it hold better"}),
    ("hold", {}),
    ("off", {}),
    ("on", {}),
    ("on", {}),
    ("on", {}),
)
TAGS = ("part_slip_mm", "lift_current_a", "drive_current_a")
KINDS = 22

STORIES = 300
FULFIL = 12
"""Kinds below this fulfil a wish; the others are what the outside does of its own accord."""

Move = tuple[int, int, int]
"""What happens next, of which, and how."""


class Outside(Story):
    """A story that checks after every fact what must never be."""

    def __init__(self) -> None:
        self.intents: Counter[str] = Counter()
        self.fences: Counter[str] = Counter()
        self.dispatched: set[tuple[str, int]] = set()
        self.most_on_its_way = 0
        super().__init__()

    def feed(self, fact: AnyFact) -> Stepped:
        before = self.state
        stepped = super().feed(fact)
        if isinstance(fact, facts.CommandAnswered) and fact.by == "query" and fact.outcome == NEVER_SEEN:
            self.fences[fact.command_id] += 1
        for concluded in stepped.facts:
            if isinstance(concluded, facts.CommandIntended):
                self._intended(concluded)
                assert before.automation_on
                assert before.mode == "act"
        for effect in stepped.effects:
            if isinstance(effect, Dispatch):
                assert (effect.command.command_id, effect.attempt) not in self.dispatched
                self.dispatched.add((effect.command.command_id, effect.attempt))
            if self.state.mode == "observe":
                assert not isinstance(effect, Dispatch | TakeSnapshot | ReadSetpoints)
        busy = Counter(c.command.robot for c in self.state.commands.values() if c.phase in ON_ITS_WAY)
        assert max(busy.values(), default=0) <= 1
        return stepped

    def _intended(self, fact: facts.CommandIntended) -> None:
        command_id = fact.command.command_id
        assert self.intents[command_id] <= self.fences[command_id], "sent again and it was not said to be never seen"
        self.intents[command_id] += 1
        assert fact.attempt == self.intents[command_id] <= 3
        if fact.command.origin == "sentence":
            assert self.state.commands[command_id].approvers, "sent by a text alone"
            SEEN["sentence"] += 1

    def happen(self, move: Move) -> None:
        """Let one thing happen."""
        what, which, how = move
        wishes = [w for w in outstanding(self.state, self.rules.policy).values() if not isinstance(w, WakeAt)]
        match what:
            case what if what < FULFIL and wishes:
                self._fulfil(wishes[which % len(wishes)], how)
            case 12:
                self.later(how % 7)
            case 13 if self.facts:
                self._again([f for f in self.facts if facts.type_name(f) not in facts.DERIVED_NAMES], which)
            case 14:
                mode = "observe" if how % 8 == 7 else "act"
                self.feed(started(self.at, mode, self.state.epoch + 1))
            case 15:
                tag = TAGS[which % len(TAGS)]
                self.anomaly(tag, f"ep{how % 5}")
            case 16:
                self.feed(facts.AnomalyCleared(at=self.at, episode_id=f"ep{how % 5}", reason="normal"))
            case 17:
                kind, changes = REQUESTS[which % len(REQUESTS)]
                self.operator(kind, who=f"p{how % 2}", **changes)
            case 18 | 19:
                self._decide(which, how)
            case 20:
                tag = TAGS[which % len(TAGS)]
                self.goes_on(tag, f"ep{how % 5}")
            case _:
                self._wake(which)

    def _fulfil(self, wish: Effect, how: int) -> None:
        match wish:
            case AskReasoner(request):
                read = {INTERPRETATION: Interpretation().text()} if request.sentence is not None else {}
                text = Completion(raw=PLANS[how % len(PLANS)], reasoner="scripted", model=read)
                self.feed(facts.ReasonerAnswered(at=self.at, request_id=request.request_id, completion=text))
            case TakeSnapshot():
                off = how % 13 == 0
                failure = "server is gone" if how % 11 == 0 else ""
                self.feed(snapshot(wish.subject_id, self.at, self.read(), off_file=off, failure=failure))
            case ReadSetpoints():
                failure = "server is gone" if how % 11 == 0 else ""
                self.feed(snapshot(wish.subject_id, self.at, self.read(), failure=failure))
            case Dispatch():
                self.sent_of(wish, how)
            case QueryCommand(command):
                outcome = QUERY_ANSWERS[how % len(QUERY_ANSWERS)]
                self.feed(self.answered(command.command_id, "query", outcome))
            case ReadBack(command):
                self.feed(facts.ReadbackTaken(at=self.at, command_id=command.command_id, readings=self.read()))
            case VerifyEffect():
                kind = facts.EffectAbsent(at=self.at, command_id=wish.command_id, reason="no")
                shown = facts.EffectVerified(at=self.at, command_id=wish.command_id, rows=1, worst=0.0)
                self.feed(kind if how % 3 == 0 else shown)
            case Rebaseline():
                self.feed(facts.TagsRebaselined(at=self.at, cause_id=wish.cause_id, tags=wish.tags))
            case _:
                pass

    def sent_of(self, wish: Dispatch, how: int) -> None:
        outcome = SEND_ANSWERS[how % len(SEND_ANSWERS)]
        action = self.rules.catalogue.action(wish.command.action)
        if action is not None and outcome in (DONE, NO_ANSWER):
            self.plant.update({a.tag: wish.command.args[a.name] for a in action.args})
        self.feed(self.answered(wish.command.command_id, "send", outcome))

    def _again(self, outside: Sequence[AnyFact], which: int) -> None:
        """The same fact once more, unless it says what a robot says of one query only."""
        fact = outside[-1 - which % min(len(outside), 20)]
        once = isinstance(fact, facts.CommandAnswered) and fact.by == "query"
        if not once and not isinstance(fact, facts.AgentStarted):
            self.feed(fact)

    def _decide(self, which: int, how: int) -> None:
        commands = list(self.state.commands.values())
        if commands:
            progress = commands[which % len(commands)]
            kind = ("approve", "approve", "approve", "deny", "resolve")[how % 5]
            self.operator(kind, target=progress.command.command_id, command_sha256=progress.sha256, who=f"p{which % 2}")

    def _wake(self, which: int) -> None:
        wakes = self.outstanding(WakeAt)
        if wakes:
            wake = wakes[which % len(wakes)]
            self.at = max(self.at, wake.at)
            self.feed(facts.TimeReached(at=self.at, wake_id=wake.wake_id))


SEEN: Counter[str] = Counter()
"""How often what matters happened over all examples: a property of nothing would be worth nothing."""


def tell(moves: Sequence[Move]) -> None:
    outside = Outside()
    outside.anomaly("part_slip_mm", "ep0")
    for move in moves:
        outside.happen(move)
    SEEN.update(facts.type_name(fact) for fact in outside.facts)
    SEEN["attempt 2"] += sum(fact.attempt == 2 for fact in outside.of(facts.CommandIntended))
    SEEN["retry"] += sum(fact.retry for fact in outside.of(facts.GuardJudged))


@settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, KINDS - 1), st.integers(0, 97), st.integers(0, 97)), min_size=10, max_size=60))
def test_nothing_is_sent_twice_in_parallel_or_while_off_in_any_short_story(moves):
    tell(moves)


def test_nothing_is_sent_twice_in_parallel_or_while_off_in_long_stories():
    SEEN.clear()
    for seed in range(STORIES):
        random = np.random.default_rng([5, seed])
        tell([tuple(move) for move in random.integers(0, (KINDS, 98, 98), (200, 3)).tolist()])
    for name in ("command.intended/1", "command.unresolved/1", "command.completed/1", "command.failed/1"):
        assert SEEN[name] > STORIES // 10, SEEN
    for name in ("attempt 2", "retry", "effect.absent/1", "approval.granted/1", "plan.advanced/1", "incident.closed/1",
                 "sentence"):  # fmt: skip
        assert SEEN[name] > 0, SEEN
