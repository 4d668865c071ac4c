"""What an owner before us told of a stream: read from Supabase by one that takes the stream over."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg
import orjson

from adapters.database_url import asyncpg_url
from adapters.errors import DATABASE_AWAY, AdapterError
from monitoring.events import OWN_KINDS, Draft, StreamId

_SECONDS: Final = 10.0
_TOLD: Final = """
select kind, occurred_at, payload from public.cf_events
 where stream = $1 and epoch < $2 and kind <> all($3) order by epoch desc, seq desc limit $4
"""


class ToldUnknown(AdapterError):  # noqa: N818 - named for what it is
    """The database does not answer."""


async def last_told(database_url: str, stream: StreamId, before_epoch: int, count: int) -> list[Draft]:
    """Return the last events of a stream in earlier epochs, oldest first, as they were told to their owner.

    Final once the lease of ``before_epoch`` is held: then cf_append takes no more of theirs. Raises ToldUnknown, and
    InvalidDatabaseUrl.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            connection = await asyncpg.connect(asyncpg_url(database_url))
            try:
                rows = await connection.fetch(_TOLD, stream, before_epoch, [*OWN_KINDS], count)
            finally:
                connection.terminate()
    except DATABASE_AWAY as error:
        raise ToldUnknown(
            f"what was told of {stream} before cannot be read: {error or 'time-out'}"
        ) from error
    return [
        Draft(stream, row["kind"], row["occurred_at"], orjson.loads(row["payload"])) for row in reversed(rows)
    ]
