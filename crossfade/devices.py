"""What ``crossfade devices`` does with one device: look at it, and agree on its host key."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from collectors.collector import CollectorError
from collectors.ssh.collector import DrivesCollector, SystemCollector
from collectors.ssh.containers import ContainersCollector
from collectors.ssh.errors import HostKey, HostKeyChanged, HostKeyUnknown, SshError
from collectors.ssh.session import Session
from crossfade.errors import CrossfadeError, UsageError
from monitoring.devices import Device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from collectors.collector import Collector

_SECONDS = 60.0
_RATES_AFTER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Probe:
    """What a device answered; ``problem`` is why it did not."""

    device: Device
    seconds: float
    readings: Mapping[str, Mapping[str, Any]]
    """Category -> the newest payload."""
    problem: str | None = None


async def look(device: Device, devices: Mapping[str, Device]) -> Probe:
    """Connect to a device and read it once, as the collector would. Raises HostKeyUnknown, HostKeyChanged."""
    began = time.monotonic()
    readings: dict[str, Mapping[str, Any]] = {}
    problem: str | None = None
    async with session_of(device, devices) as session:
        try:
            async with asyncio.timeout(_SECONDS):
                for collector in _collectors(session):
                    drafts = await collector.collect()
                    if collector.streams == (device.stream("system"),):
                        # The second one has rates, too.
                        await asyncio.sleep(_RATES_AFTER_SECONDS)
                        drafts = await collector.collect()
                    for draft in drafts:
                        readings[draft.stream.partition("/")[2]] = draft.payload
        except (HostKeyUnknown, HostKeyChanged):
            raise
        except CollectorError as error:
            problem = str(error)
        except TimeoutError:
            problem = f"it did not answer everything within {_SECONDS:g} s"
    return Probe(device, time.monotonic() - began, readings, problem)


def _collectors(session: Session) -> Sequence[Collector]:
    return SystemCollector(session), DrivesCollector(session), ContainersCollector(session)


@contextlib.asynccontextmanager
async def session_of(device: Device, devices: Mapping[str, Device]) -> AsyncIterator[Session]:
    """Give a session to a device, over the jump hosts on its way, for the length of the block. Raises UsageError."""
    way = [device]
    while (jump := way[-1].jump) is not None:
        if jump not in devices or len(way) > len(devices):
            raise UsageError(f"{way[-1].name}: its jump host {jump!r} is not a device; add it first")
        way.append(devices[jump])
    sessions: list[Session] = []
    try:
        for each in reversed(way):
            sessions.append(Session(each, jump=sessions[-1] if sessions else None))
        yield sessions[-1]
    finally:
        for session in reversed(sessions):
            await session.close()


async def with_host_key(
    device: Device, devices: Mapping[str, Device], accept: Callable[[Device, HostKey], bool]
) -> Device:
    """Return the device with its host key: the stored one if it is still shown, or the shown one once it is accepted.

    Raises CrossfadeError when it is not accepted, or when the device cannot be reached.
    """
    try:
        async with session_of(device, devices) as session, session.connected():
            return device
    except (HostKeyUnknown, HostKeyChanged) as error:
        if not accept(device, error.shown):
            raise CrossfadeError(f"{device.name}: {error}") from error
        return replace(device, host_key=error.shown.line)
    except SshError as error:
        # Reached, and its key is the stored one: what else is wrong the next look tells.
        if device.host_key:
            return device
        raise CrossfadeError(f"{device.name}: {error}") from error
