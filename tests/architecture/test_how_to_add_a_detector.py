"""Follows docs/how-to-add-a-detector.md in a copy of the tree: one file, one line, and the contract suite takes it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to-add-a-detector.md"
SUITE_S_MAX = 120


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    leave = shutil.ignore_patterns("__pycache__")
    for package in ("schemas", "agent", "connectors", "pipelines", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def code_blocks() -> tuple[str, str]:
    """Return the page's module and the page's line."""
    module, line = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return module, line


def contract_suite(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "tests/contracts/test_detector.py", "-k", "rate"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=tree, capture_output=True, text=True, timeout=SUITE_S_MAX, check=False,
    )  # fmt: skip


def follow_the_page(tree: Path, module: str, line: str) -> None:
    (tree / "pipelines/detectors/rate.py").write_text(module)
    table = tree / "pipelines/detectors/__init__.py"
    text = table.read_text().replace("\n\nDETECTORS", "\nfrom pipelines.detectors.rate import Rate\n\nDETECTORS")
    table.write_text(text.replace('    "shift": Shift,\n', '    "shift": Shift,\n' + line))


def test_the_page_adds_a_detector_that_the_contract_suite_takes_up(tree):
    follow_the_page(tree, *code_blocks())
    result = contract_suite(tree)
    assert result.returncode == 0, result.stdout[-3000:]
    assert result.stdout.count("PASSED tests/contracts/test_detector.py") > 40


def test_a_detector_that_forgets_part_of_its_memory_is_caught(tree):
    module, line = code_blocks()
    broken = module.replace('self._usual, self._last = state["usual"], state["last"]', 'self._last = state["last"]')
    assert broken != module
    follow_the_page(tree, broken, line)
    assert "FAILED tests/contracts/test_detector.py::test_restored_memory" in contract_suite(tree).stdout
