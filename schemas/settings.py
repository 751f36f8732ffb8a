"""`jidoka.toml`: runtime and connections. Parsed once, by `pipelines.config`; nobody else reads files or environment.

Paths are relative to the data folder unless absolute.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.plant import Strict


class User(Strict):
    """An OPC UA user. The password is the only line of a file that others cannot read."""

    name: str
    """As the server knows it."""
    password_file: str
    """One line; readable by its owner only (`chmod 600`)."""


class OpcUaSettings(Strict):
    """One server."""

    url: str = Field(pattern=r"^opc\.tcp://")
    """Where the server listens, e.g. `opc.tcp://10.0.0.5:4840/plc`."""
    security: Literal["SignAndEncrypt", "None"] = "SignAndEncrypt"
    """Basic256Sha256 with our own certificate; `None` sends everything, passwords too, in clear."""
    allow_password_in_clear: bool = False
    """Needed to use a user with security `None`. For a bench, never for a plant."""
    certificates: str = "pki"
    """Folder with own certificate, key, and `trusted/`."""
    collector: User | None = None
    """Reads and subscribes; must have no right to write. Absent: an anonymous session."""
    actuator: User | None = None
    """Another user than the collector: who reads cannot write."""
    publishing_ms: float = Field(default=100.0, gt=0)
    """Wall time between two publish responses asked for."""
    sampling_ms: float = Field(default=50.0, ge=0)
    """Wall time between two samples of a tag at the server; no longer than the fastest signal needs."""
    queue: int = Field(default=100, ge=1)
    """Samples of one tag that the server keeps while the agent is busy; then the oldest are lost."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """Wall time for one attempt to connect."""
    backoff_s: float = Field(default=0.2, gt=0)
    """Wall time before the second attempt; doubled with each one, up to `backoff_s_max`."""
    backoff_s_max: float = Field(default=3.0, gt=0)
    """Wall time between attempts; each is drawn from the upper half of the present back-off."""
    dead_after_s: float = Field(default=3.0, gt=0)
    """Wall time without any publish response or heartbeat before the source counts as lost."""

    @model_validator(mode="after")
    def _no_secret_in_clear(self) -> OpcUaSettings:
        if self.security == "None" and (self.collector or self.actuator) and not self.allow_password_in_clear:
            raise ValueError(
                "security None with a user sends the password in clear: use SignAndEncrypt, remove the users, "
                "or set allow_password_in_clear = true"
            )
        if self.collector and self.actuator and self.collector.name == self.actuator.name:
            raise ValueError("collector and actuator are the same user: give the actuator its own")
        return self


class ClockSettings(Strict):
    """Agent time."""

    speed: float = Field(default=1.0, gt=0, le=20)
    """1 is wall time. More is only for a simulated plant that runs at the same speed from the same origin."""
    origin_us: int = 0
    """When agent time and wall time are equal, microseconds since 1970 UTC; used with another speed than 1."""


class SegmentSettings(Strict):
    """Kept input."""

    bytes_max: int = Field(default=8_000_000, ge=10_000)
    """Size at which the next segment begins, with a snapshot of the detectors."""
    keep_bytes: int = Field(default=2_000_000_000, ge=100_000)
    """Oldest unpinned segments beyond this are deleted."""
    keep_pinned_bytes: int = Field(default=20_000_000_000, ge=100_000)
    """Of one cell's segments that incidents have pinned; beyond it the oldest go too."""


class TransformersSettings(Strict):
    """A language model in this machine's memory. Needs the extra `model`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    """What it is called here and in the log."""
    model: str
    """Folder, or hub id, e.g. `Qwen/Qwen2.5-32B-Instruct`."""
    revision: str = ""
    """Commit of the hub's repository; pin it in a plant. Empty: the newest that is here."""
    offline: bool = True
    """Use only what is on this machine. `false` fetches it once."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Digest of the weights that must be loaded, as every answer records it; empty: any."""
    dtype: Literal["float32", "bfloat16", "fp8", "int8"] = "bfloat16"
    """Precision. fp8 needs a GPU that has it, int8 needs torchao; float32 for small models on a CPU."""
    device: str = "auto"
    """`cpu`, `cuda:0`, or `auto`: spread over all GPUs."""
    threads: int = Field(default=0, ge=0, le=256)
    """On a CPU; 0: as many as there are cores."""
    decode: Literal["choices", "text"] = "choices"
    """choices: asked only where there is a choice, with a probability each. text: writes the call under a grammar."""
    told: Literal["names", "slots"] = "names"
    """names: the site's identifiers, for large models. slots: no names at all, for the embedded model."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """With `decode = "text"`; 0 takes the likeliest token."""
    seed: int = Field(default=0, ge=0)
    """Of the draws."""
    tokens_max: int = Field(default=700, ge=50, le=8000)
    """With `decode = "text"`: a longer answer is given up."""


class ServerSettings(Strict):
    """A language model behind an HTTP server with the chat interface that OpenAI made common."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    """What it is called here and in the log."""
    server: Literal["vllm", "sglang", "llama_cpp", "ollama", "dashscope", "openai"]
    """How it is told which answers are legal."""
    url: str = Field(pattern=r"^https?://")
    """Up to and with `/v1`, e.g. `http://10.0.0.7:8000/v1`."""
    model: str
    """As the server calls it."""
    key_file: str = ""
    """One line with the key; readable by its owner only. Empty: none is sent."""
    ca: str = ""
    """File with the certificates that the server's is signed by; empty: the system's."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 takes the likeliest token."""
    seed: int = Field(default=0, ge=0)
    """Sent along; whether it is kept is the server's affair."""
    tokens_max: int = Field(default=700, ge=50, le=8000)
    """A longer answer is cut, and then unusable."""
    enforced: bool = True
    """Refuse a server that does not keep to the schema; `false` for one that cannot, as DashScope's json_object."""


class CascadeSettings(Strict):
    """Several reasoners one after the other, for a tier that names `cascade`."""

    order: tuple[str, ...] = ("playbook",)
    """Asked in this order; the first answer that counts is taken. The last one should be the playbook."""
    deadline_s: float = Field(default=10.0, gt=0, le=10.0)
    """Wall time for all but the last, together; never longer than the policy's own deadline."""
    reserve_s: float = Field(default=0.3, gt=0, le=5.0)
    """Wall time of that kept back for the last one."""
    confidence_min: float = Field(default=0.5, ge=0, le=1)
    """An answer with a less certain choice does not count, and the next one is asked."""
    cached_max: int = Field(default=256, ge=0, le=100_000)
    """Answers kept for incidents that look the same; 0: none."""


TAKEN = ("playbook", "cascade", "embedded", "default")
"""Names of reasoners that no model of a site's own can have."""


class ReasonerSettings(Strict):
    """Who is asked, by tier: a name of `connectors.reasoners.REASONERS`, `embedded`, `cascade`, or a model below."""

    reflex: str = "playbook"
    """Asked at once; its actions should only lead towards the safe state."""
    proposal: str = "default"
    """Asked for what mends it. `default`: where the extra `model` is installed the embedded model, then the playbook;
    elsewhere the playbook."""
    cascade: CascadeSettings = CascadeSettings()
    """What `cascade` is made of."""
    transformers: tuple[TransformersSettings, ...] = ()
    """Models in this machine's memory."""
    servers: tuple[ServerSettings, ...] = ()
    """Models behind HTTP."""

    @model_validator(mode="after")
    def _named_once(self) -> ReasonerSettings:
        names = [*TAKEN, *(m.name for m in self.transformers), *(m.name for m in self.servers)]
        if len(set(names)) != len(names):
            raise ValueError("two reasoners have the same name: rename one; " + ", ".join(TAKEN) + " are taken")
        if {"cascade", "default"} & {*self.cascade.order} or not self.cascade.order:
            raise ValueError("cascade.order names at least one reasoner, and not the cascade itself")
        if {"default", "embedded"} & {self.reflex, *(self.cascade.order if self.reflex == "cascade" else ())}:
            raise ValueError("the embedded model has learnt proposals only: name another one for reflex")
        return self


class NotifySettings(Strict):
    """How a person is reached."""

    command: tuple[str, ...] = ()
    """Program and arguments; title and text follow as two more arguments. Empty: the log only."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Wall time for the program; a slower one is killed and counts as not delivered."""


class KafkaSettings(Strict):
    """The broker between collectors, detection and decisions."""

    bootstrap: tuple[str, ...] = Field(min_length=1)
    """Brokers to begin with, `host:port` each."""
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the connection is secured; SASL is SCRAM-SHA-512."""
    user: User | None = None
    """For SASL."""
    ca: str = ""
    """File with the certificates that the brokers' are signed by; empty: the system's."""
    certificate: str = ""
    """File with our own certificate, for brokers that ask for one."""
    key: str = ""
    """File with its key."""
    partitions: int = Field(default=12, ge=1, le=1000)
    """Of every topic. Never changed once there are messages: a cell's place depends on it."""
    replication: int = Field(default=1, ge=1, le=7)
    """Copies of every topic; 3 in a plant."""
    in_sync_min: int = Field(default=1, ge=1, le=7)
    """Copies that must have a message before it counts as taken; 2 of 3 in a plant."""
    session_s: float = Field(default=10.0, ge=6.0)
    """Wall time without a heartbeat after which another process takes a consumer's partitions."""
    spool_bytes_max: int = Field(default=2_000_000_000, ge=1_000_000)
    """What a collector keeps on disk while the broker is away; beyond it samples are lost and told as a gap."""
    snapshot_s: float = Field(default=10.0, gt=0)
    """Agent time between two snapshots of a cell's detectors."""
    stalled_s: float = Field(default=60.0, gt=0)
    """Wall time with messages waiting and nothing committed after which a worker ends itself."""

    @model_validator(mode="after")
    def _whole(self) -> KafkaSettings:
        if self.security.startswith("SASL") != (self.user is not None):
            raise ValueError("security SASL_… needs kafka.user, and the others have none")
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key come together")
        if self.in_sync_min > self.replication:
            raise ValueError("in_sync_min is more than replication: nothing could ever be written")
        return self


class PostgresSettings(Strict):
    """The event store of agents that decide on more than one node."""

    host: str
    """Name or address, or the folder of a local socket."""
    port: int = Field(default=5432, ge=1, le=65535)
    """Where it listens."""
    database: str = "jidoka"
    """Its tables are made at first start."""
    user: User | None = None
    """Absent: the operating system's user, over a local socket."""
    tls: Literal["disable", "require", "verify-full"] = "verify-full"
    """As PostgreSQL's own `sslmode`."""
    ca: str = ""
    """File with the certificates that the server's is signed by; for `verify-full`."""
    timeout_s: float = Field(default=5.0, gt=0)
    """Wall time for a connection, and for one statement."""

    @model_validator(mode="after")
    def _whole(self) -> PostgresSettings:
        if self.tls == "verify-full" and not self.ca and not self.host.startswith("/"):
            raise ValueError('tls "verify-full" needs ca: name the file with the authority\'s certificate')
        return self


class HttpSettings(Strict):
    """Where a process tells how it is: `/metrics`, `/healthz`, `/readyz`."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=0, ge=0, le=65535)
    """0: nothing listens."""


class Settings(Strict):
    """The whole of `jidoka.toml`."""

    mode: Literal["observe", "act"] = "observe"
    """observe: no code that can write is loaded."""
    data: str = "var"
    """Data folder, relative to the configuration folder."""
    opcua: OpcUaSettings
    """The server of all cells."""
    clock: ClockSettings = ClockSettings()
    """Speed of agent time."""
    segments: SegmentSettings = SegmentSettings()
    """How much input is kept."""
    notify: NotifySettings = NotifySettings()
    """How a person is reached."""
    queue_max: int = Field(default=10_000, ge=10)
    """Messages waiting for one cell before collectors are held back."""
    silent_s: float = Field(default=10.0, gt=0)
    """Wall time without any input, not even a tick, before a source is declared silent."""
    readback_s: float = Field(default=2.0, gt=0)
    """Wall time within which set-points must read back as asked."""
    reasoners: ReasonerSettings = ReasonerSettings()
    """Who is asked."""
    kafka: KafkaSettings | None = None
    """Absent: one process, no broker."""
    postgres: PostgresSettings | None = None
    """Absent: the log is SQLite in the data folder."""
    http: HttpSettings = HttpSettings()
    """Where a process tells how it is."""

    @model_validator(mode="after")
    def _act_needs_an_actuator(self) -> Settings:
        if self.mode == "act" and self.opcua.actuator is None and self.opcua.security != "None":
            raise ValueError("mode act needs opcua.actuator: give the user that may call Execute")
        return self
