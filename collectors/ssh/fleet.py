"""All devices of the registry as sessions and collectors, and what a change of the registry means for them.

A device that is only another one's way (a jump host, or one whose monitoring is off) has a session and no collectors. A device
whose way changes, however far from it, is connected anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collectors.collector import Collector
from collectors.pace import Pace
from collectors.ssh.collector import DrivesCollector, SystemCollector
from collectors.ssh.commands import SMART
from collectors.ssh.containers import ContainersCollector
from collectors.ssh.intervals import Intervals
from collectors.ssh.session import CYCLE_SECONDS, HostKeys, Session
from monitoring.devices import Device

_SLOWEST = 8.0
_BACK_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Member:
    """One device that is read: its session, and each of its collectors with its pace."""

    device: Device
    session: Session
    collectors: Sequence[tuple[Collector, Pace]]


class Fleet:
    """Keeps sessions as the registry has devices. Whoever calls runs the collectors, and closes what was stopped."""

    def __init__(
        self,
        *,
        intervals: Intervals | None = None,
        host_keys: HostKeys | None = None,
    ) -> None:
        self._intervals = intervals or Intervals()
        self._host_keys = host_keys
        self._sessions: dict[str, Session] = {}
        self._registered: dict[str, Device] = {}
        self._stale: list[Session] = []
        self.members: dict[str, Member] = {}

    def update(self, devices: Mapping[str, Device]) -> tuple[list[Member], list[Member]]:
        """Take the registry as it is now; return the members that ended and those that begin.

        A changed device is among both. A device whose jump host is not there is left out.
        """
        ways = {name: way for name in devices if (way := _way(devices, name)) is not None}
        stale = {
            name
            for name, session in self._sessions.items()
            if name not in ways or not self._unchanged(session, devices[name])
        }
        stale |= {name for name, way in ways.items() if stale & set(way)}
        wanted = {name for name in ways if devices[name].monitoring_enabled}
        ended = [member for name, member in self.members.items() if name in stale or name not in wanted]
        self._stale += [self._sessions.pop(name) for name in stale & self._sessions.keys()]
        for member in ended:
            del self.members[member.device.name]
        begun = []
        for name in sorted(wanted - self.members.keys()):
            self.members[name] = member = self._member(devices, ways[name])
            begun.append(member)
        return ended, begun

    def _unchanged(self, session: Session, device: Device) -> bool:
        """Compare with what the registry said, and with what the session found out since: the first host key."""
        if device == session.device:
            self._registered[device.name] = device
        return device == self._registered[device.name]

    def _member(self, devices: Mapping[str, Device], way: Sequence[str]) -> Member:
        session: Session | None = None
        for name in reversed(way):  # from the first jump host to the device itself
            if name not in self._sessions:
                self._registered[name] = devices[name]
                self._sessions[name] = Session(devices[name], jump=session, host_keys=self._host_keys)
            session = self._sessions[name]
        if session is None:
            raise ValueError("a way of no device")
        device = devices[way[0]]
        default = self._intervals
        return Member(
            device,
            session,
            (
                (
                    SystemCollector(session),
                    _pace(device.system_interval or default.system, watched=default.watched),
                ),
                (
                    ContainersCollector(session),
                    _pace(device.container_interval or default.containers, watched=default.watched),
                ),
                (
                    DrivesCollector(session),
                    _pace(device.drive_interval or default.drives, SMART.cycle_seconds),
                ),
            ),
        )

    async def tidy(self) -> None:
        """Let go of what an update has left over: of a jump host no collector would."""
        stale, self._stale = self._stale, []
        await asyncio.gather(*(session.close() for session in stale))

    async def close(self) -> None:
        """Let go of every device."""
        self._stale += self._sessions.values()
        self._sessions = {}
        self.members = {}
        await self.tidy()


def _pace(seconds: float, cycle_seconds: float = CYCLE_SECONDS, *, watched: float | None = None) -> Pace:
    """Return the pace of an interval: a machine that comes back is seen after ten minutes, or at its own interval."""
    slowest = min(_SLOWEST, max(1.0, _BACK_SECONDS / seconds))
    # The session gives up first, and says why.
    return Pace(seconds, watched, longest_seconds=cycle_seconds + 5, slowest=slowest)


def _way(devices: Mapping[str, Device], name: str) -> tuple[str, ...] | None:
    """Return the device and its jump hosts, nearest first; None when they lead nowhere."""
    way = [name]
    while (jump := devices[way[-1]].jump) is not None:
        if jump not in devices or jump in way:
            return None
        way.append(jump)
    return tuple(way)
