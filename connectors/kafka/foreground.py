"""One local broker in the foreground of a terminal: `make kafka`. Not part of the product."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from connectors.kafka.broker import LOOK_S, Broker
from connectors.kafka.jars import ARCHIVE, JARS
from connectors.kafka.ports import free_ports, is_free
from connectors.kafka.properties import Node
from schemas.errors import ConnectionFault

USUAL_PORT = 9092
ARCHIVED_WITHIN_S = 120.0
"""Wall time for a broker to end that writes the archive on its way out."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one broker in the foreground until Ctrl-C or SIGTERM; 0: it ended in order."""
    parser = argparse.ArgumentParser(prog="make kafka", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=JARS.parent / "broker", help="messages are kept there")
    parser.add_argument("--port", type=int, default=0, help=f"0: {USUAL_PORT}, or a free one if that is taken")
    parser.add_argument("--archive", action="store_true", help="only make later starts quicker, and end")
    told = parser.parse_args(words)
    if told.archive:
        archive_classes()
        return 0
    port = told.port or (USUAL_PORT if is_free(USUAL_PORT) else free_ports(1)[0])
    node = Node(1, port, free_ports(1)[0])
    return _run(Broker(told.data, node, [node]))


def _run(broker: Broker) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        broker.start()
        print(f"Kafka is ready on {broker.address}: jidoka up --kafka {broker.address}", flush=True)
        while broker.alive:
            time.sleep(LOOK_S)
        print(f"the broker ended by itself: see {broker.log}", file=sys.stderr)
        return 1
    except ConnectionFault as fault:
        print(f"make kafka: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        broker.stop()
        return 0


def archive_classes() -> None:
    """Run a broker once, in a folder of its own, and keep its classes in `ARCHIVE` for every later start.

    Raises:
        ConnectionFault: it did not start.
    """
    ARCHIVE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder:
        node = Node(1, *free_ports(2))
        broker = Broker(Path(folder), node, [node], java=[f"-XX:ArchiveClassesAtExit={ARCHIVE}"])
        try:
            broker.start()
        finally:
            broker.stop(ARCHIVED_WITHIN_S)


if __name__ == "__main__":
    sys.exit(main())
