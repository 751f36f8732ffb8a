"""The full counts: seeded, resumable, with a result file that documentation quotes. `make soak`.

    python -m pipelines.soak [--only NAME] [--seed N] [--fresh] --out soak/results.json

From the repository's root, since it uses what the tests use. Each run is a list of units; after each unit its result is
appended to a progress file beside the results, so Ctrl-C loses one unit at most and the same command goes on. Progress
of other code or another seed is not taken over.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.opening import VERSION, code_sha256
from pipelines.soak_runs import RUNS
from pipelines.soak_units import Outcome, Unit

CONFIDENCE = 0.95
FAILURES_KEPT = 20
"""Failures that the result file spells out; the count has all of them."""
PARTS = ("asyncua", "cryptography", "msgspec", "mujoco", "numpy", "polars", "pydantic")


def upper_bound(failures_n: int, trials_n: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided upper bound of a failure rate (Clopper and Pearson, Biometrika 26, 1934).

    >>> round(upper_bound(0, 3000), 6), round(upper_bound(1, 100), 4)
    (0.000998, 0.0466)
    """
    if trials_n == 0 or failures_n >= trials_n:
        return 1.0
    if failures_n == 0:
        return float(1.0 - (1.0 - confidence) ** (1.0 / trials_n))
    low, high = failures_n / trials_n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(failures_n, trials_n, middle) > 1.0 - confidence else (low, middle)
    return high


def _at_most(k: int, n: int, p: float) -> float:
    """Return P(X <= k) of a binomial with 0 < p < 1."""
    term = total = (1.0 - p) ** n
    for i in range(1, k + 1):
        term *= (n - i + 1) / i * p / (1.0 - p)
        total += term
    return total


class Progress:
    """One run's finished units, one JSON line each."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            path.unlink(missing_ok=True)
        self.done: dict[str, dict[str, Any]] = {}
        written = path.read_text(encoding="utf-8") if path.exists() else ""
        if written and not written.endswith("\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")
        for text in written.splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue  # torn when the machine went down
            self.done[line["unit"]] = line

    def add(self, unit: str, outcome: Outcome, took_s: float) -> None:
        """Keep a unit's result durably."""
        line = {
            "unit": unit,
            "trials": outcome.trials_n,
            "failures": list(outcome.failures),
            "figures": dict(outcome.figures),
            "took_s": round(took_s, 3),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[unit] = line


def run(name: str, units: Sequence[Unit], progress: Progress) -> None:
    """Do what is left of a run, telling on stderr how it goes: stdout is for results."""
    left = [unit for unit in units if unit.name not in progress.done]
    began_s = time.monotonic()
    for number, unit in enumerate(left, 1):
        unit_began_s = time.monotonic()
        progress.add(unit.name, unit.work(), time.monotonic() - unit_began_s)
        passed_s = time.monotonic() - began_s
        left_s = passed_s / number * (len(left) - number)
        lines = progress.done.values()
        trials_n, failures_n = sum(x["trials"] for x in lines), sum(len(x["failures"]) for x in lines)
        print(
            f"{name}: {len(units) - len(left) + number}/{len(units)} units, {trials_n} trials, {failures_n} failures, "
            f"{number / passed_s:.2f} units/s, {left_s / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )


def summary(units: Sequence[Unit], done: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what came of a run so far."""
    lines = [done[unit.name] for unit in units if unit.name in done]
    trials_n = sum(line["trials"] for line in lines)
    failures = [f"{line['unit']}: {text}" for line in lines for text in line["failures"]]
    return {
        "complete": len(lines) == len(units),
        "units": len(lines),
        "of": len(units),
        "trials": trials_n,
        "failures": len(failures),
        "failure_rate_upper_bound_95_pct": upper_bound(len(failures), trials_n),
        "duration_s": round(sum(line["took_s"] for line in lines), 1),
        "figures": _figures(lines),
        "failed": failures[:FAILURES_KEPT],
    }


def _figures(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return smallest, middle and largest of each figure over all units."""
    values: dict[str, list[float]] = {}
    for line in lines:
        for key, value in line["figures"].items():
            values.setdefault(key, []).append(value)
    return {
        key: {"min": min(v), "median": sorted(v)[len(v) // 2], "max": max(v), "sum": round(sum(v), 6)}
        for key, v in values.items()
    }


def _versions() -> dict[str, str]:
    parts = {name: version(name) for name in PARTS}
    return {"jidoka": VERSION, "code_sha256": code_sha256(), "python": platform.python_version(), **parts}


def _chosen(only: Sequence[str]) -> Iterator[str]:
    for name in RUNS:
        if not only or name in only:
            yield name


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns 0 if everything asked for is complete and nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.soak", description=__doc__)
    parser.add_argument("--only", action="append", default=[], choices=list(RUNS), help="may be given again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="begin again")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    versions = _versions()
    try:
        before = json.loads(options.out.read_text(encoding="utf-8")).get("runs", {})
    except (OSError, ValueError):
        before = {}
    results: dict[str, Any] = {"versions": versions, "cores": os.cpu_count(), "runs": before}
    good = True
    for name in _chosen(options.only):
        units = list(RUNS[name](options.seed))
        path = options.out.parent / "progress" / f"{name}-{options.seed}-{versions['code_sha256'][:12]}.jsonl"
        progress = Progress(path, fresh=options.fresh)
        stopped = False
        try:
            run(name, units, progress)
        except KeyboardInterrupt:
            stopped = True
        result = {"seed": options.seed, "code_sha256": versions["code_sha256"], **summary(units, progress.done)}
        results["runs"][name] = result
        _write(options.out, results)
        good = good and result["complete"] and not result["failures"]
        if stopped:
            print(f"stopped in {name}: the same command goes on", file=sys.stderr)
            return 130
    return 0 if good else 1


def _write(path: Path, results: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
