"""What the layout promises: who may import whom, what the core may not touch, and that generated files are fresh."""

import ast
import importlib
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from agent.cell import CellState, apply
from pipelines.jsonschema import documents, stale, write
from schemas import facts
from schemas.facts import AnyFact, decode, encode
from tests.support.arbitrary import FACT_TYPES
from tests.support.demo import CELL

ROOT = Path(__file__).parents[2]
PURE = sorted([*(ROOT / "agent").rglob("*.py"), *(ROOT / "schemas").rglob("*.py")])
FORBIDDEN = {
    "open()", "print()", "input()", "eval()", "exec()", "compile()", "breakpoint()", "__import__()", "uuid4()",
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns", "time.monotonic",
    "time.perf_counter", "time.sleep", "uuid.uuid1", "uuid.uuid4", "os.environ", "os.getenv", "os.urandom",
    "secrets.token_bytes", "secrets.token_hex",
}  # fmt: skip
MODULES = {"asyncio", "datetime", "logging", "os", "pathlib", "random", "secrets", "socket", "sqlite3", "subprocess",
           "threading", "time"}  # fmt: skip
"""Modules that the core has no use for at all."""


def names_of(path: Path) -> set[str]:
    """Every dotted name that a module uses, every function that it calls, and every module that it imports."""
    used: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            used.add(".".join(ast.unparse(node).split(".")[-2:]))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            used.add(f"{node.func.id}()")
        elif isinstance(node, ast.Import):
            used |= {"import " + alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used.add("import " + str(node.module).split(".")[0])
    return used


def test_the_import_contracts_hold():
    command = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* kept, 0 broken", done.stdout)


@pytest.mark.parametrize("package", ["schemas", "agent", "connectors", "pipelines", "tests"])
def test_each_package_is_that_of_this_tree(package):
    module = importlib.import_module(package)
    assert Path(str(module.__file__)).parent == ROOT / package


def test_every_helper_of_the_tests_can_be_imported():
    """A name that moved is told here, by `make check`, not in the middle of the long run."""
    helpers = sorted((ROOT / "tests" / "support").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in helpers]
    done = subprocess.run(
        [sys.executable, "-c", f"import importlib; [importlib.import_module(name) for name in {names}]"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert len(names) > 30
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_reads_no_clock_file_environment_or_chance(path):
    used = names_of(path)
    assert not used & FORBIDDEN
    assert not used & {f"import {module}" for module in MODULES}


def test_the_test_of_purity_would_see_it(tmp_path):
    impure = tmp_path / "impure.py"
    impure.write_text("import time\nimport datetime as dt\nx = dt.datetime.now()\nopen('x')\ntime.time()\n")
    assert {"open()", "datetime.now", "time.time", "import time", "import datetime"} <= names_of(impure)


def test_every_fact_has_a_name_of_its_own_with_a_version():
    names = [kind.__struct_config__.tag for kind in FACT_TYPES]
    assert len(set(names)) == len(names) > 40
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+/[1-9]\d*", str(name)) for name in names)


def test_the_union_is_closed_over_every_fact_of_the_module():
    defined = {kind for kind in vars(facts).values() if isinstance(kind, type) and issubclass(kind, facts.Fact)}
    assert defined - {facts.Fact} == set(FACT_TYPES)
    parts = [set(typing.get_args(part)) for part in (facts.External, facts.Detected, facts.Concluded)]
    assert sum(map(len, parts)) == len(FACT_TYPES)


def example(hint: object) -> object:
    """Some value of a field's type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return inner[0]
    if origin in (tuple, dict):
        return origin()
    if inner:
        return example(inner[0])
    if isinstance(hint, type) and hasattr(hint, "__struct_fields__"):
        return hint(**{n: example(t) for n, t in typing.get_type_hints(hint).items() if n in hint.__struct_fields__})
    return {int: 1, float: 1.0, str: "x", bool: True}[hint]


@pytest.mark.parametrize("kind", FACT_TYPES, ids=lambda kind: kind.__struct_config__.tag)
def test_every_fact_is_stored_read_and_folded(kind):
    fact = typing.cast(AnyFact, example(kind))
    assert decode(encode(fact)) == fact
    assert apply(CellState(CELL), fact).at == fact.at


def test_the_schemas_that_are_checked_in_are_fresh():
    assert stale() == [], "run: python -m pipelines.jsonschema"
    assert documents() == documents()


def test_a_stale_a_missing_and_a_needless_schema_are_named(tmp_path):
    write(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "facts.json").write_text("{}")
    (tmp_path / "plant.json").unlink()
    (tmp_path / "old.json").write_text("{}")
    assert stale(tmp_path) == ["facts.json", "old.json", "plant.json"]
    write(tmp_path)
    assert stale(tmp_path) == []
