"""Docker's containers: a thin poller. What the answers mean is in ``docker_state`` and ``docker_stats``.

Follow, do not poll: polling the list costs the daemon twenty times as much and tells a change a second later. The event
stream is opened first, then the list is read, so that nothing created in between is missed; the list is read again every
half minute and after each interruption. Events are taken from the wire by a thread that does nothing else, because the
daemon skips a subscriber that is busy for 100 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.utils import kwargs_from_env

from collectors.collector import Collector, CollectorError, Publish, Watcher
from collectors.docker_state import (
    EVENTS,
    Change,
    Container,
    apply_event,
    inspected,
    parse_listing,
    reconcile,
)
from collectors.docker_stats import NOTHING, Counters, container_payload, parse_stats
from collectors.threads import Reader
from monitoring.events import Draft, Kind, StreamId, stream_id

_REQUEST_SECONDS = 5
_LOCAL = "unix:///var/run/docker.sock"
_QUEUE = 1000
"""Events waiting to be told; beyond it they are dropped and the list is read instead."""

_FOREIGN_ERRORS = (DockerException, requests.RequestException, OSError)

log = logging.getLogger(__name__)


class DockerAway(CollectorError):  # noqa: N818 - named for what it is
    """No daemon answers, or it went away."""


@dataclass(slots=True)
class _Session:
    """One connection to the daemon: a client for questions, one for the event stream."""

    client: docker.APIClient
    events: Any
    queue: asyncio.Queue[Mapping[str, Any] | None]

    def close(self) -> None:
        with contextlib.suppress(*_FOREIGN_ERRORS):
            self.events.close()
        self.client.close()


def from_environment() -> docker.APIClient:
    """Connect as the docker command would (DOCKER_HOST and its relatives, else the local socket); blocks."""
    options: dict[str, Any] = {**kwargs_from_env()}
    return connect_to(options.pop("base_url", None) or _LOCAL, **options)


def connect_to(base_url: str, **options: Any) -> docker.APIClient:
    """Connect to a daemon; blocks for up to five seconds. Raises DockerException or OSError."""
    if base_url.startswith("unix://"):
        # Tried first by ourselves: the library leaves the socket of each failed connection open.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_REQUEST_SECONDS)
            probe.connect("/" + base_url.removeprefix("unix://").lstrip("/"))
    return docker.APIClient(base_url=base_url, version="auto", timeout=_REQUEST_SECONDS, **options)


class DockerCollector(Collector, Watcher):
    """Tells containers and their numbers at every tick, and each change of status at once.

    ``watch`` keeps the connection; without one ``collect`` tells nothing.
    """

    name = "docker"

    def __init__(
        self,
        device: str,
        *,
        connect: Callable[[], docker.APIClient] = from_environment,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        retry_seconds: float = 15.0,
        relist_seconds: float = 30.0,
        stats_seconds: float = 1.2,
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
        self._pumps = Reader("docker-events", limit=2)
        self._session: _Session | None = None
        self._known: dict[str, Container] = {}
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
                cut = self._available and self._session is not None
                self._end_session()
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
        session = await self._open()
        pump = asyncio.ensure_future(
            self._pumps.call(_pump(session, asyncio.get_running_loop()))
        )  # cancelled below
        try:
            listed = await self._ask(lambda: session.client.containers(all=True))
            first = self._available is None
            self._known, changes = reconcile(self._known, parse_listing(listed))
            if not first:
                self._publish_changes(publish, changes)
            self._session = session
            if not self._available:
                log.info("docker: connected, %d containers", len(self._known))
            self._available = True
            self.detail = "Docker is there"
            await self._apply(session, publish)
        finally:
            session.close()  # ends the pump's read
            pump.cancel()
            await asyncio.wait({pump})

    async def _apply(self, session: _Session, publish: Publish) -> None:
        loop = asyncio.get_running_loop()
        relist_at = loop.time() + self._relist_seconds
        while True:
            try:
                async with asyncio.timeout_at(relist_at):
                    event = await session.queue.get()
            except TimeoutError:
                # Events that come in meanwhile wait in the queue: they are newer than the list, or told by it already.
                listed = await self._ask(lambda: session.client.containers(all=True))
                self._known, changes = reconcile(self._known, parse_listing(listed))
                self._publish_changes(publish, changes)
                relist_at = loop.time() + self._relist_seconds
                continue
            if event is None:
                raise DockerAway("its event stream ended")
            self._known, change = apply_event(self._known, event)
            if change is not None:
                self._publish_changes(publish, [change], at=_time_of(event))
            if session.queue.full():
                relist_at = loop.time()  # some were dropped

    async def _open(self) -> _Session:
        client = await self._ask(self._connect)
        try:
            events = await self._ask(
                lambda: client.events(decode=True, filters={"type": ["container"], "event": list(EVENTS)})
            )
        except BaseException:
            client.close()
            raise
        return _Session(client, events, asyncio.Queue(_QUEUE))

    async def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return await self._questions.call(question)
        except _FOREIGN_ERRORS as error:
            raise DockerAway(reason_of(error)) from error

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
        told: list[Draft] = []
        uninspected = [key for key, container in self._known.items() if container.restarts is None]
        details = await self._each(uninspected, session.client.inspect_container)
        for key, detail in details.items():
            if (before := self._known.get(key)) is not None:
                self._known[key] = now = inspected(before, detail)
                if before.health != now.health:
                    change = Change(before, now, "inspected")
                    told.append(
                        Draft(self._stream, Kind.CONTAINER_STATUS_CHANGED, self._clock(), change.payload())
                    )
        running = [key for key, container in self._known.items() if container.running]
        stats = await self._each(running, lambda key: session.client.stats(key, stream=False, one_shot=True))
        if self._session is not session:
            return told  # the daemon went away meanwhile, and that was told
        counters = {key: parse_stats(answer) for key, answer in stats.items()}
        containers = [
            container_payload(container, counters.get(key, NOTHING), self._counters.get(key))
            for key, container in self._known.items()
        ]
        # A container whose answer came late keeps its older baseline: the next rate covers both intervals.
        self._counters = {
            key: counters.get(key) or self._counters[key]
            for key in running
            if key in counters or key in self._counters
        }
        told.append(self._collected(available=True, containers=containers))
        return told

    async def _each(self, keys: Sequence[str], question: Callable[[str], Any]) -> dict[str, Any]:
        """Ask about several containers, five at a time; leave out those that are gone or too slow."""
        if not keys:
            return {}

        async def one(key: str) -> Any:
            try:
                return await self._questions.call(lambda: question(key))
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
            if isinstance(error := task.exception(), _FOREIGN_ERRORS):
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


def _pump(session: _Session, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Return what the event thread does: hand on every event, then None when the stream ends."""

    def hand_on(event: Mapping[str, Any] | None) -> None:
        if event is None and session.queue.full():
            session.queue.get_nowait()  # the end must get through
        with contextlib.suppress(asyncio.QueueFull):  # seen by the consumer, which reads the list instead
            session.queue.put_nowait(event)

    def body() -> None:
        try:
            events: Iterator[Mapping[str, Any]] = session.events
            for event in events:
                loop.call_soon_threadsafe(hand_on, event)
        except _FOREIGN_ERRORS as error:
            log.debug("docker: the event stream broke", exc_info=error)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(hand_on, None)

    return body


def _time_of(event: Mapping[str, Any]) -> datetime | None:
    nanoseconds = event.get("timeNano")
    return (
        datetime.fromtimestamp(nanoseconds / 1e9, UTC)
        if isinstance(nanoseconds, int) and nanoseconds > 0
        else None
    )


def reason_of(error: BaseException) -> str:
    """Return the system's own reason behind the layers of the client libraries, in one sentence."""
    seen: set[int] = set()
    layers: list[Any] = [error]
    while layers:
        layer = layers.pop(0)
        if not isinstance(layer, BaseException) or id(layer) in seen:
            continue
        seen.add(id(layer))
        match layer:
            case PermissionError():
                return "its socket may not be opened by this user; add the user to the group docker"
            case FileNotFoundError():
                return "there is no socket; is the daemon installed and started?"
            case ConnectionRefusedError():
                return "nothing listens on its socket; is the daemon started?"
            case requests.Timeout():
                return f"it does not answer within {_REQUEST_SECONDS} s"
        layers += [*layer.args, layer.__cause__, layer.__context__]
    return " ".join(str(error).split()) or type(error).__name__
