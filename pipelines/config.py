"""Reads the configuration folder once and checks it whole, each file and across files.

Every problem is a `ConfigError` that names file, field and remedy.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from agent.guard.question import Rulebook
from pipelines.detectors.calibration import FILE as CALIBRATION
from pipelines.detectors.calibration import cells_of, normals_for
from schemas.catalogue import Action, Catalogue, Condition
from schemas.errors import ConfigError
from schemas.line import PackMLState
from schemas.plant import Cell, Plant
from schemas.playbook import Playbook
from schemas.policy import Policy
from schemas.settings import KafkaSettings, PostgresSettings, ReasonerSettings, Settings

M = TypeVar("M", bound=BaseModel)

FILES: Mapping[str, type[BaseModel]] = {
    "jidoka.toml": Settings,
    "plant.toml": Plant,
    "catalogue.toml": Catalogue,
    "policy.toml": Policy,
    "playbook.toml": Playbook,
}
OPTIONAL = ("streams.toml", CALIBRATION)
"""Files that a folder may have besides: adopted with the others, and parsed by whoever uses them."""
DECISIVE = ("plant.toml", "catalogue.toml", "policy.toml")
"""Files on which detectors, guard and step depend: replay needs exactly these bytes, and those of a calibration."""
KAFKA_FILES = ("ca", "certificate", "key")
"""Of the Kafka settings: files, relative to the data folder."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """All files of a folder, parsed, with their bytes."""

    folder: Path
    settings: Settings
    plant: Plant
    catalogue: Catalogue
    policy: Policy
    playbook: Playbook
    files: Mapping[str, bytes]
    """By name; of the optional ones, those that are there."""

    def sha256(self, name: str) -> str:
        """Return the hash of a file's bytes, 64 hex digits."""
        return hashlib.sha256(self.files[name]).hexdigest()

    def rules_for(self, cell: Cell) -> Rulebook:
        """Return what the decisions of one cell depend on."""
        return Rulebook(cell, self.catalogue, self.policy, self.files.get(CALIBRATION, b""))

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / self.settings.data


def load(folder: Path) -> Configuration:
    """Read and check a configuration folder.

    Raises:
        ConfigError: a file is missing, not TOML, not of its schema, or contradicts another.
    """
    there = [name for name in OPTIONAL if (folder / name).exists()]
    files = {name: read_file(folder / name) for name in (*FILES, *there)}
    configuration = Configuration(
        folder=folder,
        settings=_resolved(parse("jidoka.toml", files, Settings), folder),
        plant=parse("plant.toml", files, Plant),
        catalogue=parse("catalogue.toml", files, Catalogue),
        policy=parse("policy.toml", files, Policy),
        playbook=parse("playbook.toml", files, Playbook),
        files=files,
    )
    cross_check(configuration.plant, configuration.catalogue, configuration.policy, configuration.playbook)
    if CALIBRATION in files:
        _check_calibration(configuration.plant, files[CALIBRATION])
    return configuration


def _resolved(settings: Settings, folder: Path) -> Settings:
    """Return the settings with every path absolute: the data folder from here, the others from the data folder."""
    data = (folder / settings.data).resolve()
    opcua = settings.opcua
    users = {
        role: user.model_copy(update={"password_file": str(data / user.password_file)})
        for role, user in (("collector", opcua.collector), ("actuator", opcua.actuator))
        if user is not None
    }
    located = opcua.model_copy(update={"certificates": str(data / opcua.certificates), **users})
    return settings.model_copy(
        update={
            "data": str(data),
            "opcua": located,
            "kafka": settings.kafka and _kafka(settings.kafka, data),
            "postgres": settings.postgres and _database(settings.postgres, data),
            "reasoners": _models(settings.reasoners, data),
        }
    )


def _models(reasoners: ReasonerSettings, data: Path) -> ReasonerSettings:
    """Return the settings with the folders and files they name below the data folder; a hub id is no folder there."""
    loaded = [m.model_copy(update={"model": str(data / m.model)}) if (data / m.model).is_dir() else m
              for m in reasoners.transformers]  # fmt: skip
    servers = [
        s.model_copy(update={name: str(data / getattr(s, name)) for name in ("key_file", "ca") if getattr(s, name)})
        for s in reasoners.servers
    ]
    return reasoners.model_copy(update={"transformers": tuple(loaded), "servers": tuple(servers)})


def _database(postgres: PostgresSettings, data: Path) -> PostgresSettings:
    user = postgres.user and postgres.user.model_copy(update={"password_file": str(data / postgres.user.password_file)})
    return postgres.model_copy(update={"user": user, "ca": str(data / postgres.ca) if postgres.ca else ""})


def _kafka(kafka: KafkaSettings, data: Path) -> KafkaSettings:
    """Return the settings with the files they name below the data folder."""
    files: dict[str, object] = {name: str(data / getattr(kafka, name)) for name in KAFKA_FILES if getattr(kafka, name)}
    if kafka.user is not None:
        files["user"] = kafka.user.model_copy(update={"password_file": str(data / kafka.user.password_file)})
    return kafka.model_copy(update=files)


def rulebooks(files: Mapping[str, bytes]) -> dict[str, Rulebook]:
    """Return the rules by cell path from the bytes of the decisive files, e.g. from blobs.

    Raises:
        ConfigError: as `load`.
    """
    plant = parse("plant.toml", files, Plant)
    catalogue, policy = parse("catalogue.toml", files, Catalogue), parse("policy.toml", files, Policy)
    calibration = files.get(CALIBRATION, b"")
    return {cell.path: Rulebook(cell, catalogue, policy, calibration) for cell in plant.cells}


def read_file(path: Path, remedy: str = "Create it, or point --config to its folder") -> bytes:
    """Return a configuration file's bytes; `remedy` is said if it is missing.

    Raises:
        ConfigError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(str(path), "(file)", "it is missing", remedy) from error
    except OSError as error:
        raise ConfigError(
            str(path), "(file)", f"it cannot be read: {error.strerror}", "Check its permissions"
        ) from error


def parse(name: str, files: Mapping[str, bytes], model: type[M]) -> M:
    """Parse one file's bytes.

    Raises:
        ConfigError: not TOML or not of its schema; names the first wrong field.
    """
    try:
        values = tomllib.loads(files[name].decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(name, "(syntax)", str(error), "Correct the TOML syntax there") from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        problem = first["msg"].removeprefix("Value error, ")
        raise ConfigError(name, field, problem, _remedy(first["type"], len(error.errors()))) from error


def parse_file(path: Path, model: type[M]) -> M:
    """Read one TOML file that stands by itself.

    Raises:
        ConfigError: it cannot be read, is not TOML or not of its schema; names the first wrong field.
    """
    return parse(str(path), {str(path): read_file(path, "Create it, or correct the path")}, model)


def _remedy(kind: str, count: int) -> str:
    known = {
        "missing": "Add the field",
        "extra_forbidden": "Remove it, or correct its spelling",
        "value_error": "Correct it there",
    }
    more = f" ({count - 1} more problems follow)" if count > 1 else ""
    return known.get(kind, "Correct the value") + more


def cross_check(plant: Plant, catalogue: Catalogue, policy: Policy, playbook: Playbook) -> None:
    """Check what one file says against another.

    Raises:
        ConfigError: a name that the other file does not know, a unit that differs, a limit outside the catalogue's.
    """
    for place, cell in enumerate(plant.cells):
        _check_aliases(f"cells.{place}", cell)
        robots = {robot.id for robot in cell.robots}
        for number, action in enumerate(catalogue.actions):
            if action.robot in robots:
                _check_action(f"actions.{number}", action, cell)
    _check_robots(catalogue, plant)
    _check_policy(policy, catalogue)
    _check_hold(policy, catalogue, plant)
    _check_playbook(playbook, catalogue, plant)


def _check_calibration(plant: Plant, data: bytes) -> None:
    known = {cell.path: cell for cell in plant.cells}
    for path in cells_of(data):
        if path not in known:
            _fail(CALIBRATION, path, "plant.toml has no such cell", "Calibrate it again, or take the file away")
        normals_for(data, known[path])


def _check_robots(catalogue: Catalogue, plant: Plant) -> None:
    robots = {robot.id for cell in plant.cells for robot in cell.robots}
    for number, action in enumerate(catalogue.actions):
        if action.robot not in robots:
            _fail(
                "catalogue.toml", f"actions.{number}.robot", f"{action.name}: plant.toml has no robot {action.robot!r}"
            )


def _check_aliases(field: str, cell: Cell) -> None:
    for number, tag in enumerate(cell.tags):
        if tag.aliases and tag.role != "setpoint":
            _fail(
                "plant.toml",
                f"{field}.tags.{number}.aliases",
                f"{tag.name} is no set-point, so that nobody can ask for it by them",
                "Take them away, or give them to its asset",
            )


def _check_action(field: str, action: Action, cell: Cell) -> None:
    units = {tag.name: tag.unit for tag in cell.tags}
    for argument in action.args:
        unit = units.get(argument.tag)
        if unit is None:
            _fail("catalogue.toml", f"{field}.args.tag", f"{action.name}: plant.toml has no tag {argument.tag!r}")
        if unit != argument.unit:
            _fail(
                "catalogue.toml",
                f"{field}.args.unit",
                f"{action.name}.{argument.name} is in {argument.unit!r} and tag {argument.tag} in {unit!r}",
                "Write both in the same unit; nothing is converted",
            )
    conditions: list[Condition] = [*action.preconditions]
    if action.postcondition is not None:
        conditions.append(action.postcondition)
    for name in [*(c.tag for c in conditions), *action.moves]:
        if name not in units:
            _fail("catalogue.toml", field, f"{action.name}: plant.toml has no tag {name!r}")
    for state in action.states:
        if state not in PackMLState.__members__:
            _fail("catalogue.toml", f"{field}.states", f"{action.name}: {state!r} is no PackML state")


def _check_policy(policy: Policy, catalogue: Catalogue) -> None:
    named = {"actions": [p.action for p in policy.actions], "limits": [x.action for x in policy.limits]}
    named |= {"hold_action": [policy.hold_action] * bool(policy.hold_action)}
    named |= {"cells": [p.hold_action for p in policy.cells]}
    for field, names in named.items():
        for name in names:
            if catalogue.action(name) is None:
                _fail("policy.toml", field, f"catalogue.toml has no action {name!r}")
    for limit in policy.limits:
        action = catalogue.action(limit.action)
        known = {a.name: a for a in action.args} if action is not None else {}
        argument = known.get(limit.argument)
        if argument is None:
            _fail("policy.toml", "limits", f"{limit.action} has no argument {limit.argument!r}")
        elif not (argument.min <= limit.min and limit.max <= argument.max):
            _fail(
                "policy.toml",
                "limits",
                f"{limit.action}.{limit.argument} {limit.min:g}..{limit.max:g} reaches beyond the catalogue's "
                f"{argument.min:g}..{argument.max:g}",
                "A policy only narrows: bring it inside",
            )
    for entry in policy.actions:
        action = catalogue.action(entry.action)
        if entry.autonomy == "auto" and action is not None and action.risk_class not in ("A", "B"):
            _fail("policy.toml", "actions", f"{entry.action} is class {action.risk_class}: auto lifts class B only")


def _check_hold(policy: Policy, catalogue: Catalogue, plant: Plant) -> None:
    """A cell must be able to be held: found out here, and not when an effect stays absent."""
    for entry in policy.cells:
        if entry.cell not in {cell.id for cell in plant.cells}:
            _fail("policy.toml", "cells", f"plant.toml has no cell {entry.cell!r}")
    for cell in plant.cells:
        action = catalogue.action(policy.hold_action_of(cell.id))
        if action is None or not cell.robots:
            continue
        if action.args:
            names = ", ".join(argument.name for argument in action.args)
            _fail(
                "policy.toml", "hold_action", f"{action.name} takes {names}, and a hold has no values", "Name another"
            )
        if action.robot not in {robot.id for robot in cell.robots}:
            _fail(
                "policy.toml",
                "hold_action",
                f"{action.name} is of robot {action.robot!r}, which cell {cell.id!r} does not have",
                f"Name the cell's own hold action under cells: cell = {cell.id!r}",
            )


def _check_playbook(playbook: Playbook, catalogue: Catalogue, plant: Plant) -> None:
    tags = {tag.name for cell in plant.cells for tag in cell.tags}
    assets = {asset.id for cell in plant.cells for asset in cell.assets}
    for number, rule in enumerate(playbook.rules):
        if rule.asset not in assets:
            _fail("playbook.toml", f"rules.{number}.asset", f"plant.toml has no asset {rule.asset!r}")
        for sign in rule.when:
            if sign.tag not in tags:
                _fail("playbook.toml", f"rules.{number}.when", f"plant.toml has no tag {sign.tag!r}")
        for choice in rule.actions:
            action = catalogue.action(choice.name)
            if action is None:
                _fail("playbook.toml", f"rules.{number}.actions", f"catalogue.toml has no action {choice.name!r}")
            elif set(choice.args) != {a.name for a in action.args}:
                _fail(
                    "playbook.toml", f"rules.{number}.actions", f"{choice.name} takes {[a.name for a in action.args]}"
                )


def _fail(file: str, field: str, problem: str, remedy: str = "Correct the name, or add it there") -> None:
    raise ConfigError(file, field, problem, remedy)
