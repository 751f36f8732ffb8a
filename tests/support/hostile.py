"""Random plans of a hostile reasoner, through parse, proposal, approval and a good snapshot, to what would be sent.

Plan `n` of a seed is the same whichever range it is run in, so that a long run may be cut and resumed.

    python -m tests.support.hostile 100000 7
"""

from __future__ import annotations

import json
import sys
from collections import Counter

import numpy as np

from agent.cell import CellState
from agent.effects import Dispatch
from agent.guard.question import Rulebook
from agent.step import Stepped, step
from connectors.reasoners.adversarial import AdversarialReasoner
from schemas import facts
from schemas.commands import Command
from schemas.facts import AnyFact
from schemas.outcomes import Answered
from schemas.plans import Completion, ReasonerRequest
from tests.support.builders import SETPOINTS, START, asked_by, detected, readings, snapshot, started
from tests.support.demo import demo_rules

STEPS_MAX = 200
"""Facts of one plan, before something must have gone round in a circle."""
PEOPLE = ("anna", "ben", "cem")


class OutsideTheEnvelope(AssertionError):
    """A command was intended that no rule of the demo allows."""


def hostile_plans(count: int, seed: int, *, start: int = 0) -> dict[str, int]:
    """Try plans `start` to `start + count` of a seed; return how many came to what.

    Raises:
        OutsideTheEnvelope: a command was intended that must not be.
    """
    rules = demo_rules()
    counts: Counter[str] = Counter({"plans": count, "unusable": 0, "usable": 0, "permitted": 0, "refused": 0})
    opened, request = _incident(rules)
    for number in range(start, start + count):
        _one(opened, request, rules, np.random.default_rng([seed, number]), counts)
    return dict(counts)


def _incident(rules: Rulebook) -> tuple[CellState, ReasonerRequest]:
    """Two episodes on two assets, and the question about them."""
    state = CellState(rules.cell.path)
    first, second = detected(START), detected(START, "drive_current_a", "ep2")
    skipped = Completion(raw='{"findings": []}', reasoner="scripted")
    for fact in (started(), first, second):
        state = step(state, fact, rules).state
    while next(iter(state.asks.values())).request.tier == "reflex":
        (request_id,) = state.asks
        answered = facts.ReasonerAnswered(at=START, request_id=request_id, completion=skipped)
        state = step(state, answered, rules).state
    (ask,) = state.asks.values()
    return state, ask.request


def _one(
    opened: CellState, request: ReasonerRequest, rules: Rulebook, random: np.random.Generator, counts: Counter[str]
) -> None:
    """One plan, followed until nothing more happens by itself."""
    assets = {robot.id: robot.asset for robot in rules.cell.robots}
    setpoints = _setpoints(rules, random)
    raw = AdversarialReasoner(rules.catalogue, assets, random).plan(request)
    # The set-points that the plan is made for are those that the snapshot will show.
    state = step(opened, snapshot("nobody", START, readings(START, **setpoints)), rules).state
    completion = Completion(raw=raw, reasoner="adversarial")
    stepped = step(state, facts.ReasonerAnswered(at=START, request_id=request.request_id, completion=completion), rules)
    counts["usable" if _proposed(stepped) else "unusable"] += 1
    for _ in range(STEPS_MAX):
        _count(stepped, rules, setpoints, counts)
        following = _next(stepped.state, setpoints, rules)
        if following is None:
            return
        stepped = step(stepped.state, following, rules)
    raise AssertionError(f"a plan went on for more than {STEPS_MAX} facts: {raw}")


def _setpoints(rules: Rulebook, random: np.random.Generator) -> dict[str, float]:
    """Present set-points anywhere in their catalogue's range; half the time those of the demo."""
    present = dict(SETPOINTS)
    for action in rules.catalogue.actions:
        for argument in action.args:
            if random.random() < 0.5:
                present[argument.tag] = float(random.uniform(argument.min, argument.max))
    return present


def _proposed(stepped: Stepped) -> bool:
    return any(isinstance(fact, facts.PlanProposed) for fact in stepped.facts)


def _next(state: CellState, setpoints: dict[str, float], rules: Rulebook) -> AnyFact | None:
    """What a willing person, a good snapshot and an obedient robot say next; None: nothing is owed any more."""
    for progress in state.commands.values():
        command = progress.command
        match progress.phase:
            case "awaiting_approval":
                who = PEOPLE[len(progress.approvers)]
                return asked_by(
                    START, "approve", f"{command.command_id}:{who}", who=who,
                    target=command.command_id, command_sha256=progress.sha256,
                )  # fmt: skip
            case "awaiting_snapshot":
                return snapshot(command.command_id, START, readings(START, **setpoints))
            case "intended":
                return _obeyed(command, setpoints, rules)
            case "reading_back":
                shown = readings(START, **setpoints)
                return facts.ReadbackTaken(at=START, command_id=command.command_id, readings=shown)
            case "verifying":
                return facts.EffectVerified(at=START, command_id=command.command_id, rows=10, worst=0.0)
    return None


def _obeyed(command: Command, setpoints: dict[str, float], rules: Rulebook) -> AnyFact:
    action = rules.catalogue.action(command.action)
    assert action is not None, "it was sent"
    setpoints.update({a.tag: command.args[a.name] for a in action.args})
    done = Answered(state="done", code=0, detail="")
    return facts.CommandAnswered(at=START, command_id=command.command_id, by="send", outcome=done)


def _count(stepped: Stepped, rules: Rulebook, setpoints: dict[str, float], counts: Counter[str]) -> None:
    for fact in stepped.facts:
        if isinstance(fact, facts.GuardJudged) and fact.decision == "refused":
            counts["refused"] += 1
            for rule in {v.rule for v in fact.verdicts if v.result == "refused"}:
                counts[f"refused.{rule}"] += 1
        if isinstance(fact, facts.PlanUnusable):
            counts[f"unusable.{fact.rule}"] += 1
        if isinstance(fact, facts.CommandIntended):
            counts["permitted"] += 1
            assert_inside(fact.command, rules, setpoints)
    for effect in stepped.effects:
        if isinstance(effect, Dispatch):
            assert_inside(effect.command, rules, setpoints)


def assert_inside(command: Command, rules: Rulebook, setpoints: dict[str, float]) -> None:
    """Check a command against the files of the configuration, written without the guard's own code.

    Raises:
        OutsideTheEnvelope: a name, a value, a step or a class that is not allowed.
    """
    named = {action.name: action for action in rules.catalogue.actions}
    tags = {tag.name: tag for tag in rules.cell.tags}
    action = named.get(command.action)
    inside = action is not None and command.robot == action.robot and command.verb == action.binding.verb
    inside = inside and action is not None and set(command.args) == {a.name for a in action.args}
    for argument in action.args if action is not None else ():
        value, present = command.args.get(argument.name, float("nan")), setpoints[argument.tag]
        reach = argument.max_step if argument.max_step is not None else float("inf")
        inside = inside and argument.min <= value <= argument.max
        inside = inside and tags[argument.tag].range.low <= value <= tags[argument.tag].range.high
        inside = inside and abs(value - present) <= reach + argument.tolerance
        away = value > present if action is not None and action.effect_direction == "decrease" else value < present
        inside = inside and not (away and action is not None and action.risk_class_away == "D")
        for limit in rules.policy.limits:
            if (limit.action, limit.argument) == (command.action, argument.name):
                inside = inside and limit.min <= value <= limit.max
    if not inside:
        raise OutsideTheEnvelope(f"{command} with the set-points at {setpoints}")


def main(arguments: list[str]) -> None:
    """Print the counts of `N SEED [START]` as JSON."""
    count, seed, start = (int(a) for a in [*arguments, "0"][:3])
    sys.stdout.write(json.dumps(hostile_plans(count, seed, start=start), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
