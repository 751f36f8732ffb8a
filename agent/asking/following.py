"""What follows from a sentence: set-points are read, a reader is asked, and its answer becomes a proposal or a reason.

The reader is not trusted: it may be a model. Its answer is held against the closed catalogue and against the sentence,
judged by the guard, and approved by a person; autonomy does not lift that.
"""

from __future__ import annotations

from typing import Final

from agent import planning
from agent.asking.languages import DEFAULT_LANGUAGE, LANGUAGES
from agent.asking.named import unnamed
from agent.cell import CellState
from agent.guard.question import Rulebook
from agent.identity import derive
from agent.reasoning.parse import parse_plan
from agent.turn import Turn
from schemas import facts
from schemas.evidence import Evidence
from schemas.facts import OperatorRequested
from schemas.plans import Completion, Plan, ReasonerRequest, Slot, Unusable
from schemas.sentences import SENTENCE_CHARS_MAX, Interpretation, Sentence, interpretation_of

INTERPRETATION: Final = "interpretation"
"""Key of `Completion.model` under which the tables' interpretation of a sentence stands, as JSON."""
REASON_CHARS_MAX: Final = 600
"""Of what is said about words that were not understood."""


def on_request(turn: Turn, fact: OperatorRequested) -> None:
    """Refuse at once what no reader may see, and what could not be sent."""
    if turn.state.mode != "act":
        refuse(turn, fact.request_id, Unusable("mode", "mode is observe: nothing is sent"))
    elif not turn.state.automation_on:
        refuse(turn, fact.request_id, Unusable("off_switch", "automation is switched off"))
    elif (problem := problem_of(fact.reason, fact.target)) is not None:
        refuse(turn, fact.request_id, problem)


def problem_of(text: str, language: str) -> Unusable | None:
    """Return why a text is not read at all; None: it is."""
    if (language or DEFAULT_LANGUAGE) not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        return Unusable("sentence.language", f"there are no words for language {language!r:.20}; there are {known}")
    if not len(text) <= SENTENCE_CHARS_MAX:
        return Unusable("sentence.length", f"{len(text)} characters, allowed are {SENTENCE_CHARS_MAX}")
    # Control characters, marks that turn the direction of writing, zero-width ones, line breaks: nobody sees them.
    hidden = next((char for char in text if not char.isprintable()), None)
    if hidden is not None:
        return Unusable("sentence.characters", f"it has the character U+{ord(hidden):04X}, which is not shown")
    return None if text.strip() else Unusable("sentence.empty", "it says nothing")


def on_setpoints(turn: Turn, fact: facts.SnapshotTaken, request: OperatorRequested) -> None:
    """The set-points are known now: put the sentence to the reader."""
    if turn.state.ask_of(request.request_id) is not None:
        return
    if fact.failure:
        why = Unusable("freshness.snapshot", f"the set-points cannot be read: {fact.failure}")
        refuse(turn, request.request_id, why)
        return
    age_s, limit_s = (turn.at - request.at) / 1e6, turn.rules.policy.decision_max_age_s
    if not 0.0 <= age_s <= limit_s:
        why = Unusable("freshness.decision", f"it was asked for {age_s:.0f} s ago, allowed are {limit_s:g} s")
        refuse(turn, request.request_id, why)
        return
    turn.conclude(facts.ReasonerAsked(at=turn.at, request=_question(turn, fact, request)))


def on_answer(turn: Turn, completion: Completion, asked: ReasonerRequest, before: CellState) -> None:
    """Propose what was understood, or say that nothing was."""
    sentence = asked.sentence
    assert sentence is not None
    request = before.requests.get(sentence.request_id)
    if request is None:
        return
    plan = parse_plan(completion.raw, asked, turn.rules)
    if isinstance(plan, Unusable):
        refuse(turn, request.request_id, plan)
    elif (why := _unfollowed(plan, completion, asked, turn.rules)) is not None:
        refuse(turn, request.request_id, why)
    else:
        planning.propose_asked(turn, request, plan)


def _unfollowed(plan: Plan, completion: Completion, asked: ReasonerRequest, rules: Rulebook) -> Unusable | None:
    """Return why nothing follows from a plan, whoever read the sentence; None: it may be proposed."""
    sentence = asked.sentence
    assert sentence is not None
    read = interpretation_of(completion.model.get(INTERPRETATION, ""))
    if read is None:
        return Unusable("sentence.not_understood", "its answer does not tell how the tables read the sentence")
    if read.barred:
        # Also no model may make a wish of what is denied or asked.
        return Unusable("sentence.not_understood", _missed(read))
    invented = unnamed(plan, sentence.text, LANGUAGES[sentence.language], rules, asked.evidence.setpoints)
    if invented is None and not any(finding.actions for finding in plan.findings):
        return Unusable("sentence.not_understood", _missed(read))
    return invented


def refuse(turn: Turn, request_id: str, why: Unusable) -> None:
    """Say to the person why nothing follows."""
    turn.conclude(facts.RequestRefused(at=turn.at, request_id=request_id, rule=why.rule, reason=why.reason))


def setpoint_tags(rules: Rulebook) -> dict[str, tuple[str, ...]]:
    """Return the set-point tags of a cell's actions by robot, in the catalogue's order."""
    tags: dict[str, dict[str, None]] = {robot.id: {} for robot in rules.cell.robots}
    for action in rules.catalogue.actions:
        if action.robot in tags:
            tags[action.robot] |= dict.fromkeys(argument.tag for argument in action.args)
    return {robot: tuple(names) for robot, names in tags.items() if names}


def _question(turn: Turn, fact: facts.SnapshotTaken, request: OperatorRequested) -> ReasonerRequest:
    wanted = {tag for tags in setpoint_tags(turn.rules).values() for tag in tags}
    read = {tag: r.value for tag, r in fact.readings.items() if tag in wanted and r.good and r.value is not None}
    return ReasonerRequest(
        request_id=derive(turn.state.cell, "asked", request.request_id, request.who, str(request.at)),
        incident_id="",
        tier="proposal",
        slots=_slots(turn.rules),
        evidence=Evidence(row_at=fact.read_at, tags=(), setpoints=read, state=turn.state.packml_state),
        deadline_s=turn.rules.policy.reasoner_deadline_s,
        sentence=Sentence(request.request_id, request.who, request.target or DEFAULT_LANGUAGE, request.reason),
    )


def _slots(rules: Rulebook) -> tuple[Slot, ...]:
    robots = {action.robot for action in rules.catalogue.actions}
    assets = dict.fromkeys(robot.asset for robot in rules.cell.robots if robot.id in robots)
    return tuple(Slot(f"E{n}", asset, "", "sentence", "none") for n, asset in enumerate(assets, start=1))


def _missed(read: Interpretation) -> str:
    """Say what was not understood."""
    parts = [f"{part.words!r}: {part.reason}" for part in read.not_understood]
    return "; ".join(parts)[:REASON_CHARS_MAX] or "nothing of it is an action of the catalogue"
