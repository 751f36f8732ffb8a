"""What a small model is told, and how it answers: slots, kinds, buckets and marks only, no name of the site.

A model of a million parameters does not know what `part_slip_mm` means, and must not learn it: told by what stands
where, it works on a site that it has never seen. Code does what code does best: it puts each deviation beside the
causes that the playbook knows for it (`agent.reasoning.fitting`), and copies the chosen cause's remedy. The model
weighs: which deviations deserve a finding, which cause, whether to act, when to stop.

One line for each tag, what it is called at its end, so that it is read with everything known about it:

    length very_high up limit leads shows1 partly0 lacks0 undecided ready D01 deviates first S01

A tag leads a cause if a finding about that cause would be about this tag. `within` is, before what is told of a cause,
one that shows all that it does, and more; `beside` is a cause led by another tag that would explain this one too. How a
cause's signs stand is told by counts, in words that always stand at the same distance: a small model then need not
learn where one cause ends and the next begins. `again` is a tag after another one of its equipment that deviates as
well, or is doubted as well. Values are told by their place among those that may be asked for (`v003` is the third).
Every word of a kind is as long as the others, so that none is the beginning of another.

The answer goes through the tags that a finding could be about, and repeats the line of each before it says yes or no,
and after a cause whether its remedy is ready: what is known then stands beside the decision, and a small model need not
look for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.reasoning.canonical import CanonicalEvidence, Sign
from agent.reasoning.fitting import AGAINST, DEVIATING, DOUBTFUL, Candidate, Mark, candidates, doubtful, standing
from agent.reasoning.grammar import answer_schema, compact, parameters_schema
from agent.reasoning.prompt import DESCRIPTION, FUNCTION
from agent.reasoning.repertoire import GENERAL_CAUSES, Repertoire, rounded_6
from agent.reasoning.space import STOP, ChoicePoint, Draft, DraftFinding, PlanSpace
from schemas.playbook import RuleAction
from schemas.reasoning import Message, Prompt

END: Final = "end"
"""The word that ends a list."""
YES, NO = "yes", "no"
"""Whether a tag deserves a finding. It is said of each in turn: to look at one line is easier than to find the next."""
OWN: Final = "own"
"""What the site itself does next against the cause chosen: its action, its value."""
DETECTORS_TOLD: Final = DOUBTFUL | {"limit", "shift"}
COUNTED: Final[tuple[Mark, ...]] = ("shows", "partly", "lacks")
COUNT_MAX: Final = 4
LED_MAX, BESIDE_MAX, WITHIN_MAX = 4, 3, 2
"""Causes told with one tag, or with one of its causes; of more, those with the least against them."""


def prompt_of(evidence: CanonicalEvidence, space: PlanSpace, repertoire: Repertoire) -> Prompt:
    """Return what a small model is asked about an incident."""
    found = candidates(evidence, space, repertoire)
    told = lines_of(evidence, found, repertoire)
    lines = [f"{evidence.tier} {evidence.state}"]
    for equipment in evidence.equipment:
        own = [told[sign.slot] for sign in equipment.signs if sign.slot in told]
        lines += [wide(equipment.slot), *own] if own else []
    return Prompt(
        messages=(Message("user", "\n".join(lines)),),
        function=FUNCTION,
        description=DESCRIPTION,
        parameters=compact(parameters_schema(repertoire)),
        answer=compact(answer_schema(space)),
    )


class CompactPhrasing:
    """Answers in slots, tag by tag, each after its line: ` … S01 yes D02 ready own own end … S02 no … end`."""

    name = "compact/3"
    opening: Final = ""

    def __init__(self, evidence: CanonicalEvidence, space: PlanSpace, repertoire: Repertoire) -> None:
        self._repertoire = repertoire
        self._found = candidates(evidence, space, repertoire)
        self._lines = lines_of(evidence, self._found, repertoire)
        self._actions = {action.name: f"X{n:02}" for n, action in enumerate(repertoire.actions, start=1)}

    def piece(self, draft: Draft, point: ChoicePoint, option: str) -> str:
        """Return what `option` adds to the answer."""
        match point.kind:
            case "target":
                before = point.options[: point.options.index(option)]
                passed = "".join(f" {self._lines[slot]} {NO}" for slot in before)
                return passed + (f" {END}" if option == STOP else f" {self._lines[option]} {YES}")
            case "diagnosis":
                slot = cause_slots(draft.findings[-1].target.slot, self._found, self._repertoire)[option]
                return "".join([f" {slot}", *(f" {_readiness(c)}" for c in self._found if c.rule.name == option)])
            case "action" if option == STOP:
                return f" {END}"
            case "action":
                asked = self._next(draft.findings[-1], taken=len(draft.findings[-1].actions))
                return f" {OWN}" if asked is not None and asked.name == option else f" {self._actions[option]}"
            case "argument":
                return f" {self._value(draft.findings[-1], option)}"

    def _value(self, finding: DraftFinding, option: str) -> str:
        last = finding.actions[-1]
        argument = last.action.args[len(last.values)]
        asked = self._next(finding, taken=len(finding.actions) - 1)
        own = asked.args.get(argument.name) if asked is not None and asked.name == last.action.name else None
        if own is not None and rounded_6(own) == float(option):
            return OWN
        return f"v{argument.values.index(option) + 1:03}"

    def _next(self, finding: DraftFinding, taken: int) -> RuleAction | None:
        """Return what the site does against the cause chosen after `taken` actions."""
        rules = [c.rule for c in self._found if c.rule.name == finding.diagnosis]
        rules += [rule for rule in self._repertoire.signatures if rule.name == finding.diagnosis]
        return rules[0].actions[taken] if rules and taken < len(rules[0].actions) else None


def cause_slots(target: str, found: Sequence[Candidate], repertoire: Repertoire) -> dict[str, str]:
    """Return the slot of each cause by its name, for a finding about `target`: those that it leads come first.

    Causes known everywhere keep their names.
    """
    led = [candidate.rule.name for candidate in _led(target, found)]
    names = dict.fromkeys([*led, *(name for name in repertoire.diagnoses if name not in GENERAL_CAUSES)])
    return {name: f"D{n:02}" for n, name in enumerate(names, start=1)} | {name: name for name in GENERAL_CAUSES}


def lines_of(evidence: CanonicalEvidence, found: Sequence[Candidate], repertoire: Repertoire) -> dict[str, str]:
    """Return what is told about each tag, by its slot; nothing about one that is normal and was not found."""
    told = {
        sign.slot: _line(sign, equipment.signs[:n], found, repertoire)
        for equipment in evidence.equipment
        for n, sign in enumerate(equipment.signs)
    }
    return {slot: line for slot, line in told.items() if line}


def weighed(marks: Sequence[Mark]) -> list[str]:
    """Return how the signs of a cause stand, in as many words for each cause.

    >>> weighed(("shows", "shows", "lacks", "unseen"))
    ['shows2', 'partly0', 'lacks1', 'clear']
    """
    counts = [f"{mark}{min(marks.count(mark), COUNT_MAX)}" for mark in COUNTED]
    return [*counts, "spoilt" if "spoilt" in marks else "undecided" if "undecided" in marks else "clear"]


def wide(slot: str) -> str:
    """Return a slot with two digits.

    >>> wide("S1"), wide("S12")
    ('S01', 'S12')
    """
    return f"{slot[0]}{int(slot[1:]):02}"


def _line(sign: Sign, before: Sequence[Sign], found: Sequence[Candidate], repertoire: Repertoire) -> str:
    """Return what is told about one tag after those `before` it on its equipment; nothing about one that is normal."""
    if not sign.evidence:  # what a normal tag says is in the marks of the causes that ask for it
        return f"{sign.kind} {sign.bucket} {wide(sign.slot)}" if _deviates(sign) else ""
    words = [sign.kind, sign.bucket, sign.direction, *_detectors(sign), *_causes(sign, found, repertoire)]
    words.append("doubted" if doubtful(sign) else "deviates" if _deviates(sign) else "settled")
    told = [other for other in before if other.evidence and doubtful(other) == doubtful(sign)]
    again = any(doubtful(other) or _deviates(other) for other in told)
    return " ".join([*words, "again" if again else "first", wide(sign.slot)])


def _deviates(sign: Sign) -> bool:
    return standing(sign) in DEVIATING


def _readiness(candidate: Candidate) -> str:
    return "ready" if candidate.ready else "missing"


def _detectors(sign: Sign) -> list[str]:
    """Return who found it; a site's own detectors are told as one."""
    return sorted({name if name in DETECTORS_TOLD else "other" for name in sign.detectors})


def _causes(sign: Sign, found: Sequence[Candidate], repertoire: Repertoire) -> list[str]:
    led = _led(sign.slot, found)
    slots = cause_slots(sign.slot, found, repertoire)
    words = []
    for one in led:
        words.append("leads")
        for other in _fewest([c for c in found if c.rule.name in one.within], WITHIN_MAX):
            words += ["within", *weighed(other.marks)]
        words += [*weighed(one.marks), _readiness(one), slots[one.rule.name]]
    if _deviates(sign):
        for one in _fewest([c for c in found if c not in led and _explains(c, sign, repertoire)], BESIDE_MAX):
            words += ["beside", *weighed(one.marks)]
    return words


def _led(slot: str, found: Sequence[Candidate]) -> list[Candidate]:
    return _fewest([candidate for candidate in found if candidate.lead == slot], LED_MAX)


def _fewest(causes: Sequence[Candidate], most: int) -> list[Candidate]:
    """Return those with the least against them, in their order."""
    ranked = sorted(causes, key=lambda c: sum(mark in AGAINST for mark in c.marks))[:most]
    return [cause for cause in causes if cause in ranked]


def _explains(candidate: Candidate, sign: Sign, repertoire: Repertoire) -> bool:
    """Whether a cause would make this tag deviate too: one of its equipment, or moved by what is done against it."""
    if candidate.rule.asset == sign.asset or sign.tag in {asked.tag for asked in candidate.rule.when}:
        return True
    asked = {action.name for action in candidate.rule.actions}
    return any(sign.tag in action.moves for action in repertoire.actions if action.name in asked)
