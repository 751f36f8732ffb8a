"""Cases from a log: questions that were really asked, with the plans whose effect was proven as the right ones.

An incident that closed as effective was mended by the plan that was completed last, the reasoner's own or an
operator's. Others are left out: nobody proved what would have been right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.config import DECISIVE
from pipelines.evaluation.cases import Case, Header, IncidentSet, RightAction, RightFinding, RightPlan, Site, rules_of
from pipelines.whole_log import WholeLog
from schemas import facts
from schemas.commands import Command
from schemas.errors import LogError
from schemas.plans import ReasonerRequest
from schemas.records import Recorded

KIND = "recorded"


@dataclass(slots=True)
class _Incident:
    """What is known of one incident so far."""

    site: str
    asked: ReasonerRequest | None = None
    """The last question."""
    proven: _Planned | None = None
    """The plan that was completed last, of those whose effect was verified."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan, and the question that it answers: evidence that was taken after its effect says nothing about it."""

    incident_id: str
    asked: ReasonerRequest
    commands: tuple[Command, ...]


@dataclass(slots=True)
class _Cell:
    """One cell's records, as far as they were read."""

    path: str
    adopted: dict[str, str] = field(default_factory=dict)
    incidents: dict[str, _Incident] = field(default_factory=dict)
    plans: dict[str, _Planned] = field(default_factory=dict)
    verified: set[str] = field(default_factory=set)


def recorded_set(log: WholeLog, name: str) -> IncidentSet:
    """Return the cases of a log.

    Raises:
        LogError: no incident in it was mended, or its configuration is gone.
    """
    sites: dict[str, Site] = {}
    cases = [case for cell in log.cells for case in _cases(cell, log.of(cell), log, sites)]
    if not cases:
        raise LogError(f"{name}: no incident was closed as effective: there is nothing that was proven right")
    header = Header(name, "Incidents of a log, with the plans whose effect was proven.")
    return IncidentSet(header, {case.site: sites[case.site] for case in cases}, tuple(cases))


def _cases(path: str, records: Sequence[Recorded], log: WholeLog, sites: dict[str, Site]) -> Iterator[Case]:
    cell = _Cell(path)
    for record in records:
        fact = record.fact
        match fact:
            case facts.ConfigAdopted():
                cell.adopted[fact.name] = fact.sha256
            case facts.IncidentOpened():
                cell.incidents[fact.incident_id] = _Incident(_site(cell, log, sites))
            case facts.ReasonerAsked() if fact.request.tier == "proposal" and fact.request.sentence is None:
                cell.incidents[fact.request.incident_id].asked = fact.request
            case facts.PlanProposed() if fact.tier == "proposal" and fact.origin != "fallback":
                _proposed(cell, fact)
            case facts.EffectVerified():
                cell.verified.add(fact.command_id)
            case facts.PlanCompleted():
                _completed(cell, fact.plan_id)
            case facts.IncidentClosed() if fact.outcome == "effective":
                incident = cell.incidents[fact.incident_id]
                if incident.proven is not None:
                    yield _case(incident.site, incident.proven, sites)


def _proposed(cell: _Cell, plan: facts.PlanProposed) -> None:
    """Take note of a plan. What a person has done outside any incident, or before a question, is left out."""
    incident = cell.incidents.get(plan.incident_id)
    if incident is not None and incident.asked is not None:
        cell.plans[plan.plan_id] = _Planned(plan.incident_id, incident.asked, plan.commands)


def _completed(cell: _Cell, plan_id: str) -> None:
    plan = cell.plans.get(plan_id)
    if plan is not None and plan.commands and all(c.command_id in cell.verified for c in plan.commands):
        cell.incidents[plan.incident_id].proven = plan


def _site(cell: _Cell, log: WholeLog, sites: dict[str, Site]) -> str:
    names = (*DECISIVE, "playbook.toml")
    try:
        files = {name: log.blobs.get(cell.adopted[name]).decode() for name in names}
    except KeyError as error:
        raise LogError(
            f"configuration blob {error.args[0]} is gone: restore the folder blobs/ from a backup"
        ) from error
    for name, site in sites.items():
        if site.files == files and site.cell == cell.path:
            return name
    name = f"{cell.path}#{len(sites) + 1}"
    sites[name] = Site(name, files, cell.path)
    return name


def _case(site: str, plan: _Planned, sites: Mapping[str, Site]) -> Case:
    robots = _assets(sites[site])
    by_asset: dict[str, list[RightAction]] = {}
    for command in plan.commands:
        args = {name: (value, value) for name, value in command.args.items()}
        by_asset.setdefault(robots.get(command.robot, ""), []).append(RightAction(command.action, args))
    findings = tuple(RightFinding(asset, (), tuple(actions)) for asset, actions in by_asset.items())
    return Case(plan.incident_id, site, KIND, plan.asked, (RightPlan(findings),))


def _assets(site: Site) -> dict[str, str]:
    return {robot.id: robot.asset for robot in rules_of(site).rulebook.cell.robots}
