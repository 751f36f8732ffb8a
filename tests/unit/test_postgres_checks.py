"""What the doctor says of a real PostgreSQL: rights, clock, states, and what an administrator must do."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from connectors.clock import SystemClock
from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.postgres_checks import NEEDED, check_database
from schemas.settings import PostgresSettings, User
from tests.support.postgres import PASSWORD, PostgresServer

ROOT = Path(__file__).parents[2]


def said(settings: PostgresSettings) -> dict[str, tuple[bool, str, str]]:
    return {check.name: (check.ok, check.detail, check.remedy) for check in check_database(settings)}


def begin(settings: PostgresSettings, folder: Path) -> None:
    """Make the tables, as the first start does."""

    async def go() -> None:
        async with await PostgresStore.open(settings, folder, clock=SystemClock()):
            pass

    asyncio.run(go())


@contextlib.contextmanager
def user(server: PostgresServer, settings: PostgresSettings, name: str, *rights: str) -> Iterator[PostgresSettings]:
    """Lend a user that has these rights in the schema."""
    with server.admin(settings.database) as db:
        db.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        db.execute(f"GRANT USAGE ON SCHEMA jidoka TO {name}")
        for right in rights:
            db.execute(f"GRANT {right} TO {name}")
    password = server.folder / "password"
    yield settings.model_copy(update={"user": User(name=name, password_file=str(password))})
    with server.admin(settings.database) as db:
        db.execute(f"DROP OWNED BY {name}")
        db.execute(f"DROP ROLE {name}")


def needed() -> list[str]:
    return [f"{', '.join(rights)} ON jidoka.{table}" for table, rights in NEEDED.items()]


def test_a_new_database_says_that_the_first_start_makes_the_tables(postgres):
    found = said(postgres)
    assert found["database"][0]
    assert found["database"][1].endswith("as 'admin'")
    assert found["tables"] == (True, "none yet; the first start makes them", "")
    assert found["clock"][0], found["clock"]


def test_the_clock_of_a_database_on_this_machine_is_within_its_own_answer(postgres):
    offset_s = float(said(postgres)["clock"][1].split()[3])
    assert abs(offset_s) < 0.1


def test_a_writer_has_what_it_needs_and_no_more(postgres, postgres_server, tmp_path):
    begin(postgres, tmp_path / "log")
    with user(postgres_server, postgres, "line1", *needed()) as settings:
        found = said(settings)
    assert {name for name, (ok, _, _) in found.items() if not ok} == set()
    assert found["rights"][1] == "may add facts, and change none"
    assert (found["log"][1], found["states"][1]) == ("ends at 0", "0 cells have saved states")


def test_a_right_that_is_missing_is_named(postgres, postgres_server, tmp_path):
    begin(postgres, tmp_path / "log")
    without = [right for right in needed() if "states" not in right] + ["SELECT, INSERT ON jidoka.states"]
    with user(postgres_server, postgres, "line2", *without) as settings:
        assert said(settings)["rights"][:2] == (False, "missing: UPDATE on states")


def test_an_owner_who_could_rewrite_history_is_told(postgres, tmp_path):
    begin(postgres, tmp_path / "log")
    ok, detail, remedy = said(postgres)["rights"]
    assert (ok, detail) == (False, "UPDATE, DELETE, TRUNCATE on events, too")
    assert "roles.sql" in remedy


def test_a_server_that_is_away_is_told_by_name_and_setting(postgres):
    found = said(postgres.model_copy(update={"port": 1}))
    assert list(found) == ["database"]
    ok, detail, remedy = found["database"]
    assert not ok
    assert "127.0.0.1:1" in detail
    assert "postgres.host" in remedy


def test_the_rights_that_are_looked_for_are_those_that_the_roles_give():
    """deploy/postgres/roles.sql gives SELECT on all tables, and the rest table by table."""
    text = (ROOT / "deploy/postgres/roles.sql").read_text()
    for table, rights in NEEDED.items():
        for right in set(rights) - {"SELECT"}:
            line = next(line for line in text.splitlines() if (f"jidoka.{table}" in line and f"GRANT {right}" in line)
                        or (f"jidoka.{table}" in line and f", {right} ON" in line))  # fmt: skip
            assert line.endswith("TO jidoka_writer;")


def test_without_the_drivers_package_the_doctor_is_not_asked():
    """The checks are imported only where [postgres] is set: an installation without it has no psycopg."""
    program = "import sys; sys.modules['psycopg'] = None; import pipelines.doctor, pipelines.commands.run"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
