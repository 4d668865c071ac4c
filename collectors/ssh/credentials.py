"""Secrets from where they are kept, and nowhere else: an environment variable, or a file for its owner only."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from collectors.ssh.errors import CredentialsMissing

_LONGEST = 65_536


def secret(reference: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the secret that ``env:NAME`` or ``file:PATH`` names; raises CredentialsMissing, without the secret."""
    kind, _, place = reference.partition(":")
    if kind == "env":
        value = environment.get(place, "")
        if not value:
            raise CredentialsMissing(
                f"the environment variable {place} is not set where the collector runs; set it and start again"
            )
        return value
    return read_private(Path(place).expanduser()).rstrip("\r\n")


def read_private(path: Path) -> str:
    """Return a file's text that only its owner may read; raises CredentialsMissing."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise CredentialsMissing(f"{path} can be read by others; run chmod 600 {path}")
            return file.read(_LONGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CredentialsMissing(f"{path} cannot be read: {reason}") from None
