"""The scenes, each a story that must come out so. Written against `Stage`, so that both stages play the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pipelines.demo.stage import F, SceneFailed, Stage, until
from schemas import facts
from schemas.facts import AnomalyDetected, CommandCompleted, CommandIntended

WARM_UP_S = 400.0
"""Plant time within which the detectors must have learnt the normal."""
SOON_S = 120.0
DRIVE_S = 400.0
"""Drag builds up slowly."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a scene measured; None: it has no such step."""

    fault_to_detected_s: float | None = None
    """Plant time."""
    detected_to_intent_ms: float | None = None
    """Wall time."""
    intent_to_readback_ms: float | None = None
    """Wall time."""
    command_to_effect_s: float | None = None
    """Plant time."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A letter, a title and a story."""

    letter: str
    title: str
    play: Callable[[Stage], Awaitable[Timing]]


async def warm_up(stage: Stage) -> None:
    """Wait until the cell runs and its normal is learnt."""
    await until(stage, facts.CalibrationAdopted, within_s=WARM_UP_S)


async def oil(stage: Stage) -> Timing:
    """(a) Oil on the pads: slow down at once, propose more force, act once when approved, prove it."""
    await warm_up(stage)
    since, at = len(stage.facts), await stage.inject("oil_on_pads")
    detected = await until(stage, AnomalyDetected, _slip, since=since, within_s=SOON_S)
    reflex = await _intended(stage, "set_motion_speed", since)
    grip = await _approve_grip(stage, since)
    timing = await _proven(stage, grip, since, rows=10)
    closed = await until(stage, facts.IncidentClosed, since=since, within_s=SOON_S)
    _expect(closed.outcome == "effective", f"the incident closed as {closed.outcome}")
    _expect(len(_all(stage, CommandIntended, since)) == 2, "more than the reflex and the approved command were sent")
    readback = next(f for f in _all(stage, facts.ReadbackTaken, since) if f.command_id == reflex.command.command_id)
    return Timing(
        fault_to_detected_s=(detected.at - at) / 1e6,
        detected_to_intent_ms=(reflex.at - detected.at) / 1e3 / stage.speed,
        intent_to_readback_ms=(readback.at - reflex.at) / 1e3 / stage.speed,
        command_to_effect_s=timing,
    )


async def too_much(stage: Stage) -> Timing:
    """(b) Somebody asks for 400 N: refused, and the limit is named."""
    await warm_up(stage)
    since = len(stage.facts)
    answer = await stage.operate("request", "set_grip_force", grip_force_n=400.0)
    _expect(not answer["ok"] and "range" in answer["error"] and "10..50" in answer["error"], f"answered {answer}")
    _expect(not _all(stage, CommandIntended, since), "something was sent")
    return Timing()


async def seized(stage: Stage) -> Timing:
    """(c) A seized regulator, then oil: no effect, back to the old value, hold, and a person is called."""
    await warm_up(stage)
    await stage.inject("seized_regulator")
    since, at = len(stage.facts), await stage.inject("oil_on_pads")
    detected = await until(stage, AnomalyDetected, _slip, since=since, within_s=SOON_S)
    grip = await _approve_grip(stage, since)
    absent = await until(
        stage, facts.EffectAbsent, lambda f: f.command_id == grip.command.command_id, since=since, within_s=SOON_S
    )
    back = await _intended(stage, "set_grip_force", since, origin="compensation")
    _expect(back.command.args == {"grip_force_n": 15.0}, f"compensated to {back.command.args}")
    hold = await _intended(stage, "hold_cell", since)
    await _proven(stage, hold, since)
    await until(stage, facts.IncidentEscalated, since=since, within_s=SOON_S)
    return Timing(
        fault_to_detected_s=(detected.at - at) / 1e6,
        detected_to_intent_ms=None,
        intent_to_readback_ms=None,
        command_to_effect_s=(absent.at - grip.at) / 1e6,
    )


async def server_gone(stage: Stage) -> Timing:
    """(d) The server is gone for five seconds: lost, marked as a gap, back by itself, and nothing is done."""
    await warm_up(stage)
    since = len(stage.facts)
    await stage.lose_server(5.0)
    within_s = 60.0 * max(stage.speed, 1.0)
    await until(stage, facts.SourceChanged, lambda f: not f.alive, since=since, within_s=within_s)
    await until(stage, facts.SourceGap, since=since, within_s=within_s)
    await until(stage, facts.SourceChanged, lambda f: f.alive, since=since, within_s=within_s)
    await stage.wait(lambda: False, 60.0)
    _expect(len(_all(stage, facts.SourceGap, since)) == 1, "more than one gap for one outage")
    _expect(not _all(stage, CommandIntended, since), "something was sent")
    _expect(stage.state.source_alive, "the source is still lost")
    return Timing()


async def stuck(stage: Stage) -> Timing:
    """(e) A sensor repeats its value: an alarm about the data, and no action."""
    await warm_up(stage)
    since, at = len(stage.facts), await stage.inject("stuck_sensor", tag="part_slip_mm")
    found = await until(stage, AnomalyDetected, lambda f: f.detector == "stuck", since=since, within_s=SOON_S)
    await stage.wait(lambda: False, 60.0)
    _expect(not _all(stage, facts.ReasonerAsked, since), "a reasoner was asked about bad data")
    _expect(not _all(stage, CommandIntended, since), "something was sent")
    return Timing(fault_to_detected_s=(found.at - at) / 1e6)


async def two_at_once(stage: Stage) -> Timing:
    """(f) Oil and drag at once: the right action for each asset."""
    await warm_up(stage)
    since, at = len(stage.facts), await stage.inject("oil_on_pads")
    await stage.inject("drive_drag")
    detected = await until(stage, AnomalyDetected, _slip, since=since, within_s=SOON_S)
    grip = await _approve_grip(stage, since)
    conveyor = await _intended(stage, "set_conveyor_speed", since, within_s=DRIVE_S)
    _expect(conveyor.command.args == {"conveyor_speed_pct": 60.0}, f"conveyor {conveyor.command.args}")
    _expect(conveyor.command.incident_id != grip.command.incident_id, "both assets ended in one incident")
    timing = await _proven(stage, grip, since, rows=10)
    await _proven(stage, conveyor, since)
    sent = {f.command.action for f in _all(stage, CommandIntended, since)}
    _expect(sent == {"set_motion_speed", "set_grip_force", "set_conveyor_speed"}, f"sent were {sorted(sent)}")
    return Timing(fault_to_detected_s=(detected.at - at) / 1e6, command_to_effect_s=timing)


async def moved_by_hand(stage: Stage) -> Timing:
    """(g) Somebody turns the set-point between proposal and approval: the plan is dropped, and why is said."""
    await warm_up(stage)
    since = len(stage.facts)
    await stage.inject("oil_on_pads")
    asked = await until(stage, facts.ApprovalRequested, since=since, within_s=SOON_S)
    await stage.set_by_hand("grip_force_n", 20.0)
    await stage.operate("approve", asked.command_id)
    judged = await until(
        stage,
        facts.GuardJudged,
        lambda f: f.command_id == asked.command_id and f.stage == "dispatch",
        since=since,
        within_s=SOON_S,
    )
    refusals = [v.rule for v in judged.verdicts if v.result == "refused"]
    _expect(judged.decision == "refused" and refusals == ["setpoint.moved"], f"judged {judged.decision} by {refusals}")
    dropped = await until(stage, facts.PlanDropped, since=since, within_s=SOON_S)
    _expect("somebody moved it" in dropped.reason, f"dropped because {dropped.reason}")
    sent = [f.command.action for f in _all(stage, CommandIntended, since)]
    _expect("set_grip_force" not in sent, "the force was sent all the same")
    return Timing()


async def switched_off(stage: Stage) -> Timing:
    """(h) Off, while a plan waits: nothing is sent any more."""
    await warm_up(stage)
    since = len(stage.facts)
    await stage.inject("oil_on_pads")
    asked = await until(stage, facts.ApprovalRequested, since=since, within_s=SOON_S)
    off = len(stage.facts)
    await stage.operate("off", reason="scene h")
    answer = await stage.operate("approve", asked.command_id)
    _expect(not answer["ok"], "an approval was taken while automation is off")
    await stage.wait(lambda: False, 60.0)
    _expect(not _all(stage, CommandIntended, off), "something was sent after off")
    _expect(bool(_all(stage, facts.PlanDropped, off)), "the waiting plan was not dropped")
    return Timing()


SCENES: tuple[Scene, ...] = (
    Scene("a", "oil on the pads: slowed, proposed, approved, proven", oil),
    Scene("b", "400 N requested: refused, the limit named", too_much),
    Scene("c", "seized regulator, then oil: no effect, back, hold, escalated", seized),
    Scene("d", "server gone 5 s: lost, a gap, back by itself", server_gone),
    Scene("e", "stuck sensor: an alarm about the data, no action", stuck),
    Scene("f", "oil and drag at once: the right action for each", two_at_once),
    Scene("g", "set-point moved by hand: plan dropped, said why", moved_by_hand),
    Scene("h", "off while a plan waits: nothing is sent", switched_off),
)


async def _approve_grip(stage: Stage, since: int) -> CommandIntended:
    """Wait for the proposal of 40 N, approve it, and return its intent."""
    plan = await until(
        stage,
        facts.PlanProposed,
        lambda f: any(c.action == "set_grip_force" for c in f.commands) and f.origin == "reasoner",
        since=since,
        within_s=SOON_S,
    )
    _expect(plan.commands[0].args == {"grip_force_n": 40.0}, f"proposed {plan.commands[0].args}")
    command_id = plan.commands[0].command_id
    await until(stage, facts.ApprovalRequested, lambda f: f.command_id == command_id, since=since, within_s=SOON_S)
    _expect(not any(f.command.command_id == command_id for f in _all(stage, CommandIntended, since)), "sent unapproved")
    answer = await stage.operate("approve", command_id)
    _expect(bool(answer["ok"]), f"the approval was answered {answer}")
    return await _intended(stage, "set_grip_force", since)


async def _intended(
    stage: Stage, action: str, since: int, *, origin: str = "", within_s: float = SOON_S
) -> CommandIntended:
    return await until(
        stage,
        CommandIntended,
        lambda f: f.command.action == action and origin in ("", f.command.origin),
        since=since,
        within_s=within_s,
    )


async def _proven(stage: Stage, intent: CommandIntended, since: int, rows: int = 0) -> float:
    """Wait for read-back and effect; returns plant seconds from intent to effect."""
    command_id = intent.command.command_id
    await until(stage, CommandCompleted, lambda f: f.command_id == command_id, since=since, within_s=SOON_S)
    verified = await until(
        stage, facts.EffectVerified, lambda f: f.command_id == command_id, since=since, within_s=2 * SOON_S
    )
    _expect(verified.rows >= rows, f"only {verified.rows} rows")
    return (verified.at - intent.at) / 1e6


def _slip(fact: AnomalyDetected) -> bool:
    return fact.tag == "part_slip_mm" and fact.detector == "limit"


def _all(stage: Stage, kind: type[F], since: int) -> list[F]:
    return [f for f in stage.facts[since:] if isinstance(f, kind)]


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SceneFailed(otherwise)
