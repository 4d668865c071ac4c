"""Devices over SSH, as collectors: one for each category of a device's events, over the one session of the device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from collectors.collector import Collector
from collectors.ssh import commands, system
from collectors.ssh.errors import Garbled
from collectors.ssh.session import Session
from collectors.ssh.smart import remembered
from collectors.ssh.system import SystemReading
from monitoring.events import Draft, Kind, StreamId


class SystemCollector(Collector):
    """Tells a device's system metrics at every tick, and when it was started again."""

    def __init__(
        self, session: Session, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._session = session
        self._clock = clock
        self._stream = session.device.stream("system")
        self._before: SystemReading | None = None

    @property
    def name(self) -> str:
        """The stream's."""
        return self._stream

    @property
    def streams(self) -> Collection[StreamId]:
        """The one stream of the device's system metrics."""
        return (self._stream,)

    async def collect(self) -> Sequence[Draft]:
        """Read the device in one script. Raises SshError."""
        answers = await self._session.ask(commands.SYSTEM)
        reading = system.reading_of(answers)
        if reading.nothing:
            why = next(iter(reading.unavailable.values()), "it says nothing")
            raise Garbled(f"nothing that it says is a Linux system's: {why}")
        before, self._before = self._before, reading
        now = self._clock()
        payload = system.payload(self._session.device.name, reading, before)
        told = [Draft(self._stream, Kind.METRIC_COLLECTED, now, payload)]
        if before is not None and system.restarted(reading, before):
            payload = {
                "uptime_seconds": reading.uptime_seconds,
                "previous_uptime_seconds": before.uptime_seconds,
            }
            told.insert(0, Draft(self._stream, Kind.DEVICE_RESTARTED, now, payload))
        return told

    async def close(self) -> Sequence[Draft]:
        """Let go of the device."""
        await self._session.close()
        return []


class DrivesCollector(Collector):
    """Tells the health of a device's drives at every tick; one that sleeps keeps the values of its last reading."""

    def __init__(
        self, session: Session, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._session = session
        self._clock = clock
        self._stream = session.device.stream("drives")
        self._last: dict[str, Mapping[str, Any]] = {}
        self._told: str | None = None
        """Why there are no values, as it was told."""

    @property
    def name(self) -> str:
        """The stream's."""
        return self._stream

    @property
    def streams(self) -> Collection[StreamId]:
        """The one stream of the device's drives."""
        return (self._stream,)

    async def collect(self) -> Sequence[Draft]:
        """Ask smartctl on the device, in one script; a device without it says so once. Raises SshError."""
        answers = await self._session.ask(commands.DRIVES)
        answer, identity = answers[commands.SMART.name], answers[commands.IDENTITY.name]
        hostname = identity.value["hostname"] if identity.ok else None
        payload: dict[str, Any] = {
            "hostname": hostname or self._session.device.name,
            "available": answer.ok,
            "drives": [],
        }
        if not answer.ok:
            if answer.reason == self._told:
                return []
            self._told = payload["reason"] = answer.reason
        else:
            self._told = None
            drives = [remembered(drive, self._last.get(drive["device"])) for drive in answer.value]
            self._last = {drive["device"]: drive for drive in drives}
            payload["drives"] = drives
        return [Draft(self._stream, Kind.METRIC_COLLECTED, self._clock(), payload)]

    async def close(self) -> Sequence[Draft]:
        """Let go of the device."""
        await self._session.close()
        return []
