"""The guard: deny by default. Asks every rule in order and records every verdict; it refuses, it never repairs.

The rules before these (size, JSON, schema, slots, evidence exists) are those of `agent.reasoning.parse`: an answer that
breaks one never becomes a command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from agent.guard import approval, interactions, interlocks, limits, rates
from agent.guard.question import Question
from schemas.commands import Verdict
from schemas.facts import GuardJudged

RULES: tuple[Callable[[Question], Verdict], ...] = (
    interlocks.scope,
    interlocks.mode,
    interlocks.automation,
    interlocks.freshness_evidence,
    interlocks.freshness_source,
    interlocks.freshness_snapshot,
    interlocks.permissives,
    interlocks.packml_state,
    interlocks.preconditions,
    interlocks.measurable,
    limits.arguments,
    limits.value_range,
    limits.step_size,
    limits.setpoint_unmoved,
    interactions.robot_busy,
    interactions.exclusive,
    interactions.verifying,
    rates.cooldown,
    rates.per_hour,
    rates.oscillation,
    approval.risk_class,
    approval.autonomy,
    approval.approvals,
    approval.idempotency,
)


def check(question: Question) -> GuardJudged:
    """Judge one command.

    At the proposal, rules that need the snapshot, or that pass by themselves, are deferred; at dispatch nothing is: a
    deferred verdict refuses.
    """
    verdicts = tuple(rule(question) for rule in RULES)
    against = [v for v in verdicts if v.result == "refused"]
    if question.stage == "dispatch":
        against += [v for v in verdicts if v.result == "deferred"]
    needed = approval.approvals_needed(question)
    decision: Literal["permitted", "needs_approval", "refused"]
    if against:
        decision = "refused"
    elif question.stage == "proposal" and needed > 0:
        decision = "needs_approval"
    else:
        decision = "permitted"
    return GuardJudged(
        at=question.at,
        command_id=question.command.command_id,
        command_sha256=question.sha256,
        stage=question.stage,
        decision=decision,
        approvals=needed,
        risk_class=question.risk_class(),
        retry=question.stage == "dispatch" and bool(against) and all(_passes(question, v) for v in against),
        verdicts=verdicts,
    )


def _passes(question: Question, verdict: Verdict) -> bool:
    """Whether it is worth judging again a little later.

    The source is lost for a moment at every restart of server or agent: what was approved before must not be lost to
    that. A way back to safe does not wait for it: a person is called at once.
    """
    if verdict.rule == "freshness.source":
        return question.command.origin not in ("compensation", "fallback")
    return verdict.rule in interactions.PASSES_BY_ITSELF
