"""What goes wrong between us and a Kafka broker: what happened, the setting that it is about, what to do.

The texts are explained one by one in `docs/kafka.md`. Passwords are in none of them.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl

from aiokafka.errors import KafkaError as AiokafkaError
from kafka.errors import KafkaError

from schemas.errors import ConnectionFault
from schemas.settings import KafkaSettings

LIBRARY_FAULTS = (KafkaError, AiokafkaError, OSError, asyncio.TimeoutError)
"""What kafka-python and aiokafka raise for a broker that is away, closed to us, or no broker."""


class AccessRefused(ConnectionFault):
    """The broker knows who we are and says no: trying again at once cannot help."""


def explained(error: Exception, address: str, settings: KafkaSettings, *, within_s: float) -> ConnectionFault:
    """Say why there is no connection."""
    name = type(error).__name__
    who = f"user {settings.user.name!r}" if settings.user else "a client without user"
    if name in ("SaslAuthenticationFailedError", "SaslAuthenticationFailed", "AuthenticationFailedError"):
        file = settings.user.password_file if settings.user else ""
        return AccessRefused(f"{address}: the broker refused {who}. Check kafka.user and the password in {file}.")
    if name in ("UnsupportedSaslMechanismError", "IllegalSaslStateError", "UnsupportedSaslMechanism"):
        return ConnectionFault(
            f"{address}: the broker takes no {who} with SCRAM-SHA-512 there. Enable SCRAM-SHA-512 at that listener, or "
            "correct kafka.security or the port in kafka.bootstrap."
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, address, settings)
    if isinstance(error, ssl.SSLError):
        return ConnectionFault(
            f"{address}: no TLS ({error.reason or name}). The listener may be a plain one, or want our certificate: "
            f"correct kafka.security ({settings.security}), kafka.certificate, or the port in kafka.bootstrap."
        )
    if isinstance(error, ConnectionRefusedError):
        return ConnectionFault(f"{address}: nothing listens there. Start the broker or correct kafka.bootstrap.")
    if isinstance(error, socket.gaierror):
        return ConnectionFault(f"{address}: unknown host name. Correct kafka.bootstrap or the name service.")
    if isinstance(error, TimeoutError) or "Timeout" in name or "TimedOut" in name:
        return ConnectionFault(
            f"{address}: no answer within {within_s:g} s. Check address, firewall and broker; kafka.security "
            f"({settings.security}) must be that of the listener."
        )
    if isinstance(error, ConnectionError) or "Connection" in name:
        return ConnectionFault(
            f"{address}: the broker closed the connection to {who}. kafka.security is {settings.security}: set it as "
            "the listener has it, and kafka.user if it wants one."
        )
    return ConnectionFault(f"{address}: {name}: {error}. Look into the broker's log.")


def explained_refusal(error: Exception, settings: KafkaSettings, doing: str) -> ConnectionFault | None:
    """Say which right is missing; None: the error is about something else."""
    kinds = {"TopicAuthorization": "a topic", "GroupAuthorization": "a consumer group",
             "ClusterAuthorization": "the cluster", "TransactionalIdAuthorization": "a transactional id"}  # fmt: skip
    # The producer tells some refusals by their names within another error's text.
    said = f"{type(error).__name__}: {error}"
    on = next((on for kind, on in kinds.items() if kind in said), None)
    if on is None:
        return None
    who = f"user {settings.user.name!r}" if settings.user else "a client without user"
    told = ", ".join(sorted(_names(error)))
    return AccessRefused(
        f"{', '.join(settings.bootstrap)}: {who} may not {doing or 'do this'}: the broker's access list gives no right "
        f"on {on}{f' ({told})' if told else ''}. Grant it as deploy/kafka/acls.toml says, or correct kafka.user."
    )


def _untrusted(error: ssl.SSLCertVerificationError, address: str, settings: KafkaSettings) -> ConnectionFault:
    why = error.verify_message
    if "mismatch" in why.lower():
        return ConnectionFault(
            f"{address}: the broker's certificate is for another name ({why}). Write kafka.bootstrap as the "
            "certificate has it, or give the broker one for this name."
        )
    ca = settings.ca or "the system's list"
    return ConnectionFault(
        f"{address}: the broker's certificate is not trusted: {why}. Put who signed it into kafka.ca ({ca})."
    )


def _names(error: Exception) -> set[str]:
    """Return what an error is about, where it says so: a topic or group alone, or several in a set."""
    parts = [part for arg in error.args for part in (arg if isinstance(arg, (set, list, tuple)) else (arg,))]
    return {str(part) for part in parts if re.fullmatch(r"[\w.-]+", str(part))}
