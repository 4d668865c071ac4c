"""Which errors of PostgreSQL pass by themselves: those of a server that is going, coming or gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg


def _transient(error: asyncpg.PostgresError) -> bool:
    """Say whether the server is going, coming or gone, so that the same question may work in a moment."""
    state = error.sqlstate or ""
    return state[:2] in ("08", "53", "57", "58", "40", "XX") or (
        state == "42883" and "pg_temp.realtime_" in str(error)
    )


def raise_if_transient(error: asyncpg.PostgresError) -> None:
    """Raise the error again if the same question may work in a moment."""
    if _transient(error):
        raise error


def raise_unless_transient(error: asyncpg.PostgresError) -> None:
    """Raise the error again unless the same question may work in a moment."""
    if not _transient(error):
        raise error
