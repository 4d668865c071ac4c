"""Container logs, followed while somebody listens: the port `monitoring.logs.LogSource` over the engine's API.

A follower is of a name. When its container stops, the follower waits for it to be started again, or for another container of
that name, and says so between the lines. Each connection to the log begins a little before the last line that was read; what was
read is passed over (`monitoring.logs`). A reading thread never runs ahead of its consumer by more than a megabyte: beyond
it the thread waits, and Docker keeps the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

import docker
from docker.errors import APIError, NotFound

from collectors.docker_connection import FOREIGN_ERRORS, Connect
from collectors.docker_known import KnownContainers
from collectors.docker_log_lines import NotALog
from collectors.docker_log_reading import Pipe, Run, read_on, read_run, read_tail, refusal
from collectors.threads import Reader
from monitoring.logs import LogCursor, LogLine, LogPlace, LogSource, LogsUnavailable, Mark

MOST_FOLLOWED = 50
"""Logs that are followed at once; each holds a thread and a connection."""
_GATHER_SECONDS = 0.05
"""Between two batches of one log, so that what is written line by line is not told line by line."""
_BEGIN_SECONDS = 5.0
"""How long a collector that has just started may take to find its engine."""
_LOOK_SECONDS = 1.0
"""How soon the engine is asked again whether a container whose log ended runs."""

log = logging.getLogger(__name__)


class DockerLogs(LogSource):
    """Follows the logs of one device's containers. What there is, and when that changes, it learns from ``known``."""

    def __init__(self, device: str, connect: Connect, known: KnownContainers) -> None:
        self.device = device
        self._connect = connect
        self._known = known
        self._questions = Reader("docker-log-questions", limit=5)
        self._streams = Reader("docker-logs", limit=MOST_FOLLOWED)
        self._client: docker.APIClient | None = None
        self._connecting = asyncio.Lock()
        self._followed = 0

    @property
    def followed(self) -> int:
        """Logs that are followed now."""
        return self._followed

    async def follow(
        self, device: str, container: str, lines: int, after: LogCursor | None = None
    ) -> AsyncGenerator[Sequence[LogLine]]:
        """Follow as the port says; a line's container is its short id."""
        if device != self.device:
            raise LogsUnavailable(f"this collector watches {self.device}, not {device}")
        with self._slot():
            run = await self._first(container, begun=after is not None)
            if after is None:
                place = LogPlace(run.container)
                yield await self._last(run, lines, place)
            else:
                place = LogPlace.at(after)
                yield _begun(place, None, run)
            before: Run | None = None
            while True:
                place = place if place.container == run.container else LogPlace(run.container)
                async for batch in self._stream(run, place):
                    yield batch
                if before is not None and not run.running:
                    yield [_stopped(run)]
                before, run = run, await self._next(container, run)
                if marks := _begun(place, before, run):
                    yield marks

    async def _first(self, container: str, *, begun: bool) -> Run:
        """Return what the container does now; a reading that had begun elsewhere waits for it, as long as it takes."""
        deadline = asyncio.get_running_loop().time() + _BEGIN_SECONDS
        while True:
            news = self._known.news
            run = await self._look(container)
            if run is not None:
                return run
            late = asyncio.get_running_loop().time() > deadline
            if not begun and (self._known.available or self._known.asked or late):
                raise LogsUnavailable(self._absence(container))
            await _within(_LOOK_SECONDS, news)

    async def _next(self, container: str, last: Run) -> Run:
        """Wait until there may be more to read than the log of a run that ended; return what runs then."""
        while True:
            news = self._known.news  # taken before looking: what changes meanwhile is not missed
            run = await self._look(container)
            if run is not None and run != last and (run.started or run.container == last.container):
                return run  # not one that was created and not started: nothing is to be said of it yet
            if run is not None and run.running:  # a proxy cut it, or the engine would not follow
                await _within(_LOOK_SECONDS, news)
                return run
            await _within(_LOOK_SECONDS if run is None else None, news)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self._followed >= MOST_FOLLOWED:
            raise LogsUnavailable(
                f"{MOST_FOLLOWED} logs of {self.device} are followed already; end another one first"
            )
        self._followed += 1
        try:
            yield
        finally:
            self._followed -= 1
            if not self._followed:
                self._let_go()

    def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _absence(self, container: str) -> str:
        if not self._known.available:
            return f"{self._known.engine} on {self.device} does not answer: {self._known.reason}"
        return f"{self.device} has no container {container[:100]!r}"

    async def _look(self, container: str) -> Run | None:
        """Return what the container of a name does now; None when there is none, or no engine answers."""
        if not self._known.available:
            return None
        try:
            client = await self._connected()
            return read_run(await self._questions.call(lambda: client.inspect_container(container)))
        except FOREIGN_ERRORS as error:
            log.debug("docker: %s cannot be inspected", container, exc_info=error)
            if not isinstance(error, APIError):
                self._let_go()
            return None

    async def _connected(self) -> docker.APIClient:
        """Return the one client of all followers; raises one of FOREIGN_ERRORS."""
        async with self._connecting:
            if self._client is None:
                self._client = await self._questions.call(self._connect)
            return self._client

    async def _last(self, run: Run, wanted: int, place: LogPlace) -> Sequence[LogLine]:
        """Read the last lines, and note in ``place`` where they end."""
        try:
            client = await self._connected()
            told = await self._questions.call(lambda: read_tail(client, run, wanted))
        except FOREIGN_ERRORS as error:
            raise LogsUnavailable(refusal(error)) from error
        except NotALog as error:
            raise LogsUnavailable(str(error)) from error
        if told:
            place.begin(told[0][0])
        reading = place.reread()
        lines = [line for stamp, text in told if (line := reading.take(stamp, text)) is not None]
        return lines[-wanted:] if wanted else []

    async def _stream(self, run: Run, place: LogPlace) -> AsyncGenerator[Sequence[LogLine]]:
        """Yield what comes after the place until the log ends or is cut; raises LogsUnavailable for a refusal."""
        reading = place.reread()
        pipe = Pipe(asyncio.get_running_loop())
        try:
            client = await self._connected()
        except FOREIGN_ERRORS:
            return  # the engine went away: the news says when it is back
        thread = asyncio.ensure_future(  # its reading is ended below, and awaited
            self._streams.call(lambda: read_on(client, run, reading.since, pipe))
        )
        try:
            while not pipe.ended or pipe.waiting:
                told = await pipe.take(_LOOK_SECONDS)
                if batch := [line for stamp, text in told if (line := reading.take(stamp, text)) is not None]:
                    yield batch
                    await asyncio.sleep(_GATHER_SECONDS)
                if not told and not self._known.available:
                    return  # a half-open connection never ends by itself
            if pipe.error is not None and not isinstance(pipe.error, NotFound):
                if isinstance(pipe.error, APIError | NotALog):
                    raise LogsUnavailable(refusal(pipe.error)) from pipe.error
                log.debug("docker: the log of %s broke", run.container, exc_info=pipe.error)
        finally:
            pipe.close()
            thread.cancel()
            await asyncio.wait({thread})


def _begun(place: LogPlace, before: Run | None, run: Run) -> Sequence[LogLine]:
    """Return the mark of a new run or a new container; none when it is the one of before."""
    if place.container != run.container:
        return [_mark(run, Mark.RECREATED, run.started, "another container of this name")]
    if before is not None and 0 < before.started != run.started:
        return [_mark(run, Mark.RESTARTED, run.started, "started again")]
    return []


def _stopped(run: Run) -> LogLine:
    memory = ", out of memory" if run.oom_killed else ""
    return _mark(run, Mark.STOPPED, run.finished, f"stopped (exit code {run.exit_code}{memory})")


def _mark(run: Run, mark: Mark, stamp: int, text: str) -> LogLine:
    return LogLine(stamp, text, run.container, mark=mark)


async def _within(seconds: float | None, news: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news.wait()
