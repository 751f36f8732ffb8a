"""Connecting to PostgreSQL: what is allowed, and what a person is told when it is not."""

from __future__ import annotations

import getpass
import shutil
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from connectors.eventlog.postgres import PostgresStore
from connectors.eventlog.postgres_blobs import PostgresBlobs
from connectors.eventlog.postgres_connect import connect, connect_options
from connectors.eventlog.postgres_session import Retry, may_pass
from connectors.eventlog.postgres_verify import verify_postgres
from pipelines.config import load
from schemas.errors import ConnectionFault, LogError
from schemas.settings import PostgresSettings, User
from tests.eventlog_support import CELL, clock, grow, run
from tests.support.bench import jidoka
from tests.support.demo import CONFIG
from tests.support.postgres import PASSWORD, PostgresServer, make_authority, make_server


@pytest.fixture(scope="module")
def tls_only(postgres_server: PostgresServer) -> PostgresSettings:
    """A database that takes no plain connections."""
    return postgres_server.new_database("tls_only", tls="verify-full", ca=str(postgres_server.ca))


def told(settings: PostgresSettings) -> str:
    """Return what a person is told, and make sure that the password is in no part of it."""
    with pytest.raises(ConnectionFault) as caught:
        connect(settings, writes=True).close()
    whole = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in whole
    return str(caught.value)


def test_scram_over_verified_tls_carries_the_log(tls_only: PostgresSettings, tmp_path: Path) -> None:
    async def go() -> None:
        async with await PostgresStore.open(tls_only, tmp_path / "log", clock=clock()) as store:
            await grow(store, (CELL,), 3)

    run(go())
    assert verify_postgres(tls_only, tmp_path / "log").checked_n == 3
    db = connect(tls_only, writes=False)
    assert db.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
    db.close()


def test_a_plain_connection_is_refused_by_the_server_and_the_setting_is_named(tls_only: PostgresSettings) -> None:
    said = told(tls_only.model_copy(update={"tls": "disable"}))
    assert "pg_hba.conf rejects connection" in said
    assert "postgres.tls: this server wants TLS" in said


def test_a_certificate_of_another_authority_is_refused(tls_only: PostgresSettings, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key")
    said = told(tls_only.model_copy(update={"ca": str(other)}))
    assert "postgres.ca: the server's certificate is not signed by it" in said


def test_a_certificate_of_another_host_is_refused(tls_only: PostgresSettings) -> None:
    said = told(tls_only.model_copy(update={"host": "localhost"}))
    assert "postgres.host: write the name that is in the server's certificate" in said


@pytest.mark.parametrize("tls", ["verify-full", "disable"])
def test_a_wrong_password_is_refused_and_not_repeated(
    postgres_server: PostgresServer, tls_only: PostgresSettings, tmp_path: Path, tls: str
) -> None:
    path = tmp_path / "password"
    path.write_text("guessed secret\n")
    path.chmod(0o600)
    user = User(name="admin", password_file=str(path))
    settings = tls_only if tls == "verify-full" else postgres_server.settings("postgres")
    said = told(settings.model_copy(update={"user": user}))
    assert "guessed secret" not in said
    assert "postgres.user: see that its name and its password_file are right" in said


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"database": "nowhere"}, "postgres.database, postgres.user: have them made"),
        ({"ca": "/nowhere/ca.pem"}, "/nowhere/ca.pem: postgres.ca cannot be read"),
        ({"user": User(name="admin", password_file="/nowhere/password")}, "Write the password of 'admin' there"),
        ({"host": "host.invalid"}, "postgres.host, postgres.port: see that the server runs"),
        ({"user": None}, "postgres.user"),
    ],
)
def test_each_wrong_setting_is_named_with_its_remedy(
    tls_only: PostgresSettings, change: dict[str, Any], remedy: str
) -> None:
    assert remedy in told(tls_only.model_copy(update=change))


@pytest.fixture
def nobody_listens() -> Iterator[int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_server_that_is_down_is_told_at_once(postgres_server: PostgresServer, nobody_listens: int) -> None:
    said = told(postgres_server.settings("postgres", port=nobody_listens))
    assert "Connection refused" in said
    assert said.endswith("postgres.host, postgres.port: see that the server runs and can be reached from here")


def test_a_password_that_others_can_read_is_not_used(postgres_server: PostgresServer, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    path.chmod(0o644)
    user = User(name="admin", password_file=str(path))
    assert "others can read this password. Run: chmod 600" in told(postgres_server.settings("postgres", user=user))


def test_nothing_is_taken_from_the_environment(postgres_server: PostgresServer, monkeypatch: Any) -> None:
    for name, value in {
        "PGHOST": "nowhere.invalid", "PGPORT": "1", "PGUSER": "other", "PGPASSWORD": "x", "PGDATABASE": "other",
        "PGSSLMODE": "verify-full", "PGOPTIONS": "-c statement_timeout=1", "PGAPPNAME": "other",
        "PGHOSTADDR": "127.0.0.9", "PGREQUIREAUTH": "none", "PGTARGETSESSIONATTRS": "standby", "PGPASSFILE": "/nowhere",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    db = connect(postgres_server.settings("postgres"), writes=True)
    query = "SELECT current_user::text, current_database()::text, current_setting('statement_timeout')"
    assert db.execute(query).fetchone() == ("admin", "postgres", "5s")
    db.close()


def test_without_a_user_the_operating_systems_is_taken_over_the_local_socket() -> None:
    options = connect_options(PostgresSettings(host="/run/postgresql"), writes=True)
    assert (options["host"], options["user"]) == ("/run/postgresql", getpass.getuser())
    assert "password" not in options


def test_only_scram_is_answered(postgres_server: PostgresServer) -> None:
    assert connect_options(postgres_server.settings("postgres"), writes=True)["require_auth"] == "scram-sha-256"


def test_a_user_without_rights_is_told_which_roles_there_are(
    postgres_server: PostgresServer, postgres: PostgresSettings
) -> None:
    with postgres_server.admin() as db:
        db.execute(f"CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'")
    stranger = User(name="stranger", password_file=str(postgres_server.folder / "password"))
    with pytest.raises(LogError, match="the role jidoka_writer or jidoka_reader"):
        PostgresBlobs(postgres.model_copy(update={"user": stranger}))


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_postgres_skips_the_tests_and_fails_them_in_ci(monkeypatch: Any, ci: str, outcome: type) -> None:
    monkeypatch.setattr("tests.support.postgres.binaries", lambda: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="install the package postgresql"):
        make_server()


def test_pauses_between_attempts_grow_and_end(monkeypatch: Any) -> None:
    now, pauses = [100.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("connectors.eventlog.postgres_session.time.sleep", sleep)
    monkeypatch.setattr("connectors.eventlog.postgres_session.time.monotonic", lambda: now[0])
    retry = Retry(3.0)
    while retry.again():
        pass
    assert [round(pause, 2) for pause in pauses] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 0.45]


SETTINGS = """
[opcua]
url = "opc.tcp://127.0.0.1:1/x"

[postgres]
host = "127.0.0.1"
port = {port}
database = "{database}"
tls = "{tls}"
ca = "pki/ca.pem"
user = {{ name = "admin", password_file = "users/log.password" }}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    shutil.copytree(CONFIG, folder)
    (folder / "jidoka.toml").write_text(SETTINGS.format(port=5432, database="jidoka", tls="verify-full"))
    return folder


def test_paths_of_the_settings_are_taken_from_the_data_folder(config: Path) -> None:
    postgres = load(config).settings.postgres
    assert postgres is not None
    data = (config / "var").resolve()
    assert (postgres.ca, postgres.user and postgres.user.password_file) == (
        str(data / "pki/ca.pem"),
        str(data / "users/log.password"),
    )


def test_the_log_commands_read_the_database_that_the_settings_name(
    postgres_server: PostgresServer, postgres: PostgresSettings, config: Path
) -> None:
    plain = SETTINGS.format(port=postgres.port, database=postgres.database, tls="disable").replace(
        'ca = "pki/ca.pem"', ""
    )
    (config / "jidoka.toml").write_text(plain)
    (config / "var" / "users").mkdir(parents=True)
    shutil.copy(postgres_server.folder / "password", config / "var" / "users" / "log.password")

    async def go() -> None:
        async with await PostgresStore.open(postgres, config / "var" / "log", clock=clock()) as store:
            await grow(store, (CELL,), 7)

    run(go())
    said = jidoka("log", "verify", "--config", config)
    assert (said.status, said.err) == (0, "")
    assert said.out.strip().startswith(
        "7 records verify: every payload, every link of the chain, and the signed head at"
    )
    assert [line.split()[0] for line in jidoka("log", "tail", "-n", "3", "--config", config).out.splitlines()] == [
        "5", "6", "7",
    ]  # fmt: skip
    assert '"number":2' in jidoka("log", "show", "3", "--config", config).out
    with postgres_server.admin(postgres.database) as db:
        db.execute("SET session_replication_role = replica")
        db.execute("UPDATE jidoka.events SET data = '{}' WHERE position = 4")
    said = jidoka("log", "verify", "--config", config)
    assert said.status == 1
    assert said.out.strip().startswith("NOT AS WRITTEN: record 4: edited")
    (config / "jidoka.toml").write_text(plain.replace(postgres.database, "nowhere"))
    said = jidoka("log", "tail", "--config", config)
    assert (said.status, "postgres.database" in said.err) == (1, True)


def test_a_clients_own_word_on_its_connection_may_pass_and_a_servers_refusal_may_not():
    """Was: a pipeline that was cut within counted as a refusal, and halted the log."""
    whole = SimpleNamespace(closed=False, broken=False)
    assert may_pass(psycopg.OperationalError("cannot exit pipeline mode while busy"), whole)
    assert not may_pass(psycopg.errors.InsufficientPrivilege("permission denied"), whole)
    assert not may_pass(psycopg.errors.DiskFull("no space left"), whole)
