"""The hash chain over stored facts and the signed head that ends it. Pure: no file, no clock.

Each record's link is SHA-256 over the link before and a header that contains the SHA-256 of the stored bytes (two
levels, so that a payload could be withheld and the chain still be checked). Hashed are the bytes as stored, never a
re-serialisation. The first link is taken from the log's id, so records of another log do not fit.

A chain alone cannot see that its tail was cut: for that the head is signed (Ed25519, RFC 8032) and kept apart.
"""

from __future__ import annotations

import struct
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.errors import CodecError
from schemas.records import SignedHead

_HEADER = struct.Struct(">QQqIII")
"""Position, version, recorded_at, then the lengths of cell, type and inputs: no two headers have the same bytes."""

_TITLE = "jidoka log head 1"


def genesis(log_id: str) -> bytes:
    """Return the link before the first record, 32 bytes."""
    return sha256(f"jidoka log 1\n{log_id}\n".encode()).digest()


def link(
    before: bytes, position: int, cell: bytes, version: int, type_: bytes, recorded_at: int, inputs: bytes, data: bytes
) -> bytes:
    """Return the record's link, 32 bytes.

    Args:
        before: The link of the record before, or `genesis`.
        position: In the log, from 1.
        cell: The stream's name, UTF-8.
        version: In the stream, from 1.
        type_: The fact's name, UTF-8.
        recorded_at: Microseconds since 1970 UTC.
        inputs: The stored JSON of the input positions.
        data: The stored bytes of the fact.
    """
    header = _HEADER.pack(position, version, recorded_at, len(cell), len(type_), len(inputs))
    return sha256(b"".join((before, header, cell, type_, inputs, sha256(data).digest()))).digest()


def signed_text(log_id: str, position: int, chain: bytes, signed_at: int) -> bytes:
    """Return the text that the signature of a head covers.

    >>> print(signed_text("5f", 2, bytes(32), 7).decode(), end="")
    jidoka log head 1
    log 5f
    position 2
    chain 0000000000000000000000000000000000000000000000000000000000000000
    signed_at 7
    """
    return f"{_TITLE}\nlog {log_id}\nposition {position}\nchain {chain.hex()}\nsigned_at {signed_at}\n".encode()


def sign(key: Ed25519PrivateKey, log_id: str, position: int, chain: bytes, signed_at: int) -> SignedHead:
    """Sign the log's end."""
    signature = key.sign(signed_text(log_id, position, chain, signed_at))
    return SignedHead(log_id, position, chain, signed_at, signature, key.public_key().public_bytes_raw())


def signature_holds(head: SignedHead, public_key: bytes) -> bool:
    """Tell whether the head was signed by the owner of `public_key` (32 bytes), whatever key the head itself names."""
    text = signed_text(head.log_id, head.position, head.chain, head.signed_at)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(head.signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def head_text(head: SignedHead) -> bytes:
    """Return the head as it is written to files: the signed text, the key and the signature, a line each."""
    text = signed_text(head.log_id, head.position, head.chain, head.signed_at)
    return text + f"key {head.public_key.hex()}\nsignature {head.signature.hex()}\n".encode()


def parse_head(text: bytes) -> SignedHead:
    """Read what `head_text` wrote. The signature is not checked here.

    Raises:
        CodecError: it is not a head, or not written in exactly this way.
    """
    try:
        title, *lines = text.decode("ascii").splitlines()
        log_id, position, chain, signed_at, key, signature = (line.split(" ", 1)[1] for line in lines)
        head = SignedHead(
            log_id, int(position), bytes.fromhex(chain), int(signed_at), bytes.fromhex(signature), bytes.fromhex(key)
        )
    except (ValueError, IndexError) as error:
        raise CodecError("not a head of a log") from error
    if title != _TITLE or head_text(head) != text:
        raise CodecError("not a head of a log")
    return head
