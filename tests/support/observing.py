"""Runs what `jidoka run` runs, and says at the end which modules the process holds."""

from __future__ import annotations

import json
import sys

from pipelines.cli import main

if __name__ == "__main__":
    sys.argv = ["jidoka", "run", "--config", sys.argv[1]]
    try:
        main()
    finally:
        print(json.dumps(sorted(sys.modules)), flush=True)
