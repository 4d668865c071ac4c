"""The control service as a part: ``python -m crossfade.control``.

It also tells, as events, what happens to commands, and ends those whose time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from adapters.command_outbox import CommandOutbox
from adapters.database_url import as_role
from adapters.device_registry import DeviceRegistry, RegistryUnavailable, UnknownDevice
from adapters.event_intake import EventIntake
from collectors.docker_connection import from_environment
from collectors.docker_control import DockerControl
from crossfade import hosting
from crossfade.controls import remote_control
from legacy_ws.token_file import read_token
from monitoring.control import ContainerControl, EngineAway
from services.control import create_app
from services.controlling import Controlling, Reach
from services.provided import Shared

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Sequence

    from crossfade.paths import DataDir
    from crossfade.settings import Settings


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = hosting.parser("control", 8002, __doc__)
    parser.add_argument("--device", metavar="NAME", help="what this machine is called")
    parser.add_argument("--no-docker", action="store_true", help="there are no containers here")
    parser.add_argument("--legacy-link", metavar="URL", help="where events go besides, ws://HOST:PORT/link")
    return parser.parse_args(arguments)


@contextlib.asynccontextmanager
async def _told(dsn: str, intake: EventIntake) -> AsyncIterator[None]:
    """Tell what happens to commands."""
    async with intake:
        telling = asyncio.ensure_future(CommandOutbox(dsn, intake).run())  # owned: ended with the server
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait({telling})


def _reach(here: str, registry: DeviceRegistry, *, docker: bool) -> Reach:
    """Return how the containers of a device are found: of this machine, unless it has none, or of the registry's."""

    async def reach(device: str) -> ContainerControl | None:
        if device == here:
            return DockerControl(here, from_environment) if docker else None
        try:
            return await remote_control(device, registry)
        except UnknownDevice:
            return None
        except RegistryUnavailable as error:
            raise EngineAway(device, str(error)) from error

    return reach


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part until it is told to stop; return 0, or 1 with one line about what is wrong."""
    given = _arguments(arguments)

    def make(settings: Settings, data: DataDir) -> hosting.Hosted:
        common = hosting.shared("control", settings, data)
        # The role of the embedded project may do nothing but become another; a hosted one's is the owner.
        dsn = hosting.database_url()
        dsn = dsn if settings.hosted else as_role(dsn, "service_role")
        intake = EventIntake(
            data.control_spool,
            database_url=dsn,
            legacy_url=given.legacy_link,
            legacy_token=lambda: read_token(data.link_token),
        )
        device = given.device or socket.gethostname()
        provided = Controlling(
            **{each.name: getattr(common, each.name) for each in fields(Shared)},
            device=device,
            reach=_reach(device, DeviceRegistry(dsn), docker=not given.no_docker),
            container_prefix=settings.legacy_container_prefix,
        )
        return create_app(
            provided, cors_origins=settings.origins, rate=hosting.rate(settings.rate_limit_control)
        ), (_told(dsn, intake),)

    return hosting.run("control", given, make)


if __name__ == "__main__":
    sys.exit(main())
