"""The PLC's program: PackML, set-points, counters, permissives, two heartbeats, and the handshake for commands.

A plain synchronous object. No socket, no OPC UA, no thread, no clock of its own; who owns it calls it from one place at
a time. Physics is in `cell`, the checks in `interlocks`, what is published in `tags`, who drives it in `station`.
`docs/plc-side.md` has the same program in structured text.

Two clocks are given. `now_us` is plant time: cycles, sequences and a command's time to live are counted in it.
`wall_us` is the wall's: the agent's heartbeat lives in it, as sockets do, whatever the plant's speed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from connectors.plant import packml
from connectors.plant.cell import CycleReport, Setpoints
from connectors.plant.codes import Code, State
from connectors.plant.interlocks import Objection, Situation, objection, permissive
from connectors.plant.ledger import Entry, Ledger
from connectors.plant.verbs import VERBS, SequenceVerb, SetpointVerb, StateVerb, setpoint_verb
from schemas.line import PackMLState

AGENT_SILENT_S = 3.0
"""Commands are rejected when the agent's heartbeat has not changed for so long. It can be widened, not switched off."""
AGENT_SILENT_S_MAX = 60.0
COMMAND_ID_LENGTH_MAX = 64
DETAIL_LENGTH_MAX = 200

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class Inputs:
    """What is wired to the PLC: key switch, emergency-stop circuit, mode selector. A restart does not move them."""

    remote_enable: bool = True
    estop_ok: bool = True
    automatic_mode: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """The three outputs of `Execute` and `Query`."""

    state: State
    code: Code
    detail: str


@dataclass(frozen=True, slots=True)
class Cycle:
    """Drive one cycle with these set-points."""

    setpoints: Setpoints


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Run a sequence."""

    verb: str
    takes_s: float


@dataclass(frozen=True, slots=True)
class Stand:
    """Nothing moves. `takes_s` None: until something changes."""

    takes_s: float | None


Work = Cycle | Maintenance | Stand


class Plc:
    """See the module."""

    def __init__(
        self,
        ledger: Ledger,
        inputs: Inputs,
        *,
        now_us: Callable[[], int],
        wall_us: Callable[[], int],
        agent_silent_s: float = AGENT_SILENT_S,
    ) -> None:
        """Come up: set-points, PackML state, agent switch and ledger as they were; counters and heartbeats from 0.

        Raises:
            ValueError: `agent_silent_s` is outside `AGENT_SILENT_S`..`AGENT_SILENT_S_MAX`.
        """
        if not AGENT_SILENT_S <= agent_silent_s <= AGENT_SILENT_S_MAX:
            raise ValueError(
                f"agent_silent_s {agent_silent_s} is outside {AGENT_SILENT_S}..{AGENT_SILENT_S_MAX}: the supervision "
                "of the agent can be widened a little, not switched off"
            )
        self._ledger, self.inputs = ledger, inputs
        self._now_us, self._wall_us, self._agent_silent_s = now_us, wall_us, agent_silent_s
        retained = ledger.retained()
        self.setpoints = Setpoints(**{n: float(retained[n]) for n in asdict(Setpoints()) if n in retained})
        self.state = PackMLState(int(retained.get("packml_state", PackMLState.EXECUTE)))
        self.agent_enable = bool(retained.get("agent_enable", 1))
        # A sequence that a restart interrupted is begun again: cleaning twice is as good as once.
        self._pending = ledger.running()
        self.cycle_count = self.part_count = self.scrap_count = self.heartbeat = 0
        self._agent_beat: int = 0
        self._agent_beat_at: int | None = None

    # -------------------------------------------------------------- commands

    def execute(
        self,
        command_id: str,
        epoch: int,
        args_sha256: str,
        verb: str,
        args: Sequence[float],
        from_values: Sequence[float],
        ttl_ms: int,
    ) -> Answer:
        """Do a command once.

        Durable before its effect: outcome, changed set-points and epoch floor are one commit. A repeated id with the
        same hash is answered from the ledger and nothing is done.

        Args:
            command_id: 1 to 64 characters, never used for another command.
            epoch: The agent's; the highest that was ever seen is the floor.
            args_sha256: 64 hex digits over everything that was approved.
            verb: A name of `VERBS`.
            args: The verb's values.
            from_values: The present set-points that the command was decided on, one per argument.
            ttl_ms: How long from now the command may wait for the end of the cycle, plant time.
        """
        fenced = self._fence(command_id, epoch, args_sha256)
        if fenced is not None:
            return fenced
        known = self._ledger.find(command_id)
        if known is not None:
            if known.sha256 != args_sha256:
                return Answer(State.REJECTED, Code.HASH_MISMATCH, f"{command_id!r} was used with another hash")
            return Answer(known.state, known.code, known.detail)
        if self._ledger.was_evicted(command_id):
            return Answer(State.FORGOTTEN, Code.OUT_OF_LEDGER, "")
        against = objection(self._situation(), verb, args, from_values, ttl_ms)
        if against is not None:
            rejected = Answer(State.REJECTED, against.code, against.detail)
            return self._record(command_id, epoch, args_sha256, verb, rejected, {})
        return self._accept(command_id, epoch, args_sha256, verb, args, ttl_ms)

    def query(self, command_id: str, epoch: int) -> Answer:
        """Tell what became of a command, and fence every lower epoch."""
        fenced = self._fence(command_id, epoch, None)
        if fenced is not None:
            return fenced
        if epoch > self._ledger.epoch_floor():
            self._ledger.raise_floor(epoch)
        known = self._ledger.find(command_id)
        if known is not None:
            return Answer(known.state, known.code, known.detail)
        if self._ledger.was_evicted(command_id):
            return Answer(State.FORGOTTEN, Code.OUT_OF_LEDGER, "")
        return Answer(State.NEVER_SEEN, Code.OK, "")

    # -------------------------------------------------------------- by hand, by wire

    def agent_beat(self, value: int) -> None:
        """Take the agent's heartbeat; only a change counts as life."""
        if value != self._agent_beat:
            self._agent_beat, self._agent_beat_at = value, self._wall_us()

    @property
    def agent_heartbeat(self) -> int:
        """What the agent wrote last."""
        return self._agent_beat

    def set_by_hand(self, setpoint: str, value: float) -> None:
        """Change a set-point at the panel; the PLC's limits hold for people too.

        Raises:
            ValueError: there is no such set-point, or the value is outside the limits.
        """
        try:
            verb = setpoint_verb(setpoint)
        except KeyError:
            raise ValueError(
                f"no set-point is called {setpoint!r}; there are {', '.join(asdict(self.setpoints))}"
            ) from None
        if not verb.low <= value <= verb.high:
            raise ValueError(f"{value} {verb.symbol} is outside {verb.low}..{verb.high} {verb.symbol}")
        self._ledger.retain({setpoint: value})
        self.setpoints = replace(self.setpoints, **{setpoint: value})

    def switch_agent(self, enabled: bool) -> None:
        """Turn the agent's switch at the cell; it survives a restart."""
        self._ledger.retain({"agent_enable": int(enabled)})
        self.agent_enable = enabled

    def read_inputs(self) -> None:
        """Look at the wired inputs; an open emergency-stop circuit aborts."""
        if not self.inputs.estop_ok:
            self.abort()

    def abort(self) -> None:
        """Go to ABORTING; a sequence that waits or runs ends without effect."""
        following = packml.after("abort", self.state)
        if following is None:
            return
        if self._pending is not None:
            self._settle(State.REJECTED, Code.OVERTAKEN, f"aborted in {self.state.name}")
        self._enter(following)

    def unhold(self) -> bool:
        """Leave HELD at the panel; False: not held."""
        return self._trigger("unhold")

    def reset(self) -> bool:
        """Leave ABORTED at the panel and run up; False: not aborted, or the circuit is still open."""
        return self.inputs.estop_ok and self._trigger("reset")

    # -------------------------------------------------------------- the machine

    def second(self) -> None:
        """Count the PLC's heartbeat, once per second of plant time."""
        self.heartbeat += 1

    def begin(self) -> Work:
        """Return what the plant does next. Nothing moves at this moment."""
        if self.state in packml.AFTER_MOTION:
            self._enter(packml.AFTER_MOTION[self.state])
        if self._pending is not None and self.state in (PackMLState.SUSPENDED, PackMLState.HELD):
            against = self._waited(self._pending)
            if against is None:
                verb = VERBS[self._pending.verb]
                assert isinstance(verb, SequenceVerb)
                self._ledger.begin(self._pending.command_id)
                return Maintenance(self._pending.verb, verb.takes_s)
            self._settle(State.REJECTED, against.code, against.detail)
        if self.state is PackMLState.SUSPENDED:
            self._enter(PackMLState.UNSUSPENDING)
        if self.state is PackMLState.EXECUTE:
            return Cycle(self.setpoints)
        return Stand(packml.TRANSIENT_S if self.state in packml.AFTER_TRANSIENT else None)

    def cycle_ended(self, report: CycleReport) -> bool:
        """Count the part; False: an abort made the cycle worthless and nothing is latched."""
        if self.state is PackMLState.ABORTING:
            self.scrap_count += 1
            return False
        self.cycle_count += 1
        self.part_count += 1
        self.scrap_count += not report.good
        return True

    def sequence_running(self) -> bool:
        """Whether the sequence was not aborted meanwhile."""
        return self._pending is not None

    def sequence_ended(self) -> None:
        """Settle the sequence's command as done. Its effect is in force."""
        if self._pending is not None:
            self._settle(State.DONE, Code.OK, f"{self._pending.verb} ended")

    def stood(self) -> None:
        """Leave a state of passage."""
        if self.state in packml.AFTER_TRANSIENT:
            self._enter(packml.AFTER_TRANSIENT[self.state])

    # -------------------------------------------------------------- helpers, in the order of use

    def _fence(self, command_id: str, epoch: int, args_sha256: str | None) -> Answer | None:
        if not 1 <= len(command_id) <= COMMAND_ID_LENGTH_MAX or not command_id.isprintable():
            return Answer(State.REJECTED, Code.MALFORMED, "command id")
        if args_sha256 is not None and not _SHA256.fullmatch(args_sha256):
            return Answer(State.REJECTED, Code.MALFORMED, "hash")
        floor = self._ledger.epoch_floor()
        if epoch < floor:
            return Answer(State.REJECTED, Code.STALE_EPOCH, f"epoch {epoch} is below {floor}")
        return None

    def _situation(self) -> Situation:
        silent_s = math.inf if self._agent_beat_at is None else (self._wall_us() - self._agent_beat_at) / 1e6
        return Situation(
            state=self.state,
            setpoints=self.setpoints,
            remote_enable=self.inputs.remote_enable,
            estop_ok=self.inputs.estop_ok,
            automatic_mode=self.inputs.automatic_mode,
            agent_enable=self.agent_enable,
            agent_silent_s=silent_s,
            agent_silent_s_max=self._agent_silent_s,
            pending=self._pending.verb if self._pending else None,
        )

    def _accept(
        self, command_id: str, epoch: int, args_sha256: str, name: str, args: Sequence[float], ttl_ms: int
    ) -> Answer:
        match VERBS[name]:
            case SetpointVerb() as verb:
                retain = {verb.setpoint: float(args[0])}
                done = Answer(State.DONE, Code.OK, f"{verb.setpoint} {float(args[0])} {verb.symbol}")
                self._record(command_id, epoch, args_sha256, name, done, retain)
                self.setpoints = replace(self.setpoints, **retain)
                return done
            case StateVerb() as verb:
                following = packml.after(verb.trigger, self.state) or self.state
                done = Answer(State.DONE, Code.OK, following.name)
                retain = {"packml_state": int(following)}
                self._record(command_id, epoch, args_sha256, name, done, retain)
                self.state = following
                return done
            case SequenceVerb():
                following = packml.after("suspend", self.state) or self.state
                running = Answer(State.RUNNING, Code.OK, name)
                deadline_at = self._now_us() + ttl_ms * 1000
                retain = {"packml_state": int(following)}
                self._record(command_id, epoch, args_sha256, name, running, retain, deadline_at)
                self._pending = self._ledger.find(command_id)
                self.state = following
                return running

    def _record(
        self,
        command_id: str,
        epoch: int,
        args_sha256: str,
        verb: str,
        answer: Answer,
        retain: dict[str, float],
        deadline_at: int = 0,
    ) -> Answer:
        kept = answer.detail[:DETAIL_LENGTH_MAX]
        entry = Entry(command_id, args_sha256, verb[:40], answer.state, answer.code, kept, deadline_at)
        self._ledger.record(entry, retain=retain, epoch=epoch)
        return Answer(answer.state, answer.code, kept)

    def _waited(self, entry: Entry) -> Objection | None:
        """Return why a command that waited for the end of the cycle may not begin any more."""
        if entry.deadline_at == 0:  # it had begun before a restart
            return None
        late_us = self._now_us() - entry.deadline_at
        if late_us > 0:
            return Objection(Code.TTL_EXPIRED, f"{late_us // 1000} ms too late")
        return permissive(self._situation())

    def _settle(self, state: State, code: Code, detail: str) -> None:
        assert self._pending is not None
        self._ledger.settle(self._pending.command_id, state, code, detail)
        self._pending = None

    def _trigger(self, trigger: packml.Trigger) -> bool:
        following = packml.after(trigger, self.state)
        if following is not None:
            self._enter(following)
        return following is not None

    def _enter(self, state: PackMLState) -> None:
        self._ledger.retain({"packml_state": int(state)})
        self.state = state
