"""What the rollout tells the database: which paths are published to, and mirrors of what was decided.

Nothing waits for it: a database that is away is told later. The order of the entries is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from adapters import flag_audit
from adapters.errors import DATABASE_AWAY
from adapters.rollout_journal import Journal, JournalUnusable
from crossfade.paths import DataDir
from monitoring.flags.stages import Paths

_SECONDS = 10.0


class Mirror:
    """A connection to the database, made when it is needed and dropped when it breaks."""

    def __init__(self, url: str, data: DataDir) -> None:
        self._url = url
        self._data = data
        self._installation = f"{socket.gethostname()}:{data.root}"
        self._connection: asyncpg.Connection[Any] | None = None
        self._journal_number: int | None = None
        self._audited: set[str] | None = None
        self.problem: str | None = None
        """Why the database could not be told; None when it could."""

    async def tell(self, paths: Paths) -> tuple[str, ...] | None:
        """Order the paths, mirror what is new, and return who has not heard; None when the database is away."""
        try:
            async with asyncio.timeout(_SECONDS):
                connection = await self._connected()
                revision = await connection.fetchval(
                    "select public.cf_set_paths($1, $2)", paths.feed, paths.legacy
                )
                unheard = orjson.loads(await connection.fetchval("select public.cf_unheard($1)", revision))
                with contextlib.suppress(JournalUnusable):  # the controller says so, and stands still
                    await self._mirror(connection)
        except DATABASE_AWAY as error:
            self.problem = " ".join(str(error).split()) or type(error).__name__
            await self.close()
            return None
        self.problem = None
        return tuple(map(str, unheard))

    async def close(self) -> None:
        """End the connection; safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url, timeout=_SECONDS, statement_cache_size=0, command_timeout=_SECONDS
            )
        return self._connection

    async def _mirror(self, connection: asyncpg.Connection[Any]) -> None:
        journal = Journal(self._data.rollout_journal)
        if self._journal_number is None and (first := next(iter(journal.entries()), None)) is not None:
            self._journal_number = await self._mirrored(connection, first)
        if self._journal_number is not None and journal.read().number > self._journal_number:
            after = self._journal_number
            for entry in [entry for entry in journal.entries() if entry["n"] > after]:
                await self._entry(connection, entry)
                self._journal_number = entry["n"]
        if self._audited is None:
            rows = await connection.fetch(
                "select id from public.cf_flags_audit where installation = $1", self._installation
            )
            self._audited = {str(row["id"]) for row in rows}
        await self._audits(connection, flag_audit.read(self._data.flag_audit), self._audited)

    async def _mirrored(self, connection: asyncpg.Connection[Any], first: Mapping[str, Any]) -> int:
        """Return how far the journal with this first entry is mirrored.

        One that was begun anew at the same place is mirrored as another installation's.
        """
        kept = await connection.fetchval(
            "select at from public.cf_rollout_journal where installation = $1 and n = 1", self._installation
        )
        if kept not in {None, datetime.fromisoformat(first["at"])}:
            self._installation += f" since {first['at']}"
        number = await connection.fetchval(
            "select coalesce(max(n), 0) from public.cf_rollout_journal where installation = $1",
            self._installation,
        )
        return int(number)

    async def _entry(self, connection: asyncpg.Connection[Any], entry: Mapping[str, Any]) -> None:
        await connection.execute(
            "insert into public.cf_rollout_journal values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) "
            "on conflict do nothing",
            self._installation,
            entry["n"],
            datetime.fromisoformat(entry["at"]),
            *(entry[name] for name in ("by", "action", "cohort", "before", "after", "reason")),
            orjson.dumps(entry["gates"]).decode(),
            orjson.dumps(entry["state"]).decode(),
        )

    async def _audits(
        self, connection: asyncpg.Connection[Any], entries: Iterable[Mapping[str, Any]], known: set[str]
    ) -> None:
        for entry in entries:
            if entry["id"] in known:
                continue
            await connection.execute(
                "insert into public.cf_flags_audit values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
                entry["id"],
                self._installation,
                datetime.fromisoformat(entry["at"]),
                entry["who"],
                entry["file"],
                orjson.dumps(entry["changes"]).decode(),
                entry["why"],
            )
            known.add(entry["id"])
