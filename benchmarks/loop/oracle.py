"""Somebody who knows the fault at its onset and has tried every plan of the catalogue on a twin.

The twin is the cell's own physics: a few cycles of contact physics tell what a plan makes of the parts, and the drive's
exact thermal model what it makes of the horizon. The best plans are looked at for longer, the best of those are run on
the whole plant, and of these and of doing nothing the best counts: the oracle is never worse than nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

CYCLES_N, LONGER_N = 4, 60
"""Cycles of contact physics for every plan, and for the best of them: a few do not tell how often a part nearly slips
away."""
CANDIDATES_N: Final = 8
"""Plans that are looked at for longer."""
FINALISTS_N: Final = 4
"""Plans run on the whole plant, at most; it ends with the first that is as good as foreseen. One that looked best may
have been lucky."""
AS_FORESEEN_S: Final = 10.0
"""A plan is as good as foreseen with so much more downtime: rounding, and the cycle in which the fault began."""
SEQUENCES_S: Final = {"clean_pads": CLEAN_PADS_S, "change_pads": CHANGE_PADS_S}
FIELDS: Final = {
    "set_grip_force": "grip_force_n",
    "set_motion_speed": "motion_speed_pct",
    "set_conveyor_speed": "conveyor_speed_pct",
}
"""Action -> what it sets in the cell."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What comes of a plan."""

    plan: tuple[Step, ...]
    downtime_s: int
    lost_s: float
    """With what a slower pace costs."""
    slips_mm: tuple[float, ...]
    """Of each cycle that was looked at. Plans that share them do the same to the part."""

    def rank(self) -> tuple[float, ...]:
        """Less is better: the least downtime, then the least lost, then the fewest actions."""
        return self.downtime_s, self.lost_s, len(self.plan)


@dataclass(frozen=True, slots=True)
class _Cycles:
    """What cycles are like under some set-points."""

    good_share: float
    took_s: float
    """Without the conveyor."""
    slips_mm: tuple[float, ...]


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
    quick, longer = Twin(which, horizon_s, CYCLES_N), Twin(which, horizon_s, LONGER_N)
    candidates = _apart(_ranked(map(quick.foresee, _plans(repertoire))))[:CANDIDATES_N]
    tried: dict[tuple[Step, ...], Lost] = {(): nothing}
    for foreseen in _ranked(longer.foresee(each.plan) for each in candidates)[:FINALISTS_N]:
        if foreseen.plan:
            tried[foreseen.plan] = alone(configuration, which, horizon_s, foreseen.plan)
        if tried[foreseen.plan].downtime_s <= foreseen.downtime_s + AS_FORESEEN_S:
            break
    plan = min(tried, key=lambda plan: (round(tried[plan].downtime_s), tried[plan].lost_s, len(plan)))
    return tried[plan], plan


def _ranked(foreseen: Iterable[Foreseen]) -> list[Foreseen]:
    return sorted(foreseen, key=Foreseen.rank)


def _apart(ranked: Iterable[Foreseen]) -> list[Foreseen]:
    """Return the best of those that do the same to the part: what the belt does is foreseen exactly."""
    best_of: dict[tuple[float, ...], Foreseen] = {}
    for each in ranked:
        best_of.setdefault(each.slips_mm, each)
    return list(best_of.values())


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


class Twin:
    """The cell's physics with the faults in it, for a few cycles a plan."""

    def __init__(self, which: Trouble, horizon_s: float, cycles_n: int) -> None:
        """Look `horizon_s` of plant time ahead from `cycles_n` cycles of contact physics."""
        self._which, self._horizon_s, self._cycles_n = which, horizon_s, cycles_n
        self._known: dict[tuple[object, ...], _Cycles] = {}

    def foresee(self, plan: tuple[Step, ...]) -> Foreseen:
        """Return what comes of a plan that is done at the onset."""
        values = {FIELDS[step.action]: step.values[0] for step in plan if step.action in FIELDS}
        sequences = tuple(step.action for step in plan if step.action in SEQUENCES_S)
        belt_pct = values.pop("conveyor_speed_pct", Setpoints().conveyor_speed_pct)
        now = self._cycles(values, sequences)
        took_s = now.took_s + PITCH_S * 100.0 / belt_pct
        stood_s = sum(SEQUENCES_S[name] for name in sequences)
        making_s = self._until_trip(self._horizon_s - stood_s, took_s, belt_pct) * now.good_share
        lost_s = self._horizon_s - making_s / took_s * _healthy_s()
        return Foreseen(plan, round(self._horizon_s - making_s), lost_s, now.slips_mm)

    def _cycles(self, values: Mapping[str, float], sequences: tuple[str, ...]) -> _Cycles:
        key = (*sorted(values.items()), *sequences)
        if key not in self._known:
            self._known[key] = self._run(values, sequences)
        return self._known[key]

    def _run(self, values: Mapping[str, float], sequences: Sequence[str]) -> _Cycles:
        cell = Cell(self._which.seed)
        cell.faults = _faults(self._which)
        for name in sequences:
            if name == "clean_pads":
                cell.faults.clean_pads()
            else:
                cell.faults.change_pads()
        reports = [cell.cycle(Setpoints(**values)) for _ in range(self._cycles_n)]
        took_s = sum(report.took_s for report in reports) / self._cycles_n - PITCH_S
        good_share = sum(report.good for report in reports) / self._cycles_n
        return _Cycles(good_share, took_s, tuple(report.part_slip_mm for report in reports))

    def _until_trip(self, seconds: float, took_s: float, belt_pct: float) -> float:
        """Return how long the drive runs before it trips, at most `seconds`."""
        conveyor, (growth, most), run_s = Conveyor(), _faults(self._which).drag(), 0.0
        while run_s < seconds and not conveyor.tripped:
            conveyor.run(took_s, speed_pct=belt_pct, drag_per_s=growth, drag_max=most)
            run_s += took_s
        return min(run_s, seconds)


def _faults(which: Trouble) -> Faults:
    faults = Faults.none()
    for fault in which.faults:
        faults.inject(fault, which.severity, "", grip_force_n=Setpoints().grip_force_n)
    return faults


@cache
def _healthy_s() -> float:
    """Return the pace of a healthy cell."""
    cell = Cell(0)
    return sum(cell.cycle(Setpoints()).took_s for _ in range(CYCLES_N)) / CYCLES_N
