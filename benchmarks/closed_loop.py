"""The same seeded faults of the simulated cell under several agents: downtime, scrap and actions of each. Prints JSON.

    python -m benchmarks.closed_loop [--seeds 500] [--first 1] [--agent NAME]... [--config DIR] [--out DIR]

`none` does nothing, `oracle` knows the fault at its onset and has tried every plan of the catalogue on a twin; the
others are reasoners of the configuration, behind the guard and a person who approves after 20 s of plant time. Of two
that plan the same for everything that is asked, one is run: plant and core are the same to the bit.
Downtime is plant time in which no good part was in the making: stops, and cycles that end in scrap. What is lost counts
a slower pace too. Avoided, of each: Σ(none − agent) / Σ(none − oracle), with a bootstrap interval over the seeds.

Each seed's result is kept in `--out`: Ctrl-C loses one seed at most, and the same command goes on. Results of other
code, the benchmark's own too, another configuration or horizon, other agents or other weights are not taken over. How
it goes is told on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import connectors.plant
from agent.ports import Reasoner
from benchmarks.loop.faults import Trouble, trouble
from benchmarks.loop.hearing import Asked, Hearing, plans_the_same
from benchmarks.loop.oracle import best
from benchmarks.loop.plot import svg
from benchmarks.loop.running import Lost, alone, under_agent
from pipelines.config import Configuration, load
from pipelines.evaluation.asking import named, ready
from pipelines.evaluation.intervals import ratio_of_sums
from pipelines.opening import VERSION, code_sha256
from pipelines.questions import Model
from pipelines.reasoning import Reasoners
from pipelines.soak import Progress, run
from pipelines.soak_units import Outcome, Unit
from schemas.plans import Post

SEEDS_N = 2
"""Without a word: so few that `make bench` goes on. 500 are the figure that documentation quotes."""
HORIZON_S = 900.0
"""Plant time behind the onset. A drive that drags trips within it."""
HERE = Path(connectors.plant.__file__).parent / "config"
FIGURES = ("downtime_s", "lost_s", "stopped_s", "scrap_n", "actions_n")
OUT = Path("var/closed-loop")


def unit(
    configuration: Configuration,
    agents: Sequence[str],
    models: Mapping[str, Model],
    seed: int,
    horizon_s: float,
    runner: asyncio.Runner,
) -> Outcome:
    """Run one seed under everybody.

    Args:
        configuration: Whose plant and rules.
        agents: Reasoners by name.
        models: Of all of them, loaded.
        seed: Of the trouble, and of the plant.
        horizon_s: Plant time behind the onset.
        runner: One for all seeds. A question whose time was up goes on in its thread and lets the next one in through
            the loop in which it was put: in one that is closed by then, nobody would get in any more.
    """
    which = trouble(seed)
    nothing = alone(configuration, which, horizon_s)
    known, plan = best(configuration, which, horizon_s, nothing)
    lost = {"none": nothing, "oracle": known}
    runs: list[tuple[list[Asked], Lost]] = []
    for agent in agents:
        chosen = named(configuration, agent)
        reasoners = Reasoners(chosen, models=models).of(configuration.plant.cells[0])
        lost[agent] = runner.run(_under(configuration, which, horizon_s, reasoners, runs))
    figures = {f"{agent}.{key}": float(value) for agent, each in lost.items() for key, value in asdict(each).items()}
    print(
        f"seed {seed}: {which.name} at {which.severity:g}; {_said(lost)}; oracle: {_plan(plan)}",
        file=sys.stderr,
        flush=True,
    )
    return Outcome(1, (), figures)


async def _under(
    configuration: Configuration,
    which: Trouble,
    horizon_s: float,
    reasoners: Mapping[Post, Reasoner],
    runs: list[tuple[list[Asked], Lost]],
) -> Lost:
    """Return what is lost under these reasoners; an earlier run in which they would have planned the same is theirs."""
    rules = configuration.rules_for(configuration.plant.cells[0])
    for asked, lost in runs:
        if await plans_the_same(asked, reasoners, rules):
            return lost
    kept: list[Asked] = []
    hearing = {post: Hearing(post, reasoner, rules, kept) for post, reasoner in reasoners.items()}
    lost = await under_agent(configuration, which, horizon_s, hearing)
    runs.append((kept, lost))
    return lost


def _said(lost: Mapping[str, Lost]) -> str:
    return ", ".join(f"{agent} {each.downtime_s:.0f} s" for agent, each in lost.items())


def _plan(plan: Sequence[Any]) -> str:
    return " then ".join(f"{step.action} {' '.join(map(str, step.values))}".strip() for step in plan) or "nothing"


def figures(done: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], agents: Sequence[str]) -> dict[str, Any]:
    """Return what came of the seeds that are done, for each agent."""
    lines = [done[str(seed)]["figures"] for seed in seeds if str(seed) in done]

    def of(agent: str, key: str) -> list[float]:
        return [line[f"{agent}.{key}"] for line in lines]

    def saved(agent: str, key: str) -> list[float]:
        return [a - b for a, b in zip(of("none", key), of(agent, key), strict=True)]

    def avoided(agent: str, key: str) -> dict[str, float] | None:
        ratio = ratio_of_sums(saved(agent, key), saved("oracle", key)) if lines else None
        return asdict(ratio) if ratio is not None else None

    return {
        agent: {
            **{key: round(sum(of(agent, key)), 1) for key in FIGURES},
            "downtime_avoided": avoided(agent, "downtime_s"),
            "loss_avoided": avoided(agent, "lost_s"),
        }
        for agent in ("none", *agents, "oracle")
    }


def by_fault(
    done: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], agents: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return mean downtime by fault and agent."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for seed in seeds:
        if str(seed) in done:
            found.setdefault(trouble(seed).name, []).append(done[str(seed)]["figures"])
    return {
        name: {agent: sum(line[f"{agent}.downtime_s"] for line in lines) / len(lines) for agent in agents}
        for name, lines in sorted(found.items())
    }


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns 0 when every seed is done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closed_loop", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_N)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--agent", action="append", default=[], help="a reasoner, or cascade; default playbook")
    parser.add_argument("--config", type=Path, default=HERE)
    parser.add_argument("--horizon", type=float, default=HORIZON_S, help="plant seconds behind the onset")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--fresh", action="store_true", help="begin again")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    configuration, agents = load(options.config), tuple(dict.fromkeys(options.agent or ["playbook"]))
    seeds = range(options.first, options.first + options.seeds)
    stopped = False
    with asyncio.Runner() as runner:
        models = _loaded(configuration, agents, runner)
        key = _key(configuration, agents, options.horizon, models)
        progress = Progress(options.out / f"{key}.jsonl", fresh=options.fresh)
        units = [
            Unit(str(seed), lambda seed=seed: unit(configuration, agents, models, seed, options.horizon, runner))  # type: ignore[misc]
            for seed in seeds
        ]
        try:
            run("closed loop", units, progress)
        except KeyboardInterrupt:
            stopped = True
            print("stopped: the same command goes on", file=sys.stderr)
    result = _kept(options, seeds, agents, progress)
    print(json.dumps(result, indent=1))
    return 130 if stopped else 0


def _loaded(configuration: Configuration, agents: Sequence[str], runner: asyncio.Runner) -> dict[str, Model]:
    models: dict[str, Model] = {}
    for agent in agents:
        models |= runner.run(ready(named(configuration, agent)))
    return models


def _kept(options: argparse.Namespace, seeds: range, agents: Sequence[str], progress: Progress) -> dict[str, Any]:
    """Write result and drawing, by names that tell the seeds: two of them do not replace five hundred."""
    done_n = sum(str(seed) in progress.done for seed in seeds)
    result = {
        "benchmark": "closed_loop",
        "version": VERSION,
        "code_sha256": code_sha256(),
        "seeds": done_n,
        "of": len(seeds),
        "horizon_s": options.horizon,
        "agents": figures(progress.done, seeds, agents),
        "mean_downtime_s": by_fault(progress.done, seeds, ("none", *agents, "oracle")),
    }
    which = f"{seeds.start}-{seeds.stop - 1}"
    (options.out / f"result-{which}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    title = f"Downtime behind a fault, mean of {done_n} runs of {options.horizon / 60:.0f} min"
    drawn = svg(title, result["mean_downtime_s"], ("none", *agents, "oracle"), "s")
    (options.out / f"closed-loop-{which}.svg").write_text(drawn, encoding="utf-8")
    return result


def _key(
    configuration: Configuration,
    agents: Sequence[str],
    horizon_s: float,
    models: Mapping[str, Model],
    folder: Path = Path(__file__).parent,
) -> str:
    """Return a name under which only results of the same experiment lie.

    Args:
        configuration: Whose plant and rules.
        agents: Reasoners by name.
        horizon_s: Plant time behind the onset.
        models: Of all of them, loaded: a model's identity has the digest of its weights.
        folder: Of the benchmark's own code.
    """
    files = [configuration.sha256(name) for name in sorted(configuration.files)]
    own = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        own.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    weights = {name: model.identity for name, model in sorted(models.items())}
    depends = [code_sha256(), own.hexdigest(), files, agents, horizon_s, weights]
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
