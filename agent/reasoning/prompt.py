"""What a large model is told: first the rules and the catalogue, the same for every incident of a cell; then evidence.

Identifiers of the site are shown because they mean something to a large model (`part_slip_mm`); one that is not of the
safe alphabet is shown as its slot only. Titles, descriptions, units, alarm texts and batch names are never shown.
"""

from __future__ import annotations

from typing import Final

from agent.reasoning.canonical import CanonicalEvidence, Sign, safe
from agent.reasoning.grammar import answer_schema, compact, parameters_schema
from agent.reasoning.repertoire import GENERAL_CAUSES, NO_FAULT, SENSOR_FAULT, UNKNOWN_CAUSE, Repertoire
from agent.reasoning.space import PlanSpace
from schemas.catalogue import Action, Comparator
from schemas.reasoning import Message, Prompt

FUNCTION: Final = "propose_plan"
DESCRIPTION: Final = "Propose causes and corrective actions for the incident."
RULES: Final = f"""You are the reasoning part of a monitoring agent for a production cell. You propose; a guard that \
you cannot influence decides what runs, and a person approves. Answer with one call of {FUNCTION} and nothing else.
- Evidence lists equipment, worst first. Each sign has a slot, what it measures, how far it is from its normal \
(very_low, low, normal, high, very_high, unknown), and the detectors that found it. Normal signs are evidence too.
- Give one finding per independent cause, its evidence the slot of the sign that shows it best, in order of slots.
- Choose actions only from the catalogue and only those that remove the cause; a finding may have none. An action must \
be of the same equipment as the finding's evidence, or hold the cell.
- If no listed cause explains the signs, the diagnosis is {UNKNOWN_CAUSE} without actions: a person is called.
- If only the measurement is wrong, it is {SENSOR_FAULT} without actions. If nothing is wrong, give no finding."""
TIERS: Final = {
    "reflex": "Wanted now: only what brings the cell towards its safe state.",
    "proposal": "Wanted: what mends the cause.",
}
COMPARATORS: Final[dict[Comparator, str]] = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "="}


def prompt_of(evidence: CanonicalEvidence, space: PlanSpace, repertoire: Repertoire) -> Prompt:
    """Return what a large model is asked about an incident."""
    system = "\n\n".join([RULES, _causes(repertoire), catalogue_text(repertoire)])
    return Prompt(
        messages=(Message("system", system), Message("user", evidence_text(evidence))),
        function=FUNCTION,
        description=DESCRIPTION,
        parameters=compact(parameters_schema(repertoire)),
        answer=compact(answer_schema(space)),
    )


def evidence_text(evidence: CanonicalEvidence) -> str:
    """Return the evidence, one line a sign."""
    lines = [f"Cell state {evidence.state}. {TIERS[evidence.tier]}"]
    if evidence.setpoints:
        present = ", ".join(f"{safe(tag)} {value:.6g}" for tag, value in evidence.setpoints.items() if safe(tag))
        lines.append(f"Set-points now: {present}.")
    lines.append("Evidence:")
    for equipment in evidence.equipment:
        lines.append(f"{equipment.slot} {safe(equipment.asset)}".rstrip())
        lines += [f"  {_sign(sign)}" for sign in equipment.signs]
    return "\n".join(lines)


def _sign(sign: Sign) -> str:
    found = f"; found by {', '.join(sign.detectors)}, direction {sign.direction}" if sign.evidence else ""
    return f"{sign.slot} {safe(sign.tag)} ({sign.kind}): {sign.bucket}{found}"


def _causes(repertoire: Repertoire) -> str:
    own = [name for name in repertoire.diagnoses if name not in GENERAL_CAUSES]
    return f"Causes known at this site: {', '.join(own) or 'none'}. Known everywhere: {UNKNOWN_CAUSE}, {SENSOR_FAULT}, \
{NO_FAULT}."


def catalogue_text(repertoire: Repertoire) -> str:
    """Return the catalogue, one line an action."""
    return "\n".join(["Catalogue:", *(f"- {_action(action, repertoire)}" for action in repertoire.actions)])


def _action(action: Action, repertoire: Repertoire) -> str:
    values = [
        f"{x.name} (set-point {safe(x.tag)}) one of {', '.join(f'{v:.6g}' for v in repertoire.values_of(action, x))}"
        for x in action.args
    ]
    parts = [f"{action.name}({'; '.join(values)}) acts on {safe(repertoire.asset_of(action)) or 'unnamed equipment'}"]
    parts.append(f"class {action.risk_class}")
    if action.effect_direction != "none":
        parts.append(f"safe direction {action.effect_direction}")
    if action.postcondition is not None:
        wanted = action.postcondition
        parts.append(f"must show {safe(wanted.tag)} {COMPARATORS[wanted.comparator]} {wanted.value:.6g}")
    if action.moves:
        parts.append(f"moves {', '.join(safe(tag) for tag in action.moves)}")
    return ", ".join(parts)
