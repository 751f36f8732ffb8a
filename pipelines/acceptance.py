"""Acceptance on labelled recordings kept outside the repository: `make acceptance DATA=DIR`.

Every file below `DIR/skab` goes from disk through the embedded runtime to episodes and incidents in a log of its own;
that log must verify, and its replay must come to the same facts, byte for byte.
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
from schemas.errors import JidokaError


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder that holds skab/")
    options = parser.parse_args(arguments)
    failed, files = 0, find([options.data / "skab"])
    with tempfile.TemporaryDirectory() as scratch:
        for number, path in enumerate(files, 1):
            failed += not _one(path, Path(scratch) / str(number), f"{number}/{len(files)}", options.data)
    print(json.dumps({"files": len(files), "failed": failed}))
    return 1 if failed else 0


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
