"""The devices of the registry in the collecting process: what is added, changed or removed there is followed within seconds.

While the database is away, the devices that are known go on being read: their events wait on the spool like all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from adapters.device_registry import DeviceRegistry, RegistryUnavailable
from collectors.judge import device_judge
from collectors.ssh.connection import host_key
from collectors.ssh.fleet import Fleet
from collectors.ssh.intervals import Intervals
from collectors.ssh.session import HostKeys
from monitoring.events import Draft, Kind
from monitoring.interest import Interest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from collectors.collector import Publish
    from collectors.judge import Judge
    from collectors.schedule import Scheduler
    from collectors.ssh.errors import HostKey, HostKeyChanged
    from collectors.ssh.fleet import Member
    from monitoring.device_status import Condition
    from monitoring.devices import Device

_LOOK_SECONDS = 3.0

log = logging.getLogger(__name__)


class RegisteredDevices(HostKeys):
    """Keeps the scheduler's collectors as the registry has devices."""

    def __init__(
        self,
        registry: DeviceRegistry,
        scheduler: Scheduler,
        publish: Publish,
        *,
        own_device: str,
        remembered: Mapping[str, Condition],
        interest: Interest | None = None,
        intervals: Intervals | None = None,
        look_seconds: float = _LOOK_SECONDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``own_device`` is read without SSH: a registered one of that name is left out, and that is said.

        A device in ``interest`` is read more often.
        """
        self._interest = interest or Interest()
        self._registry = registry
        self._scheduler = scheduler
        self._publish = publish
        self._own_device = own_device
        self._remembered = remembered
        self._look_seconds = look_seconds
        self._clock = clock
        self._fleet = Fleet(intervals=intervals, host_keys=self)
        self._judges: dict[str, Judge] = {}
        self._first_keys: dict[str, tuple[Device, HostKey]] = {}
        self._news = asyncio.Event()
        self._own_said = False
        self.problem: str | None = None
        """Why the registry cannot be read now."""

    @property
    def members(self) -> Mapping[str, Member]:
        """The devices that are read, by name."""
        return self._fleet.members

    async def run(self) -> None:
        """Follow the registry until cancelled."""
        while True:
            self._news.clear()
            try:
                await self._store_first_keys()
                devices = await self._registry.devices()
            except RegistryUnavailable as error:
                if str(error) != self.problem:
                    log.warning("devices: %s; those that are known go on being read", error)
                self.problem = str(error)
            else:
                self.problem = None
                await self._follow(self._without_own(devices))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    await self._news.wait()

    def _without_own(self, devices: Mapping[str, Device]) -> Mapping[str, Device]:
        if self._own_device in devices and not self._own_said:
            self._own_said = True
            log.warning(
                "devices: %s is this machine, which is read without SSH; register it by another name, or remove it",
                self._own_device,
            )
        return {name: device for name, device in devices.items() if name != self._own_device}

    async def _follow(self, devices: Mapping[str, Device]) -> None:
        ended, begun = self._fleet.update(devices)
        again = {member.device.name for member in begun}
        for member in ended:
            name = member.device.name
            reason = (
                "its entry in the registry was changed" if name in again else "it is not monitored any more"
            )
            for collector, _ in member.collectors:
                await self._scheduler.remove(collector.name, reason)
            log.info("device %s: %s", name, reason)
        await self._fleet.tidy()
        for member in begun:
            name = member.device.name
            judge = self._judges.setdefault(name, device_judge(name, self._remembered))
            for collector, pace in member.collectors:
                self._scheduler.add(
                    collector,
                    pace,
                    judge=judge,
                    remote=True,
                    watched=lambda name=name: name in self._interest.devices,  # type: ignore[misc] # mypy infers no lambda with a default
                )
            log.info("device %s: is read at %s", name, member.device.where)

    async def _store_first_keys(self) -> None:
        for name, (device, key) in list(self._first_keys.items()):
            if await self._registry.store_first_key(name, device.host, key.line):
                log.warning("device %s: its host key %s was stored", name, key.fingerprint)
            self._first_keys.pop(name, None)

    def first(self, device: Device, key: HostKey) -> None:
        """Tell that a device was let in without a stored host key, and have that stored."""
        self._first_keys[device.name] = (device, key)
        self._news.set()
        self._tell(device, Kind.HOST_KEY_STORED, fingerprint=key.fingerprint)

    def changed(self, device: Device, error: HostKeyChanged) -> None:
        """Tell that a device shows another host key, and was refused."""
        log.error("device %s: %s", device.name, error)
        stored = host_key(device.host_key).fingerprint if device.host_key else None
        self._tell(
            device,
            Kind.HOST_KEY_CHANGED,
            fingerprint=error.shown.fingerprint,
            stored_fingerprint=stored,
            reason=str(error),
        )

    def _tell(self, device: Device, kind: Kind, **payload: str | None) -> None:
        told = {"address": device.where, **payload}
        if device.monitoring_enabled:  # a mere jump host has no streams
            self._publish([Draft(device.stream("system"), kind, self._clock(), told)])

    async def close(self) -> None:
        """Let go of the jump hosts, too."""
        await self._fleet.close()
