"""Who commands the containers of which device: this machine's own Docker, or that of a device of the registry, over SSH."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from adapters.device_registry import DeviceRegistry, UnknownDevice
from collectors.docker_connection import from_environment
from collectors.docker_control import DockerControl
from crossfade.paths import read_json

if TYPE_CHECKING:
    from crossfade.remote import RemoteControl
    from crossfade.wiring import Wiring


def own_device(wiring: Wiring) -> str | None:
    """Return what the collector of this machine calls it; None when none has run."""
    device = (read_json(wiring.data.run / "collect.json") or {}).get("device")
    return device if isinstance(device, str) else None


async def control_of(wiring: Wiring, device: str) -> DockerControl | RemoteControl:
    """Return the control of any device, this machine among them. Raises UnknownDevice, RegistryUnavailable."""
    if device == own_device(wiring):
        return DockerControl(device, from_environment)
    return await remote_control(device, DeviceRegistry(wiring.database_url()))


async def remote_control(device: str, registry: DeviceRegistry) -> RemoteControl:
    """Return the control of a device of the registry, over SSH. Raises UnknownDevice, RegistryUnavailable."""
    devices = await registry.devices()
    if device not in devices:
        raise UnknownDevice(device)
    # SSH is loaded where it is needed: 20 MiB, and half a second on a busy machine.
    module = await asyncio.to_thread(importlib.import_module, "crossfade.remote")
    control: RemoteControl = module.RemoteControl(devices[device], devices)
    return control
