"""A model that has no room is refused before its weights are read; the process and its playbook live on."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path

import pytest

from connectors.reasoners import memory
from connectors.reasoners.memory import check_room, free_bytes, wanted_bytes
from pipelines.local_model import LocalModel
from pipelines.model_checks import _files
from schemas.errors import ConfigError, ConnectionFault
from schemas.settings import TransformersSettings

GB = 10**9


def weights(path: Path, *shapes: list[int], hole_bytes: int = 0) -> None:
    """Write a safetensors file whose tensors are a hole on the disk: as large as they say, and nothing is there."""
    at, table = 0, {"__metadata__": {"format": "pt"}}
    for number, shape in enumerate(shapes):
        size = 2
        for side in shape:
            size *= side
        table[f"t{number}"] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(table).encode()
    with path.open("wb") as opened:
        opened.write(struct.pack("<Q", len(header)) + header)
        opened.truncate(8 + len(header) + (hole_bytes or at))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    return tmp_path


def settings(folder: Path, dtype: str = "bfloat16") -> TransformersSettings:
    return TransformersSettings(name="large", model=str(folder), dtype=dtype, device="cpu")


@pytest.mark.parametrize(("dtype", "gb"), [("float32", 4.4), ("bfloat16", 2.2), ("fp8", 1.1), ("int8", 2.2)])
def test_what_is_wanted_counts_every_file_by_the_precision_that_is_set(folder: Path, dtype: str, gb: float) -> None:
    weights(folder / "model-1.safetensors", [500, 1_000_000])
    weights(folder / "model-2.safetensors", [400_000_000], [100, 1_000_000])
    assert wanted_bytes(settings(folder, dtype), folder) == pytest.approx(gb * GB + memory.SPARE_BYTES, rel=1e-6)


def test_a_model_larger_than_the_machine_is_refused_and_the_process_lives(folder: Path) -> None:
    free = free_bytes()
    assert free is not None, "a machine that does not say what is free cannot be protected"
    weights(folder / "model.safetensors", [free, 2], hole_bytes=1 << 20)
    model = LocalModel(settings(folder))
    assert not model.wait(60)
    with pytest.raises(ConnectionFault, match=r"wants .* GB of memory as bfloat16, .* GB are free\. Take fewer bits"):
        asyncio.run(model.answer(None, deadline_s=1.0))  # type: ignore[arg-type]


def test_doctor_says_so_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.model_checks.NEEDED", ())
    weights(folder / "model.safetensors", [10**13, 2], hole_bytes=1 << 20)
    check = _files(settings(folder))
    assert not check.ok
    assert "of memory" in check.detail
    assert check.remedy.startswith("Take fewer bits")


def test_gpus_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 1 * GB)
    weights(folder / "model.safetensors", [1 * GB])
    with pytest.raises(ConnectionFault, match=r"wants 2\.7 GB of memory as bfloat16, 1\.0 GB are free"):
        check_room(settings(folder), folder)
    check_room(settings(folder), folder, beside_bytes=2 * GB)


@pytest.mark.parametrize("wrong", [b"", b"\xff" * 8, struct.pack("<Q", 9) + b"not json!", struct.pack("<Q", 2) + b"[]"])
def test_a_file_that_is_no_safetensors_is_named(folder: Path, wrong: bytes) -> None:
    (folder / "model.safetensors").write_bytes(wrong)
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        wanted_bytes(settings(folder), folder)


def test_a_container_has_less_than_its_machine(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       32000000 kB\nMemAvailable:   16000000 kB\nHugePages_Total:       0\n")
    assert free_bytes(meminfo, tmp_path) == 16_384_000_000
    for most, free in [("max", 16_384_000_000), ("5000000000", 2_000_000_000), ("2000000000", 0)]:
        (tmp_path / "memory.max").write_text(most + "\n")
        (tmp_path / "memory.current").write_text("3000000000\n")
        assert free_bytes(meminfo, tmp_path) == free
    assert free_bytes(tmp_path / "none", tmp_path) is None
