"""Incident sets: what is seen, what may be chosen from, and which plans are right. One JSON object a line.

    {"type": "set/1", "name": ..., "about": ..., "published": [...]}        first line, once
    {"type": "site/1", "name": ..., "files": {"plant.toml": ..., ...}}      before the cases that name it
    {"type": "case/1", "id": ..., "site": ..., "class": ..., "request": ..., "right": [...], ...}

A set holds the configuration that its cases are about, so that it can be asked anywhere and says the same in ten years.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.guard.question import Rulebook
from pipelines.config import cross_check, parse
from schemas.catalogue import Catalogue
from schemas.errors import ConfigError, RecordingError
from schemas.plans import ReasonerRequest
from schemas.plant import Plant
from schemas.playbook import Bucket, Playbook
from schemas.policy import Policy

SITE_FILES: Final = ("plant.toml", "catalogue.toml", "policy.toml", "playbook.toml")


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure that somebody else published, to be put beside one's own. Their cases, not these."""

    who: str
    """Which model."""
    of: str
    """Which class of this set, empty: all."""
    exact: float
    """Share of right answers, 0..1."""
    source: str


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="set/1"):
    """What a set is."""

    name: str
    about: str
    published: tuple[Published, ...] = ()


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type", tag="site/1"):
    """The configuration that cases are about."""

    name: str
    files: dict[str, str]
    """Text of `plant.toml`, `catalogue.toml`, `policy.toml` and `playbook.toml`."""
    cell: str = ""
    """Path of the cell that they are about; empty: the first one."""


class RightAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An action and from where to where each of its values is right, both ends included."""

    name: str
    args: dict[str, tuple[float, float]] = {}


class RightFinding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be found out about one asset, and done about it."""

    asset: str
    causes: tuple[str, ...] = ()
    """Any of these names is right; empty: the cause is not judged."""
    actions: tuple[RightAction, ...] = ()


class RightPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One right answer."""

    findings: tuple[RightFinding, ...] = ()


class Case(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="case/1", rename={"kind": "class"}
):
    """One incident with its right answers."""

    id: str
    site: str
    kind: str
    """Its class: figures are given for each."""
    request: ReasonerRequest
    right: tuple[RightPlan, ...]
    """Any one is right; at least one."""
    harmless: tuple[str, ...] = ()
    """Actions that may come beside a right plan."""
    note: str = ""
    """For people."""

    @property
    def acts(self) -> bool:
        """Whether any right answer has an action."""
        return any(finding.actions for plan in self.right for finding in plan.findings)


@dataclass(frozen=True, slots=True)
class Rules:
    """A site's files, parsed."""

    rulebook: Rulebook
    """Of the cell that cases are about."""
    plant: Plant
    catalogue: Catalogue
    policy: Policy
    playbook: Playbook
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class IncidentSet:
    """A whole set, checked."""

    header: Header
    sites: Mapping[str, Site]
    cases: tuple[Case, ...]

    @property
    def sha256(self) -> str:
        """Of its text: two results with the same one are about the same cases."""
        return hashlib.sha256(text_of(self).encode()).hexdigest()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its classes, in the order in which they come."""
        return tuple(dict.fromkeys(case.kind for case in self.cases))


_LINE = msgspec.json.Decoder(Header | Site | Case)


def read_set(path: Path) -> IncidentSet:
    """Read and check a set.

    Raises:
        RecordingError: it cannot be read; names file, line and field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(str(path), "file", f"it cannot be read: {error}", "Name a set in JSON Lines") from error
    return parse_set(text, str(path))


def parse_set(text: str, name: str) -> IncidentSet:
    """Return the set that a text holds.

    Raises:
        RecordingError: it is none.
    """
    header: Header | None = None
    sites: dict[str, Site] = {}
    cases: dict[str, Case] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        entry = _entry(line, name, number)
        if isinstance(entry, Header) and header is None and not sites:
            header = entry
        elif isinstance(entry, Site) and header is not None and entry.name not in sites:
            sites[entry.name] = entry
        elif isinstance(entry, Case) and entry.site in sites and entry.id not in cases and entry.right:
            cases[entry.id] = entry
        else:
            _misplaced(name, number, entry)
    if header is None or not cases:
        raise RecordingError(name, "(whole file)", "it holds no case", "Write a set/1, a site/1 and cases")
    found = IncidentSet(header, sites, tuple(cases.values()))
    for site in sites.values():
        rules_of(site)
    return found


def _entry(line: str, name: str, number: int) -> Header | Site | Case:
    try:
        entry: Header | Site | Case = _LINE.decode(line)
    except msgspec.DecodeError as error:
        raise RecordingError(name, f"line {number}", str(error), "Correct the field there") from error
    return entry


def _misplaced(name: str, number: int, entry: Header | Site | Case) -> None:
    problems = {
        Header: ("a second set/1, or one behind its sites", "Begin the file with one set/1"),
        Site: ("a site before set/1, or one of the same name again", "Rename it, or move it"),
        Case: (
            "a case of a site that was not given, with an id that was, or with no right answer",
            "Correct site, id or right",
        ),
    }
    problem, remedy = problems[type(entry)]
    raise RecordingError(name, f"line {number}", problem, remedy)


def rules_of(site: Site) -> Rules:
    """Return a site's files, parsed and checked as a configuration folder's are.

    Raises:
        ConfigError: they cannot be used.
    """
    files = {name: site.files.get(name, "").encode() for name in SITE_FILES}
    plant, catalogue = parse("plant.toml", files, Plant), parse("catalogue.toml", files, Catalogue)
    policy, playbook = parse("policy.toml", files, Policy), parse("playbook.toml", files, Playbook)
    cross_check(plant, catalogue, policy, playbook)
    cell = next((cell for cell in plant.cells if site.cell in ("", cell.path)), None)
    if cell is None:
        raise ConfigError("plant.toml", "cells", f"none has the path {site.cell!r} of site {site.name}", "Correct one")
    return Rules(Rulebook(cell, catalogue, policy), plant, catalogue, policy, playbook, files)


def site_of(name: str, files: Mapping[str, bytes]) -> Site:
    """Return a site from the bytes of a configuration's files."""
    return Site(name, {each: files[each].decode() for each in SITE_FILES})


def text_of(incidents: IncidentSet) -> str:
    """Return a set as a file holds it."""
    entries: Iterable[Header | Site | Case] = (incidents.header, *incidents.sites.values(), *incidents.cases)
    return "".join(msgspec.json.encode(entry).decode() + "\n" for entry in entries)


def direction_of(bucket: Bucket) -> Literal["up", "down", "none"]:
    """Return to which side a tag deviates that stands in a bucket.

    >>> direction_of("very_high"), direction_of("low"), direction_of("unknown")
    ('up', 'down', 'none')
    """
    return "up" if bucket in ("high", "very_high") else "down" if bucket in ("low", "very_low") else "none"
