"""What goes wrong with a connection, in the words of whoever has to mend it: what happened, then what to do.

The texts are explained one by one in `docs/opcua.md`.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from asyncua import ua
from cryptography import x509

from connectors.opcua import pki
from schemas.errors import ConfigError, ConnectionFault
from schemas.settings import OpcUaSettings, User

LIBRARY_FAULTS = (OSError, ua.UaError, ValueError, TypeError, LookupError, AttributeError, struct.error)
"""What asyncua raises, besides TimeoutError, for a connection that broke and for bytes that are not OPC UA."""


class AccessRefused(ConnectionFault):
    """The server knows us and does not want this user: trying again at once cannot help."""


def translate(error: Exception, settings: OpcUaSettings, user: User | None) -> ConnectionFault:
    """Say in a controls engineer's words what went wrong and what to do."""
    name = type(error).__name__
    who = f"user {user.name!r}" if user else "the anonymous user"
    own = Path(settings.certificates) / "own" / "certificate.der"
    if name in ("BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid"):
        remedy = f"Check {user.password_file!r} and the server's users" if user else "Give opcua.collector a user"
        # Some servers say no to a user when it is our certificate that they do not trust.
        remedy += f", and that the server trusts {own}"
        return AccessRefused(f"{settings.url}: the server refused {who} ({name}). {remedy}.")
    remedies = {
        "BadCertificateUntrusted": f"Trust {own} (thumbprint {_thumbprint(own)}) in the server's certificate list",
        "BadSecurityChecksFailed": f"Trust {own} (thumbprint {_thumbprint(own)}) in the server's certificate list",
        "BadCertificateUriInvalid": f"The application URI in {own} is not ours: delete own/, start again and trust the "
        "new certificate in the server",
        "BadCertificateTimeInvalid": f"Check both clocks; if they are right, delete {own.parent} to make a new one",
        "BadTooManySessions": "Close other clients or raise the server's number of sessions",
        "BadSecurityPolicyRejected": "Enable Basic256Sha256 SignAndEncrypt in the server",
        "BadSecurityModeRejected": "Enable Basic256Sha256 SignAndEncrypt in the server",
        "BadServerHalted": "Start the server's runtime",
        "BadTcpEndpointUrlInvalid": "Write opcua.url exactly as the server publishes it",
    }
    if name in remedies:
        return ConnectionFault(f"{settings.url}: refused with {name}. {remedies[name]}.")
    if isinstance(error, ConnectionRefusedError):
        return ConnectionFault(f"{settings.url}: nothing listens there. Start the server or correct opcua.url.")
    if isinstance(error, socket.gaierror):
        return ConnectionFault(f"{settings.url}: unknown host name. Correct opcua.url or the name service.")
    if isinstance(error, TimeoutError):
        return ConnectionFault(
            f"{settings.url}: no answer within {settings.connect_timeout_s} s. Check address, firewall and cable."
        )
    if isinstance(error, ConnectionError):
        return ConnectionFault(
            f"{settings.url}: the server closed the connection. If it does so each time, trust {own} (thumbprint "
            f"{_thumbprint(own)}) there and look into its log."
        )
    return ConnectionFault(f"{settings.url}: {name}: {error}. Look into the server's log.")


def untrusted(folder: Path, der: bytes, url: str) -> ConnectionFault:
    """Keep the server's certificate under `rejected/` and say how to trust it."""
    kept = pki.reject(folder, der)
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        return ConnectionFault(f"{url}: the server's certificate is unreadable. Make a new one in the server.")
    where = f"move {kept} to {folder / 'trusted'}" if kept else f"put it into {folder / 'trusted'}"
    return ConnectionFault(
        f"{url}: the server's certificate is not trusted, or its time is over: {certificate.subject.rfc4514_string()}, "
        f"thumbprint {pki.thumbprint(certificate)}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}. "
        f"Compare the thumbprint at the server, then {where}."
    )


def _thumbprint(certificate: Path) -> str:
    try:
        return pki.thumbprint(pki.read_certificate(certificate))
    except ConfigError:
        return "not made yet"
