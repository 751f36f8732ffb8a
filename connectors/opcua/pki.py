"""Application-instance certificates: our own, made at first start, and those of partners that a person trusted.

A folder looks like this::

    own/certificate.der   own/key.pem (0600)     ours, self-signed
    trusted/*.der                                partners that may connect; exact certificates, no issuers
    rejected/*.der                               partners that tried and were refused; move one to trusted/ to admit it

Fields as OPC 10000-6, 6.2.2 asks of a self-signed application-instance certificate. No certificate authority and no
revocation list: a partner is untrusted again as soon as its file is taken away.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import ConfigError

VALID_YEARS = 5
KEY_BITS = 2048
"""What Basic256Sha256 asks for at least (2048 to 4096)."""
BACKDATED_S = 3600
"""A certificate is valid from an hour ago, so that a partner whose clock is a little behind accepts it."""
REJECTED_MAX = 100
"""Refused certificates kept on disk; more are refused without being kept."""


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """Where our own pair lies."""

    certificate: Path
    """DER."""
    key: Path
    """PEM (PKCS #8, not encrypted), readable by its owner only."""


def ensure_certificate(folder: Path, *, application_uri: str, common_name: str) -> OwnCertificate:
    """Return our own certificate and key, made if this is the first start.

    The key is written before the certificate, so that a certificate that exists always has its key; a key alone is
    what a crash in between leaves, and the pair is made again.

    Args:
        folder: Certificate folder; its subfolders are made where they are missing.
        application_uri: Goes into the certificate and must equal the one that the application announces.
        common_name: What a person reads in the partner's list of certificates.

    Raises:
        ConfigError: the pair is unreadable, expired, does not belong together, or names another application.
    """
    for name in ("own", "trusted", "rejected"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    own = OwnCertificate(folder / "own" / "certificate.der", folder / "own" / "key.pem")
    if not own.certificate.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        write_whole(own.key, _pem(key), mode=0o600)
        write_whole(own.certificate, _self_signed(key, application_uri, common_name), mode=0o644)
    _check_own(own, application_uri)
    return own


def trust(folder: Path, certificate: Path) -> Path:
    """Admit a partner: copy its certificate (DER or PEM) into `trusted/` and return where it lies there.

    Raises:
        ConfigError: the file is no certificate, or its time is over.
    """
    parsed = read_certificate(certificate)
    _check_time(certificate, parsed)
    target = folder / "trusted" / _file_name(parsed)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(target, _der(parsed), mode=0o644)
    (folder / "rejected" / target.name).unlink(missing_ok=True)
    return target


def reject(folder: Path, der: bytes) -> Path | None:
    """Keep a refused partner's certificate, so that a person can look at it and move it to `trusted/`.

    Returns:
        Where it lies; None if it is no certificate or `rejected/` is full.
    """
    try:
        parsed = x509.load_der_x509_certificate(der)
    except ValueError:
        return None
    rejected = folder / "rejected"
    rejected.mkdir(parents=True, exist_ok=True, mode=0o700)
    if len(list(rejected.iterdir())) >= REJECTED_MAX:
        return None
    write_whole(rejected / _file_name(parsed), _der(parsed), mode=0o644)
    return rejected / _file_name(parsed)


def load_trusted(folder: Path) -> tuple[x509.Certificate, ...]:
    """Return the partners' certificates in the order of their file names; none if nobody was trusted yet.

    Raises:
        ConfigError: a file in `trusted/` is no certificate.
    """
    paths = sorted(p for p in (folder / "trusted").glob("*") if p.suffix in (".der", ".pem", ".crt"))
    return tuple(read_certificate(path) for path in paths)


def is_trusted(folder: Path, der: bytes | None) -> bool:
    """Whether exactly this certificate lies in `trusted/` and its time is not over. Reads the folder on each call."""
    if not der:
        return False
    now = datetime.datetime.now(datetime.UTC)
    return any(
        _der(partner) == der and partner.not_valid_before_utc <= now <= partner.not_valid_after_utc
        for partner in load_trusted(folder)
    )


def read_certificate(path: Path) -> x509.Certificate:
    """Read one certificate, DER or PEM.

    Raises:
        ConfigError: it cannot be read or is no certificate.
    """
    try:
        content = path.read_bytes()
        pem = content.startswith(b"-----BEGIN")
        return x509.load_pem_x509_certificate(content) if pem else x509.load_der_x509_certificate(content)
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), "certificate", f"unreadable ({error})", "Replace it by a DER file.") from error


def own_certificate_ends_at(folder: Path) -> float:
    """Return when our own certificate ends, seconds since 1970 UTC; 0 if it cannot be read."""
    try:
        return read_certificate(folder / "own" / "certificate.der").not_valid_after_utc.timestamp()
    except (OSError, ConfigError):
        return 0.0


def thumbprint(certificate: x509.Certificate) -> str:
    """Return the SHA-1 of the certificate, 40 hex digits: how OPC UA tools name it to people. Not a check of trust."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()


def write_whole(path: Path, content: bytes, *, mode: int) -> None:
    """Put `content` in place as a whole or not at all, durable on return."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # The mode is set when the file is made: a key is at no moment readable by others.
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _self_signed(key: rsa.RSAPrivateKey, application_uri: str, common_name: str) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    names = [
        x509.UniformResourceIdentifier(application_uri),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    # keyCertSign without cA: contradicts RFC 5280, but is what OPC 10000-6 wants of a self-signed instance
    # certificate, and .NET-based partners refuse it otherwise.
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    roles = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    public = key.public_key()
    builder = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(seconds=BACKDATED_S))
        .not_valid_after(now + datetime.timedelta(days=365 * VALID_YEARS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .add_extension(usage, critical=False)
        .add_extension(roles, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return _der(builder.sign(key, hashes.SHA256()))


def _check_own(own: OwnCertificate, application_uri: str) -> None:
    certificate = read_certificate(own.certificate)
    _check_time(own.certificate, certificate)
    try:
        key = serialization.load_pem_private_key(own.key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            str(own.key), "key", f"unreadable ({error})", "Restore it, or delete own/ and let the partners trust anew."
        ) from error
    if key.public_key() != certificate.public_key():
        raise ConfigError(
            str(own.key), "key", "does not belong to certificate.der", "Restore the pair, or delete own/."
        )
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    if application_uri not in uris:
        raise ConfigError(
            str(own.certificate), "application URI", f"is {uris}, not {application_uri!r}", "Give each its own folder."
        )


def _check_time(path: Path, certificate: x509.Certificate) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ConfigError(
            str(path),
            "validity",
            f"valid {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}",
            "Check this machine's clock; if it is right, delete the pair and let the partners trust the new one.",
        )


def _file_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", str(names[0].value))[:60] if names else "unnamed"
    return f"{readable}-{thumbprint(certificate)}.der"


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
