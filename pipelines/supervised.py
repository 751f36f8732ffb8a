"""A process that does not outlive its supervisor: runs a module, and ends it when its standard input ends.

    python -m pipelines.supervised MODULE ARGUMENT...

Standard input is the line to the supervisor, which never writes to it. The kernel closes it when the supervisor is
gone, however it went: kill -9 too. A signal of the kernel's own (`PR_SET_PDEATHSIG`) would do the same on Linux only,
and would miss a supervisor that goes before it is asked for.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

ORDERLY_S: Final = 15.0
"""Wall time for an orderly end; then the process kills itself. As long as the supervisor gives it."""
READ_BYTES: Final = 4096


def end_with_stdin(orderly_s: float = ORDERLY_S) -> None:
    """End this process when standard input ends: as SIGTERM would, and if that does not help, at once."""
    threading.Thread(target=_watch, args=(orderly_s,), name="supervised", daemon=True).start()


def _watch(orderly_s: float) -> None:
    # Not through sys.stdin: its lock would be held for ever, also where the interpreter ends.
    while os.read(0, READ_BYTES):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(orderly_s)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the module of the command line as if it had been called by itself."""
    end_with_stdin()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
