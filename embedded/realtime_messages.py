"""Broadcast from the database: rows of `realtime.messages`, as they are committed, as they were, and as they age.

The inserts come in the same replication stream as the changes that postgres_changes subscribers get, so their order
is that of the commits. A message's frame carries PostgreSQL's own text of the payload: nothing is parsed on the way.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson

from embedded.migrations import apply_bootstrap
from embedded.phoenix import numbers
from embedded.phoenix.broadcast import Room, UserBroadcast
from embedded.phoenix.errors import JoinRefused
from embedded.realtime_broadcast import History, Replayed
from embedded.wal import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedded.realtime_access import Database
    from embedded.realtime_broadcast import BroadcastHub
    from embedded.realtime_outbox import Flusher
    from embedded.wal import Change, Relation, Transaction

_log = logging.getLogger(__name__)

PUBLICATION: Final = "supabase_realtime_messages_publication"
"""What the replication stream needs to follow besides the changes' own publication."""
SCHEMA: Final = "realtime"
TABLE: Final = "messages"

_MAINTENANCE_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 60.0
_REPLAY_SECONDS: Final = 5.0
_PART_BYTES: Final = 1024 * 1024
"""About as much is written to all connections together before they get time to drain."""
_FIRST_MS: Final = -(10**13)
_LAST_MS: Final = 10**14
"""Beyond these PostgreSQL's arithmetic would end before the messages do."""
_COLUMNS: Final = ("id", "topic", "event", "private", "payload", "binary_payload")

# The newest rows, oldest first. Only what is private is kept for replaying.
_REPLAY: Final = """
select id, event, payload, binary_payload from (
  select m.id::text, m.event, m.payload::text, m.binary_payload, m.inserted_at
  from realtime.messages m
  where m.topic = $1 and m.private is true and m.extension = 'broadcast'
    and m.event is not null and (m.payload is not null or m.binary_payload is not null)
    and m.inserted_at >= timestamp 'epoch' + $2::bigint * interval '1 millisecond'
  order by m.inserted_at desc
  limit $3
) newest order by inserted_at
"""


def is_message(relation: Relation) -> bool:
    """Say whether the table is `realtime.messages` or one of its days."""
    return relation.schema == SCHEMA and (relation.table == TABLE or relation.table.startswith(f"{TABLE}_"))


class Messages(History):
    """Delivers messages to a hub, and answers for those of before."""

    def __init__(self, hub: BroadcastHub, database: Database, flusher: Flusher) -> None:
        self._hub = hub
        self._flusher = flusher
        self._database = database
        self._relation: Relation | None = None
        self._positions: tuple[int, ...] = ()
        self.delivered = 0
        """How many messages were published since the start, heard by anybody or not."""

    async def take(self, transactions: Sequence[Transaction]) -> Sequence[Transaction]:
        """Publish the messages in the transactions, in order, and return the transactions without them.

        What is much goes as fast as its readers take it.
        """
        if not any(is_message(change.relation) for each in transactions for change in each.changes):
            return transactions
        left = [await self._take(transaction) for transaction in transactions]
        await self._flusher.relief()
        return left

    async def _take(self, transaction: Transaction) -> Transaction:
        others = []
        size = 0
        for change in transaction.changes:
            if not is_message(change.relation):
                others.append(change)
            elif change.type == "INSERT":
                size += self._publish(change)
                if size > _PART_BYTES:
                    size = 0
                    await self._flusher.relief()
        return replace(transaction, changes=tuple(others))

    def _publish(self, change: Change) -> int:
        """Publish a message and return about how many bytes that wrote."""
        row = change.new
        relation = change.relation
        if relation is not self._relation:
            by_name = {column.name: index for index, column in enumerate(relation.columns)}
            if not by_name.keys() >= set(_COLUMNS):
                return 0  # not the table we made
            self._positions = tuple(by_name[name] for name in _COLUMNS)
            self._relation = relation
        if row is None:
            return 0
        message_id, topic, event, private, payload, binary = (row[index] for index in self._positions)
        if not isinstance(topic, str) or not isinstance(event, str) or message_id is UNCHANGED:
            return 0  # a message without event is kept, not sent, as on the real server
        meta = b'{"id":"%s"}' % str(message_id).encode()
        if isinstance(payload, str):
            message = UserBroadcast(event, payload.encode(), meta=meta, trusted=True)
        elif isinstance(binary, str):
            message = UserBroadcast(
                event, bytes.fromhex(binary.removeprefix("\\x")), is_json=False, meta=meta
            )
        else:
            return 0
        self.delivered += 1
        room = Room(topic, private=private == "t")
        return len(message.payload) * self._hub.publish(room, message, message_id=str(message_id))

    async def replay(self, topic: str, since_ms: int, limit: int) -> Sequence[Replayed]:
        """Return what was sent to the private topic since then; raises JoinRefused if it cannot be read in time."""

        async def ask(connection: Any) -> list[asyncpg.Record]:
            since = min(max(since_ms, _FIRST_MS), _LAST_MS)
            rows: list[asyncpg.Record] = await connection.fetch(_REPLAY, topic, since, limit)
            return rows

        try:
            async with asyncio.timeout(_REPLAY_SECONDS):
                rows = await self._database.ask(ask)
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _log.warning("The messages of %s could not be read for replay: %s", topic, error or "no answer")
            raise JoinRefused("UnableToReplayMessages: Realtime was unable to replay messages") from error
        return [
            Replayed(id_, event, data, is_json=False)
            if payload is None
            else Replayed(id_, event, _sorted(payload))
            for id_, event, payload, data in rows
        ]

    async def prepare(self) -> None:
        """Make the table if the database is from before it; raises MigrationFailed, PostgresError."""
        await self._database.ask(_prepare)

    async def maintain(self) -> None:
        """Make the coming days and drop the old ones, every hour until cancelled."""
        while True:
            try:
                await self._database.ask(_maintain)
            except asyncpg.PostgresError as error:
                # a transaction that holds the table for long; there are days to spare
                _log.warning("The days of realtime.messages could not be looked after: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await asyncio.sleep(_MAINTENANCE_SECONDS)


async def _prepare(connection: Any) -> None:
    found = await connection.fetchval(
        "select to_regprocedure('realtime.maintain_messages()') is not null"
        " and exists (select from pg_publication where pubname = $1)",
        PUBLICATION,
    )
    if not found:
        _log.info("The database is from before realtime.messages and gets it now.")
        await apply_bootstrap(connection)


async def _maintain(connection: Any) -> None:
    await connection.execute("select realtime.maintain_messages()")


def _sorted(payload: str) -> bytes:
    """Return JSON text with keys in order and without spaces, as the real server replays it."""
    exact = numbers.exact(payload)
    value = orjson.loads(payload) if exact is None else exact
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
