"""An Apache Kafka broker as a child process on the loopback: for `make kafka` and the tests. Not part of the product.

Formats its storage once, starts, tells when it is ready, stops cleanly or is killed, and starts again on what it kept.
`connectors.kafka.foreground` runs one for a person.
"""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from connectors.kafka.jars import ARCHIVE, JARS, missing
from connectors.kafka.ports import free_ports
from connectors.kafka.properties import HOST, LOG4J, Node, Secured, server_properties
from schemas.errors import ConnectionFault

READY_WITHIN_S = 90.0
"""Wall time from the start of the process until it serves."""
STOP_WITHIN_S = 20.0
"""Wall time to end in order; then it is killed."""
FORMAT_WITHIN_S = 60.0
LOOK_S = 0.05
"""Wall time between two looks at whether it is ready, or still there."""
HEAP_MB = 512
READY_WORD = "Kafka Server started"
"""In its log; `properties.LOG4J` lets it through."""
SCRAM_ITERATIONS_N = 8192


class Broker:
    """One broker. Its process is ours: nothing else stops or starts it."""

    def __init__(
        self,
        folder: Path,
        node: Node,
        quorum: Sequence[Node],
        *,
        options: Mapping[str, str] | None = None,
        secured: Secured | None = None,
        heap_mb: int = HEAP_MB,
        java: Sequence[str] = (),
    ) -> None:
        """Prepare; nothing is written or started before `start`.

        Args:
            folder: For configuration, messages and log; made if missing.
            node: Number and ports.
            quorum: All nodes of the cluster, this one too.
            options: Broker settings that go over the usual ones.
            secured: None: in clear, without users.
            heap_mb: Bound of the Java heap.
            java: Further options of the broker's virtual machine.
        """
        self.folder, self.node, self.heap_mb, self._options_java = folder.resolve(), node, heap_mb, tuple(java)
        self._quorum, self._options, self._secured = tuple(quorum), dict(options or {}), secured
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    @property
    def address(self) -> str:
        """Where clients connect, `host:port`."""
        return f"{HOST}:{self.node.port}"

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """What the broker said, all its lives."""
        return self.folder / "broker.log"

    def launch(self) -> None:
        """Start the process on what the folder holds, without waiting for it.

        Raises:
            ConnectionFault: Java or the jars are missing, or the storage could not be formatted.
        """
        assert not self.alive, "it runs"
        if lacks := missing():
            raise ConnectionFault(f"{self.address}: {lacks}.")
        self._write_configuration()
        if not (self._messages / "meta.properties").exists():
            self._format()
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            # In a session of its own: Ctrl-C in the terminal is for whoever stops it in order.
            self._process = subprocess.Popen(
                [*self._java(), *self._options_java, "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Return when it serves clients: registered at the controller, all partitions loaded.

        Raises:
            ConnectionFault: it ended, or was not ready in time.
        """
        until_s = time.monotonic() + within_s
        while READY_WORD not in (said := self._said()):
            if not self.alive or time.monotonic() > until_s:
                ending = "\n".join(said.splitlines()[-12:])
                self.kill()
                raise ConnectionFault(f"{self.address}: the broker did not start. See {self.log}:\n{ending}")
            time.sleep(LOOK_S)

    def start(self) -> None:
        """Start, or start again on the same messages, and wait until it serves.

        Raises:
            ConnectionFault: as `launch` and `wait_ready`.
        """
        self.launch()
        self.wait_ready()

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """End it in order; a broker that does not end in time is killed."""
        self.terminate()
        self.wait_ended(within_s)

    def terminate(self) -> None:
        """Ask it to end, without waiting."""
        if self.alive:
            self.resume()
            os.kill(self.pid, signal.SIGTERM)

    def wait_ended(self, within_s: float = STOP_WITHIN_S) -> None:
        """Wait for its end, and kill it when the time is over."""
        if self._process is None:
            return
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a power cut ends a process (`kill -9`)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stop its time: it keeps its connections and answers nobody."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let its time go on."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def _messages(self) -> Path:
        return self.folder / "messages"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _said(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    def _write_configuration(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = server_properties(self.node, self._quorum, self._messages, self._options, self._secured)
        self._properties.touch(mode=0o600)
        self._properties.write_text(text, encoding="utf-8")
        (self.folder / "log4j2.properties").write_text(LOG4J, encoding="utf-8")

    def _java(self) -> list[str]:
        return [
            # The quick compiler alone: a third of the processor time of a start, and a broker mostly moves bytes.
            "java", f"-Xmx{self.heap_mb}m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData",
            *([f"-XX:SharedArchiveFile={ARCHIVE}"] if ARCHIVE.exists() else []),
            "-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
            "-cp", f"{JARS}/*",
        ]  # fmt: skip

    def _format(self) -> None:
        users = self._secured.users if self._secured else {}
        words = [word for name, password in users.items() for word in ("--add-scram", scram(name, password))]
        try:
            done = subprocess.run(
                [*self._java(), "kafka.tools.StorageTool", "format", "--cluster-id", cluster_id(self._quorum),
                 "--config", str(self._properties), *words],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FORMAT_WITHIN_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ConnectionFault(f"{self.address}: no storage formatted within {FORMAT_WITHIN_S:g} s.") from error
        if done.returncode != 0:
            raise ConnectionFault(f"{self.address}: the storage could not be formatted: {done.stdout}{done.stderr}")


class Cluster:
    """Brokers that keep copies of each other's messages."""

    def __init__(self, brokers: Sequence[Broker]) -> None:
        self.brokers = tuple(brokers)

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """What clients begin with, `host:port` each; as `KafkaSettings.bootstrap`."""
        return tuple(broker.address for broker in self.brokers)

    def start(self) -> None:
        """Start all; none is ready before a majority is there."""
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait_ready()

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """End all in order."""
        for broker in self.brokers:
            broker.terminate()
        for broker in self.brokers:
            broker.wait_ended(within_s)

    def kill(self) -> None:
        """End all at once."""
        for broker in self.brokers:
            broker.kill()


@contextmanager
def cluster(
    folder: Path,
    *,
    brokers_n: int = 1,
    options: Mapping[str, str] | None = None,
    secured: Secured | None = None,
    heap_mb: int = HEAP_MB,
) -> Iterator[Cluster]:
    """Run brokers until the block ends; then they are killed, so use `stop` where the messages matter.

    Raises:
        ConnectionFault: one of them did not start.
    """
    ports = free_ports(2 * brokers_n)
    quorum = [Node(n + 1, ports[2 * n], ports[2 * n + 1]) for n in range(brokers_n)]
    brokers = [
        Broker(folder / f"broker{node.number}", node, quorum, options=options, secured=secured, heap_mb=heap_mb)
        for node in quorum
    ]
    running = Cluster(brokers)
    try:
        running.start()
        yield running
    finally:
        running.kill()


def cluster_id(quorum: Sequence[Node]) -> str:
    """Return an identity for the cluster: the same for all of its nodes, 22 characters.

    >>> len(cluster_id([Node(1, 9092, 9093)]))
    22
    """
    told = ",".join(f"{n.number}@{n.controller_port}" for n in quorum)
    # An id that begins with a dash would be taken for an option.
    return base64.b64encode(hashlib.sha256(told.encode()).digest()[:16], altchars=b"AB").decode().rstrip("=")


def scram(name: str, password: str) -> str:
    """Return a user as `StorageTool --add-scram` takes it, salted, so that no password is seen among the processes."""
    salt = os.urandom(24)
    salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, SCRAM_ITERATIONS_N)
    words = (
        f"name={name}",
        f"iterations={SCRAM_ITERATIONS_N}",
        f'salt="{base64.b64encode(salt).decode()}"',
        f'saltedpassword="{base64.b64encode(salted).decode()}"',
    )
    return f"SCRAM-SHA-512=[{','.join(words)}]"
