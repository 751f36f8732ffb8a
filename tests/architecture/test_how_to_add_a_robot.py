"""Follows docs/how-to-add-a-robot.md in a copy of the tree: folder, line, bench, and the suite takes it up."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to-add-a-robot.md"
SUITE_S_MAX = 120
MYPY_S_MAX = 240


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    leave = shutil.ignore_patterns("__pycache__")
    for package in ("schemas", "agent", "connectors", "pipelines", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def files() -> dict[str, str]:
    """Return the page's modules by the path that stands before each."""
    return dict(
        re.findall(r"`((?:connectors|tests)/[\w/]+\.py)`:\n\n```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    )


def table_lines() -> tuple[str, str]:
    """Return the function that makes one, and the line of the table."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    making, line = (block for block in blocks if block not in files().values())
    return making, line


def follow_the_page(tree: Path, **changes: tuple[str, str]) -> None:
    for name, text in files().items():
        (tree / name).parent.mkdir(exist_ok=True)
        old, new = changes.get(Path(name).stem, ("", ""))
        assert old in text
        (tree / name).write_text(text.replace(old, new) if old else text)
    making, line = table_lines()
    table = tree / "connectors/robots/__init__.py"
    text = table.read_text().replace("\n\nROBOTS:", f"\n\n{making}\n\nROBOTS:")
    assert '"opcua_methods": _opcua_methods}' in text
    table.write_text(text.replace('"opcua_methods": _opcua_methods}', f'"opcua_methods": _opcua_methods,\n{line}}}'))


def contract_suite(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "tests/contracts/test_robot.py", "-k", "json_lines"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=tree, capture_output=True, text=True, timeout=SUITE_S_MAX, check=False,
    )  # fmt: skip


def test_the_page_has_the_three_files_of_a_kind_and_a_bench():
    assert [Path(name).name for name in files()] == ["values.py", "codec.py", "interface.py", "json_lines.py"]


def test_the_page_adds_a_robot_that_the_contract_suite_takes_up(tree):
    follow_the_page(tree)
    result = contract_suite(tree)
    assert result.returncode == 0, result.stdout[-3000:]
    assert result.stdout.count("PASSED tests/contracts/test_robot.py") >= 14


def test_a_kind_without_a_bench_is_named(tree):
    follow_the_page(tree)
    (tree / "tests/contracts/benches/json_lines.py").unlink()
    result = contract_suite(tree)
    assert result.returncode != 0
    assert "No module named 'tests.contracts.benches.json_lines'" in result.stdout


def test_a_robot_that_takes_a_refused_query_for_the_commands_end_is_caught(tree):
    follow_the_page(tree, interface=("return of_query(_outcome(", "return ((_outcome("))
    assert "FAILED tests/contracts/test_robot.py::test_a_query_that_is_refused" in contract_suite(tree).stdout


def test_the_modules_of_the_page_are_typed_and_in_the_house_style(tree):
    follow_the_page(tree)
    linted = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "connectors/robots", "tests/contracts"],
        cwd=tree, capture_output=True, text=True, timeout=SUITE_S_MAX, check=False,
    )  # fmt: skip
    assert linted.returncode == 0, linted.stdout
    typed = subprocess.run(
        [sys.executable, "-m", "mypy", "-p", "connectors.robots"],
        cwd=tree, capture_output=True, text=True, timeout=MYPY_S_MAX, check=False,
    )  # fmt: skip
    assert typed.returncode == 0, typed.stdout
