"""How fast half an hour of one cell is replayed: plant time over the time that replay takes. Prints JSON.

A simulated cell with its agent runs 30 minutes of plant time with three faults in it; then the kept input and the
external facts go through detectors, verifier and step again, and every derived fact is compared byte for byte. Reading
the log from disk is not part of it, decoding its records is.

Run: python -m benchmarks.replay [--minutes 30] [--repeats 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import time
from pathlib import Path

import connectors.plant
from agent.guard.question import Rulebook
from pipelines.config import load
from pipelines.demo.stage import SimulatedStage
from pipelines.derive import Derivation
from pipelines.recover import Lookahead
from pipelines.replay import Replayed, replay
from pipelines.simulation import Simulation
from schemas.records import Recorded
from schemas.samples import Kept

SEED = 3
FAULTS = ((0.3, "oil_on_pads"), (0.55, "stuck_sensor"), (0.75, "drive_drag"))
"""Share of the run after which each begins."""


async def _record(seconds: float) -> tuple[Rulebook, list[Recorded], list[Kept]]:
    simulation = Simulation(load(Path(connectors.plant.__file__).parent / "config"), seed=SEED)
    stage = SimulatedStage(simulation)
    async with simulation.running():
        begun_us, waiting = simulation.clock.now_us(), list(FAULTS)
        while (passed_s := (simulation.clock.now_us() - begun_us) / 1e6) < seconds:
            if waiting and passed_s > waiting[0][0] * seconds:
                await stage.inject(waiting.pop(0)[1])
            await simulation.step()
            for command_id, progress in list(stage.state.commands.items()):
                if progress.phase == "awaiting_approval":
                    await stage.operate("approve", command_id)
    records = [record async for record in simulation.store.read_all()]
    return simulation.rules, records, list(simulation.keeper.read(after=0))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    rules, records, inputs = asyncio.run(_record(options.minutes * 60))
    taken_s, cpu_s, replayed = [], [], Replayed()
    for _ in range(options.repeats):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        replayed = replay(records, Lookahead(iter(inputs)), derivation=Derivation(rules))
        taken_s.append(time.perf_counter() - began_s)
        cpu_s.append(time.process_time() - began_cpu_s)
    assert replayed.divergence is None, replayed.divergence
    plant_s = replayed.plant_s
    print(
        json.dumps(
            {
                "benchmark": "replay",
                "seed": SEED,
                "plant_s": round(plant_s, 1),
                "inputs": replayed.inputs_fed,
                "facts": len(records),
                "facts_compared": replayed.facts_compared,
                "divergences": 0,
                "replay_s": [round(s, 3) for s in taken_s],
                "replay_cpu_s": [round(s, 3) for s in cpu_s],
                "plant_time_per_replay_time": round(plant_s / min(taken_s)),
                "plant_time_per_cpu_time": round(plant_s / min(cpu_s)),
                "goal": 1000,
                "python": platform.python_version(),
                "machine": platform.machine(),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
