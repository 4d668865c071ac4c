"""Lending: services that many clients of one process share, each client with a router of its own.

Flags decide client by client, and what each backend sends is received once for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossfade.wiring import FlagRoutes, Role
from monitoring.pacing import Pacer
from monitoring.service import Backend, Capabilities, Health, Item, MonitoringService, Snapshot
from monitoring.sharing import SharedService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping
    from contextlib import AbstractAsyncContextManager

    from adapters.client_reports import ClientReports
    from crossfade.wiring import Wiring
    from monitoring.cursor import Cursor
    from monitoring.flags.model import Flags
    from monitoring.router import Router
    from monitoring.subscription import Subscription
    from monitoring.topics import Topic
    from monitoring.witness import Witness


class Lent(MonitoringService):
    """A service that many routers share; who borrows it closes its subscriptions, and never the service."""

    def __init__(self, service: MonitoringService) -> None:
        self._service = service

    @property
    def backend(self) -> Backend:
        """The backend of the service."""
        return self._service.backend

    @property
    def capabilities(self) -> Capabilities:
        """What the service promises."""
        return self._service.capabilities

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        """Return the newest state; see the port."""
        return await self._service.snapshot(topics)

    def subscribe(self, topics: Collection[Topic], since: Cursor | None = None) -> Subscription[Item]:
        """Follow the topics; see the port."""
        return self._service.subscribe(topics, since)

    async def placed(self, topics: Collection[Topic], since: Cursor) -> Cursor:
        """Return where a subscription begins; see the port."""
        return await self._service.placed(topics, since)

    async def health(self) -> Health:
        """Return how the service is doing."""
        return await self._service.health()

    async def close(self) -> None:
        """Leave the service to its owner."""


def lender(
    services: Mapping[Backend, MonitoringService],
    connect: Callable[[Mapping[Backend, MonitoringService], str, Witness], Router],
    reports: ClientReports,
) -> Callable[[str], AbstractAsyncContextManager[Router]]:
    """Return what opens a router of its own for each client id, over services that are lent to all."""
    lent = {backend: Lent(service) for backend, service in services.items()}

    @contextlib.asynccontextmanager
    async def opened(client_id: str) -> AsyncIterator[Router]:
        witness = reports.witness(client_id)
        router = connect(lent, client_id, witness)
        try:
            yield router
        finally:
            reports.leave(witness)
            await router.close()

    return opened


@dataclass(slots=True)
class _Feeds:
    """What those of one role share, and how many they are."""

    services: Mapping[Backend, MonitoringService]
    lend: Callable[[str], AbstractAsyncContextManager[Router]]
    borrowers: int = 0


class RoleFeeds:
    """The feeds of one process: one a role and backend, opened for the first who needs it and closed after the last.

    On a hosted project, whose tokens are given and not made here, everybody is fed as the installation is.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._flags = wiring.flags()
        self._reports = wiring.client_reports()
        self._pacer = Pacer()
        self._feeds: dict[Role, _Feeds] = {}
        self._runs = asyncio.Event()

    def flags(self) -> tuple[Flags, str | None]:
        """Return the flags in force, and what is wrong with their file; may block before `run` has looked at it."""
        if not self._runs.is_set():
            self._flags.refresh()
        return self._flags.current(), self._flags.problem()

    async def run(self) -> None:
        """Keep the flags and the report of the clients, until cancelled; whoever borrows waits for it to begin."""
        try:
            await asyncio.to_thread(self._flags.refresh)
            self._runs.set()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._flags.run())
                tasks.create_task(self._reports.run())
        finally:
            self._runs.clear()

    @contextlib.asynccontextmanager
    async def connect(self, client_id: str, role: Role = Role.VIEWER) -> AsyncIterator[Router]:
        """Serve one client by the route its flags choose, for the length of the block; raises CrossfadeError."""
        await self._runs.wait()
        reads_as = Role.VIEWER if self._wiring.settings.hosted else role
        feeds = self._feeds.get(reads_as)
        if feeds is None:
            feeds = self._feeds[reads_as] = await self._open(reads_as)
        feeds.borrowers += 1
        try:
            async with feeds.lend(client_id) as router:
                yield router
        finally:
            feeds.borrowers -= 1
            if not feeds.borrowers:
                del self._feeds[reads_as]
                await _closed(feeds.services.values())

    async def _open(self, role: Role) -> _Feeds:
        """Return new feeds; waits only where it fails."""
        services: dict[Backend, MonitoringService] = {}
        try:
            for backend in Backend:
                services[backend] = SharedService(self._wiring.connect_backend(backend, role=role))
        except BaseException:
            await _closed(services.values())
            raise
        routes = FlagRoutes(self._flags)

        def connect(lent: Mapping[Backend, MonitoringService], client_id: str, witness: Witness) -> Router:
            return self._wiring.router(lent, routes, client_id, pacer=self._pacer, witness=witness)

        return _Feeds(services, lender(services, connect, self._reports))


async def _closed(services: Collection[MonitoringService]) -> None:
    await asyncio.gather(*(service.close() for service in services))
