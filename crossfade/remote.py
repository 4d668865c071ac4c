"""Containers of the devices of the registry, over SSH: commanded, listed and read as those of this machine are.

SSH is loaded with this module: 20 MiB that most commands do not need.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from collectors.docker_control import DockerControl
from collectors.ssh.docker_api import NoDocker
from collectors.ssh.docker_socket import docker_socket
from collectors.ssh.errors import SshError
from crossfade.devices import session_of
from monitoring.control import ContainerControl, EngineAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from collectors.docker_connection import Connect
    from monitoring.control import Command, ContainerSummary, Outcome
    from monitoring.devices import Device
    from monitoring.logs import LogLine


class RemoteControl(ContainerControl):
    """Controls the containers of one device; one login a command."""

    def __init__(self, device: Device, devices: Mapping[str, Device]) -> None:
        """``devices`` has the jump hosts on its way."""
        self._device = device
        self._devices = devices

    @property
    def device(self) -> str:
        """Whose containers these are."""
        return self._device.name

    @contextlib.asynccontextmanager
    async def docker(self) -> AsyncIterator[Connect]:
        """Give what connects to the device's Docker, for the length of the block. Raises EngineAway."""
        try:
            async with (
                session_of(self._device, self._devices) as session,
                docker_socket(session.connection) as connect,
            ):
                yield connect
        except (SshError, NoDocker) as error:
            raise EngineAway(self.device, str(error)) from error

    async def containers(self) -> Sequence[ContainerSummary]:
        """Return all containers, by name."""
        async with self.docker() as connect:
            return await DockerControl(self.device, connect).containers()

    async def command(self, command: Command, name: str, *, grace_seconds: int = 10) -> Outcome:
        """Carry out a command; see the port."""
        async with self.docker() as connect:
            return await DockerControl(self.device, connect).command(
                command, name, grace_seconds=grace_seconds
            )

    async def logs(self, name: str, lines: int) -> Sequence[LogLine]:
        """Return the last lines of a container's log."""
        async with self.docker() as connect:
            return await DockerControl(self.device, connect).logs(name, lines)
