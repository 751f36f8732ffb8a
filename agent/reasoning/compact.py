"""What a small model is told, and how it answers: slots, kinds and buckets only, no name of the site.

A model of a million parameters does not know what `part_slip_mm` means, and must not learn it: with slots in the place
of names it works on a site that it has never seen. Actions are slots too (`X01`), told by what they do: on which
equipment, which way is safe, which sign they promise to mend and which they move. Values are told by their place in
their range (`v0500` is half way). Every word of a kind is as long as the others, so that none is the beginning of
another.
"""

from __future__ import annotations

from typing import Final

from agent.reasoning.canonical import KINDS, CanonicalEvidence, Sign
from agent.reasoning.grammar import answer_schema, compact, parameters_schema
from agent.reasoning.prompt import DESCRIPTION, FUNCTION
from agent.reasoning.repertoire import GENERAL_CAUSES, Repertoire
from agent.reasoning.space import STOP, ChoicePoint, Draft, PlanSpace
from schemas.catalogue import Action, Argument
from schemas.reasoning import Message, Prompt

END: Final = "end"
"""The word that ends a list."""


def prompt_of(evidence: CanonicalEvidence, space: PlanSpace, repertoire: Repertoire) -> Prompt:
    """Return what a small model is asked about an incident."""
    return Prompt(
        messages=(
            Message("user", "\n".join([*_signs(evidence), *_actions(evidence, repertoire), *_causes(repertoire)])),
        ),
        function=FUNCTION,
        description=DESCRIPTION,
        parameters=compact(parameters_schema(repertoire)),
        answer=compact(answer_schema(space)),
    )


class CompactPhrasing:
    """Answers in slots: ` S01 D02 X03 v0500 end end`."""

    name = "compact/1"
    opening: Final = ""

    def __init__(self, repertoire: Repertoire) -> None:
        self._actions = action_slots(repertoire)
        self._causes = cause_slots(repertoire)

    def piece(self, draft: Draft, point: ChoicePoint, option: str) -> str:
        """Return what `option` adds to the answer."""
        if option == STOP and point.kind in ("target", "action"):
            return f" {END}"
        match point.kind:
            case "target":
                return f" {_wide(option)}"
            case "diagnosis":
                return f" {self._causes[option]}"
            case "action":
                return f" {self._actions[option]}"
            case "argument":
                last = draft.findings[-1].actions[-1]
                argument = last.action.args[len(last.values)]
                return f" {place(float(option), argument.low, argument.high)}"


def action_slots(repertoire: Repertoire) -> dict[str, str]:
    """Return the slot of each action by its name, in the catalogue's order."""
    return {action.name: f"X{n:02}" for n, action in enumerate(repertoire.actions, start=1)}


def cause_slots(repertoire: Repertoire) -> dict[str, str]:
    """Return the slot of each cause by its name; those known everywhere keep their names."""
    own = [name for name in repertoire.diagnoses if name not in GENERAL_CAUSES]
    return {name: f"D{n:02}" for n, name in enumerate(own, start=1)} | {name: name for name in GENERAL_CAUSES}


def place(value: float, low: float, high: float) -> str:
    """Return where in its range a value lies, in thousandths.

    >>> place(40.0, 10.0, 50.0), place(5.0, 5.0, 5.0)
    ('v0750', 'v0000')
    """
    share = (value - low) / (high - low) if high > low else 0.0
    return f"v{round(1000 * min(max(share, 0.0), 1.0)):04}"


def _signs(evidence: CanonicalEvidence) -> list[str]:
    lines = [f"{evidence.tier} {evidence.state}"]
    for equipment in evidence.equipment:
        lines.append(_wide(equipment.slot))
        lines += [_sign(sign) for sign in equipment.signs]
    return lines


def _sign(sign: Sign) -> str:
    found = [sign.direction, *sign.detectors] if sign.evidence else []
    return " ".join([_wide(sign.slot), sign.kind, sign.bucket, *found])


def _actions(evidence: CanonicalEvidence, repertoire: Repertoire) -> list[str]:
    slots = action_slots(repertoire)
    return [_action(slots[action.name], action, evidence, repertoire) for action in repertoire.actions]


def _action(slot: str, action: Action, evidence: CanonicalEvidence, repertoire: Repertoire) -> str:
    asset = repertoire.asset_of(action)
    where = next((_wide(e.slot) for e in evidence.equipment if e.asset == asset), "elsewhere")
    words = [slot, where, action.risk_class, action.effect_direction]
    words += [word for argument in action.args for word in _argument(action, argument, evidence, repertoire)]
    if action.postcondition is not None and (shown := evidence.slot_of(action.postcondition.tag)):
        words += ["mends", _wide(shown), action.postcondition.comparator]
    moved = [_wide(slot) for slot in map(evidence.slot_of, action.moves) if slot]
    return " ".join([*words, *(["moves", *moved] if moved else []), *(["hold"] if _holds(action, repertoire) else [])])


def _argument(action: Action, argument: Argument, evidence: CanonicalEvidence, repertoire: Repertoire) -> list[str]:
    present = evidence.setpoints.get(argument.tag)
    low, high = repertoire.range_of(action, argument)
    return [KINDS.get(argument.unit, "other"), "at", place(present, low, high) if present is not None else "unknown"]


def _holds(action: Action, repertoire: Repertoire) -> bool:
    return action.name == repertoire.rules.hold_action


def _causes(repertoire: Repertoire) -> list[str]:
    return [" ".join(["causes", *cause_slots(repertoire).values()])]


def _wide(slot: str) -> str:
    """Return a slot with two digits."""
    return f"{slot[0]}{int(slot[1:]):02}"
