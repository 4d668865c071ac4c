"""An owner's leases: which streams it may write, asked of the database and told to the spool.

The database alone decides, by its own clock (``cf_acquire_leases``). A stream whose lease another owner has is closed in
the spool, and its lease asked for again; one whose epoch is new is opened there. The same owner always goes on in its
epoch, however long it was away, unless another took the lease meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from adapters.outbox import Outbox
from adapters.spool_file import SpoolCorrupt, SpoolError
from monitoring.events import Position, StreamId

_STREAMS = 500
"""Leases asked for in one transaction."""

log = logging.getLogger(__name__)


class Leases:
    """The streams an owner writes or wants to write."""

    def __init__(
        self, spool: Outbox, streams: Iterable[StreamId], *, ttl_seconds: int, clock: Callable[[], datetime]
    ) -> None:
        self._spool = spool
        self._clock = clock
        self.ttl_seconds = ttl_seconds
        self.wanted = set(streams)
        """All of them; a lease is kept for as long as its stream is in here."""
        self._lost: dict[StreamId, str] = {}
        self._answered: set[StreamId] = set()
        self._news = asyncio.Event()
        self.last_error: str | None = None
        """Why a stream that is ours could not be opened in the spool; None when none failed."""

    @property
    def lost(self) -> frozenset[StreamId]:
        """Streams whose lease another owner has."""
        return frozenset(self._lost)

    @property
    def unasked(self) -> frozenset[StreamId]:
        """Streams of which the database has not yet said whose they are."""
        return frozenset(self.wanted - self._answered)

    async def settled(self, streams: Collection[StreamId]) -> None:
        """Wait until each is open in the spool, or the database has said whose it is.

        What the spool has open already goes on without the database.
        """
        while any(not self._spool.is_open(stream) and stream not in self._answered for stream in streams):
            self._news.clear()
            await self._news.wait()

    async def acquire(self, connection: asyncpg.Connection[Any], streams: Collection[StreamId]) -> None:
        """Take or renew leases; open in the spool what got a new epoch, close what is another's.

        A stream that the spool cannot open now is said and left for the next renewal; the others go on.
        """
        ordered = sorted(streams)
        for start in range(0, len(ordered), _STREAMS):
            some = ordered[start : start + _STREAMS]
            hints = {stream: self._spool.epoch_of(stream) for stream in some}
            answers = orjson.loads(
                await connection.fetchval(
                    "select public.cf_acquire_leases($1, $2::jsonb, $3)",
                    self._spool.owner,
                    orjson.dumps(hints).decode(),
                    self.ttl_seconds,
                )
            )
            for stream in some:
                self._take(stream, hints[stream], answers[stream])
        self._answered.update(streams)
        self._news.set()

    def _take(self, stream: StreamId, epoch: int | None, answer: Mapping[str, Any]) -> None:
        if "owner" in answer:
            self._lose(stream, f"stream {stream} is held by owner {answer['owner']} until {answer['until']}")
            return
        if self._lost.pop(stream, None):
            log.info("database: the lease of stream %s is ours again", stream)
        if answer["epoch"] == epoch:
            self._spool.resume_stream(stream)
        else:
            self._open(stream, answer)

    def _lose(self, stream: StreamId, sentence: str) -> None:
        self._spool.close_stream(stream)
        if stream not in self._lost:
            log.warning("database: %s; its events are not taken until the lease is free", sentence)
        self._lost[stream] = sentence

    def _open(self, stream: StreamId, answer: Mapping[str, Any]) -> None:
        last = Position(**answer["previous"]) if answer["previous"] else None
        try:
            opened = self._spool.open_stream(
                stream, answer["epoch"], last, self._clock(), drained=answer["drained"]
            )
        except SpoolCorrupt:
            raise
        except SpoolError as error:  # what is on the spool already can still go out
            sentence = f"stream {stream} cannot be opened yet: {error}"
            if sentence != self.last_error:
                log.warning("database: %s", sentence)
                log.debug("database: the error", exc_info=error)
            self.last_error = sentence
        else:
            self.last_error = None
            if not opened.follows_drained:
                log.warning(
                    "database: stream %s is ours in epoch %d; its last owner lost the lease, and what it had not "
                    "delivered is told to readers as a gap",
                    stream,
                    opened.epoch,
                )

    async def release(self, connection: asyncpg.Connection[Any]) -> None:
        """Let go of the leases of all streams that every path has; the others are kept until they expire.

        Nothing is taken for the released streams until their lease is ours again.
        """
        done = [stream for stream in self.wanted if stream not in self._lost and self._spool.drained(stream)]
        for stream in done:
            self._spool.release_stream(stream)
        if done:
            await connection.fetchval("select public.cf_release_leases($1, $2)", self._spool.owner, done)
            log.info("database: let go of %d of %d leases", len(done), len(self.wanted))
