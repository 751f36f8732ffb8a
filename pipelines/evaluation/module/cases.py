"""Events of the invented module, in the manner of a published test, with what is right to do about each.

Xia et al. had language models control a production module and told apart events that a standard operating procedure
covers and unexpected ones. Here too: `standard` events are those of the playbook beside this, `unexpected` ones fit
none of its rules, or fit one that would be wrong. The events, the module and what is right are of our own making:
figures may be put beside theirs, and are not the same test. Theirs gives the model the procedures to read; here it is
told causes, actions and what each promises to mend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, cast

from pipelines.evaluation.cases import (
    SITE_FILES,
    Case,
    Header,
    IncidentSet,
    Published,
    RightAction,
    RightFinding,
    RightPlan,
    direction_of,
    rules_of,
    site_of,
)
from schemas.evidence import Evidence, TagEvidence
from schemas.plans import ReasonerRequest, Slot
from schemas.plant import Tag
from schemas.playbook import Bucket

XIA: Final = "Xia et al., control of a production module by language models"
PUBLISHED: Final = (
    Published("Qwen2-72B-Instruct", "", 0.70, XIA),
    Published("Qwen2-72B-Instruct", "standard", 0.85, XIA),
    Published("Qwen2-72B-Instruct", "unexpected", 0.38, XIA),
    Published("Qwen2-7B-Instruct", "", 0.65, XIA),
    Published("Qwen2-7B-Instruct, fine-tuned", "", 0.97, XIA),
)
SETPOINTS: Final = {
    "belt_speed_sp_mm_s": 300.0, "stopper_pressure_sp_bar": 4.0, "grip_force_sp_n": 25.0, "exposure_sp_ms": 12.0,
}  # fmt: skip
AT: Final = 1_767_225_600_000_000
DEADLINE_S: Final = 10.0

SLOWER: Final = RightAction("set_belt_speed", {"belt_speed_mm_s": (50.0, 225.0)})
FIRMER: Final = RightAction("set_grip_force", {"grip_force_n": (30.0, 55.0)})
HARDER: Final = RightAction("set_stopper_pressure", {"stopper_pressure_bar": (4.5, 7.0)})
LONGER: Final = RightAction("set_exposure", {"exposure_ms": (14.0, 32.0)})
SHORTER: Final = RightAction("set_exposure", {"exposure_ms": (2.0, 10.0)})
CYCLE, REGRIP, CLEAN = RightAction("cycle_stopper"), RightAction("regrip_part"), RightAction("clean_lens")
RETAKE, BIN, HOLD = RightAction("retake_image"), RightAction("use_second_bin"), RightAction("hold_module")
ACTS_ON: Final = {
    "set_belt_speed": "conveyor", "set_stopper_pressure": "stopper", "cycle_stopper": "stopper",
    "set_grip_force": "gripper", "regrip_part": "gripper", "set_exposure": "camera", "clean_lens": "camera",
    "retake_image": "camera", "use_second_bin": "rejector",
}  # fmt: skip
"""By action; holding the module is right about any of its equipment."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens, and what is right then."""

    name: str
    found: tuple[str, ...]
    """`tag bucket detector`: episodes, in the order of onset."""
    seen: tuple[str, ...]
    """`tag bucket`: what else the evidence shows."""
    right: tuple[tuple[RightAction, ...], ...]
    """Any one is right; an empty one: no action, a person is called."""
    note: str = ""


def standard(name: str, found: str, seen: str, action: RightAction) -> Event:
    """Return an event of the handbook. Its name is the rule's."""
    return Event(name, _split(found), _split(seen), ((action,),))


def unexpected(name: str, found: str, seen: str, *right: RightAction | None, note: str) -> Event:
    """Return an event that the handbook does not have; None among what is right: to do nothing and call a person."""
    return Event(name, _split(found), _split(seen), tuple(() if each is None else (each,) for each in right), note)


def _split(signs: str) -> tuple[str, ...]:
    return tuple(sign.strip() for sign in signs.split(",") if sign.strip())


STANDARD: Final = (
    standard(
        "belt_overload", "belt_current_a high shift", "belt_speed_mm_s normal, belt_temperature_degc normal", SLOWER
    ),
    standard("parts_too_close", "part_gap_mm low shift", "belt_current_a normal, queue_length normal", SLOWER),
    standard("drive_hot", "belt_temperature_degc high limit", "belt_current_a normal, part_gap_mm normal", SLOWER),
    standard("stopper_weak", "stop_time_s high shift", "stopper_pressure_bar low, release_delay_ms normal", HARDER),
    standard("stopper_sticks", "release_delay_ms high limit", "stopper_pressure_bar normal, stop_time_s normal", CYCLE),
    standard("grip_too_loose", "part_slip_mm high limit", "grip_force_n normal, jaw_travel_mm normal", FIRMER),
    standard("part_askew", "pick_offset_mm high limit", "part_slip_mm normal, jaw_travel_mm normal", REGRIP),
    standard("image_dark", "image_brightness_pct low shift", "focus_score_pct normal, read_rate_pct normal", LONGER),
    standard(
        "image_bright", "image_brightness_pct high shift", "focus_score_pct normal, read_rate_pct normal", SHORTER
    ),
    standard(
        "lens_dirty", "focus_score_pct low limit", "image_brightness_pct normal, lens_temperature_degc normal", CLEAN
    ),
    standard(
        "code_hard_to_read", "read_rate_pct low limit", "focus_score_pct normal, image_brightness_pct normal", RETAKE
    ),
    standard("bin_full", "bin_level_pct high limit", "reject_rate_pct normal, push_time_s normal", BIN),
    standard("pusher_slow", "push_time_s high limit", "bin_level_pct normal, reject_rate_pct normal", HOLD),
)
"""What the handbook covers, each with the playbook's own action."""

UNEXPECTED: Final = (
    unexpected(
        "belt blocked",
        "belt_current_a very_high limit, belt_speed_mm_s very_low limit",
        "queue_length high",
        HOLD,
        note="A belt that is blocked is not helped by a lower set-point.",
    ),
    unexpected(
        "coupling broken",
        "belt_speed_mm_s very_low limit",
        "belt_current_a very_low, belt_temperature_degc normal",
        HOLD,
        note="No speed and no load: the belt is no longer driven, and parts pile up.",
    ),
    unexpected(
        "downstream blocked",
        "queue_length very_high limit",
        "belt_speed_mm_s normal, belt_current_a normal",
        SLOWER,
        note="Parts arrive faster than they leave.",
    ),
    unexpected(
        "infeed starved",
        "part_gap_mm very_high shift",
        "queue_length very_low, belt_speed_mm_s normal",
        None,
        note="No parts come: nothing is wrong here.",
    ),
    unexpected(
        "drive thermometer implausible",
        "belt_temperature_degc very_high limit",
        "belt_current_a very_low, belt_speed_mm_s normal",
        None,
        note="No load and hot at once: the measurement, not the drive.",
    ),
    unexpected(
        "parts too fast for the stopper",
        "pick_offset_mm high limit, belt_speed_mm_s high shift",
        "stop_time_s normal, part_slip_mm normal",
        SLOWER,
        note="Askew because too fast: gripping again would find the next one askew too.",
    ),
    unexpected(
        "stopped too late",
        "pick_offset_mm high limit, stop_time_s very_high limit",
        "stopper_pressure_bar low, belt_speed_mm_s normal",
        HARDER,
        note="Askew because stopped late: the cause is at the stopper.",
    ),
    unexpected(
        "stopper without air",
        "release_delay_ms very_high limit",
        "stopper_pressure_bar very_low, stop_time_s normal",
        HARDER,
        note="It does not stick, it has no pressure.",
    ),
    unexpected(
        "air supply fails",
        "stopper_pressure_bar very_low limit, grip_force_n very_low limit",
        "air_flow_l_min very_low, supply_voltage_v normal",
        HOLD,
        note="Two pneumatic parts at once: no set-point brings the supply back.",
    ),
    unexpected(
        "air leak",
        "air_flow_l_min very_high shift",
        "stopper_pressure_bar normal, grip_force_n normal",
        None,
        note="Nothing fails yet and no action mends it.",
    ),
    unexpected(
        "burst hose at the stopper",
        "stop_time_s high shift, air_flow_l_min very_high limit",
        "stopper_pressure_bar very_low",
        HOLD,
        note="More pressure into a burst hose is wrong.",
    ),
    unexpected(
        "grip regulator fails",
        "part_slip_mm high limit, grip_force_n very_low limit",
        "jaw_travel_mm normal",
        HOLD,
        note="The force is far below its set-point: another set-point is not the remedy.",
    ),
    unexpected(
        "oily parts",
        "part_slip_mm very_high limit",
        "grip_force_n very_high, jaw_travel_mm normal",
        HOLD,
        note="Slips although gripped hard.",
    ),
    unexpected(
        "foreign object in the jaws",
        "grip_force_n very_high limit, jaw_travel_mm very_low limit",
        "part_slip_mm normal",
        HOLD,
        note="Contact too early and too hard.",
    ),
    unexpected(
        "part missed",
        "jaw_travel_mm very_high limit",
        "grip_force_n very_low, part_slip_mm normal",
        REGRIP,
        note="The jaws closed on nothing.",
    ),
    unexpected(
        "lens covered",
        "image_brightness_pct very_low limit, focus_score_pct very_low limit",
        "lens_temperature_degc normal",
        CLEAN,
        note="Dark and blurred at once: exposure is not the remedy.",
    ),
    unexpected(
        "camera overheats",
        "lens_temperature_degc very_high limit",
        "focus_score_pct normal, read_rate_pct normal",
        None,
        note="No action cools it.",
    ),
    unexpected(
        "wrong label batch",
        "read_rate_pct very_low limit, reject_rate_pct very_high limit",
        "focus_score_pct normal, image_brightness_pct normal, bin_level_pct normal",
        HOLD,
        note="Codes that nobody can read: taking images again changes nothing and good parts are thrown away.",
    ),
    unexpected(
        "false rejects by glare",
        "reject_rate_pct very_high limit",
        "image_brightness_pct very_high, read_rate_pct low",
        HOLD,
        note="Good parts are thrown away, and no action of the rejector mends the image.",
    ),
    unexpected(
        "rejects do not reach the bin",
        "bin_level_pct very_low shift",
        "reject_rate_pct very_high, push_time_s normal",
        HOLD,
        note="Rejected parts go somewhere else.",
    ),
    unexpected(
        "pusher pushes air",
        "push_time_s very_low limit",
        "bin_level_pct normal, reject_rate_pct normal",
        HOLD,
        note="Too fast: it touches no part.",
    ),
    unexpected(
        "supply voltage drops",
        "supply_voltage_v very_low limit, belt_speed_mm_s low shift",
        "image_brightness_pct low, grip_force_n normal",
        HOLD,
        note="One cause behind three signs.",
    ),
    unexpected(
        "frame shakes",
        "frame_vibration_m_s2 very_high limit",
        "belt_current_a normal, pick_offset_mm normal",
        HOLD,
        note="A person must look.",
    ),
    unexpected(
        "nothing known yet",
        "belt_current_a unknown shift",
        "belt_speed_mm_s unknown, part_gap_mm unknown",
        None,
        note="Before any normal was learnt.",
    ),
)
"""What it does not cover, or covers wrongly. Parts that nobody can handle any more: hold. Nothing that an action could
mend, and nothing that gets worse by going on: call a person, do nothing."""

NOISE: Final = (
    (),
    ("supply_voltage_v normal", "frame_vibration_m_s2 normal", "air_flow_l_min normal"),
    ("lens_temperature_degc high", "air_flow_l_min low"),
)
"""What else the evidence shows, without an episode: nothing, what is normal, and small deviations that mean nothing."""


def module_set() -> IncidentSet:
    """Return the packaged set: every event several times, in other company."""
    folder = resources.files("pipelines.evaluation.module")
    site = site_of("module", {name: folder.joinpath(name).read_bytes() for name in SITE_FILES})
    tags = {tag.name: tag for tag in rules_of(site).plant.cells[0].tags}
    cases = [*_standard(tags), *_pairs(tags), *_unexpected(tags)]
    about = "Standard-procedure and unexpected events of an invented production module."
    return IncidentSet(Header("module", about, PUBLISHED), {"module": site}, tuple(cases))


def _standard(tags: Mapping[str, Tag]) -> Iterator[Case]:
    for event in STANDARD:
        for number, noise in enumerate(NOISE):
            yield _case(f"{event.name}-{number}", "standard", [event], noise, tags)
        worse = Event(event.name, tuple(_worse(sign) for sign in event.found), event.seen, event.right)
        yield _case(f"{event.name}-worse", "standard", [worse], (), tags)


def _pairs(tags: Mapping[str, Tag]) -> Iterator[Case]:
    """Two events of the handbook at once, on different equipment."""
    for one, other in zip(STANDARD[:6], STANDARD[6:12], strict=True):
        if _asset(one, tags) != _asset(other, tags):
            yield _case(f"{one.name}+{other.name}", "standard", [one, other], (), tags)


def _unexpected(tags: Mapping[str, Tag]) -> Iterator[Case]:
    for event in UNEXPECTED:
        for number, noise in enumerate(NOISE[:2]):
            yield _case(f"{event.name.replace(' ', '_')}-{number}", "unexpected", [event], noise, tags)


def _worse(sign: str) -> str:
    tag, bucket, detector = sign.split()
    return f"{tag} {bucket if bucket.startswith('very_') else f'very_{bucket}'} {detector}"


def _asset(event: Event, tags: Mapping[str, Tag]) -> str:
    return tags[event.found[0].split()[0]].asset


def _case(name: str, kind: str, events: Sequence[Event], noise: Sequence[str], tags: Mapping[str, Tag]) -> Case:
    found = [sign.split() for event in events for sign in event.found]
    signs = [sign.split() for sign in (*noise, *(sign for event in events for sign in event.seen))]
    # What is said later goes over what was said before: an event over the noise, an episode over both.
    shown = {each[0]: each[1] for each in (*signs, *found)}
    return Case(
        id=name,
        site="module",
        kind=kind,
        request=ReasonerRequest(
            request_id=name,
            incident_id=name,
            tier="proposal",
            slots=tuple(
                Slot(f"E{n}", tags[tag].asset, tag, detector, direction_of(cast(Bucket, bucket)))
                for n, (tag, bucket, detector) in enumerate(found, start=1)
            ),
            evidence=Evidence(
                row_at=AT,
                tags=tuple(TagEvidence(t, tags[t].asset, None, None, None, cast(Bucket, b)) for t, b in shown.items()),
                setpoints=dict(SETPOINTS),
                state="EXECUTE",
            ),
            deadline_s=DEADLINE_S,
        ),
        right=_right(events, kind, tags),
        note=" ".join(event.note for event in events).strip(),
    )


def _right(events: Sequence[Event], kind: str, tags: Mapping[str, Tag]) -> tuple[RightPlan, ...]:
    if kind == "standard":
        findings = [RightFinding(_asset(e, tags), (e.name,), e.right[0]) for e in events]
        return (RightPlan(tuple(findings)),)
    return tuple(
        RightPlan((RightFinding(_acted_on(actions) or _asset(e, tags), (), actions),))
        for e in events
        for actions in e.right
    )


def _acted_on(actions: Sequence[RightAction]) -> str:
    """Return the equipment on which an action must be said to act; empty: any, or there is no action."""
    return ACTS_ON.get(actions[0].name, "") if actions else ""
