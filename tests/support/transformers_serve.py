"""`transformers serve` on a model of our own: a server that nobody here wrote, and that ignores a schema in silence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from connectors.kafka.ports import free_ports

UP_WITHIN_S = 240.0


@contextmanager
def transformers_serve(model: Path, folder: Path) -> Iterator[str]:
    """Run it on the loopback until the block ends; yields its address up to and with `/v1`."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    # It looks into the hub's cache, which must be there, and must ask nobody.
    hub = folder / "hub"
    hub.mkdir(parents=True)
    environment = {**os.environ, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [Path(sys.executable).with_name("transformers"), "serve", model, "--device", "cpu",
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            _until_up(process, url, folder / "serve.log")
            yield f"{url}/v1"
        finally:
            process.terminate()
            process.wait(30)


def _until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until_s = time.monotonic() + UP_WITHIN_S
    while True:
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < until_s, log.read_text()[-2000:]
        time.sleep(0.25)
