"""The bridge: what another's monitoring server tells, put on a spool, so that it reaches Supabase.

It reads through the port, so that reconnects and what a server remembers of a cut are the adapter's business, and gives
its events to an owner of streams. What cannot be taken now waits here, for each stream by itself and bounded: the other
server, which people still depend on, is never held up. What is lost or not known is said in the stream itself, by an
event of kind ``bridge_gap``:

==========  ===================================================================================================
``reason``  a sentence: the server does not remember so far back, more waited than is kept, the spool refused one, or
            another owner had the stream and it is not known where that one ended
``lost``    how many events are missing; null when nobody can know, and it may be none
``since``   when the last event before happened, as far as this process knows; or null
==========  ===================================================================================================

A stream may have another owner: another bridge of the same server. Then its events are the other's to tell, and are kept
here for the day that one ends: once the stream is ours, what the other told is asked of Supabase, and what follows it
goes to the spool.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from collectors.collector import CollectorError
from monitoring.errors import InvalidEvent
from monitoring.events import Draft, Event, Kind, StreamId, category_of, device_of, format_time, stream_id
from monitoring.fingerprint import fingerprint
from monitoring.recall import recall
from monitoring.service import Gap, Item, MonitoringService
from monitoring.topics import GLOBAL

_BATCH = 500
"""Events that are appended at once: the process does nothing else for a few hundredths of a second."""
_RETRY_SECONDS = 0.25
_STANDING_BY_SECONDS = 1.0
"""Between looks at whether a stream of another owner's has become ours."""
TOLD = 2_000
"""The last events of another owner's that are kept, and compared with what it told."""
_CROWDED = "more waited than the bridge keeps while the spool or the database did not take it"
_TAKEN_OVER = "another owner told this stream, and how it went on after its last event is not known"

log = logging.getLogger(__name__)


class NotNow(CollectorError):  # noqa: N818 - named for what it is
    """The owner cannot take events at the moment; the message says why."""


class Owner(Protocol):
    """What the bridge needs of an owner of streams."""

    def is_open(self, stream: StreamId) -> bool:
        """Tell whether events of the stream are taken; asks for its lease when they are not."""
        ...

    def is_lost(self, stream: StreamId) -> bool:
        """Tell whether another owner has the stream: then its events are the other's to tell."""
        ...

    def epoch(self, stream: StreamId) -> int | None:
        """Return the epoch of a stream on the spool; None before the first. A new one means that others may have had it."""
        ...

    async def told(self, stream: StreamId, count: int) -> Sequence[Draft]:
        """Return the last events that others told of a stream that is open now, oldest first; raises NotNow."""
        ...

    def append(self, drafts: Sequence[Draft]) -> None:
        """Keep them all, or raise with nothing kept: NotNow, or InvalidEvent when one can never be taken."""
        ...


@dataclass(slots=True)
class BridgeCounts:
    """What became of the server's events, since the process began."""

    events: int = 0
    """On the spool."""
    gaps: int = 0
    """``bridge_gap`` events on the spool."""
    refused: int = 0
    """Lost for want of room, or because the spool can never take them; each is told by a ``bridge_gap``."""
    not_ours: int = 0
    """Of streams that another owner tells."""
    taken_over: int = 0
    """Of these, what it had not told when the stream became ours."""
    problem: str | None = None
    """Why events wait; None when none do."""


@dataclass(slots=True)
class _Queue:
    """What waits for the spool of one stream."""

    epoch: int | None
    """The one in which the owner goes on after what was told before."""
    drafts: deque[Draft] = field(default_factory=deque)
    left: deque[Draft] = field(default_factory=lambda: deque(maxlen=TOLD))
    """What was another owner's to tell, oldest first and without holes."""
    refused: int = 0
    last_at: datetime | None = None


class Bridge:
    """Puts the events of one server on an owner's spool until it is stopped.

    At most ``room`` events wait for all streams together.
    """

    def __init__(
        self,
        service: MonitoringService,
        owner: Owner,
        *,
        room: int = 20_000,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.counts = BridgeCounts()
        self._service = service
        self._owner = owner
        self._room = room
        self._now = now
        self._queues: dict[StreamId, _Queue] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many events wait for the spool."""
        return self._waiting

    async def run(self, stop: asyncio.Event) -> None:
        """Bridge until ``stop`` is set, and then what has come by then; raises Refused when waiting will not help."""
        news = asyncio.Event()
        async with self._service.subscribe(frozenset({GLOBAL})) as subscription:
            subscription.listen(news.set, news.set)
            stopping = asyncio.ensure_future(stop.wait())  # owned: ended below
            stopping.add_done_callback(lambda _: news.set())
            try:
                while not stop.is_set() and not subscription.ended:
                    news.clear()
                    if subscription.waiting:
                        self._step(subscription.take(_BATCH))
                        await asyncio.sleep(0)  # a server that never pauses must not stop everything else
                        continue
                    await self._deliver()
                    await _wait(news, self._look_again_seconds)
            finally:
                stopping.cancel()
            await subscription.close()
            while items := subscription.take(_BATCH):
                self._step(items)
            await self._deliver()
            if subscription.failure is not None:
                raise subscription.failure

    @property
    def _look_again_seconds(self) -> float | None:
        if self._waiting:
            return _RETRY_SECONDS
        return _STANDING_BY_SECONDS if any(queue.left for queue in self._queues.values()) else None

    def _step(self, items: Iterable[Item]) -> None:
        for item in items:
            match item:
                case Event():
                    self._take(Draft(item.stream, item.kind, item.occurred_at, item.payload))
                case Gap():
                    self._take_gap(item.stream, item.reason)
                case _:
                    pass  # only a router moves
        self._flush()

    def _take(self, draft: Draft) -> None:
        if draft.stream not in self._queues and not _addressable(draft.stream):
            self.counts.refused += 1
            log.error("bridge: the dialect names a stream %.200r, which no topic can address", draft.stream)
            return
        queue = self._queue(draft.stream)
        if self._waiting >= self._room:
            queue.refused += 1
            self.counts.refused += 1
            return
        self._tell_refused(draft.stream, queue)
        self._put(queue, draft)
        queue.last_at = draft.occurred_at

    def _take_gap(self, stream: StreamId, reason: str) -> None:
        queue = self._queue(stream)
        self._put(queue, self._gap(stream, queue.last_at, reason, None))

    def _tell_refused(self, stream: StreamId, queue: _Queue) -> None:
        """Say in its place what was refused of a stream for want of room."""
        if queue.refused:
            lost, queue.refused = queue.refused, 0
            self._put(queue, self._gap(stream, queue.last_at, _CROWDED, lost))

    def _gap(self, stream: StreamId, last_at: datetime | None, reason: str, lost: int | None) -> Draft:
        log.warning("bridge: %s: %s", stream, reason)
        since = format_time(last_at) if last_at else None
        return Draft(stream, Kind.BRIDGE_GAP, self._now(), {"reason": reason, "lost": lost, "since": since})

    def _put(self, queue: _Queue, draft: Draft) -> None:
        queue.drafts.append(draft)
        self._waiting += 1

    def _queue(self, stream: StreamId) -> _Queue:
        queue = self._queues.get(stream)
        if queue is None:
            queue = self._queues[stream] = _Queue(self._owner.epoch(stream))
        return queue

    async def _deliver(self) -> None:
        """Give the owner what it takes, also of streams that have just become ours."""
        self._flush()
        for stream in [name for name, queue in self._queues.items() if self._is_taken_over(name, queue)]:
            try:
                told = await self._owner.told(stream, TOLD)
            except NotNow as error:
                log.warning("bridge: %s", error)
                return
            self._take_over(stream, self._queues[stream], told)
            self._flush()

    def _is_taken_over(self, stream: StreamId, queue: _Queue) -> bool:
        waits = queue.drafts or queue.refused or queue.left
        return bool(waits) and self._owner.is_open(stream) and self._owner.epoch(stream) != queue.epoch

    def _take_over(self, stream: StreamId, queue: _Queue, told: Sequence[Draft]) -> None:
        """Go on in a stream after what others told: what they had not told waits, and nothing else."""
        epoch, queue.epoch = queue.epoch, self._owner.epoch(stream)
        if epoch is None and queue.epoch == 1:
            return  # nobody had it before
        likeness = self._service.capabilities.likeness
        remembered = [*queue.left, *queue.drafts]
        recalled = recall(
            [fingerprint(each, likeness) for each in told],
            [fingerprint(each, likeness) for each in remembered],
        )
        news = [remembered[index] for index in recalled.news]
        self.counts.taken_over += max(0, len(news) - len(queue.drafts))
        self._waiting += len(news) - len(queue.drafts)
        queue.left.clear()
        queue.drafts = deque(news)
        if not recalled.complete or likeness.resolution is None:
            queue.drafts.appendleft(
                self._gap(stream, told[-1].occurred_at if told else None, _TAKEN_OVER, None)
            )
            self._waiting += 1
        log.info("bridge: %s is ours; %d events were not told yet", stream, len(news))

    def _flush(self) -> None:
        """Give the owner whatever it takes now, in the order of each stream."""
        problem: str | None = None
        for stream, queue in self._queues.items():
            if queue.drafts or queue.refused or queue.left:
                problem = self._flush_stream(stream, queue) or problem
        if problem != self.counts.problem:
            log.log(logging.WARNING if problem else logging.INFO, "bridge: %s", problem or "nothing waits")
        self.counts.problem = problem

    def _flush_stream(self, stream: StreamId, queue: _Queue) -> str | None:
        """Return why something of the stream still waits; None when nothing does."""
        if self._owner.is_lost(stream):
            self._leave(queue)
            return None
        if not self._owner.is_open(stream):
            return f"{stream} is not open yet: the database has not given its lease"
        if self._owner.epoch(stream) != queue.epoch:
            return f"{stream} has become ours: what was told of it before has to be read"
        return self._append(stream, queue)

    def _append(self, stream: StreamId, queue: _Queue) -> str | None:
        size = _BATCH
        while queue.drafts or queue.refused:
            if not queue.drafts:
                self._tell_refused(stream, queue)
            batch = list(itertools.islice(queue.drafts, size))
            try:
                self._owner.append(batch)
            except NotNow as error:
                return str(error)
            except InvalidEvent as error:
                if len(batch) == 1:
                    self.counts.refused += 1
                    queue.drafts[0] = self._gap(stream, queue.last_at, f"refused: {error}"[:300], 1)
                size = 1  # one of them: the others are taken, and a word in its place
                continue
            for draft in batch:
                queue.drafts.popleft()
                if draft.kind == Kind.BRIDGE_GAP:
                    self.counts.gaps += 1
                else:
                    self.counts.events += 1
            self._waiting -= len(batch)
        return None

    def _leave(self, queue: _Queue) -> None:
        self.counts.not_ours += len(queue.drafts) + queue.refused
        self._waiting -= len(queue.drafts)
        queue.left.extend(queue.drafts)
        queue.drafts.clear()
        if queue.refused:  # then what is kept has a hole, and says nothing of what was before
            queue.left.clear()
            queue.refused = 0


def _addressable(stream: StreamId) -> bool:
    try:
        return stream_id(device_of(stream), category_of(stream)) == stream
    except InvalidEvent:
        return False


async def _wait(news: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        pass
