"""Scope, freshness, preconditions and interlocks: may anything run, now, on this robot?"""

from __future__ import annotations

from agent.guard.question import Question, deferred, passed, refused
from agent.incident import DATA_QUALITY_DETECTORS
from schemas.catalogue import Action
from schemas.commands import Reading, Verdict
from schemas.line import PackMLState
from schemas.plant import Cell


def scope(q: Question) -> Verdict:
    """The action is in the catalogue, said with its own verb, to its own robot of this cell."""
    rule, action = "scope", q.action
    if action is None:
        return refused(rule, f"{q.command.action!r} is not in the catalogue")
    if q.command.robot != action.robot or q.command.verb != action.binding.verb:
        return refused(rule, f"{action.name} is {action.binding.verb} of {action.robot}, not of {q.command.robot!r}")
    if all(robot.id != action.robot for robot in q.rules.cell.robots):
        return refused(rule, f"robot {action.robot!r} is not in {q.rules.cell.path}")
    return passed(rule)


def automation(q: Question) -> Verdict:
    """The off switch: the fact, the file and the plant's tag."""
    rule = "off_switch"
    if not q.state.automation_on:
        return refused(rule, "automation is switched off")
    if q.snapshot is None:
        return deferred(rule)
    if q.snapshot.off_file:
        return refused(rule, "the off-switch file is there")
    tag = q.rules.cell.enable_tag
    if tag and not _is(q.snapshot.readings.get(tag), 1.0):
        return refused(rule, f"the plant's {tag} is not 1")
    return passed(rule)


def mode(q: Question) -> Verdict:
    """Only mode `act` sends."""
    if q.state.mode != "act":
        return refused("mode", "mode is observe: nothing is sent")
    return passed("mode")


def freshness_evidence(q: Question) -> Verdict:
    """The evidence that led here is not too old. Waiting for approval is judged by the snapshot instead."""
    rule = "freshness.evidence"
    if q.stage == "dispatch" or q.evidence_at is None or q.towards_safe():
        return passed(rule, "not judged: a person's request, a way back to safe, or judged before")
    age_s, limit_s = (q.at - q.evidence_at) / 1e6, q.rules.policy.evidence_max_age_s
    ahead_s = q.rules.policy.clock_offset_s_max
    if not -ahead_s <= age_s <= limit_s:
        return refused(rule, f"evidence is {age_s:.1f} s old, allowed are {-ahead_s:g}..{limit_s:g} s")
    return passed(rule)


def freshness_decision(q: Question) -> Verdict:
    """What was decided long ago, before an outage or a wait, is not sent now."""
    rule = "freshness.decision"
    if q.stage == "proposal":
        return passed(rule, "being decided")
    age_s, limit_s = (q.at - q.decided_at) / 1e6, q.rules.policy.decision_max_age_s
    if not 0.0 <= age_s <= limit_s:
        return refused(rule, f"it was decided {age_s:.1f} s ago, allowed are 0..{limit_s:g} s")
    return passed(rule)


def freshness_source(q: Question) -> Verdict:
    """The source of samples is alive: an effect that nobody could see must not be caused."""
    lost = "the source of samples is lost"
    if not q.state.source_alive and q.stage == "proposal":
        return Verdict("freshness.source", "deferred", f"{lost}: judged before sending")
    if not q.state.source_alive:
        return refused("freshness.source", lost)
    return passed("freshness.source")


def freshness_snapshot(q: Question) -> Verdict:
    """Every reading is good, just read, and not from the future."""
    rule = "freshness.snapshot"
    if q.snapshot is None:
        return deferred(rule)
    age_s, limit_s = (q.at - q.snapshot.read_at) / 1e6, q.rules.policy.snapshot_max_age_s
    if not 0.0 <= age_s <= limit_s:
        return refused(rule, f"snapshot is {age_s:.3f} s old, allowed are 0..{limit_s:g} s")
    for tag in snapshot_tags(q.rules.cell, q.action):
        reading = q.snapshot.readings.get(tag)
        if reading is None:
            return refused(rule, f"{tag} was not read")
        if not reading.good:
            return refused(rule, f"{tag} is not good: status {reading.status:#010x}")
        if not reading.source_at <= q.at + q.rules.policy.clock_offset_s_max * 1e6:
            ahead_s = (reading.source_at - q.at) / 1e6
            return refused(rule, f"{tag} is {ahead_s:.1f} s in the future: the clocks differ")
    return passed(rule)


def snapshot_tags(cell: Cell, action: Action | None) -> list[str]:
    """Return the tags that a snapshot must hold: permissives, off switch, state, set-points and preconditions."""
    tags = [p.tag for p in cell.permissives] + [cell.enable_tag] * bool(cell.enable_tag)
    tags += [t.name for t in cell.tags if t.role == "state"]
    if action is not None:
        tags += [a.tag for a in action.args] + [c.tag for c in action.preconditions]
    return list(dict.fromkeys(tags))


def permissives(q: Question) -> Verdict:
    """Every permissive of the cell reads as it must."""
    rule = "interlock.permissives"
    if q.snapshot is None:
        return deferred(rule)
    for permissive in q.rules.cell.permissives:
        if not _is(q.snapshot.readings.get(permissive.tag), permissive.value):
            return refused(rule, f"{permissive.tag} is not {permissive.value:g}")
    return passed(rule)


def packml_state(q: Question) -> Verdict:
    """The cell is in a PackML state in which the action may run."""
    rule = "interlock.state"
    if q.action is None:
        return refused(rule, "no action, no state")
    if q.snapshot is None:
        return deferred(rule)
    tag = next((t.name for t in q.rules.cell.tags if t.role == "state"), None)
    if tag is None:
        return passed(rule, "the cell has no PackML state")
    reading = q.snapshot.readings.get(tag)
    if (
        reading is None
        or reading.value is None
        or not any(_is(reading, number) for number in _numbers(q.action.states))
    ):
        value = None if reading is None else reading.value
        return refused(rule, f"PackML state {value} is none of {', '.join(q.action.states)}")
    return passed(rule)


def preconditions(q: Question) -> Verdict:
    """The action's own preconditions hold."""
    rule = "interlock.preconditions"
    if q.action is None:
        return refused(rule, "no action, no preconditions")
    if q.snapshot is None:
        return deferred(rule)
    for condition in q.action.preconditions:
        reading = q.snapshot.readings.get(condition.tag)
        if reading is None or not reading.good or reading.value is None or not condition.holds(reading.value):
            return refused(rule, f"{condition.tag} is not {condition.comparator} {condition.value:g}")
    return passed(rule)


def measurable(q: Question) -> Verdict:
    """The tag that would prove the effect is itself believed: no data-quality episode is open on it."""
    rule = "interlock.data_quality"
    if q.action is None or q.action.postcondition is None or q.towards_safe():
        return passed(rule)
    for episode in q.state.episodes.values():
        opened = episode.opened
        if opened.detector in DATA_QUALITY_DETECTORS and opened.tag == q.action.postcondition.tag:
            return refused(
                rule, f"{opened.tag} is not believed ({opened.detector}), and it would have to prove the effect"
            )
    return passed(rule)


def _is(reading: Reading | None, value: float) -> bool:
    return reading is not None and reading.good and reading.value == value


def _numbers(states: tuple[str, ...]) -> list[float]:
    return [float(PackMLState[name]) for name in states]
