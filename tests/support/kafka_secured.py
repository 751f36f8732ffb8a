"""A Kafka that asks who one is: TLS by an authority of its own, SCRAM users, and access lists."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.kafka import broker
from connectors.kafka.broker import Cluster
from connectors.kafka.properties import Secured
from schemas.settings import KafkaSettings, User
from tests.support.kafka_broker import need_kafka

SUPER = "admin"
USERS = (SUPER, "collect", "detect", "decide", "keep", "tools", "topics", "nobody")


@dataclass(frozen=True)
class SecuredCluster:
    """A broker with users, and what is needed to come in."""

    cluster: Cluster
    ca: Path
    passwords: Mapping[str, Path]

    def settings(self, user: str | None = SUPER, **changes: object) -> KafkaSettings:
        """Return settings with which this user comes in."""
        usual: dict[str, object] = {"partitions": 3, "ca": str(self.ca), "security": "SASL_SSL" if user else "SSL"}
        who = User(name=user, password_file=str(self.passwords[user])) if user else None
        return KafkaSettings(bootstrap=self.cluster.bootstrap, user=who, **{**usual, **changes})


@contextmanager
def secured_cluster(folder: Path) -> Iterator[SecuredCluster]:
    """Run one broker that lets nobody in without TLS and a password, and lets nobody but `SUPER` do anything."""
    need_kafka()
    ca, identity = authority(folder / "pki", "jidoka test authority")
    passwords = {name: _password(folder / "users", name) for name in USERS}
    secured = Secured(
        identity=identity, subject="CN=broker", ca=ca, super_user=SUPER,
        users={name: path.read_text().strip() for name, path in passwords.items()},
    )  # fmt: skip
    with broker.cluster(folder, secured=secured) as cluster:
        yield SecuredCluster(cluster, ca, passwords)


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    """Make an authority and a certificate for 127.0.0.1 by it; returns its certificate, and key with certificate."""
    folder.mkdir(parents=True)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ca = _certificate(ca_name, ca_name, ca_key, ca_key, x509.BasicConstraints(ca=True, path_length=0))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    certificate = _certificate(subject, ca_name, key, ca_key, alternative)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "broker.pem").touch(mode=0o600)
    (folder / "broker.pem").write_bytes(private + certificate.public_bytes(pem) + ca.public_bytes(pem))
    return folder / "ca.pem", folder / "broker.pem"


def _certificate(subject, issuer, key, signed_by, extension) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False)
        .sign(signed_by, hashes.SHA256())
    )


def _password(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.password"
    path.touch(mode=0o600)
    path.write_text(f"secret of {name} 7\n")
    return path
