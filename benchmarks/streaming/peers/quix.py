"""quixstreams: mean per tag over ten seconds, event by event, or one numpy call a batch.

Run: `python quix.py BROKER TOPIC event|batch SAMPLES`. The topic has one partition, so that `group_by` needs no topic
of its own; no changelog topics; state on disk as it comes.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from typing import Any

from arrow import WINDOW_S, Meter, columns, is_batch, mean_per_tag

warnings.filterwarnings("ignore")

from quixstreams import Application  # noqa: E402
from quixstreams.dataframe.windows import Mean  # noqa: E402


def source_ms(value: Any, headers: Any, timestamp: int, timestamp_type: Any) -> int:
    """Return the time of a batch at its source: all of its samples have it."""
    for name, content in headers or ():
        if name == "last_at":
            return int(content) // 1000
    return 0


def main(broker: str, topic: str, form: str, samples: str) -> None:
    """Run until so many samples are through."""
    meter = Meter(f"quixstreams {form}", int(samples))
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=broker, consumer_group=f"quix-{form}", auto_offset_reset="earliest", loglevel="ERROR",
            auto_create_topics=False, use_changelog_topics=False, state_dir=folder,
        )  # fmt: skip
        incoming = app.topic(topic, value_deserializer="bytes", key_deserializer="bytes", timestamp_extractor=source_ms)
        frame = app.dataframe(incoming).filter(lambda v, k, t, headers: is_batch(headers), metadata=True)

        def explode(value: bytes) -> list[dict[str, Any]]:
            tag, _, values = columns(value)
            meter.took(len(tag))
            return [{"tag": t, "value": v} for t, v in zip(tag.tolist(), values.tolist(), strict=True)]

        def whole(value: bytes) -> float:
            means = mean_per_tag(value)
            meter.took(len(means))
            meter.gave(len(means))
            return float(means[0])

        if form == "batch":
            frame = frame.apply(whole)
        else:
            frame = frame.apply(explode, expand=True).group_by("tag")
            frame = frame.apply(lambda event: event["value"]).tumbling_window(duration_ms=WINDOW_S * 1000)
            frame = frame.agg(mean=Mean()).final().update(lambda _: meter.gave())
        app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
