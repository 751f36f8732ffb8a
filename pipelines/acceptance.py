"""Acceptance on labelled recordings kept outside the repository: `make acceptance DATA=DIR`.

Every file below `DIR/skab` goes from disk through the embedded runtime to episodes and incidents in a log of its own;
that log must verify, and its replay must come to the same facts, byte for byte. Then the published protocols run over
whatever sets are there, and where a scorer stands beside the folder (`score.py`), each figure must equal its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from pipelines.backtest import find
from pipelines.playback import play_back
from pipelines.proof import prove
from pipelines.protocols.agreement import compare, others
from pipelines.protocols.layout import PROTOCOLS, protocols_in
from pipelines.protocols.results import text
from pipelines.protocols.running import run
from schemas.errors import JidokaError


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder that holds skab/, and perhaps tep/ and nab/")
    parser.add_argument("--scorer", type=Path, help="another scorer; else score.py in that folder or beside it")
    options = parser.parse_args(arguments)
    failed, files = 0, find([options.data / "skab"])
    with tempfile.TemporaryDirectory() as scratch:
        for number, path in enumerate(files, 1):
            failed += not _one(path, Path(scratch) / str(number), f"{number}/{len(files)}", options.data)
        agreed = _protocols(options.data, options.scorer or _scorer_beside(options.data), Path(scratch))
    print(json.dumps({"files": len(files), "failed": failed, "scorers_agree": agreed}))
    return 1 if failed or agreed is False else 0


def _scorer_beside(data: Path) -> Path | None:
    places = (data / "score.py", data.absolute().parent / "score.py")
    return next((place for place in places if place.is_file()), None)


def _protocols(data: Path, scorer: Path | None, scratch: Path) -> bool | None:
    """Score every set that is there; return whether another scorer says the same, None if there is no other."""
    results = run(data, protocols_in(data, PROTOCOLS))
    print(text(results), flush=True)
    if any(ran.errors for ran in results):
        return False
    if scorer is None:
        return None
    compared, differing = compare(results, others(scorer, data, results, scratch))
    for each in differing:
        print(f"differs from {scorer.name}: {each}", flush=True)
    print(f"{compared - len(differing)} of {compared} figures equal those of {scorer.name}", flush=True)
    return compared > 0 and not differing


def _one(path: Path, folder: Path, count: str, data: Path) -> bool:
    try:
        came = play_back(path, folder)
        proof = prove(folder)
    except JidokaError as error:
        print(f"{count} {path.relative_to(data)}: FAILED: {error}", flush=True)
        return False
    found = f"{came.inputs} inputs, {came.episodes} episodes, {came.incidents} incidents"
    print(f"{count} {path.relative_to(data)}: {found}; {proof.text}", flush=True)
    return proof.good


if __name__ == "__main__":
    sys.exit(main())
