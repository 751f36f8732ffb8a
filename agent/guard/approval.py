"""Risk class, autonomy and approvals: who must say yes."""

from __future__ import annotations

from agent.guard.question import ATTEMPTS_MAX, Question, passed, refused
from schemas.commands import Verdict


def risk_class(q: Question) -> Verdict:
    """Class D waits for named accounts; a way back to safe is class B or nothing."""
    rule, risk = "risk_class", q.risk_class()
    if risk == "D":
        return refused(rule, "class D needs two named approvers, and named accounts do not exist yet: use the HMI")
    if q.towards_safe() and risk != "B":
        return refused(rule, f"class {risk} is not a way back to safe: automatic only towards the safe state")
    return passed(rule, f"class {risk}")


def autonomy(q: Question) -> Verdict:
    """What the policy lets this action do."""
    level = q.rules.policy.autonomy_of(q.command.action)
    if level in ("observe", "advise"):
        return refused("autonomy", f"autonomy of {q.command.action} is {level}: it is never sent")
    return passed("autonomy", level)


def approvals_needed(q: Question) -> int:
    """Return the most of class, catalogue and autonomy.

    A way back to safe needs none; nor does an operator's own hold. Nothing runs by a text alone: what was asked for in
    plain language needs one at least.
    """
    risk = q.risk_class()
    if q.towards_safe():
        return 0
    own_hold = q.command.origin == "operator" and q.command.action == q.rules.hold_action
    by_autonomy = 0 if q.rules.policy.autonomy_of(q.command.action) == "auto" and risk == "B" else 1
    by_class = {"A": 0, "B": 0, "C": 1, "D": 2}[risk]
    if own_hold and risk == "B":
        return 0
    by_text = 1 if q.command.origin == "sentence" else 0
    return max(by_class, by_autonomy, by_text, q.action.approvals if q.action else 2)


def approvals(q: Question) -> Verdict:
    """Enough different people approved this very command."""
    rule, needed = "approvals", approvals_needed(q)
    if q.stage == "proposal":
        return passed(rule, f"{needed} needed")
    if len(set(q.approvers)) < needed:
        return refused(rule, f"{len(set(q.approvers))} of {needed} approvals")
    return passed(rule)


def idempotency(q: Question) -> Verdict:
    """The command is what its hash says, and was not sent before but for a robot that never saw it."""
    rule = "idempotency"
    if q.command.sha256() != q.sha256:
        return refused(rule, "the command is not the one that was judged")
    if not q.attempt <= ATTEMPTS_MAX:
        return refused(rule, f"attempt {q.attempt}, allowed are {ATTEMPTS_MAX}")
    if q.attempt > 1 and q.action is not None and not q.action.idempotent:
        return refused(rule, f"{q.action.name} is not idempotent: it is sent once, whatever became of it")
    known = q.state.commands.get(q.command.command_id)
    if q.stage == "dispatch" and (
        known is None or known.phase != "awaiting_snapshot" or known.attempt != q.attempt - 1
    ):
        return refused(rule, "this command is not waiting to be sent")
    return passed(rule)
