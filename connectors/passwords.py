"""Passwords from files: the only place where they are, readable by their owner only."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import ConnectionFault
from schemas.settings import User


def read_password(user: User) -> str:
    """Return the first line of the user's password file.

    Raises:
        ConnectionFault: it is missing, empty, or others may read it.
    """
    path = Path(user.password_file)
    try:
        if path.stat().st_mode & 0o077:
            raise ConnectionFault(f"{path}: others can read this password. Run: chmod 600 {path}")
        password = path.read_text(encoding="utf-8").partition("\n")[0].strip("\r")
    except OSError as error:
        raise ConnectionFault(f"{path}: {error.strerror}. Write the password of {user.name!r} there.") from error
    if not password:
        raise ConnectionFault(f"{path}: empty. Write the password of {user.name!r} there.")
    return password
