"""The key pair that signs a log's heads: made at first start, kept in files beside the database, not in it.

Whoever can read `log.key` can sign a forged log. Keep a copy of `log.pub` elsewhere: it is what an auditor trusts.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from connectors.eventlog.files import write_durably
from schemas.errors import LogError

KEY_FILE, PUBLIC_KEY_FILE = "log.key", "log.pub"
_OWNER_ONLY = 0o600


def make_keys(folder: Path) -> Ed25519PrivateKey:
    """Make a key pair in PEM files, the private one readable by its owner only."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_durably(folder / KEY_FILE, pem, mode=_OWNER_ONLY)
    write_durably(folder / PUBLIC_KEY_FILE, _public_pem(key))
    return key


def load_key(folder: Path) -> Ed25519PrivateKey:
    """Read the private key.

    Raises:
        LogError: it is missing, not such a key, readable by others, or not the one of `log.pub`.
    """
    path = folder / KEY_FILE
    try:
        key = load_pem_private_key(_read(path, "put the log's own key back"), None)
    except (ValueError, TypeError) as error:
        raise LogError(f"{path}: not a private key in PEM: put the log's own key back") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise LogError(f"{path}: not an Ed25519 key: put the log's own key back")
    if path.stat().st_mode & 0o077:
        raise LogError(f"{path}: others may read it: chmod 600, and think about who has signed with it")
    if not (folder / PUBLIC_KEY_FILE).exists():
        write_durably(folder / PUBLIC_KEY_FILE, _public_pem(key))
    if load_public_key(folder) != key.public_key().public_bytes_raw():
        raise LogError(f"{path}: not the key of {PUBLIC_KEY_FILE}: put the matching pair back")
    return key


def load_public_key(folder: Path) -> bytes:
    """Return the public key's 32 bytes.

    Raises:
        LogError: it is missing or not such a key.
    """
    path = folder / PUBLIC_KEY_FILE
    return parse_public_key(_read(path, "put the log's own public key back"), str(path))


def parse_public_key(pem: bytes, name: str) -> bytes:
    """Return the 32 bytes of a public key in PEM.

    Raises:
        LogError: it is not such a key; the message begins with `name`.
    """
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise LogError(f"{name}: not a public key in PEM: put the log's own public key back") from error
    if not isinstance(key, Ed25519PublicKey):
        raise LogError(f"{name}: not an Ed25519 key: put the log's own public key back")
    return key.public_bytes_raw()


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LogError(f"{path}: {error.strerror}: {remedy}") from error
