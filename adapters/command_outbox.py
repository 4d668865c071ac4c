"""What happened to commands, from the database's outbox to a spool, and so to both paths; and what time does to commands.

A change and its event are written in one transaction. The event is taken away once it is on our disk, so it is told at
least once by us; its id is the outbox's, by which the spool tells a repetition.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from adapters.listening import Listening
from monitoring.events import OWN_DEVICE, Draft, stream_id, uuid7
from monitoring.intake import Intake

STREAM = stream_id(OWN_DEVICE, "commands")
_LOOK_SECONDS = 1.0
"""How often time is looked at, and what no notification told of."""
_PAGE = 500
_LOCK = 0x63665F636D64  # "cf_cmd"


class CommandOutbox:
    """Empties the outbox into an intake until cancelled. Of several over one database one works at a time."""

    def __init__(self, database_url: str, intake: Intake) -> None:
        self._database_url = database_url
        self._intake = intake

    async def run(self) -> None:
        """Work until cancelled, over whatever happens to the database."""
        listening = Listening(
            self._database_url,
            ["cf_commands"],
            _LOOK_SECONDS,
            name="crossfade-control-outbox",
            trouble="what happens to commands is not told for now",
        )
        await listening.run(self._session)

    async def _session(self, connection: Any, calls: AsyncIterator[None]) -> None:
        async for _ in calls:
            await self._work(connection)

    async def _work(self, connection: Any) -> None:
        if not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
            return
        try:
            await connection.fetchval("select public.cf_expire_commands()")
            while await self._move(connection):
                pass
        finally:
            await connection.fetchval("select pg_advisory_unlock($1)", _LOCK)

    async def _move(self, connection: Any) -> bool:
        """Move a page; tell whether there may be another."""
        sql = "select number, id, kind, at, payload::text from public.cf_outbox order by number limit $1"
        rows = await connection.fetch(sql, _PAGE)
        if not rows:
            return False
        drafts = [
            Draft(
                STREAM,
                row["kind"],
                row["at"],
                orjson.loads(row["payload"]),
                uuid7(int(row["at"].timestamp() * 1000), row["id"].int & (1 << 74) - 1),
            )
            for row in rows
        ]
        taken = await self._intake.take(drafts)
        done = [
            row["number"]
            for row, each in zip(rows, taken, strict=True)
            if each.refused is None or not each.again
        ]
        await connection.execute("delete from public.cf_outbox where number = any($1)", done)
        return len(done) == _PAGE
