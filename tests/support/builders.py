"""Facts and values with defaults that pass: a test names only what it is about."""

from __future__ import annotations

import json
from typing import Any

from schemas.commands import Command, Reading
from schemas.evidence import Evidence, TagEvidence
from schemas.facts import AgentStarted, AnomalyDetected, AnomalyUpdated, OperatorRequested, SnapshotTaken
from schemas.plans import ReasonerRequest, Slot

START = 1_700_000_000_000_000
"""Agent time at which every story begins, microseconds since 1970 UTC."""
SECOND = 1_000_000
SETPOINTS = {"motion_speed_sp_pct": 100.0, "grip_force_sp_n": 25.0, "conveyor_speed_sp_pct": 100.0}
ASSET_OF = {
    "part_slip_mm": "gripper",
    "lift_current_a": "gripper",
    "finger_position_mm": "gripper",
    "force_deviation_n": "gripper",
    "drive_current_a": "drive",
    "drive_temperature_degc": "drive",
    "cycle_time_s": "cell",
}
ENABLED = {
    "remote_enable": 1.0,
    "estop_ok": 1.0,
    "automatic_mode": 1.0,
    "agent_enable": 1.0,
    "packml_state": 6.0,
}


def reading(value: float | None, *, at: int = START, status: int = 0) -> Reading:
    return Reading(value=value, status=status, source_at=at, server_at=at)


def readings(at: int = START, **values: float | None) -> dict[str, Reading]:
    """Everything that any snapshot of the demo needs, good, with `values` on top."""
    return {tag: reading(value, at=at) for tag, value in {**ENABLED, **SETPOINTS, **values}.items()}


def evidence(at: int = START, *tags: str, **setpoints: float) -> Evidence:
    shown = tuple(
        TagEvidence(tag=tag, asset=ASSET_OF[tag], value=5.0, baseline=1.0, z=30.0, bucket="very_high") for tag in tags
    )
    return Evidence(row_at=at, tags=shown, setpoints={**SETPOINTS, **setpoints}, state="EXECUTE")


def detected(at: int = START, tag: str = "part_slip_mm", episode: str = "ep1", **changes: Any) -> AnomalyDetected:
    values: dict[str, Any] = {
        "at": at,
        "episode_id": episode,
        "detector": "limit",
        "tag": tag,
        "asset": ASSET_OF[tag],
        "direction": "up",
        "severity": "high",
        "onset_at": at,
        "detail": f"{tag} is above its limit",
        "evidence": evidence(at, tag),
    }
    return AnomalyDetected(**{**values, **changes})


def updated(at: int, tag: str = "part_slip_mm", episode: str = "ep1", **setpoints: float) -> AnomalyUpdated:
    return AnomalyUpdated(at=at, episode_id=episode, evidence=evidence(at, tag, **setpoints))


def started(at: int = START, mode: str = "act", epoch: int = 1) -> AgentStarted:
    return AgentStarted(
        at=at, version="0", code_sha256="0" * 64, mode="act" if mode == "act" else "observe", epoch=epoch
    )


def snapshot(subject_id: str, at: int, read: dict[str, Reading] | None = None, **changes: Any) -> SnapshotTaken:
    values: dict[str, Any] = {
        "at": at,
        "subject_id": subject_id,
        "read_at": at,
        "readings": readings(at) if read is None else read,
        "off_file": False,
    }
    return SnapshotTaken(**{**values, **changes})


def asked_by(at: int, kind: str, request_id: str, **changes: Any) -> OperatorRequested:
    values: dict[str, Any] = {"at": at, "request_id": request_id, "who": "anna", "kind": kind}
    return OperatorRequested(**{**values, **changes})


def plan_text(*actions: tuple[str, dict[str, float]], slot: str = "E1", asset: str = "gripper") -> str:
    """The answer of a reasoner with one finding."""
    chosen = [{"name": name, "args": args} for name, args in actions]
    finding = {"evidence": slot, "asset": asset, "diagnosis": "the part slips", "actions": chosen}
    return json.dumps({"findings": [finding]})


def question(*slots: tuple[str, str], tier: str = "proposal") -> ReasonerRequest:
    """A request with slots of (name, asset)."""
    return ReasonerRequest(
        request_id="request",
        incident_id="incident",
        tier="reflex" if tier == "reflex" else "proposal",
        slots=tuple(
            Slot(name=name, asset=asset, tag="part_slip_mm", detector="limit", direction="up")
            for name, asset in slots or (("E1", "gripper"), ("E2", "drive"))
        ),
        evidence=evidence(START, "part_slip_mm"),
        deadline_s=10.0,
    )


def command(action: str = "set_motion_speed", **changes: Any) -> Command:
    """A command of the demo that its rules permit."""
    shape: dict[str, tuple[str, str, dict[str, float], dict[str, float]]] = {
        "set_motion_speed": ("gripper", "SetMotionSpeed", {"motion_speed_pct": 50.0}, {"motion_speed_pct": 100.0}),
        "set_grip_force": ("gripper", "SetGripForce", {"grip_force_n": 40.0}, {"grip_force_n": 25.0}),
        "set_conveyor_speed": (
            "drive", "SetConveyorSpeed", {"conveyor_speed_pct": 60.0}, {"conveyor_speed_pct": 100.0},
        ),
        "clean_pads": ("gripper", "CleanPads", {}, {}),
        "change_pads": ("gripper", "ChangePads", {}, {}),
        "hold_cell": ("cell", "Hold", {}, {}),
    }  # fmt: skip
    robot, verb, args, before = shape.get(action, ("gripper", "Nothing", {}, {}))
    values: dict[str, Any] = {
        "command_id": "c1",
        "plan_id": "p1",
        "incident_id": "i1",
        "robot": robot,
        "action": action,
        "verb": verb,
        "args": args,
        "from_values": before,
        "origin": "plan",
    }
    return Command(**{**values, **changes})
