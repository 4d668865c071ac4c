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
from crossfade.lending import lender
from crossfade.paths import DataDir
from crossfade.settings import load_settings
from crossfade.wiring import FlagRoutes, Wiring, open_flags
from legacy_ws.errors import LegacyError
from legacy_ws.gateway import Gateway
from legacy_ws.mounts import parse_mounts
from legacy_ws.protocol.catalogue import catalogue
from legacy_ws.token_file import read_token
from monitoring.pacing import Pacer
from monitoring.service import Backend
from monitoring.sharing import SharedService

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adapters.flag_file import FlagFile
    from monitoring.service import MonitoringService


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
