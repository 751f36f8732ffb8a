"""What the demo needs, and what not."""

from __future__ import annotations

import subprocess
import sys


def test_the_demo_starts_without_the_extra_for_kafka():
    """Was: its modules wanted a Kafka client though no broker was named."""
    code = (
        "import sys, pipelines.demo.play as _; print([m for m in ('kafka', 'aiokafka', 'faust') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
