"""Somebody who knows the fault at its onset and has tried every plan of the catalogue on a twin.

The twin is the cell's own physics: a few cycles of contact physics tell what a plan makes of the parts, and the drive's
exact thermal model what it makes of the horizon. The best plans are looked at for longer, the best of those are run on
the whole plant, and of these and of doing nothing the best counts: the oracle is never worse than nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Final

from agent.reasoning.repertoire import Repertoire, repertoire_of
from benchmarks.loop.faults import Trouble
from benchmarks.loop.running import Lost, Step, alone
from connectors.plant.cell import PITCH_S, Cell, Setpoints
from connectors.plant.conveyor import Conveyor
from connectors.plant.faults import Faults
from connectors.plant.verbs import CHANGE_PADS_S, CLEAN_PADS_S
from pipelines.config import Configuration
from schemas.catalogue import Action

CYCLES_N, LONGER_N = 4, 40
"""Cycles of contact physics for every plan, and for the best of them: a few do not tell how often a part nearly slips
away."""
CANDIDATES_N: Final = 16
"""Plans that are looked at for longer."""
FINALISTS_N: Final = 2
"""Plans run on the whole plant."""
SEQUENCES_S: Final = {"clean_pads": CLEAN_PADS_S, "change_pads": CHANGE_PADS_S}
FIELDS: Final = {
    "set_grip_force": "grip_force_n",
    "set_motion_speed": "motion_speed_pct",
    "set_conveyor_speed": "conveyor_speed_pct",
}
"""Action -> what it sets in the cell."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What cycles are like under some set-points."""

    good_share: float
    took_s: float
    """Without the conveyor."""


def best(
    configuration: Configuration, which: Trouble, horizon_s: float, nothing: Lost
) -> tuple[Lost, tuple[Step, ...]]:
    """Return what is lost under the best plan, and the plan.

    Args:
        configuration: Its catalogue and policy say what may be tried.
        which: The faults.
        horizon_s: How far it looks, plant time.
        nothing: What is lost when nothing is done.
    """
    repertoire = repertoire_of(configuration.rules_for(configuration.plant.cells[0]), configuration.playbook)
    plans = list(_plans(repertoire))
    candidates = _ranked(plans, which, horizon_s, CYCLES_N)[:CANDIDATES_N]
    finalists = _ranked(candidates, which, horizon_s, LONGER_N)[:FINALISTS_N]
    tried = {(): nothing} | {plan: alone(configuration, which, horizon_s, plan) for plan in finalists if plan}
    plan = min(tried, key=lambda plan: (round(tried[plan].downtime_s), tried[plan].lost_s, len(plan)))
    return tried[plan], plan


def _ranked(
    plans: Sequence[tuple[Step, ...]], which: Trouble, horizon_s: float, cycles_n: int
) -> list[tuple[Step, ...]]:
    """Return the plans by what is foreseen: the least downtime first, then the least lost, then the fewest actions."""
    known: dict[tuple[object, ...], Foreseen] = {}
    return sorted(plans, key=lambda plan: (*_foresee(plan, which, horizon_s, cycles_n, known), len(plan)))


def _plans(repertoire: Repertoire) -> Iterator[tuple[Step, ...]]:
    """Yield every choice of at most one value for each action, but for the hold: it makes no part.

    Of the two sequences for the pads at most one, as the catalogue has it; with one of them the force stays.
    """
    steps = {action.name: [*_steps(action, repertoire)] for action in repertoire.actions}
    pads = [(), *((step,) for name in ("set_grip_force", *SEQUENCES_S) for step in steps.get(name, ()))]
    lifts = [(), *((step,) for step in steps.get("set_motion_speed", ()))]
    belts = [(), *((step,) for step in steps.get("set_conveyor_speed", ()))]
    for pad, lift, belt in product(pads, lifts, belts):
        # The set-points first: a sequence keeps the PLC busy.
        yield (*lift, *belt, *pad)


def _steps(action: Action, repertoire: Repertoire) -> Iterator[Step]:
    present = Setpoints()
    if not action.args:
        yield Step(action.name, action.binding.verb, (), ())
    for argument in action.args[:1]:
        before = getattr(present, FIELDS.get(action.name, ""), None)
        for value in repertoire.values_of(action, argument):
            step = argument.max_step if argument.max_step is not None else float("inf")
            if before is not None and value != before and abs(value - before) <= step:
                yield Step(action.name, action.binding.verb, (argument.tag,), (value,))


def _foresee(
    plan: Sequence[Step],
    which: Trouble,
    horizon_s: float,
    cycles_n: int,
    known: dict[tuple[object, ...], Foreseen],
) -> tuple[int, float]:
    """Return the downtime under a plan, in whole seconds, and what is lost with the slower pace.

    Args:
        plan: Done at the onset.
        which: The faults.
        horizon_s: Plant time.
        cycles_n: Cycles of contact physics from which the rest is foreseen.
        known: What was foreseen before, with as many.
    """
    values = {FIELDS[step.action]: step.values[0] for step in plan if step.action in FIELDS}
    sequences = tuple(step.action for step in plan if step.action in SEQUENCES_S)
    belt_pct = values.pop("conveyor_speed_pct", Setpoints().conveyor_speed_pct)
    key = (*sorted(values.items()), *sequences)
    if key not in known:
        known[key] = _cycles(values, sequences, which, cycles_n)
    now = known[key]
    took_s = now.took_s + PITCH_S * 100.0 / belt_pct
    stood_s = sum(SEQUENCES_S[name] for name in sequences)
    runs_s = _until_trip(horizon_s - stood_s, took_s, belt_pct, which)
    making_s = runs_s * now.good_share
    return round(horizon_s - making_s), horizon_s - making_s / took_s * _healthy_s()


def _cycles(values: dict[str, float], sequences: Sequence[str], which: Trouble, cycles_n: int) -> Foreseen:
    cell = _broken(which)
    for name in sequences:
        if name == "clean_pads":
            cell.faults.clean_pads()
        else:
            cell.faults.change_pads()
    setpoints = Setpoints(**values)
    reports = [cell.cycle(setpoints) for _ in range(cycles_n)]
    took_s = sum(report.took_s for report in reports) / cycles_n - PITCH_S
    return Foreseen(sum(report.good for report in reports) / cycles_n, took_s)


def _until_trip(seconds: float, took_s: float, belt_pct: float, which: Trouble) -> float:
    """Return how long the drive runs before it trips, at most `seconds`."""
    conveyor, (growth, most), run_s = Conveyor(), _faults(which).drag(), 0.0
    while run_s < seconds and not conveyor.tripped:
        conveyor.run(took_s, speed_pct=belt_pct, drag_per_s=growth, drag_max=most)
        run_s += took_s
    return min(run_s, seconds)


def _faults(which: Trouble) -> Faults:
    faults = Faults.none()
    for fault in which.faults:
        faults.inject(fault, which.severity, "", grip_force_n=Setpoints().grip_force_n)
    return faults


def _broken(which: Trouble) -> Cell:
    cell = Cell(which.seed)
    cell.faults = _faults(which)
    return cell


@cache
def _healthy_s() -> float:
    """Return the pace of a healthy cell."""
    cell = Cell(0)
    return sum(cell.cycle(Setpoints()).took_s for _ in range(CYCLES_N)) / CYCLES_N
