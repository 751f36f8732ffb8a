"""llama-cpp-python's server on a model of our own: nobody here wrote it, and it keeps to a schema.

It is compiled on first use, in an environment of its own below `var/`, which git does not see.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx

from connectors.kafka.ports import free_ports

HERE = Path(__file__).parent
HOME = HERE.parents[1] / "var/llama"
REQUIREMENTS = HERE / "requirements-llama.txt"
COMPILE = ("-DGGML_NATIVE=OFF", "-DGGML_OPENMP=OFF", "-DLLAVA_BUILD=OFF", "-DCMAKE_CXX_FLAGS_RELEASE=-O1")
"""For any machine of this kind, with nothing beside a compiler, no pictures, and soon done: nobody asks for speed."""
INSTALL_WITHIN_S, UP_WITHIN_S, CONVERT_WITHIN_S, STOP_WITHIN_S = 3600.0, 120.0, 60.0, 30.0
TOLD_EVERY_S = 15.0
CONTEXT_TOKENS = 8192
STEP = re.compile(rb"\[(\d+/\d+)\]")


@cache
def python() -> Path:
    """Return the Python that has llama.cpp; make it first if it is not there or of other requirements.

    Raises:
        AssertionError: it cannot be made; the end of what was said is in it.
    """
    found, done = HOME / "venv/bin/python", HOME / "installed.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + " ".join(COMPILE).encode()).hexdigest()
    if found.exists() and done.exists() and done.read_text() == wanted:
        return found
    HOME.mkdir(parents=True, exist_ok=True)
    venv.create(HOME / "venv", with_pip=True, clear=True)
    _install(found)
    done.write_text(wanted)
    return found


def _install(python: Path) -> None:
    """Compile and install, politely, telling on stderr how far it is: it takes minutes."""
    words = ["nice", "-n", "10", str(python), "-m", "pip", "install", "--verbose", "--no-binary", "llama-cpp-python",
             "--requirement", str(REQUIREMENTS)]  # fmt: skip
    log = HOME / "install.log"
    environment = {**os.environ, "CMAKE_ARGS": " ".join(COMPILE)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            _until_installed(process, log)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # the compilers too: the session is theirs alone
                process.wait(STOP_WITHIN_S)
    assert process.returncode == 0, f"{log}: {log.read_text(errors='replace')[-2000:]}"


def _until_installed(process: subprocess.Popen[bytes], log: Path) -> None:
    began_s = told_s = time.monotonic()
    while process.poll() is None:
        now_s = time.monotonic()
        assert now_s - began_s < INSTALL_WITHIN_S, f"llama.cpp was not compiled within {INSTALL_WITHIN_S:g} s: {log}"
        if now_s - told_s >= TOLD_EVERY_S:
            steps = STEP.findall(log.read_bytes())
            step = steps[-1].decode() if steps else "not yet"
            print(f"llama-cpp-python: compiled {step}, {now_s - began_s:.0f} s", file=sys.stderr, flush=True)
            told_s = now_s
        time.sleep(0.5)


def converted(folder: Path) -> Path:
    """Return a model of transformers as a file that llama.cpp reads, beside it."""
    path = folder.with_suffix(".gguf")
    run(HERE / "qwen2_gguf.py", folder, path)
    return path


def run(script: Path, *arguments: object, said: str = "") -> str:
    """Run a script with the Python that has llama.cpp; return what it prints."""
    words = list(map(str, (python(), script, *arguments)))
    done = subprocess.run(
        words, input=said, capture_output=True, text=True, timeout=CONVERT_WITHIN_S, env=_environment(), check=False
    )
    assert done.returncode == 0, f"{script.name}: {done.stderr[-2000:]}"
    return done.stdout


@contextmanager
def llama_server(model: Path, log: Path) -> Iterator[str]:
    """Serve a `.gguf` on the loopback until the block ends; yields the address up to and with `/v1`."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/v1"
    settings = {"model": model, "model_alias": model.stem, "host": "127.0.0.1", "port": port, "n_ctx": CONTEXT_TOKENS,
                "n_threads": 1, "n_threads_batch": 1}  # fmt: skip
    words = [str(python()), "-m", "llama_cpp.server"]
    words += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=_environment())
        try:
            _until_up(process, f"{url}/models", log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment() -> dict[str, str]:
    """Return the environment without what would move the server elsewhere."""
    return {name: value for name, value in os.environ.items() if name not in ("HOST", "PORT", "CONFIG_FILE")}


def _until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until_s = time.monotonic() + UP_WITHIN_S
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        assert time.monotonic() < until_s, log.read_text(errors="replace")[-2000:]
        time.sleep(0.25)
