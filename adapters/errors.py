"""The base of this package's errors; what concerns one adapter only is declared beside it."""

from __future__ import annotations

import asyncpg

DATABASE_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asking a database may end with, time-outs among it; the last is what asyncpg says when a server dies half-way."""


class AdapterError(Exception):
    """Base of every error that an adapter raises of its own; the port's errors are in ``monitoring.errors``."""
