"""The forwarder of path ``supabase``: reads the spool, writes the database, acknowledges.

One connection an owner. It takes the lease of each of its streams (`adapters.leases`), then appends batches in order of
position; a batch is one transaction, and what is there already is left alone, so that sending again after a lost answer
does no harm. It never gives up: whatever fails is said and tried again.

What an answer means is in one table, ``_meaning``:

- *again*: the database is away or busy; reconnect with backoff and send the same batch.
- *refused*: a key, a right or a migration is missing; the same, at the slowest pace, until a person has changed it.
- *fenced*: another owner took a lease, and its epoch has sealed the ones before; what this spool still has of those stays
  out, is counted and said. Readers are told by the new epoch's first event (docs/adr/0006).
- *rejected*: the data; the batch is halved until the bad event is alone, and a tombstone with its identity is stored
  in its place, so that no hole remains.

It also keeps house in the database between the batches (`adapters.housekeeping`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

import asyncpg
import orjson

from adapters.backoff import Backoff
from adapters.database_url import asyncpg_url
from adapters.errors import DATABASE_AWAY
from adapters.heartbeat import Heartbeat
from adapters.housekeeping import Housekeeping
from adapters.leases import Leases
from adapters.outbox import Outbox
from adapters.path_orders import PathOrders
from adapters.spool_file import SpoolError
from monitoring.events import Event, Kind, StreamId, metric_type_of

BATCH = 500
"""Events a transaction: the real Realtime loses a transaction of 60,000 rows whole (perf-baselines)."""

_CONNECT_SECONDS = 10.0
_STATEMENT_SECONDS = 30.0
PACE = 4_000.0
"""Events a second at most while there is a backlog: what subscribers with the official client can follow (5,000)."""

_LOST_SECONDS = 1.0
"""Between questions for leases that another owner has: it may let go of them at any time."""

_SENT_SECONDS = 0.001
"""Until a statement is on its way to a database that is near: one round trip to prepare it, and it is written."""

_FENCED = "CF002"

_Chore = Callable[["asyncpg.Connection[Any]"], Awaitable[float]]
_Batch = list[tuple[int, Event]]
"""Events with their positions in the spool, in order."""

log = logging.getLogger(__name__)


class _Meaning(Enum):
    AGAIN = auto()
    REFUSED = auto()
    FENCED = auto()
    REJECTED = auto()


_CLASSES = {
    "21": _Meaning.REJECTED,  # cardinality violation: one row written twice by one statement
    "22": _Meaning.REJECTED,  # data exception
    "23": _Meaning.REJECTED,  # integrity constraint violation
    "54": _Meaning.REJECTED,  # program limit exceeded
    "28": _Meaning.REFUSED,  # invalid authorization
    "3D": _Meaning.REFUSED,  # no such database
    "3F": _Meaning.REFUSED,  # no such schema
    "42": _Meaning.REFUSED,  # no such function or table (migrations), insufficient privilege
}
"""SQLSTATE classes (PostgreSQL manual, appendix A); any other is worth trying again."""


@dataclass(frozen=True, slots=True)
class WriterStatus:
    """How the path is doing; ``detail`` is one sentence for people."""

    connected: bool = False
    detail: str = "not connected yet"
    last_error: str | None = None
    events: int = 0
    duplicates: int = 0
    tombstones: int = 0
    fenced_events: int = 0
    """Events that came too late: another owner's epoch had sealed theirs."""
    connects: int = 0
    expired: int = 0
    """Events that housekeeping deleted from the feed."""
    storage: Mapping[str, Any] | None = None
    """What the newest housekeeping said of the store: bytes used, their limit, what was dropped for it (cf_storage)."""
    housekeeping_error: str | None = None
    """Why the newest housekeeping failed; None when it did not."""
    lost: frozenset[StreamId] = field(default_factory=frozenset)
    """Streams whose lease another owner has."""


class PostgresWriter:
    """Moves the spool's events into the database. Run ``run`` in a task group; it ends when cancelled or ``finish``-ed."""

    def __init__(
        self,
        spool: Outbox,
        url: str,
        streams: Iterable[StreamId],
        *,
        ttl_seconds: int = 30,
        pace: float | None = PACE,
        backoff: Backoff | None = None,
        heartbeat: Heartbeat | None = None,
        orders: PathOrders | None = None,
        housekeeping: Housekeeping | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Forward to ``url``, holding the leases of ``streams`` and of whatever the spool has or is claimed.

        ``orders`` are asked for between the batches. A backlog goes out at no more than ``pace`` events a second; None is
        as fast as it can. Raises InvalidDatabaseUrl.
        """
        self._spool = spool
        self._url = asyncpg_url(url)
        self._leases = Leases(spool, streams, ttl_seconds=ttl_seconds, clock=clock)
        self._pace = pace
        self._heartbeat = heartbeat or Heartbeat()
        self._orders = orders
        self._housekeeping = housekeeping or Housekeeping()
        # Well within a lease's time, so that after an outage of the database its owner is back before it expires.
        self._backoff = backoff or Backoff(first=0.2, cap=ttl_seconds / 3)
        self._position = spool.acknowledged("supabase")
        self._finishing = False
        self._pause: asyncio.Timeout | None = None
        self.status = WriterStatus()

    async def opened(self, streams: Collection[StreamId] | None = None) -> None:
        """Wait until each stream (all of ours) is open in the spool, or known to be another's."""
        await self._leases.settled(self._leases.wanted if streams is None else streams)

    def claim(self, streams: Iterable[StreamId]) -> None:
        """Hold the leases of these streams, too, from as soon as the database answers."""
        self._leases.wanted.update(streams)
        self._wake()

    def finish(self) -> None:
        """Let ``run`` end once all that the spool has is stored: it then lets go of the leases."""
        self._finishing = True
        self._wake()

    def _wake(self) -> None:
        if self._pause is not None and not self._pause.expired():  # else it is on its way to wake up
            self._pause.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Forward until ``finish``; whatever fails is in ``status`` and tried again."""
        own = asyncio.current_task()
        while True:
            try:
                await self._session()
            except SpoolError as error:
                self._said(error, str(error))
                pause = self._backoff.next()
            except DATABASE_AWAY as error:
                refused = _meaning(error) is _Meaning.REFUSED
                self._said(error, _sentence(error, refused=refused))
                pause = max(self._backoff.next(), 5.0 if refused else 0.0)
            else:
                self.status = replace(self.status, connected=False, detail="finished")
                return
            if own is not None and own.cancelling():
                raise asyncio.CancelledError  # the driver answered the cancellation with an error of its own
            await asyncio.sleep(pause)

    def _said(self, error: Exception, sentence: str) -> None:
        if sentence != self.status.last_error or self.status.connected:
            log.warning("database: %s", sentence)
            log.debug("database: the error", exc_info=error)
        self.status = replace(self.status, connected=False, detail=sentence, last_error=sentence)

    async def _session(self) -> None:
        # No statement cache: behind a pooler in transaction mode a prepared statement may be another connection's.
        connection = await asyncpg.connect(
            self._url,
            timeout=_CONNECT_SECONDS,
            command_timeout=_STATEMENT_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "crossfade collect"},
        )
        try:
            await self._lease(connection, self._leases.wanted)
            self._backoff.reset()
            self.status = replace(
                self.status, connected=True, detail="connected", connects=self.status.connects + 1
            )
            log.info("database: connected")
            await self._forward(connection)
        finally:
            await _close(connection)

    async def _forward(self, connection: asyncpg.Connection[Any]) -> None:
        """Store what the spool has, as it comes; returns when that was asked for and nothing is left."""
        loop = asyncio.get_running_loop()
        third = self._leases.ttl_seconds / 3
        renew_at, ask_at = loop.time() + third, loop.time() + _LOST_SECONDS
        due: dict[_Chore, float] = dict.fromkeys(self._chores(), loop.time())
        ahead: _Batch = []
        while True:
            began = loop.time()
            for chore, at in due.items():
                if began >= at:
                    due[chore] = began + await chore(connection)
            if began >= renew_at:
                await self._lease(connection, self._leases.wanted)
                renew_at = began + third
            if began >= ask_at:
                await self._lease(connection, self._leases.lost)
                ask_at = began + _LOST_SECONDS
            batch, ahead = ahead or self._spool.read(self._position, BATCH), []
            # What an earlier run wrote, and what was claimed meanwhile.
            self._leases.wanted.update(event.stream for _, event in batch)
            await self._lease(connection, self._leases.unasked)
            if batch:
                ahead = await self._append_reading_ahead(connection, batch)
                self._position = batch[-1][0]
                self._spool.acknowledge("supabase", self._position)
            if len(batch) == BATCH and self._pace is not None:
                await asyncio.sleep(began + BATCH / self._pace - loop.time())
            elif not batch and self._finishing:
                await self._leases.release(connection)
                return
            elif not batch:
                until = min(renew_at, *due.values(), ask_at if self._leases.lost else renew_at)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until) as self._pause:
                        await self._spool.appended(self._position)
                self._pause = None

    def _chores(self) -> Iterable[_Chore]:
        """Give what is done between the batches; each returns in how many seconds it is to be done again."""
        yield self._heartbeat.beat
        if self._orders is not None:
            yield self._hear
        yield self._maintain

    async def _hear(self, connection: asyncpg.Connection[Any]) -> float:
        return (
            await self._orders.hear(connection, self._spool.owner) if self._orders is not None else math.inf
        )

    async def _append_reading_ahead(self, connection: asyncpg.Connection[Any], batch: _Batch) -> _Batch:
        """Store a batch; of a backlog, read the next one meanwhile and return it."""
        storing = asyncio.ensure_future(  # noqa: RUF006 - awaited below, whatever happens
            self._append(connection, [event for _, event in batch])
        )
        try:
            # Not before the batch is on its way: reading keeps this thread from sending it.
            done, _ = await asyncio.wait({storing}, timeout=_SENT_SECONDS)
            return self._spool.read(batch[-1][0], BATCH) if len(batch) == BATCH and not done else []
        except asyncio.CancelledError:
            storing.cancel()
            raise
        finally:
            await storing

    async def _lease(self, connection: asyncpg.Connection[Any], streams: Collection[StreamId]) -> None:
        if streams:
            await self._leases.acquire(connection, streams)
            self.status = replace(
                self.status,
                lost=self._leases.lost,
                last_error=self._leases.last_error or self.status.last_error,
            )

    async def _maintain(self, connection: asyncpg.Connection[Any]) -> float:
        house = self._housekeeping
        seconds = await house.step(connection)
        self.status = replace(
            self.status, expired=house.expired, storage=house.storage, housekeeping_error=house.problem
        )
        return seconds

    async def _append(
        self, connection: asyncpg.Connection[Any], events: Sequence[Event], *, leased: bool = False
    ) -> None:
        """Store all of the events, or what is possible of them: halve what is rejected, leave out what is fenced.

        ``leased`` is whether the database was asked just now for the leases it had said we lack.
        """
        events = self._without(events, dict.fromkeys(self._leases.lost))
        if not events:
            return
        try:
            stored = await self._write(connection, events)
        except asyncpg.PostgresError as error:
            match _meaning(error):
                case _Meaning.FENCED:
                    refused: dict[StreamId, int | None] = orjson.loads(error.detail or "{}")
                    missing = [stream for stream, epoch in refused.items() if epoch is None]
                    if not refused or (missing and leased):
                        raise  # nothing would get better by trying again at once
                    await self._lease(connection, missing)  # nobody may have it: a database from a backup
                    sealed = {stream: epoch for stream, epoch in refused.items() if epoch is not None}
                    kept = self._without(events, sealed)
                    await self._append(connection, kept, leased=leased or bool(missing))
                case _Meaning.REJECTED if len(events) > 1:
                    middle = len(events) // 2
                    await self._append(connection, events[:middle])
                    await self._append(connection, events[middle:])
                case _Meaning.REJECTED:
                    await self._bury(connection, events[0], error)
                case _:
                    raise
        else:
            self.status = replace(
                self.status,
                events=self.status.events + stored,
                duplicates=self.status.duplicates + len(events) - stored,
            )

    def _without(self, events: Sequence[Event], sealed: Mapping[StreamId, int | None]) -> Sequence[Event]:
        """Leave out, count and say events of epochs before the given one of their stream, or of all its epochs."""
        out: dict[StreamId, list[Event]] = {}
        for event in events:
            if event.stream in sealed:
                first = sealed[event.stream]
                if first is None or event.epoch < first:
                    out.setdefault(event.stream, []).append(event)
        if not out:
            return events
        for stream, late in out.items():
            sentence = (
                f"{len(late)} events of stream {stream} ({_place(late[0])} to {_place(late[-1])}) stay out of the "
                "database: another owner took the lease; readers are told of a gap"
            )
            log.error("database: %s", sentence)
            self.status = replace(
                self.status, last_error=sentence, fenced_events=self.status.fenced_events + len(late)
            )
        late_ids = {event.id for late in out.values() for event in late}
        return [event for event in events if event.id not in late_ids]

    async def _bury(
        self, connection: asyncpg.Connection[Any], event: Event, error: asyncpg.PostgresError
    ) -> None:
        """Store a tombstone in an event's place: the reader sees that there was one, and why it cannot be shown."""
        sentence = f"the database rejected this {event.kind}: {_flat(error)}"
        log.error("database: %s seq %d of %s became a tombstone", sentence, event.seq, event.stream)
        tombstone = replace(event, kind=Kind.TOMBSTONE, payload={"error": sentence.replace("\0", "")})
        await self._write(connection, [tombstone])
        self.status = replace(self.status, tombstones=self.status.tombstones + 1, last_error=sentence)

    async def _write(self, connection: asyncpg.Connection[Any], events: Sequence[Event]) -> int:
        # A column each: the database takes them as they are, and has not to find them in one large text first.
        stored = await connection.fetchval(
            "select public.cf_append_rows($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            self._spool.owner,
            [event.stream for event in events],
            [event.epoch for event in events],
            [event.seq for event in events],
            [event.id for event in events],
            [metric_type_of(event.stream) for event in events],
            [event.kind for event in events],
            [event.occurred_at for event in events],
            [orjson.dumps(event.payload).decode() for event in events],
            self._leases.ttl_seconds,
        )
        return int(stored)


def _place(event: Event) -> str:
    return f"epoch {event.epoch} seq {event.seq}"


def _meaning(error: BaseException) -> _Meaning:
    code = getattr(error, "sqlstate", None) or ""
    if code == _FENCED:
        return _Meaning.FENCED
    return _CLASSES.get(code[:2], _Meaning.AGAIN)


def _flat(error: BaseException) -> str:
    """Return the error's text in one line: PostgreSQL's have a DETAIL and a HINT on lines of their own."""
    return " ".join(str(error).split()) or type(error).__name__


def _sentence(error: Exception, *, refused: bool) -> str:
    """Say what happened and what to do, in one line."""
    said = _flat(error)
    if isinstance(error, asyncpg.UndefinedFunctionError | asyncpg.UndefinedTableError):
        return f"the database lacks Crossfade's tables ({said}): apply supabase/migrations to it"
    if refused:
        return f"the database refuses us ({said}): check user, password and rights in DATABASE_URL"
    if isinstance(error, TimeoutError):
        return "the database does not answer in time; trying again"
    return f"the database is away ({said}); trying again"


async def _close(connection: asyncpg.Connection[Any]) -> None:
    try:
        await connection.close(timeout=2)
    except DATABASE_AWAY:
        connection.terminate()  # it was broken already, and that was said
    except BaseException:
        connection.terminate()
        raise
