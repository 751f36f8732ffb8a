"""`plant.toml`: cells, assets, robots and tags. Checked whole at load."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Alias = Annotated[str, Field(min_length=1, max_length=60)]
"""What people call something, in their words: read in requests in plain language, never shown to a model."""
Role = Literal["process", "setpoint", "counter", "heartbeat", "permissive", "state"]
"""What a tag is for. Only `process` tags are watched by statistical detectors; every tag has its quality watched."""


class Strict(BaseModel):
    """Base of every configuration section: immutable, no unknown fields, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class Range(Strict):
    """A closed range in the tag's unit."""

    low: float
    """Lowest value that is believed."""
    high: float
    """Highest value that is believed."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low <= self.high:
            raise ValueError(f"low {self.low} is above high {self.high}: swap or correct them")
        return self


class Limits(Strict):
    """Hard limits of the process. What "mended" means; never learnt, never moved by a detector."""

    low: float | None = None
    """In the unit; absent: no lower limit."""
    high: float | None = None
    """In the unit; absent: no upper limit."""
    rows: int = Field(default=2, ge=1)
    """Consecutive rows beyond the limit before an episode opens, and within it before the episode clears."""

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.low is None and self.high is None:
            raise ValueError("neither low nor high is given: give one or remove the table")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}: swap or correct them")
        return self


class Tag(Strict):
    """One number or boolean that the plant offers, or that is derived from two others."""

    id: int = Field(ge=0, le=0xFFFFFFFF)
    """Dense and append-only within a site; never given to another tag."""
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Ends in its unit, e.g. `grip_force_n`."""
    title: str = ""
    """For people."""
    aliases: tuple[Alias, ...] = ()
    """What people also call it, for `jidoka ask`; of set-points only."""
    asset: str
    """The asset that it belongs to."""
    node: str = ""
    """`nsu=URI;s=NAME` (or `i=`), or a browse path from Objects in the cell's namespace: `/Cell1/Gripper/GripForce`."""
    minus: tuple[str, str] | None = None
    """A derived tag: the first named tag less the second, computed row by row."""
    unit: str
    """The text of the unit, equal to the server's EngineeringUnits display name, e.g. `N`; `1` for none."""
    range: Range
    """Values outside are not believed; at connection it is compared with the server's EURange."""
    group: str
    """The group in whose rows it is."""
    role: Role = "process"
    """See the roles below."""
    hold_s: float = Field(default=10.0, gt=0)
    """How long the last good value stands for the present while nothing new comes and the source is alive."""
    settle_s: float = Field(default=0.0, ge=0)
    """How long after a stop of the cell its value drifts back to normal: statistics pass over it meanwhile."""
    deadband: float = Field(default=0.0, ge=0)
    """Smallest change that the server reports, in the unit; 0: every change, and unchanged values with fresh times."""
    limits: Limits | None = None
    """Hard limits; absent: none."""
    watch: bool = True
    """Whether the statistical detectors look at it."""

    @model_validator(mode="after")
    def _node_or_derived(self) -> Tag:
        if bool(self.node) == (self.minus is not None):
            raise ValueError("give either node or minus, not both and not neither")
        return self


class Group(Strict):
    """Tags that form the rows of one block."""

    id: str
    """Named by tags."""
    period_s: float | None = Field(default=None, gt=0)
    """A row every so often, on a fixed grid of agent time."""
    trigger: str | None = None
    """A row per change of this counter tag: what the PLC latched for one machine cycle."""
    warm_up_rows: int = Field(default=60, ge=10)
    """Good rows in EXECUTE from which the normal is learnt."""

    @model_validator(mode="after")
    def _one_kind(self) -> Group:
        if (self.period_s is None) == (self.trigger is None):
            raise ValueError("give either period_s or trigger")
        return self


class Asset(Strict):
    """A piece of equipment that a diagnosis can name."""

    id: str
    """Named by tags, robots and playbook rules."""
    title: str
    """For people."""
    aliases: tuple[Alias, ...] = ()
    """What people also call it, for `jidoka ask`: `conveyor 2`."""


class Robot(Strict):
    """Something that takes commands."""

    id: str
    """Named by actions."""
    asset: str
    """The asset on which it acts: the scope of its actions."""
    kind: str
    """A name of the table `connectors.robots.ROBOTS`."""
    node: str
    """The object that offers `Execute` and `Query`, written as a tag's node."""


class Permissive(Strict):
    """A tag that must have this value before any command may be sent."""

    tag: str
    """A tag of the cell."""
    value: float
    """What it must read, exactly."""


class Cell(Strict):
    """The unit of order: one stream of input, one stream in the log, one writer."""

    id: str
    """Short name, e.g. for `--cell`."""
    path: str = Field(pattern=r"^[a-z0-9_-]+(/[a-z0-9_-]+){4}$")
    """ISA-95: `enterprise/site/area/line/cell`, lower case."""
    namespace: str
    """The namespace URI in which browse paths are written."""
    lateness_s: float = Field(default=2.0, ge=0)
    """How long after its end a row waits for samples that are still on their way."""
    assets: tuple[Asset, ...]
    """Equipment that a diagnosis can name."""
    robots: tuple[Robot, ...] = ()
    """What takes commands."""
    groups: tuple[Group, ...]
    """Blocks of tags."""
    tags: tuple[Tag, ...]
    """Everything that is read."""
    permissives: tuple[Permissive, ...] = ()
    """What must hold before any command is sent."""
    state_node: str = ""
    """The PackML state number (OPC 30050 CurrentState Number)."""
    plc_heartbeat: str = ""
    """Tag with the PLC's counter."""
    agent_heartbeat_node: str = ""
    """Where the agent writes its own counter."""
    enable_tag: str = ""
    """The plant's own off switch: while this tag is not 1, nothing is sent."""

    @model_validator(mode="after")
    def _references(self) -> Cell:
        assets, groups = {a.id for a in self.assets}, {g.id for g in self.groups}
        names = {t.name: t for t in self.tags}
        if len(names) != len(self.tags):
            raise ValueError("two tags have the same name: rename one")
        ids = {
            "assets": [a.id for a in self.assets],
            "groups": [g.id for g in self.groups],
            "robots": [r.id for r in self.robots],
        }
        for what, given in ids.items():
            if len(set(given)) != len(given):
                raise ValueError(f"two {what} have the same id: rename one")
        if len({t.id for t in self.tags}) != len(self.tags):
            raise ValueError("two tags have the same id: ids are given once and never again")
        for tag in self.tags:
            if tag.asset not in assets:
                raise ValueError(f"tag {tag.name!r} names unknown asset {tag.asset!r}: declare it under assets")
            if tag.group not in groups:
                raise ValueError(f"tag {tag.name!r} names unknown group {tag.group!r}: declare it under groups")
            for source in tag.minus or ():
                if source not in names or names[source].unit != tag.unit:
                    raise ValueError(
                        f"tag {tag.name!r}: minus needs two tags in {tag.unit!r}, and {source!r} is not one"
                    )
        for group in self.groups:
            if group.trigger is not None and group.trigger not in names:
                raise ValueError(f"group {group.id!r} is triggered by unknown tag {group.trigger!r}")
        for robot in self.robots:
            if robot.asset not in assets:
                raise ValueError(f"robot {robot.id!r} names unknown asset {robot.asset!r}")
        for name in [p.tag for p in self.permissives] + [n for n in (self.plc_heartbeat, self.enable_tag) if n]:
            if name not in names:
                raise ValueError(f"unknown tag {name!r} among permissives, plc_heartbeat or enable_tag")
        return self

    def tag(self, name: str) -> Tag:
        """Return the tag of this name.

        Raises:
            KeyError: there is none.
        """
        for tag in self.tags:
            if tag.name == name:
                return tag
        raise KeyError(name)


class Plant(Strict):
    """The whole of `plant.toml`."""

    cells: tuple[Cell, ...]
    """All cells of this agent."""

    @model_validator(mode="after")
    def _distinct(self) -> Plant:
        ids = [t.id for c in self.cells for t in c.tags]
        if len({c.id for c in self.cells}) != len(self.cells) or len({c.path for c in self.cells}) != len(self.cells):
            raise ValueError("two cells have the same id or path")
        if len(set(ids)) != len(ids):
            raise ValueError("tag ids must be distinct over the whole site")
        return self
