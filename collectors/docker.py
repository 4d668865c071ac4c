"""Docker's containers: a thin poller. What the answers mean is in ``docker_state`` and ``docker_stats``.

Follow, do not poll: polling the list costs the daemon twenty times as much and tells a change a second later. The event
stream is opened first, then the list is read, so that nothing created in between is missed; the list is read again every
half minute and after each interruption, and when no container's numbers come any more: a daemon that hangs ends no stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from docker.errors import APIError, NotFound

from collectors.collector import Collector, Publish, Watcher
from collectors.docker_connection import (
    FOREIGN_ERRORS,
    MOST_ASKED,
    Connect,
    DockerAway,
    Session,
    ask,
    from_environment,
)
from collectors.docker_known import KnownContainers
from collectors.docker_state import (
    EVENTS,
    Change,
    apply_event,
    inspected,
    parse_listing,
    reconcile,
)
from collectors.docker_stats import NOTHING, Counters, container_payload, parse_stats
from collectors.threads import Reader
from monitoring.events import Draft, Kind, StreamId, stream_id

_DOUBT: Mapping[str, Any] = {}
"""In the place of an event: read the list now."""

log = logging.getLogger(__name__)


class _StreamEnded(DockerAway):
    """The events end; whether the daemon is away has to be seen."""


class DockerCollector(Collector, Watcher):
    """Tells containers and their numbers at every tick, and each change of status at once.

    ``watch`` keeps the connection; without one ``collect`` tells nothing.
    """

    name = "docker"

    def __init__(
        self,
        device: str,
        *,
        connect: Connect = from_environment,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        retry_seconds: float = 15.0,
        relist_seconds: float = 30.0,
        stats_seconds: float = 1.6,
    ) -> None:
        """Write the stream ``device/containers``.

        ``stats_seconds`` is how long one tick waits for numbers: what is later is null in it.
        """
        self._stream = stream_id(device, "containers")
        self._connect = connect
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._relist_seconds = relist_seconds
        self._stats_seconds = stats_seconds
        self._questions = Reader("docker", limit=5)
        self._figures = Reader("docker-stats", limit=MOST_ASKED)
        self._pumps = Reader("docker-events", limit=2)
        self._session: Session | None = None
        self.known = KnownContainers()
        """The containers, as the events say."""
        self._doubting = False
        self._counters: dict[str, Counters] = {}
        self._available: bool | None = None
        self.detail = "Docker was not asked yet"
        """One sentence for people: what Docker says, or why it does not."""

    @property
    def streams(self) -> Collection[StreamId]:
        """The one stream of this host's containers."""
        return (self._stream,)

    @property
    def available(self) -> bool:
        """Whether a daemon answers."""
        return self._session is not None

    async def watch(self, publish: Publish) -> None:
        """Keep connected and publish changes; a daemon that is not there is said once and tried again quietly."""
        while True:
            try:
                await self._follow(publish)
            except DockerAway as error:
                cut = isinstance(error, _StreamEnded) and self._available
                self._end_session()
                self.known.went(str(error))
                # A proxy cuts idle event streams of a daemon that is well: it is away only if it cannot be reached now.
                if cut:
                    log.debug("docker: %s; connecting again", error)
                    self.detail = f"{error}; connecting again"
                    await asyncio.sleep(min(1.0, self._retry_seconds))
                    continue
                self._say_away(publish, str(error))
            finally:
                self._end_session()
            await asyncio.sleep(self._retry_seconds)

    def _say_away(self, publish: Publish, reason: str) -> None:
        sentence = f"Docker is not there: {reason}"
        if self._available is not False:
            log.warning("%s; looking again every %g s", sentence, self._retry_seconds)
            publish([self._collected(available=False, containers=[], reason=sentence)])
        self._available = False
        self._counters = {}
        self.detail = sentence

    async def _follow(self, publish: Publish) -> None:
        """Connect, then apply events and lists until the daemon goes away, which raises DockerAway."""
        session = await Session.open(self._connect, self._questions, EVENTS)
        pump = asyncio.ensure_future(  # cancelled below
            self._pumps.call(session.events.pump(asyncio.get_running_loop()))
        )
        try:
            first = self._available is None
            changes = await self._list(session)
            if not first:
                self._publish_changes(publish, changes)
            self._session = session
            self.known.came(session.engine)
            if not self._available:
                log.info("docker: connected to %s, %d containers", session.engine, len(self.known.containers))
            self._available, self._doubting = True, False
            self.detail = f"{session.engine} is there"
            await self._apply(session, publish)
        finally:
            session.close()  # ends the pump's read
            pump.cancel()
            await asyncio.wait({pump})

    async def _list(self, session: Session) -> list[Change]:
        """Read the list; return what no event told."""
        listed = parse_listing(await ask(self._questions, lambda: session.client.containers(all=True)))
        containers, changes = reconcile(self.known.containers, listed, session.engine)
        self.known.update(containers)
        return changes

    async def _apply(self, session: Session, publish: Publish) -> None:
        loop = asyncio.get_running_loop()
        events = session.events.queue
        relist_at = loop.time() + self._relist_seconds
        while True:
            try:
                async with asyncio.timeout_at(relist_at):
                    event = await events.get()
            except TimeoutError:
                event = _DOUBT
            if event is None:
                raise _StreamEnded("its event stream ended")
            if event is _DOUBT:
                # Events that come in meanwhile wait in the queue: they are newer than the list, or told by it already.
                self._publish_changes(publish, await self._list(session))
                relist_at = loop.time() + self._relist_seconds
                self._doubting = False
                continue
            containers, change = apply_event(self.known.containers, event)
            self.known.update(containers)
            if change is not None:
                self._publish_changes(publish, [change], at=_time_of(event))
            if events.full():
                relist_at = loop.time()  # some were dropped

    def _publish_changes(
        self, publish: Publish, changes: Iterable[Change], at: datetime | None = None
    ) -> None:
        drafts = [
            Draft(self._stream, Kind.CONTAINER_STATUS_CHANGED, at or self._clock(), change.payload())
            for change in changes
        ]
        if drafts:
            publish(drafts)

    async def collect(self) -> Sequence[Draft]:
        """Return all containers with their numbers; nothing while no daemon answers."""
        session = self._session
        if session is None:
            return []
        told = await self._inspect(session)
        running = [key for key, container in self.known.containers.items() if container.running]
        stats = await self._each(
            self._figures, running, lambda key: session.client.stats(key, stream=False, one_shot=True)
        )
        if self._session is not session:
            return told  # the daemon went away meanwhile, and that was told
        if running and not stats and not self._doubting:
            self._doubting = True
            with contextlib.suppress(asyncio.QueueFull):  # the list is read then, too
                session.events.queue.put_nowait(_DOUBT)
        counters = {key: parse_stats(answer, session.engine) for key, answer in stats.items()}
        containers = [
            container_payload(container, counters.get(key, NOTHING), self._counters.get(key))
            for key, container in self.known.containers.items()
        ]
        # A container whose answer came late keeps its older baseline: the next rate covers both intervals.
        self._counters = {
            key: counters.get(key) or self._counters[key]
            for key in running
            if key in counters or key in self._counters
        }
        told.append(self._collected(available=True, containers=containers))
        return told

    async def _inspect(self, session: Session) -> list[Draft]:
        """Learn what neither list nor events tell; return what is news in it."""
        told: list[Draft] = []
        wanted = [key for key, container in self.known.containers.items() if container.restarts is None]
        details = await self._each(self._questions, wanted, session.client.inspect_container)
        containers = dict(self.known.containers)
        for key, detail in details.items():
            if (before := containers.get(key)) is not None:
                containers[key] = now = inspected(before, detail)
                if before.health != now.health:
                    payload = Change(before, now, "inspected").payload()
                    told.append(Draft(self._stream, Kind.CONTAINER_STATUS_CHANGED, self._clock(), payload))
        if details:
            self.known.update(containers)
        return told

    async def _each(
        self, reader: Reader, keys: Sequence[str], question: Callable[[str], Any]
    ) -> dict[str, Any]:
        """Ask about several containers at once; leave out those that are gone or too slow."""
        if not keys:
            return {}

        async def one(key: str) -> Any:
            try:
                return await reader.call(lambda: question(key))
            except (NotFound, APIError):
                return None  # it was removed, or is being; the next event says so

        tasks = {key: asyncio.ensure_future(one(key)) for key in keys}  # awaited or cancelled right here
        try:
            await asyncio.wait(tasks.values(), timeout=self._stats_seconds)
        finally:
            late = [task for task in tasks.values() if task.cancel()]
            if late:
                await asyncio.wait(late)
        answers: dict[str, Any] = {}
        for key, task in tasks.items():
            if task.cancelled():
                continue
            if isinstance(error := task.exception(), FOREIGN_ERRORS):
                continue  # the connection: `watch` sees it too, and decides
            if error is not None:
                raise error
            if task.result() is not None:
                answers[key] = task.result()
        return answers

    async def close(self) -> Sequence[Draft]:
        """Let go of the daemon."""
        self._end_session()
        return []

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _collected(
        self, *, available: bool, containers: list[dict[str, Any]], reason: str | None = None
    ) -> Draft:
        payload: dict[str, Any] = {"source": "docker", "available": available, "containers": containers}
        if reason is not None:
            payload["reason"] = reason
        return Draft(self._stream, Kind.CONTAINERS_COLLECTED, self._clock(), payload)


def _time_of(event: Mapping[str, Any]) -> datetime | None:
    nanoseconds = event.get("timeNano")
    return (
        datetime.fromtimestamp(nanoseconds / 1e9, UTC)
        if isinstance(nanoseconds, int) and nanoseconds > 0
        else None
    )
