"""Read a log from another program: every incident with its commands and what became of them.

.venv/bin/python examples/read_a_log.py var/demo-1/agent/log
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from connectors.eventlog.reader import open_readonly
from schemas import facts


async def main(folder: Path) -> None:
    """Print one line per incident, command and effect."""
    store = open_readonly(folder)
    try:
        async for record in store.read_all():
            match record.fact:
                case facts.IncidentOpened() as opened:
                    print(f"incident {opened.incident_id[:8]} on {opened.asset}")
                case facts.CommandIntended() as intended:
                    command = intended.command
                    print(f"  {command.action} {command.from_values} -> {command.args}")
                case facts.EffectVerified() as verified:
                    print(f"    effective: {verified.rows} rows, worst {verified.worst:g}")
                case facts.EffectAbsent() as absent:
                    print(f"    no effect: {absent.reason}")
                case facts.IncidentClosed() as closed:
                    print(f"  closed: {closed.outcome}")
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
