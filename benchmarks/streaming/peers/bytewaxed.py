"""bytewax: mean per tag over ten seconds, event by event, or one numpy call a batch.

Run: `python bytewaxed.py BROKER TOPIC event|batch SAMPLES`. A message of the source is a batch of 1,000 events.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from arrow import WINDOW_S, Meter, columns, is_batch, mean_per_tag
from bytewax.connectors.kafka import KafkaSource
from bytewax.connectors.stdio import StdOutSink
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

ZERO = datetime(1970, 1, 1, tzinfo=UTC)


def flow(broker: str, topic: str, form: str, meter: Meter) -> Dataflow:
    """Return what is run."""
    graph = Dataflow("peer")
    # One message of the topic is already 1,000 events: they go through the steps together.
    source = KafkaSource([broker], [topic], tail=True, batch_size=100 if form == "batch" else 1)
    messages = op.filter("batches", op.input("in", graph, source), lambda m: is_batch(m.headers))
    results = _whole(messages, meter) if form == "batch" else _windows(messages, meter)
    op.output("out", op.filter("nothing", results, lambda _: False), StdOutSink())
    return graph


def _whole(messages: Any, meter: Meter) -> Any:
    def mean(message: Any) -> int:
        means = mean_per_tag(message.value)
        meter.took(len(means))
        meter.gave(len(means))
        return len(means)

    return op.map("mean", messages, mean)


def _windows(messages: Any, meter: Meter) -> Any:
    names: dict[int, str] = {}

    def explode(message: Any) -> Iterator[tuple[str, tuple[datetime, float]]]:
        tag, at, values = columns(message.value)
        meter.took(len(tag))
        # All samples of a message have one time: one object is made of it.
        when = ZERO + timedelta(microseconds=int(at[0]))
        return [(names.setdefault(t, str(t)), (when, v)) for t, v in zip(tag.tolist(), values.tolist(), strict=True)]

    events = op.flat_map("explode", messages, explode)
    clock = win.EventClock(ts_getter=lambda event: event[0], wait_for_system_duration=timedelta(0))
    windower = win.TumblingWindower(length=timedelta(seconds=WINDOW_S), align_to=ZERO)
    folded = win.fold_window(
        "mean", events, clock, windower, lambda: (0, 0.0),
        lambda a, event: (a[0] + 1, a[1] + event[1]), lambda a, b: (a[0] + b[0], a[1] + b[1]),
    )  # fmt: skip

    def divide(keyed: Any) -> float:
        meter.gave()
        return keyed[1][1][1] / keyed[1][1][0]

    return op.map("divide", folded.down, divide)


def main(broker: str, topic: str, form: str, samples: str) -> None:
    """Run until so many samples are through."""
    run_main(flow(broker, topic, form, Meter(f"bytewax {form}", int(samples))))


if __name__ == "__main__":
    main(*sys.argv[1:])
