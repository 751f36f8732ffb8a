"""A story: facts from outside go through the core one after the other, and everything that follows is kept.

After each step the facts are also folded from their stored bytes; the result must be the state that the step returned.
"""

from __future__ import annotations

from typing import Any, TypeVar

from agent.cell import CellState, apply
from agent.effects import AskReasoner, Dispatch, Effect, QueryCommand, ReadBack, TakeSnapshot, WakeAt, outstanding
from agent.guard.question import Rulebook
from agent.incident import CommandProgress
from agent.step import Stepped, step
from schemas import facts
from schemas.commands import Reading
from schemas.facts import AnyFact, decode, encode
from schemas.outcomes import Answered, NotSent, Outcome, Unknown
from schemas.plans import Completion
from tests.support.builders import (
    ENABLED,
    SECOND,
    SETPOINTS,
    START,
    asked_by,
    detected,
    plan_text,
    reading,
    snapshot,
    started,
    updated,
)  # fmt: skip
from tests.support.demo import demo_rules

T = TypeVar("T")
DONE = Answered(state="done", code=0, detail="")
NEVER_SEEN = Answered(state="never_seen", code=0, detail="")
RUNNING = Answered(state="running", code=0, detail="")
FORGOTTEN = Answered(state="forgotten", code=0, detail="")
REJECTED = Answered(state="rejected", code=7, detail="guard door open")
NO_ANSWER = Unknown(waited_s=5.0, reason="timed out")
NOT_SENT = NotSent(reason="session is down")


class Story:
    """One cell from its start, with the demo's rules unless told otherwise."""

    def __init__(self, rules: Rulebook | None = None, *, mode: str = "act") -> None:
        self.rules = rules or demo_rules()
        self.at = START
        self.state = self.folded = CellState(self.rules.cell.path)
        self.facts: list[AnyFact] = []
        self.effects: list[Effect] = []
        self.plant: dict[str, float | None] = {**ENABLED, **SETPOINTS}
        """What a snapshot reads."""
        self.feed(started(self.at, mode))

    # ------------------------------------------------------------ the driver

    def feed(self, fact: AnyFact) -> Stepped:
        """Feed one fact, keep what follows, and check that the log alone gives the same state."""
        stepped = step(self.state, fact, self.rules)
        for each in (fact, *stepped.facts):
            self.folded = apply(self.folded, decode(encode(each)))
        assert self.folded == stepped.state
        self.state = stepped.state
        self.facts += [fact, *stepped.facts]
        self.effects += stepped.effects
        return stepped

    def later(self, seconds: float) -> Story:
        """Let agent time pass without anything happening."""
        self.at += int(seconds * SECOND)
        return self

    def of(self, kind: type[T]) -> list[T]:
        """All facts of one type so far."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def last(self, kind: type[T]) -> T:
        return self.of(kind)[-1]

    def wished(self, kind: type[T]) -> list[T]:
        """All effects of one type so far."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def outstanding(self, kind: type[T]) -> list[T]:
        """What is still wished for."""
        return [e for e in outstanding(self.state, self.rules.policy).values() if isinstance(e, kind)]

    def types(self, since: int = 0) -> list[str]:
        """The facts' names, for exact expectations."""
        return [facts.type_name(fact).removesuffix("/1") for fact in self.facts[since:]]

    # ------------------------------------------------------------ the outside

    def anomaly(self, tag: str = "part_slip_mm", episode: str = "ep1", **changes: Any) -> Stepped:
        return self.feed(detected(self.at, tag, episode, **changes))

    def goes_on(self, tag: str = "part_slip_mm", episode: str = "ep1", **setpoints: float) -> Stepped:
        return self.feed(updated(self.at, tag, episode, **setpoints))

    def clears(self, episode: str = "ep1") -> Stepped:
        return self.feed(facts.AnomalyCleared(at=self.at, episode_id=episode, reason="normal"))

    def answer(self, *actions: tuple[str, dict[str, float]], asset: str = "gripper", slot: str = "E1") -> Stepped:
        """Answer the question that waits, with these actions; with none: nothing to do."""
        return self.answer_text(plan_text(*actions, asset=asset, slot=slot) if actions else '{"findings": []}')

    def answer_text(self, raw: str, request_id: str = "") -> Stepped:
        request_id = request_id or self.outstanding(AskReasoner)[0].request.request_id
        completion = Completion(raw=raw, reasoner="scripted")
        return self.feed(facts.ReasonerAnswered(at=self.at, request_id=request_id, completion=completion))

    def snapshot(self, subject_id: str = "", **changes: Any) -> Stepped:
        """Fulfil the snapshot that is wished for with what the plant shows."""
        subject_id = subject_id or self.outstanding(TakeSnapshot)[0].subject_id
        return self.feed(snapshot(subject_id, self.at, self.read(), **changes))

    def read(self) -> dict[str, Reading]:
        return {tag: reading(value, at=self.at) for tag, value in self.plant.items()}

    def sent(self, outcome: Outcome = DONE) -> Stepped:
        """Fulfil the dispatch that is wished for; a done one moves the plant's set-points."""
        dispatch = self.outstanding(Dispatch)[0]
        if outcome == DONE:
            action = self.rules.catalogue.action(dispatch.command.action)
            assert action is not None
            self.plant.update({a.tag: dispatch.command.args[a.name] for a in action.args})
        return self.feed(self.answered(dispatch.command.command_id, "send", outcome))

    def queried(self, outcome: Outcome) -> Stepped:
        query = self.outstanding(QueryCommand)[0]
        return self.feed(self.answered(query.command.command_id, "query", outcome))

    def answered(self, command_id: str, by: str, outcome: Outcome) -> facts.CommandAnswered:
        return facts.CommandAnswered(
            at=self.at, command_id=command_id, by="send" if by == "send" else "query", outcome=outcome
        )

    def read_back(self, **values: float | None) -> Stepped:
        wish = self.outstanding(ReadBack)[0]
        shown = {**self.read(), **{tag: reading(value, at=self.at) for tag, value in values.items()}}
        return self.feed(facts.ReadbackTaken(at=self.at, command_id=wish.command.command_id, readings=shown))

    def verified(self) -> Stepped:
        return self.feed(facts.EffectVerified(at=self.at, command_id=self.one("verifying"), rows=10, worst=1.0))

    def absent(self) -> Stepped:
        return self.feed(facts.EffectAbsent(at=self.at, command_id=self.one("verifying"), reason="slip stayed"))

    def rebaselined(self) -> Stepped:
        """Tell the detectors of the last completed command's moves."""
        done = self.last(facts.CommandCompleted)
        return self.feed(facts.TagsRebaselined(at=self.at, cause_id=done.command_id, tags=done.moves))

    def operator(self, kind: str, request_id: str = "", **changes: Any) -> Stepped:
        number = len(self.of(facts.OperatorRequested))
        return self.feed(asked_by(self.at, kind, request_id or f"r{number}", **changes))

    def approve(self, who: str = "anna", sha256: str = "") -> Stepped:
        waiting = self.waiting_for_approval()
        return self.operator(
            "approve", target=waiting.command.command_id, command_sha256=sha256 or waiting.sha256, who=who
        )

    def wake(self, kind: str) -> Stepped:
        """Let time pass until the wake-up of this kind, and wake."""
        wish = next(w for w in self.outstanding(WakeAt) if w.wake_id.startswith(f"{kind}|"))
        self.at = max(self.at, wish.at)
        return self.feed(facts.TimeReached(at=self.at, wake_id=wish.wake_id))

    # ------------------------------------------------------------ the state

    def one(self, phase: str) -> str:
        """The id of the one command in this phase."""
        (found,) = [key for key, c in self.state.commands.items() if c.phase == phase]
        return found

    def waiting_for_approval(self) -> CommandProgress:
        return self.state.commands[self.one("awaiting_approval")]

    @property
    def phases(self) -> list[str]:
        return [c.phase for c in self.state.commands.values()]

    @property
    def refusals(self) -> list[str]:
        """The rules that refused in the last judgement."""
        return [v.rule for v in self.last(facts.GuardJudged).verdicts if v.result == "refused"]

    # ------------------------------------------------------------ chapters

    def done(self) -> Story:
        """From a wished snapshot to the verification of the effect."""
        self.snapshot()
        self.sent()
        self.read_back()
        return self

    def slip(self) -> Story:
        """A slip, the reflex that slows down, up to its verification."""
        self.anomaly()
        self.answer(("set_motion_speed", {"motion_speed_pct": 50.0}))
        return self.done()

    def grip_proposed(self) -> Story:
        """A slip without a reflex, and a proposal of 40 N that waits for a person."""
        self.anomaly()
        self.answer()
        self.answer(("set_grip_force", {"grip_force_n": 40.0}))
        return self
