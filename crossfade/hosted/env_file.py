"""The ``.env`` file: what `crossfade init` leaves there, and what `crossfade uninit` takes out again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import dotenv

from crossfade.errors import CrossfadeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def write(path: Path, values: Mapping[str, str]) -> list[str]:
    """Set variables, leave every other line alone, and return the names of those that are new or changed.

    The file is readable by its owner alone: it holds passwords. Raises CrossfadeError.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        path.chmod(0o600)
        present = dotenv.dotenv_values(path, interpolate=False)
        changed = [name for name, value in values.items() if present.get(name) != value]
        for name in changed:
            dotenv.set_key(path, name, values[name], encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CrossfadeError(f"{path} cannot be written: {error}; choose another with --env-file") from error
    return changed


def forget(path: Path, names: Iterable[str]) -> list[str]:
    """Take variables out and return the names of those that were there; raises CrossfadeError."""
    if not path.exists():
        return []
    try:
        present = dotenv.dotenv_values(path, interpolate=False)
        gone = [name for name in names if name in present]
        for name in gone:
            dotenv.unset_key(path, name, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CrossfadeError(f"{path} cannot be written: {error}; remove the lines by hand") from error
    return gone
