"""The containers of another machine, as its Docker tells them: the same fields, states and formulas as of this host's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from collectors.collector import Collector
from collectors.docker_state import Change, Container, inspected, parse_listing, reconcile
from collectors.docker_stats import NOTHING, Counters, container_payload, parse_stats
from collectors.ssh.docker_api import SOCKET, Docker, NoDocker, NotFound, docker_of
from collectors.ssh.errors import Unreachable
from collectors.ssh.session import Session
from monitoring.events import Draft, Kind, StreamId

_LOOK_AGAIN_SECONDS = 600.0
"""For a Docker that was not there."""
_MOST_CONTAINERS = 1000
_FOREIGN = (TypeError, KeyError, ValueError, AttributeError)
"""What reading the answer of something that is not quite Docker ends with."""


class ContainersCollector(Collector):
    """Tells a device's containers at every tick, and which of them changed since the last one."""

    def __init__(
        self,
        session: Session,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        look_again_seconds: float = _LOOK_AGAIN_SECONDS,
    ) -> None:
        self._session = session
        self._clock = clock
        self._look_again_seconds = look_again_seconds
        self._stream = session.device.stream("containers")
        self._dial = False
        self._absent_until = 0.0
        self._told: str | None = None
        """Why there is no Docker, as it was told."""
        self._known: dict[str, Container] | None = None
        self._counters: dict[str, Counters] = {}

    @property
    def name(self) -> str:
        """The stream's."""
        return self._stream

    @property
    def streams(self) -> Collection[StreamId]:
        """The one stream of the device's containers."""
        return (self._stream,)

    async def collect(self) -> Sequence[Draft]:
        """Ask the device's Docker; one that is not there is told once, and looked for again after ten minutes.

        Raises SshError when the device itself cannot be asked.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._absent_until:
            await self._session.ask(())  # that all is well may be said only of a device that answers
            return []
        try:
            async with self._docker() as (docker, listed):
                return await self._read(docker, listed)
        except NoDocker as error:
            self._absent_until = loop.time() + self._look_again_seconds
            self._counters = {}
            if self._told == str(error):
                return []
            self._told = str(error)
            return [self._collected(available=False, containers=[], reason=self._told)]

    @contextlib.asynccontextmanager
    async def _docker(self) -> AsyncIterator[tuple[Docker, Mapping[str, Container]]]:
        """Give the device's Docker, by the way that worked before or else by the other, and its list of containers.

        Raises NoDocker, SshError.
        """
        failures: list[NoDocker] = []
        async with self._session.connected() as connection:
            for dial in (self._dial, not self._dial):
                async with docker_of(connection, dial=dial) as docker:
                    try:
                        listed = _listing(await docker.containers())
                    except NoDocker as error:
                        failures.append(error)
                        continue
                    self._dial = dial
                    failures = []
                    try:
                        yield docker, listed
                    except NoDocker as error:
                        failures.append(error)
                    break
            if failures and connection.is_closed():
                raise Unreachable("the connection broke while its Docker was asked")
        # Outside: the device itself is well.
        if failures:
            raise NoDocker(f"no Docker answers at {SOCKET}: {failures[0]}")

    async def _read(self, docker: Docker, listed: Mapping[str, Container]) -> list[Draft]:
        first = self._known is None
        known, changes = reconcile(self._known or {}, listed)
        told = [] if first else [self._changed(change) for change in changes]
        new = [key for key, container in known.items() if container.restarts is None]
        for key, detail in (await _each(new, docker.inspect)).items():
            before = known[key]
            with contextlib.suppress(*_FOREIGN):
                known[key] = now = inspected(before, detail)
                if before.health != now.health and not first:
                    told.append(self._changed(Change(before, now, "inspected")))
        running = [key for key, container in known.items() if container.running]
        counters: dict[str, Counters] = {}
        for key, answer in (await _each(running, docker.stats)).items():
            with contextlib.suppress(*_FOREIGN):
                counters[key] = parse_stats(answer)
        containers = [
            container_payload(container, counters.get(key, NOTHING), self._counters.get(key))
            for key, container in known.items()
        ]
        self._known, self._told = known, None
        # A container whose answer did not come keeps its older baseline: the next rate covers both intervals.
        self._counters = {
            key: counters.get(key) or self._counters[key]
            for key in running
            if key in counters or key in self._counters
        }
        return [*told, self._collected(available=True, containers=containers)]

    async def close(self) -> Sequence[Draft]:
        """Let go of the device."""
        await self._session.close()
        return []

    def _changed(self, change: Change) -> Draft:
        return Draft(self._stream, Kind.CONTAINER_STATUS_CHANGED, self._clock(), change.payload())

    def _collected(
        self, *, available: bool, containers: list[dict[str, Any]], reason: str | None = None
    ) -> Draft:
        payload: dict[str, Any] = {"source": "docker", "available": available, "containers": containers}
        if reason is not None:
            payload["reason"] = reason
        return Draft(self._stream, Kind.CONTAINERS_COLLECTED, self._clock(), payload)


def _listing(answer: Any) -> dict[str, Container]:
    try:
        return dict(list(parse_listing(answer).items())[:_MOST_CONTAINERS])
    except _FOREIGN as error:
        raise NoDocker("its list of containers is not Docker's") from error


async def _each(keys: Sequence[str], question: Callable[[str], Awaitable[Any]]) -> Mapping[str, Any]:
    """Ask about several containers, as many at a time as the connection allows; leave out those that are gone."""

    async def one(key: str) -> Any:
        with contextlib.suppress(NotFound):
            return await question(key)
        return None

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {key: group.create_task(one(key)) for key in keys}
    except* NoDocker as gone:
        raise NoDocker(str(gone.exceptions[0])) from gone
    return {key: task.result() for key, task in tasks.items() if task.result() is not None}
