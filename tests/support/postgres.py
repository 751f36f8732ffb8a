"""A real PostgreSQL for tests: one server a session, on loopback, run by a user without rights, SCRAM and TLS."""

from __future__ import annotations

import ipaddress
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from schemas.settings import PostgresSettings, User

PASSWORD = "not the one of a plant"
START_S, STOP_S = 60.0, 30.0
TIMEOUT_S = 5.0
_ACCOUNTS = ("postgres", "nobody")
_LINES = """
hostssl tls_only all 127.0.0.1/32 scram-sha-256
hostnossl tls_only all 127.0.0.1/32 reject
host all all 127.0.0.1/32 scram-sha-256
"""
_numbers = itertools.count(1)


def binaries() -> Path | None:
    """Return the folder of the newest `initdb` and `postgres`; None: they are not installed."""
    found = shutil.which("initdb")
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name.split(".")[0])
    )
    folders += [Path(found).resolve().parent] if found else []
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def account() -> str | None:
    """Return whom the server runs as: initdb refuses root. None: ourselves."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _ACCOUNTS if name in names)


class PostgresServer:
    """A server with data of its own. It can be killed and started again."""

    def __init__(self, programs: Path, parent: Path | None = None) -> None:
        self.programs, self.account = programs, account()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-for-tests-", dir=parent))
        """Holds the server's data, its log, and the files that clients need."""
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._idle: list[str] = []
        self._initialise()

    def _initialise(self) -> None:
        self.data.mkdir(mode=0o700)
        self._own(self.data)
        (self.folder / "password").write_text(PASSWORD + "\n")
        (self.folder / "password").chmod(0o600)
        given = self.folder / "password for initdb"
        shutil.copy(self.folder / "password", given)
        self._own(given)
        command = [self.programs / "initdb", "-D", self.data, "-U", "admin", "-A", "scram-sha-256", "-E", "UTF8",
                   "--locale=C", "--no-sync", f"--pwfile={given}"]  # fmt: skip
        done = subprocess.run(
            command, **self._as_account(), capture_output=True, text=True, check=False, timeout=START_S
        )
        assert done.returncode == 0, done.stderr
        (self.data / "pg_hba.conf").write_text(_LINES)
        self.ca = make_authority(self.folder / "ca.pem", self.data / "server.pem", self.data / "server.key")
        self._own(self.data / "server.pem")
        self._own(self.data / "server.key")

    def start(self) -> None:
        """Start, and return when it answers."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "on",
            "ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.key", "shared_buffers": "32MB",
            "max_connections": 60, "password_encryption": "scram-sha-256", "lc_messages": "C",
            "checkpoint_timeout": "1h",
        }  # fmt: skip
        command = [str(self.programs / "postgres"), "-D", str(self.data)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        until = time.monotonic() + START_S
        while True:
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(command, **self._as_account(), stdout=log, stderr=log, cwd=self.folder)
            while self.process.poll() is None:
                with suppress(psycopg.Error), self.admin():
                    return
                assert time.monotonic() < until, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.02)
            # Killed before: the server's processes that are still ending hold its shared memory.
            assert time.monotonic() < until, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT in order, SIGQUIT at once, SIGKILL without it knowing."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(STOP_S)
        self.process = None

    def remove(self) -> None:
        """End the server and take its files away; so nothing needs to be written back first."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def admin(self, database: str = "postgres") -> psycopg.Connection:
        """Connect as the superuser."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="admin", password=PASSWORD, dbname=database, autocommit=True,
            connect_timeout=5,
        )  # fmt: skip

    def version(self) -> str:
        """Return what the server says that it is, in short."""
        with self.admin() as db:
            return f"PostgreSQL {db.execute('SHOW server_version').fetchall()[0][0]}, fsync on, on the same disk"

    def settings(self, database: str, **other: object) -> PostgresSettings:
        """Return what a client needs for a database."""
        values: dict[str, object] = {
            "host": "127.0.0.1", "port": self.port, "database": database, "tls": "disable", "timeout_s": TIMEOUT_S,
            "user": User(name="admin", password_file=str(self.folder / "password")),
        }  # fmt: skip
        return PostgresSettings.model_validate(values | other)

    def new_database(self, name: str = "", **other: object) -> PostgresSettings:
        """Make an empty database."""
        name = name or f"test_{next(_numbers)}"
        with self.admin() as db:
            db.execute(f'CREATE DATABASE "{name}"')
        return self.settings(name, **other)

    @contextmanager
    def database(self, **other: object) -> Iterator[PostgresSettings]:
        """Lend an empty database to one test. Emptying it afterwards is quicker than making the next."""
        settings = self.settings(self._idle.pop(), **other) if self._idle else self.new_database(**other)
        yield settings
        with self.admin(settings.database) as db:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            db.execute(f"{others} AND pid <> pg_backend_pid()")
            db.execute("DROP SCHEMA IF EXISTS jidoka CASCADE")
        self._idle.append(settings.database)

    def _own(self, path: Path) -> None:
        if self.account is not None:
            shutil.chown(path, self.account)

    def _as_account(self) -> dict[str, object]:
        if self.account is None:
            return {}
        return {"user": self.account, "group": pwd.getpwnam(self.account).pw_gid, "extra_groups": []}


def backends_ended(server: PostgresServer, database: str) -> None:
    """End every connection to a database, as an administrator or a fail-over does, and wait until they are gone."""
    theirs = "FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    until = time.monotonic() + STOP_S
    with server.admin() as db:
        db.execute(f"SELECT pg_terminate_backend(pid) {theirs}", (database,))
        while db.execute(f"SELECT 1 {theirs}", (database,)).fetchone() is not None:
            assert time.monotonic() < until, "connections do not end"
            time.sleep(0.01)


def make_authority(ca: Path, certificate: Path, key: Path) -> Path:
    """Make an authority and a certificate for 127.0.0.1 that it signed."""
    own, servers = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority for tests")])
    now = datetime.now(UTC)

    def signed(subject: x509.Name, public: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(name, subject, public, x509.random_serial_number(),
                                          now - timedelta(hours=1), now + timedelta(days=2))  # fmt: skip
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(own, hashes.SHA256()).public_bytes(Encoding.PEM)

    ca.write_bytes(signed(name, own.public_key(), x509.BasicConstraints(ca=True, path_length=0)))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "database")])
    certificate.write_bytes(signed(server, servers.public_key(), address))
    key.write_bytes(servers.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    return ca


def make_server() -> PostgresServer:
    """Start a server; skip the test where PostgreSQL is missing, and fail it in CI."""
    programs = binaries()
    if programs is None:
        said = "no initdb in PATH or /usr/lib/postgresql/*/bin: install the package postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    server = PostgresServer(programs)
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's server. Tests make a database each and leave the server as it is."""
    server = make_server()
    yield server
    server.remove()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresSettings]:
    """An empty database of the session's server."""
    with postgres_server.database() as settings:
        yield settings
