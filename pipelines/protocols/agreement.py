"""Our figures held against those of another scorer of the same table of predictions, digit for digit.

The other scorer is a program that takes `TABLE --data FOLDER --json OUT`; its names stand on the right.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipelines.protocols.marks import ALL, Figures
from pipelines.protocols.predictions import write
from pipelines.protocols.running import WHO, Ran
from schemas.errors import JidokaError

TOLERANCE: Final = 1e-9
"""Sums in another order."""
SCORER_S: Final = 300.0
"""Wall time that the other scorer may take."""
SKAB: Final[Mapping[str, str]] = {
    "f1": "F1", "far_pct": "FAR", "mar_pct": "MAR", "precision": "precision", "mcc": "MCC",
    "tp": "TP", "fp": "FP", "fn": "FN", "tn": "TN", "rows": "n",
    "segments": "segments", "segment_recall": "seg_recall", "delay_mean_s": "delay_mean_s",
    "delay_median_s": "delay_median_s", "alarm_before_onset": "prelit", "false_episodes": "false_episodes",
    "false_episodes_per_h": "false_episodes_per_h", "cp_standard": "NAB_Standard", "cp_low_fp": "NAB_LowFP",
    "cp_low_fn": "NAB_LowFN", "cp_missed": "CP_missed", "cp_false": "CP_FP", "cp_delay_mean_s": "CP_delay_s",
}  # fmt: skip
NAB: Final[Mapping[str, str]] = {
    "standard": "standard", "low_fp": "reward_low_FP_rate", "low_fn": "reward_low_FN_rate",
}  # fmt: skip


class ScorerFault(JidokaError):
    """The other scorer did not do its part."""


def others(scorer: Path, folder: Path, results: Sequence[Ran], scratch: Path) -> dict[str, Any]:
    """Return what another scorer says of the same predictions.

    Raises:
        ScorerFault: it failed or took too long.
    """
    predictions, answer = scratch / "predictions.parquet", scratch / "answer.json"
    write([each.predictions for ran in results for each in ran.judged], predictions)
    command = [sys.executable, str(scorer), str(predictions), "--data", str(folder), "--json", str(answer)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=SCORER_S)
        figures: dict[str, Any] = json.loads(answer.read_bytes())
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise ScorerFault(f"{scorer}: {said.strip()}") from error
    return figures


def compare(results: Sequence[Ran], theirs: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Return how many figures were compared, and those that differ, in words."""
    compared, differing = 0, list[str]()
    for name, ours, other in _pairs(results, theirs):
        compared += 1
        if not _same(ours, other):
            differing.append(f"{name}: {ours} here, {other} there")
    return compared, differing


def _same(ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return abs(ours - theirs) <= TOLERANCE * max(1.0, abs(theirs))


def _pairs(results: Sequence[Ran], theirs: Mapping[str, Any]) -> Iterator[tuple[str, float | int | None, float | None]]:
    for ran in results:
        lines = {line.part: line.figures for line in ran.lines() if line.who == WHO}
        if ran.protocol == "skab":
            for part, figures in lines.items():
                given = theirs.get("skab" if part == ALL else f"skab_{part}")
                if given is not None:
                    yield from ((f"skab {part} {our}", figures[our], given[their]) for our, their in SKAB.items())
        elif ran.protocol == "tep" and lines:
            yield from _tep(lines, theirs["tep"])
        elif ran.protocol == "nab" and lines:
            for our, their in NAB.items():
                yield f"nab {our}", lines[ALL][our], theirs["nab"][their]["score"]
                yield f"nab {our}_threshold", lines[ALL][f"{our}_threshold"], theirs["nab"][their]["threshold"]
            yield "nab windows", lines[ALL]["windows"], theirs["nab"]["windows"]


def _tep(lines: Mapping[str, Figures], theirs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    overall = lines[ALL]
    yield "tep far_pct", overall["far_pct"], theirs["FAR"]
    yield "tep missed_all_pct", overall["missed_all_pct"], 100 * theirs["MDR_all"]
    yield "tep missed_pct", overall["missed_pct"], 100 * theirs["MDR_no_3_9_15"]
    yield "tep detected", overall["detected"], theirs["detected"]
    for fault, given in theirs["faults"].items():
        yield f"tep {fault} missed_pct", lines[fault]["missed_pct"], 100 * given["MDR"]
        yield f"tep {fault} delay_rows", lines[fault]["delay_rows"], given["delay_samples"]
