"""Whether a model's weights fit into this machine's memory, told before they are loaded.

A kernel that runs out of memory ends a process without a word, and the agent's is the one that grows. So the sizes in
the weights' headers are read first, and a model without room is refused as one that cannot be loaded: the playbook
answers.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import ConfigError, ConnectionFault
from schemas.settings import TransformersSettings

PARAMETER_BYTES: Final = {"float32": 4, "bfloat16": 2, "fp8": 1, "int8": 2}
"""Of one parameter while it is loaded, by `dtype`; for int8 the weights are read as bfloat16 first."""
BESIDE: Final = 1.1
"""Memory to weights: activations, keys and values of one question of at most a few thousand tokens."""
SPARE_BYTES: Final = 512 << 20
"""Left for the agent itself and what else runs."""
HEADER_BYTES_MAX: Final = 100 << 20
"""Of a safetensors file; as the format's own reader has it."""
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def check_room(settings: TransformersSettings, folder: Path, *, beside_bytes: int = 0) -> None:
    """Refuse a model that would fill this machine's memory.

    Args:
        settings: Of the model.
        folder: Its files.
        beside_bytes: Free memory of the GPUs over which it may be spread.

    Raises:
        ConfigError: the files are not as they must be.
        ConnectionFault: no room; says how much is wanted, and what to do.
    """
    free = free_bytes()
    wanted = wanted_bytes(settings, folder)
    if free is None or wanted <= free + beside_bytes:
        return
    gpus = f" and {beside_bytes / 1e9:.1f} GB on GPUs" if beside_bytes else ""
    raise ConnectionFault(
        f"{settings.model} wants {wanted / 1e9:.1f} GB of memory as {settings.dtype}, {free / 1e9:.1f} GB{gpus} are "
        "free. Take fewer bits (dtype), a smaller model, or serve it by a process of its own (reasoners.servers)"
    )


def wanted_bytes(settings: TransformersSettings, folder: Path) -> int:
    """Return what loading and asking a model takes, by the headers of its weights. Reads no weights.

    Raises:
        ConfigError: the files are not as they must be.
    """
    parameters = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            parameters += _parameters_n(path)
        except (OSError, ValueError, msgspec.DecodeError, struct.error) as error:
            raise ConfigError(
                "jidoka.toml", f"reasoners.{settings.name}.model", f"{path}: {error}", "Fetch the file again"
            ) from error
    return math.ceil(parameters * PARAMETER_BYTES[settings.dtype] * BESIDE) + SPARE_BYTES


class _Entry(msgspec.Struct):
    """A tensor; or what the file says about itself, which has no shape."""

    shape: tuple[int, ...] = (0,)


def _parameters_n(path: Path) -> int:
    """Return how many numbers a file holds: its first eight bytes are the length of a JSON table of tensors."""
    with path.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        if length > HEADER_BYTES_MAX:
            raise ValueError(f"a header of {length} bytes is not of safetensors")
        table = msgspec.json.decode(opened.read(length), type=dict[str, _Entry])
    return sum(math.prod(entry.shape) for entry in table.values())


def free_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Return what can be taken without swapping, of the machine and of the container; None: it does not say."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        most, used = ((cgroup / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if most == "max" else min(free, max(int(most) - int(used), 0))
