"""Range and step of every value, and that the set-point is still the one that the command was made for."""

from __future__ import annotations

from agent.guard.question import Question, deferred, passed, refused
from schemas.commands import Verdict


def arguments(q: Question) -> Verdict:
    """Exactly the action's arguments, no more, no fewer."""
    if q.action is None:
        return refused("arguments", "no action, no arguments")
    wanted = {argument.name for argument in q.action.args}
    if set(q.command.args) != wanted:
        return refused("arguments", f"{q.action.name} takes {sorted(wanted)}, not {sorted(q.command.args)}")
    return passed("arguments")


def value_range(q: Question) -> Verdict:
    """Within the catalogue's range, the policy's, and the plant's for the tag."""
    rule = "range"
    for name, value in q.command.args.items():
        for where, low, high in _ranges(q, name):
            # Written positively, so that NaN (for which every comparison is false) is refused.
            if not low <= value <= high:
                return refused(rule, f"{name} {value:g} is outside {low:g}..{high:g} ({where})")
    return passed(rule)


def _ranges(q: Question, name: str) -> list[tuple[str, float, float]]:
    """Return every range that holds for an argument; an impossible one for an argument that nobody knows."""
    argument = next((a for a in q.action.args if a.name == name), None) if q.action else None
    if argument is None:
        return [("unknown argument", 1.0, 0.0)]
    ranges = [("catalogue", argument.min, argument.max)]
    for limit in q.rules.policy.limits:
        if limit.action == q.command.action and limit.argument == name:
            ranges.append(("policy", limit.min, limit.max))
    tag = next((t for t in q.rules.cell.tags if t.name == argument.tag), None)
    if tag is None:
        return [("unknown tag", 1.0, 0.0)]
    ranges.append((f"range of {tag.name}", tag.range.low, tag.range.high))
    return ranges


def step_size(q: Question) -> Verdict:
    """No further from the present set-point than one step."""
    rule = "step"
    if q.action is None:
        return refused(rule, "no action, no step")
    for argument in q.action.args:
        value, before = q.command.args.get(argument.name), q.command.from_values.get(argument.name)
        if value is None or before is None:
            return refused(rule, f"{argument.name}: the present set-point is not known")
        limit = float("inf") if argument.max_step is None else argument.max_step
        if not abs(value - before) <= limit:
            return refused(rule, f"{argument.name}: from {before:g} to {value:g} is more than one step of {limit:g}")
    return passed(rule)


def setpoint_unmoved(q: Question) -> Verdict:
    """The set-point is still what it was when the command was made: nobody else changed it meanwhile."""
    rule = "setpoint.moved"
    if q.action is None:
        return refused(rule, "no action, no set-point")
    if q.snapshot is None:
        return deferred(rule)
    for argument in q.action.args:
        reading, before = q.snapshot.readings.get(argument.tag), q.command.from_values.get(argument.name)
        if reading is None or not reading.good or reading.value is None or before is None:
            return refused(rule, f"{argument.tag} is not known")
        asked = q.command.args.get(argument.name)
        if q.attempt > 1 and asked is not None and abs(reading.value - asked) <= argument.tolerance:
            continue
        if not abs(reading.value - before) <= argument.tolerance:
            return refused(
                rule,
                f"{argument.tag} was {before:g} when this was proposed and is {reading.value:g} now: somebody moved it",
            )
    return passed(rule)
