"""What else is going on: the robot is busy, another command excludes this one, or an effect is still being proven."""

from __future__ import annotations

from agent.guard.question import Question, passed, refused
from agent.incident import ON_ITS_WAY, CommandProgress
from schemas.commands import Verdict

PASSES_BY_ITSELF = frozenset({"robot.busy", "interaction.exclusive", "interaction.verifying"})
"""Rules whose refusal is worth judging again a little later: at the proposal they defer to the dispatch."""


def _others(q: Question) -> list[CommandProgress]:
    return [c for c in q.state.commands.values() if c.command.command_id != q.command.command_id]


def _not_now(q: Question, rule: str, other: CommandProgress, reason: str) -> Verdict:
    """Refuse, or at the proposal leave it to the dispatch; what is unresolved does not pass by itself."""
    if q.stage == "proposal" and other.phase != "unresolved":
        return Verdict(rule, "deferred", reason)
    return refused(rule, reason)


def robot_busy(q: Question) -> Verdict:
    """One open command per robot."""
    for other in _others(q):
        if other.command.robot == q.command.robot and other.phase in ON_ITS_WAY:
            return _not_now(q, "robot.busy", other, f"{q.command.robot} has {other.command.action} {other.phase}")
    return passed("robot.busy")


def exclusive(q: Question) -> Verdict:
    """No action that excludes this one is on its way or being verified."""
    rule, mine = "interaction.exclusive", q.command.action
    for other in _others(q):
        theirs = q.rules.catalogue.action(other.command.action)
        excludes = (q.action is not None and other.command.action in q.action.exclusive_with) or (
            theirs is not None and mine in theirs.exclusive_with
        )
        if excludes and (other.phase in ON_ITS_WAY or other.phase == "verifying"):
            return _not_now(q, rule, other, f"{other.command.action} is {other.phase}")
    return passed(rule)


def verifying(q: Question) -> Verdict:
    """Nothing moves a tag that another command's effect is being proven by."""
    rule = "interaction.verifying"
    if q.action is None or q.towards_safe():
        return passed(rule)
    mine = set(q.action.moves) | {a.tag for a in q.action.args}
    if q.action.postcondition is not None:
        mine.add(q.action.postcondition.tag)
    for other in _others(q):
        theirs = q.rules.catalogue.action(other.command.action)
        if other.phase != "verifying" or theirs is None or theirs.postcondition is None:
            continue
        if theirs.postcondition.tag in mine:
            reason = f"{other.command.action} is being verified by {theirs.postcondition.tag}"
            return _not_now(q, rule, other, reason)
    return passed(rule)
