"""`policy.toml`: what a site lets the agent do: autonomy, narrower limits, approvals, budgets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.plant import Strict

Autonomy = Literal["observe", "advise", "approve", "auto"]
"""observe, advise: a plan is written down and the guard refuses it, it is never sent · approve: sent after approval ·
auto: sent without asking, class B only."""


class ActionPolicy(Strict):
    """One action's autonomy, with who raised it."""

    action: str
    """A name of the catalogue."""
    autonomy: Autonomy = "approve"
    """See the levels below."""
    raised_by: str = ""
    """Who answers for `auto`."""
    reason: str = ""
    """Why."""

    @model_validator(mode="after")
    def _somebody_answers(self) -> ActionPolicy:
        if self.autonomy == "auto" and not (self.raised_by and self.reason):
            raise ValueError(f"{self.action!r} is auto: say raised_by and reason; both are written to the log")
        return self


class ArgumentLimit(Strict):
    """A range inside the catalogue's."""

    action: str
    """A name of the catalogue."""
    argument: str
    """One of its arguments."""
    min: float
    """Not below the catalogue's."""
    max: float
    """Not above the catalogue's."""

    @model_validator(mode="after")
    def _ordered(self) -> ArgumentLimit:
        if not self.min <= self.max:
            raise ValueError(
                f"{self.action}.{self.argument}: min {self.min} is above max {self.max}: swap or correct them"
            )
        return self


class CellPolicy(Strict):
    """What is other in one cell."""

    cell: str
    """Id of a cell."""
    hold_action: str
    """The action that brings this cell into its safe state."""


class Policy(Strict):
    """The whole of `policy.toml`. Every number is a named bound."""

    default_autonomy: Autonomy = "approve"
    """Of every action that is not named below."""
    actions: tuple[ActionPolicy, ...] = ()
    """Autonomy of single actions."""
    limits: tuple[ArgumentLimit, ...] = ()
    """Narrower ranges of single arguments."""
    commands_per_hour: int = Field(default=20, ge=1)
    """Per cell, all actions together."""
    reversals_per_hour: int = Field(default=2, ge=0)
    """How often one set-point may change direction within an hour before it counts as oscillation."""
    evidence_max_age_s: float = Field(default=60.0, gt=0)
    """Age of the evidence when a proposal is judged."""
    snapshot_max_age_s: float = Field(default=2.0, gt=0)
    """Age of the snapshot, from before its reading was sent, when a command is judged for sending."""
    clock_offset_s_max: float = Field(default=2.0, gt=0)
    """Largest difference between the server's clock and the agent's before freshness cannot be judged."""
    decision_max_age_s: float = Field(default=300.0, gt=0)
    """Age of the decision (proposal, last approval or request) when its command is judged for sending: what was decided
    before a long outage is not sent after it."""
    decide_s: float = Field(default=300.0, gt=0)
    """How long a person has to approve before the plan is dropped."""
    reflex_deadline_s: float = Field(default=1.0, gt=0)
    """How long a reflex is waited for."""
    reasoner_deadline_s: float = Field(default=10.0, gt=0)
    """How long a proposal is waited for; what comes later is recorded and dropped."""
    retry_s: float = Field(default=5.0, gt=0)
    """Pause before a step refused only because a robot is busy is judged again."""
    retries_max: int = Field(default=60, ge=0)
    """How often it is judged again before it is given up."""
    join_s: float = Field(default=5.0, ge=0)
    """Onsets this near to an incident's belong to it."""
    quiet_s: float = Field(default=30.0, ge=0)
    """All episodes cleared and no command open for so long closes an incident."""
    query_retries_max: int = Field(default=60, ge=1)
    """Queries, or read-backs, without an answer before the outcome is unresolved and a person must look."""
    query_retry_s: float = Field(default=0.5, gt=0)
    """Pause before the second query; doubled with each one, up to `query_retry_s_max`."""
    query_retry_s_max: float = Field(default=10.0, gt=0)
    """Longest pause between two queries."""
    hold_action: str = ""
    """The action that brings a cell into its safe state, e.g. `hold_cell`: taken when an effect stays absent and when
    an operator says hold. It passes the guard like any other. Its robot must be one of every cell that has robots."""
    cells: tuple[CellPolicy, ...] = ()
    """Cells whose robots are others."""
    plans_per_incident: int = Field(default=3, ge=1)
    """Questions for a proposal about one incident before a person is called."""
    answer_bytes_max: int = Field(default=8192, ge=256)
    """A longer answer of a reasoner is unusable."""

    @model_validator(mode="after")
    def _named_once(self) -> Policy:
        for where, names in (
            ("actions", [p.action for p in self.actions]),
            ("cells", [p.cell for p in self.cells]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{name!r} is named twice under {where}: remove one")
        return self

    def hold_action_of(self, cell: str) -> str:
        """Return the hold action of a cell, by its id; empty: it has none."""
        return next((p.hold_action for p in self.cells if p.cell == cell), self.hold_action)

    def autonomy_of(self, action: str) -> Autonomy:
        """Return the autonomy of an action, the default if the file does not name it."""
        return next((p.autonomy for p in self.actions if p.action == action), self.default_autonomy)
