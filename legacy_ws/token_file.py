"""Secrets in files. Apart from the server, for whoever only connects to it."""

from __future__ import annotations

from pathlib import Path

from legacy_ws.errors import TokenUnreadable


def read_token(path: Path) -> str:
    """Return the secret in a file; raises TokenUnreadable."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not ASCII text"
        raise TokenUnreadable(str(path), reason) from error
    if not token or any(character.isspace() for character in token):
        raise TokenUnreadable(str(path), "it must hold one word")
    return token
