"""Budgets: cool-down, commands per hour, oscillation. A way back to the safe state is never refused for a budget."""

from __future__ import annotations

from itertools import pairwise

from agent.cell import HISTORY_US
from agent.guard.question import Question, passed, refused
from agent.incident import Sent
from schemas.commands import Verdict

EXEMPT = "not counted: a way back to safe"


def _recent(q: Question) -> list[Sent]:
    return [s for s in q.state.history if s.at > q.at - HISTORY_US]


def cooldown(q: Question) -> Verdict:
    """Long enough since the same action was last sent."""
    rule = "budget.cooldown"
    if q.action is None:
        return refused(rule, "no action, no budget")
    if q.towards_safe() or q.attempt > 1:
        return passed(rule, EXEMPT)
    last = max((s.at for s in _recent(q) if s.action == q.command.action), default=None)
    if last is not None and not (q.at - last) / 1e6 >= q.action.cooldown_s:
        return refused(
            rule, f"{q.action.name} was sent {(q.at - last) / 1e6:.1f} s ago, cool-down {q.action.cooldown_s:g} s"
        )
    return passed(rule)


def per_hour(q: Question) -> Verdict:
    """Fewer than the action's and the cell's number in an hour."""
    rule = "budget.per_hour"
    if q.action is None:
        return refused(rule, "no action, no budget")
    if q.towards_safe() or q.attempt > 1:
        return passed(rule, EXEMPT)
    recent = _recent(q)
    same = sum(s.action == q.command.action for s in recent)
    if not same < q.action.max_per_hour:
        return refused(rule, f"{q.action.name} was sent {same} times within the hour, allowed {q.action.max_per_hour}")
    if not len(recent) < q.rules.policy.commands_per_hour:
        return refused(rule, f"{len(recent)} commands within the hour, allowed {q.rules.policy.commands_per_hour}")
    return passed(rule)


def oscillation(q: Question) -> Verdict:
    """A set-point is not sent up and down again and again."""
    rule = "budget.oscillation"
    if q.action is None:
        return refused(rule, "no action, no budget")
    if q.towards_safe() or q.attempt > 1 or not q.action.args:
        return passed(rule, EXEMPT)
    first = q.action.args[0].name
    value, before = q.command.args.get(first), q.command.from_values.get(first)
    if value is None or before is None:
        return refused(rule, f"{first}: the present set-point is not known")
    directions = [s.direction for s in _recent(q) if s.action == q.command.action and s.direction]
    directions.append((value > before) - (value < before))
    reversals = sum(a == -b for a, b in pairwise(directions) if b)
    if not reversals <= q.rules.policy.reversals_per_hour:
        return refused(rule, f"{q.action.name} would change direction {reversals} times within the hour")
    return passed(rule)
