"""Cells that nobody has built: equipment, tags, actions and faults drawn at random, in any number, order and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from agent.guard.question import Rulebook
from agent.reasoning.repertoire import Repertoire, repertoire_of, rounded_6
from pipelines.training.faults import Fault, playbook_of
from schemas.catalogue import Catalogue
from schemas.plans import PlannedAction
from schemas.plant import Cell
from schemas.playbook import Bucket, Playbook
from schemas.policy import Policy

UNITS: Final = ("A", "N", "l/min", "Hz", "mm", "l", "kW", "bar", "%", "rpm", "degC", "s", "Nm", "m/s2", "V", "lux")
HOLD: Final = "hold"
SYLLABLES: Final = {
    "training": ("ba", "co", "di", "fu", "ga", "le", "mi", "no", "pe", "ra", "su", "ti"),
    "unseen": ("kwy", "zho", "xae", "vrj", "qui", "yth", "hne", "dzu"),
}
"""Of which names are made. No name reaches the model: that unseen ones change nothing is what is shown."""
SIDES: Final[Mapping[str, tuple[tuple[Bucket, ...], ...]]] = {
    "up": (("high", "very_high"), ("high", "very_high"), ("very_high",)),
    "down": (("low", "very_low"), ("low", "very_low"), ("very_low",)),
}
NORMAL_AND_LESS: Final[tuple[tuple[Bucket, ...], ...]] = (("normal",), ("normal", "low", "very_low"))


@dataclass(frozen=True, slots=True)
class TrainingCell:
    """A cell with what can break in it."""

    repertoire: Repertoire
    playbook: Playbook
    faults: tuple[Fault, ...]

    @property
    def watched(self) -> tuple[str, ...]:
        """The tags that can deviate."""
        return tuple(tag.name for tag in self.repertoire.rules.cell.tags if tag.role == "process")


def cell_of(rulebook: Rulebook, faults: Sequence[Fault]) -> TrainingCell:
    """Return a cell, its playbook written from its faults in their order."""
    playbook = playbook_of(faults)
    return TrainingCell(repertoire_of(rulebook, playbook), playbook, tuple(faults))


def made_up_cell(rng: np.random.Generator, *, names: str = "training", missing: float = 0.15) -> TrainingCell:
    """Draw a cell.

    Args:
        rng: Draws; the same state gives the same cell.
        names: A key of `SYLLABLES`.
        missing: Share of actions that the playbook names and the catalogue does not have.
    """
    naming = _Naming(rng, SYLLABLES[names])
    assets = [naming.new() for _ in range(rng.integers(1, 5))]
    tags = {asset: [naming.new() for _ in range(rng.integers(2, 8))] for asset in assets}
    actions = [_action(rng, naming, asset, tags) for asset in assets for _ in range(rng.integers(1, 4))]
    rng.shuffle(actions)
    actions.append(_hold(assets[int(rng.integers(len(assets)))]))
    faults = [fault for asset in assets for fault in _faults(rng, naming, asset, tags, actions)]
    order = rng.permutation(len(faults))
    ordered = _specific_first([faults[n] for n in order])
    there = [a for a in actions if a["name"] == HOLD or not rng.random() < missing]
    catalogue = Catalogue.model_validate({"actions": [_without_asset(a) for a in there]})
    limits = [limit for action in there for limit in _limits(rng, action)]
    policy = Policy.model_validate({"hold_action": HOLD, "limits": limits})
    return cell_of(Rulebook(_cell(rng, assets, tags, actions), catalogue, policy), ordered)


class _Naming:
    def __init__(self, rng: np.random.Generator, syllables: Sequence[str]) -> None:
        self._rng, self._syllables = rng, syllables
        self._given = {HOLD}

    def new(self) -> str:
        while True:
            name = "".join(self._rng.choice(self._syllables, size=self._rng.integers(2, 5)))
            if name not in self._given:
                self._given.add(name)
                return name


def _action(rng: np.random.Generator, naming: _Naming, asset: str, tags: Mapping[str, list[str]]) -> dict[str, Any]:
    name, args = naming.new(), []
    if rng.random() < 0.55:
        low = rounded_6(float(rng.choice([0.0, 10.0, 20.0, 0.5])))
        high = rounded_6(low + float(rng.choice([1.0, 40.0, 80.0, 1000.0])))
        step = {"max_step": rounded_6((high - low) * float(rng.uniform(0.3, 0.9)))} if rng.random() < 0.5 else {}
        args = [{"name": f"{name}_x", "min": low, "max": high, "unit": "%", "tag": f"{name}_sp", **step}]
    everywhere = [tag for each in tags.values() for tag in each]
    moved = {str(tag) for tag in rng.choice(tags[asset], size=min(2, len(tags[asset])), replace=False)}
    moved |= {str(rng.choice(everywhere))} if rng.random() < 0.4 else set()
    return {
        "name": name, "title": name, "robot": f"robot_{asset}", "args": args, "asset": asset,
        "risk_class": str(rng.choice(["B", "B", "C"])),
        "effect_direction": str(rng.choice(["decrease", "increase"])) if args else "none",
        "moves": sorted(moved), "binding": {"verb": "Do"},
    }  # fmt: skip


def _hold(asset: str) -> dict[str, Any]:
    return {"name": HOLD, "title": HOLD, "robot": f"robot_{asset}", "risk_class": "B", "args": [], "asset": asset,
            "binding": {"verb": "Hold"}}  # fmt: skip


def _without_asset(action: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in action.items() if key != "asset"}


def _limits(rng: np.random.Generator, action: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Now and then the policy leaves the upper part of a range only."""
    return [
        {"action": action["name"], "argument": a["name"], "min": rounded_6((a["min"] + a["max"]) / 2), "max": a["max"]}
        for a in action["args"]
        if rng.random() < 0.1
    ]


def _faults(
    rng: np.random.Generator,
    naming: _Naming,
    asset: str,
    tags: Mapping[str, list[str]],
    actions: Sequence[Mapping[str, Any]],
) -> list[Fault]:
    """Draw what can break on one piece of equipment: faults that can be told from each other."""
    found: list[Fault] = []
    for _ in range(int(rng.choice([0, 1, 2, 3, 4], p=[0.1, 0.25, 0.3, 0.25, 0.1]))):
        size = min(int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2])), len(tags[asset]))
        own = [str(tag) for tag in rng.choice(tags[asset], size=size, replace=False)]
        if any(set(own) == set(other.shows) for other in found):
            continue
        shows = {tag: SIDES[str(rng.choice(["up", "up", "down"]))][int(rng.integers(3))] for tag in own}
        found.append(Fault(naming.new(), asset, shows, {}, (), _remedy(rng, asset, actions)))
    return [_told_apart(rng, fault, found, tags, actions) for fault in found]


def _remedy(rng: np.random.Generator, asset: str, actions: Sequence[Mapping[str, Any]]) -> tuple[PlannedAction, ...]:
    own = [action for action in actions if action["asset"] == asset or action["name"] == HOLD]
    count = min(int(rng.choice([0, 1, 2], p=[0.07, 0.7, 0.23])), len(own))
    chosen = [own[int(n)] for n in rng.choice(len(own), size=count, replace=False)]
    return tuple(
        PlannedAction(action["name"], {a["name"]: _value(rng, a) for a in action["args"]}) for action in chosen
    )


def _value(rng: np.random.Generator, argument: Mapping[str, Any]) -> float:
    """Draw a value of the upper half, which no policy takes away, an eighth or any other."""
    share = float(rng.choice([0.5, 0.625, 0.75, 0.875])) if rng.random() < 0.5 else float(rng.uniform(0.5, 1.0))
    return rounded_6(argument["min"] + share * (argument["max"] - argument["min"]))


def _told_apart(
    rng: np.random.Generator,
    fault: Fault,
    others: Sequence[Fault],
    tags: Mapping[str, list[str]],
    actions: Sequence[Mapping[str, Any]],
) -> Fault:
    """Return a fault with what it leaves normal, of that what others do not, and what may deviate with it."""
    theirs = {tag for other in others if other.cause != fault.cause for tag in other.shows} - set(fault.shows)
    sharing = [o for o in others if o.cause != fault.cause and set(o.shows) & set(fault.shows)]
    telling = {tag for other in sharing for tag in other.shows} - set(fault.shows)
    normal = {tag: NORMAL_AND_LESS[int(rng.integers(2))] for tag in sorted(telling) if rng.random() < 0.8}
    free = [tag for tag in tags[fault.asset] if tag not in theirs and tag not in fault.shows and tag not in normal]
    named = {action.name for action in fault.remedy}
    moved = {tag for action in actions if action["name"] in named for tag in action.get("moves", ())}
    shown = {tag for other in others for tag in other.shows}
    elsewhere = sorted(moved - set(tags[fault.asset]) - shown)
    return Fault(fault.cause, fault.asset, fault.shows, normal, tuple(free + elsewhere), fault.remedy)


def _specific_first(faults: Sequence[Fault]) -> list[Fault]:
    """Return faults so that one whose signs are part of another's comes after it: the first match counts."""
    ordered: list[Fault] = []
    for fault in faults:
        place = next((n for n, other in enumerate(ordered) if set(other.shows) < set(fault.shows)), len(ordered))
        ordered.insert(place, fault)
    return ordered


def _cell(
    rng: np.random.Generator, assets: Sequence[str], tags: Mapping[str, list[str]], actions: Sequence[Mapping[str, Any]]
) -> Cell:
    common = {"range": {"low": -1e6, "high": 1e6}, "group": "rows"}
    named = [
        {"name": tag, "asset": asset, "unit": str(rng.choice(UNITS)), **common}
        for asset in assets
        for tag in tags[asset]
    ]
    named += [
        {"name": argument["tag"], "asset": action["asset"], "unit": argument["unit"], "role": "setpoint", **common}
        for action in actions
        for argument in action["args"]
    ]
    order = rng.permutation(len(named))
    return Cell.model_validate(
        {
            "id": "cell", "path": "a/b/c/d/cell", "namespace": "urn:a",
            "assets": [{"id": asset, "title": asset} for asset in rng.permutation(assets).tolist()],
            "robots": [{"id": f"robot_{a}", "asset": a, "kind": "opcua_methods", "node": "/R"} for a in assets],
            "groups": [{"id": "rows", "period_s": 1.0}],
            "tags": [{**named[int(n)], "id": i, "node": f"/{named[int(n)]['name']}"} for i, n in enumerate(order)],
        }
    )  # fmt: skip
