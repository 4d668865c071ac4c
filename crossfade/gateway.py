"""The gateway as a part: ``python -m crossfade.gateway``.

Each connection has a router of its own, for the flags decide connection by connection; each backend's feed is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import AdapterError
from crossfade import logs
from crossfade.errors import CrossfadeError
from crossfade.paths import DataDir
from crossfade.settings import load_settings
from crossfade.wiring import FlagRoutes, Wiring, open_flags
from legacy_ws.errors import LegacyError
from legacy_ws.gateway import Gateway
from legacy_ws.mounts import parse_mounts
from legacy_ws.protocol.catalogue import catalogue
from legacy_ws.token_file import read_token
from monitoring.pacing import Pacer
from monitoring.service import Backend, Capabilities, Health, Item, MonitoringService, Snapshot
from monitoring.sharing import SharedService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from adapters.client_reports import ClientReports
    from adapters.flag_file import FlagFile
    from monitoring.cursor import Cursor
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


async def counted(services: Mapping[Backend, MonitoringService]) -> Mapping[str, Mapping[str, int]]:
    """Return what each backend's adapter counts."""
    return {str(backend): (await service.health()).counters for backend, service in services.items()}


async def serve(wiring: Wiring, flags: FlagFile, given: argparse.Namespace) -> None:
    """Serve until cancelled."""
    await asyncio.to_thread(flags.refresh)
    watching = asyncio.ensure_future(flags.run())  # owned: ended with the gateway
    services = {backend: SharedService(wiring.connect_backend(backend)) for backend in Backend}
    routes, pacer = FlagRoutes(flags), Pacer()
    reports = wiring.client_reports()
    reporting = asyncio.ensure_future(reports.run())  # owned, as above
    gateway = Gateway(
        lender(
            services,
            lambda lent, client, witness: wiring.router(lent, routes, client, pacer=pacer, witness=witness),
            reports,
        ),
        parse_mounts(",".join(given.mount), catalogue()),
        host=given.host,
        stream_token=read_token(wiring.data.stream_token),
        container_prefix=wiring.settings.legacy_container_prefix,
        origins=wiring.settings.origins,
        export_dir=wiring.data.exports,
        backends=functools.partial(counted, services),
        logs=wiring.logs(),
        polling_report=wiring.data.run / "collect.json",
    )
    try:
        async with gateway:
            await asyncio.Event().wait()
    finally:
        for task in (watching, reporting):
            task.cancel()
        await asyncio.wait({watching, reporting})
        await asyncio.gather(*(service.close() for service in services.values()))


async def _run(wiring: Wiring, flags: FlagFile, given: argparse.Namespace) -> None:
    serving = asyncio.ensure_future(serve(wiring, flags, given))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m crossfade.gateway", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="D")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--flags", type=Path, required=True, metavar="PATH")
    parser.add_argument("--mount", action="append", required=True, metavar="[HOST:]PORT/PATH=DIALECT")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part until it is told to stop; return 0, or 1 with one line about what is wrong."""
    given = _arguments(arguments)
    logs.to_stderr(logging.INFO)
    try:
        wiring = Wiring(DataDir.of(given.data_dir), load_settings())
        flags = open_flags(wiring.data, given.flags, wiring.settings.switches)
        asyncio.run(_run(wiring, flags, given))
    except (AdapterError, CrossfadeError, LegacyError) as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
