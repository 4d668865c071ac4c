"""The forwarder of path ``supabase``: reads the spool, writes the database, acknowledges.

One connection an owner. It takes the lease of each of its streams, opens in the spool what has no epoch yet, then
appends batches in order of position; a batch is one transaction, and what is there already is left alone, so that
sending again after a lost answer does no harm. It never gives up: whatever fails is said and tried again.

What an answer means is in one table, ``_meaning``:

- *again*: the database is away or busy; reconnect with backoff and send the same batch.
- *refused*: a key, a right or a migration is missing; the same, at the slowest pace, until a person has changed it.
- *fenced*: another owner took a lease; that stream is closed in the spool and its lease asked for again later.
- *rejected*: the data; the batch is halved until the bad event is alone, and a tombstone with its identity is stored
  in its place, so that no hole remains.

It also keeps house in the database (``cf_maintain``): after each connect, before the first batch, and every hour, in
steps between the batches until nothing expired is left. A failure there is said and tried again; it holds up no event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

import asyncpg
import orjson

from adapters.backoff import Backoff
from adapters.database_url import asyncpg_url
from adapters.outbox import Outbox
from adapters.spool_file import SpoolCorrupt, SpoolError
from monitoring.events import Event, Position, StreamId, metric_type_of, to_json

BATCH = 500
"""Events a transaction: the real Realtime loses a transaction of 60,000 rows whole (perf-baselines)."""

_CONNECT_SECONDS = 10.0
_STATEMENT_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
"""Between full batches, so that a replay after an outage does not flood the subscribers: at most 10,000 events/s."""

_MAINTAIN_SECONDS = 3600.0
_MAINTAIN_AGAIN_SECONDS = 60.0
"""After housekeeping failed."""
_EXPIRED = 5_000
"""Expired events deleted a step: with the pause between steps no transaction is too large for Realtime."""
_EXPIRED_PAUSE_SECONDS = 0.25

_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a connection may end with; the last is what asyncpg says when the server cut it while nothing was asked."""

_HELD = "CF001"
_FENCED = "CF002"

log = logging.getLogger(__name__)


class _Meaning(Enum):
    AGAIN = auto()
    REFUSED = auto()
    FENCED = auto()
    REJECTED = auto()


_CLASSES = {
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
    connects: int = 0
    expired: int = 0
    """Events that housekeeping deleted from the feed."""
    housekeeping_error: str | None = None
    """Why the newest housekeeping failed; None when it did not."""
    lost: frozenset[StreamId] = field(default_factory=frozenset)
    """Streams whose lease another owner has."""


class PostgresWriter:
    """Moves the spool's events into the database. Run ``run`` in a task group; it ends only by being cancelled."""

    def __init__(
        self,
        spool: Outbox,
        url: str,
        streams: Collection[StreamId],
        *,
        ttl_seconds: int = 30,
        backoff: Backoff | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Forward to ``url``, holding the leases of ``streams``; raises InvalidDatabaseUrl."""
        self._spool = spool
        self._url = asyncpg_url(url)
        self._streams = tuple(streams)
        self._ttl_seconds = ttl_seconds
        self._backoff = backoff or Backoff(first=0.2, cap=30.0)
        self._clock = clock
        self._position = spool.acknowledged("supabase")
        self._opened = asyncio.Event()
        self.status = WriterStatus()

    async def opened(self) -> None:
        """Wait until every stream of ours was opened, or is known to be another's."""
        if all(self._spool.epoch_of(stream) for stream in self._streams):
            return  # the spool's epochs go on without the database
        await self._opened.wait()

    async def run(self) -> None:
        """Forward for ever; whatever fails is in ``status`` and tried again."""
        own = asyncio.current_task()
        while True:
            try:
                await self._session()
            except SpoolError as error:
                self._said(error, str(error))
                pause = self._backoff.next()
            except _FAILURES as error:
                refused = _meaning(error) is _Meaning.REFUSED
                self._said(error, _sentence(error, refused=refused))
                pause = max(self._backoff.next(), 5.0 if refused else 0.0)
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
            await self._lease(connection)
            self._backoff.reset()
            self.status = replace(
                self.status, connected=True, detail="connected", connects=self.status.connects + 1
            )
            log.info("database: connected")
            await self._forward(connection)
        finally:
            await _close(connection)

    async def _forward(self, connection: asyncpg.Connection[Any]) -> None:
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + self._ttl_seconds / 3
        maintain_at = loop.time()
        while True:
            if loop.time() >= maintain_at:
                maintain_at = loop.time() + await self._maintain(connection)
            batch = self._spool.read(self._position, BATCH)
            if batch:
                await self._append(connection, [event for _, event in batch])
                self._position = batch[-1][0]
                self._spool.acknowledge("supabase", self._position)
            if loop.time() >= renew_at:
                await self._lease(connection)
                renew_at = loop.time() + self._ttl_seconds / 3
            if len(batch) == BATCH:
                await asyncio.sleep(_PAUSE_SECONDS)
            elif not batch:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(renew_at, maintain_at)):
                        await self._spool.appended(self._position)

    async def _maintain(self, connection: asyncpg.Connection[Any]) -> float:
        """Keep house, one step; return in how many seconds to do so again."""
        try:
            answer = orjson.loads(
                await connection.fetchval("select public.cf_maintain(p_limit => $1)", _EXPIRED)
            )
        except (asyncpg.PostgresError, TimeoutError) as error:
            if connection.is_closed():
                raise
            sentence = f"housekeeping failed: {_flat(error)}"
            if sentence != self.status.housekeeping_error:
                log.warning("database: %s; tried again in %g s", sentence, _MAINTAIN_AGAIN_SECONDS)
            self.status = replace(self.status, housekeeping_error=sentence)
            return _MAINTAIN_AGAIN_SECONDS
        deleted = int(answer["events_deleted"])
        self.status = replace(self.status, expired=self.status.expired + deleted, housekeeping_error=None)
        return _MAINTAIN_SECONDS if deleted < _EXPIRED else _EXPIRED_PAUSE_SECONDS

    async def _lease(self, connection: asyncpg.Connection[Any]) -> None:
        """Take or renew every lease; open in the spool what got a new epoch, close what is another's.

        A stream that the spool cannot open now is said and left for the next renewal; the others go on.
        """
        lost: dict[StreamId, str] = {}
        for stream in self._streams:
            epoch = self._spool.epoch_of(stream)
            try:
                answer = await connection.fetchval(
                    "select public.cf_acquire_lease($1, $2, $3, $4)",
                    stream,
                    self._spool.owner,
                    epoch,
                    self._ttl_seconds,
                )
            except asyncpg.PostgresError as error:
                if error.sqlstate != _HELD:
                    raise
                self._spool.close_stream(stream)
                lost[stream] = _flat(error)
                continue
            lease = orjson.loads(answer)
            if lease["epoch"] != epoch:
                self._open(stream, lease)
            else:
                self._spool.resume_stream(stream)
        for stream in lost.keys() - self.status.lost:
            log.warning("database: %s; its events are not taken until the lease is free", lost[stream])
        for stream in self.status.lost - lost.keys():
            log.info("database: the lease of stream %s is ours again", stream)
        self.status = replace(self.status, lost=frozenset(lost))
        self._opened.set()

    def _open(self, stream: StreamId, lease: dict[str, Any]) -> None:
        last = Position(**lease["previous"]) if lease["previous"] else None
        try:
            self._spool.open_stream(stream, lease["epoch"], last, self._clock())
        except SpoolCorrupt:
            raise
        except SpoolError as error:  # what is on the spool already can still go out
            sentence = f"stream {stream} cannot be opened yet: {error}"
            if sentence != self.status.last_error:
                log.warning("database: %s", sentence)
                log.debug("database: the error", exc_info=error)
            self.status = replace(self.status, last_error=sentence)

    async def _append(self, connection: asyncpg.Connection[Any], events: Sequence[Event]) -> None:
        """Store all of the events, or what is possible of them: halve what is rejected, skip what is fenced."""
        if not events:
            return
        try:
            stored = await self._write(connection, [_wire(event) for event in events])
        except asyncpg.PostgresError as error:
            match _meaning(error):
                case _Meaning.FENCED:
                    await self._append(connection, self._without_fenced(events, error))
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

    def _without_fenced(self, events: Sequence[Event], error: asyncpg.PostgresError) -> list[Event]:
        """Close the streams that were taken from us; return the events of the others."""
        fenced = {StreamId(name.strip()) for name in (error.detail or "").split(",")}
        kept = [event for event in events if event.stream not in fenced]
        if len(kept) == len(events):
            raise error  # it names none of these streams: nothing would get better by trying again at once
        for stream in fenced:
            self._spool.close_stream(stream)
        log.warning("database: %s; %d events stay out of it", _flat(error), len(events) - len(kept))
        self.status = replace(
            self.status,
            last_error=_flat(error),
            lost=self.status.lost | fenced,
            fenced_events=self.status.fenced_events + len(events) - len(kept),
        )
        return kept

    async def _bury(
        self, connection: asyncpg.Connection[Any], event: Event, error: asyncpg.PostgresError
    ) -> None:
        """Store a tombstone in an event's place: the reader sees that there was one, and why it cannot be shown."""
        sentence = f"the database rejected this {event.kind}: {_flat(error)}"
        log.error("database: %s seq %d of %s became a tombstone", sentence, event.seq, event.stream)
        tombstone = replace(event, kind="tombstone", payload={"error": sentence.replace("\0", "")})
        await self._write(connection, [_wire(tombstone)])
        self.status = replace(self.status, tombstones=self.status.tombstones + 1, last_error=sentence)

    async def _write(self, connection: asyncpg.Connection[Any], events: list[dict[str, Any]]) -> int:
        stored = await connection.fetchval(
            "select public.cf_append($1, $2::jsonb, $3)",
            self._spool.owner,
            orjson.dumps(events).decode(),
            self._ttl_seconds,
        )
        return int(stored)


def _wire(event: Event) -> dict[str, Any]:
    return {**to_json(event), "metric_type": metric_type_of(event.stream)}


def _meaning(error: BaseException) -> _Meaning:
    code = getattr(error, "sqlstate", None) or ""
    if code in {_HELD, _FENCED}:
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
    except _FAILURES:
        connection.terminate()  # it was broken already, and that was said
    except BaseException:
        connection.terminate()
        raise
