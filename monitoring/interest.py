"""Which devices somebody watches by name: pure.

A topic that names a device is interest in that device; one that selects everything is none, or a single overview would
have every machine read at the pace of those that somebody looks at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from monitoring.topics import Field, Topic

DeviceNames = frozenset[str]


def devices_named(topics: Iterable[Topic]) -> DeviceNames:
    """Return the devices that topics name."""
    return frozenset(topic.value for topic in topics if topic.field is Field.DEVICE and topic.value)


class Watchers:
    """Counts who watches which device; tells when a first watcher comes, or the last one goes."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.changed: Callable[[], None] = lambda: None
        """Called after a change of ``devices``."""

    @property
    def devices(self) -> DeviceNames:
        """The devices that somebody watches."""
        return frozenset(self._counts)

    def came(self, devices: DeviceNames) -> None:
        """Note a watcher of these devices."""
        new = devices - self._counts.keys()
        self._counts.update(devices)
        if new:
            self.changed()

    def went(self, devices: DeviceNames) -> None:
        """Note that a watcher of these devices has gone."""
        self._counts.subtract(devices)
        gone = [device for device in devices if self._counts[device] <= 0]
        for device in gone:
            del self._counts[device]
        if gone:
            self.changed()


class Interest:
    """The devices that are watched over any of several paths, each of which says its own."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """``changed`` is called when a device begins to be watched, or ceases to be."""
        self._by_path: dict[str, DeviceNames] = {}
        self._all: DeviceNames = frozenset()
        self._changed = changed

    @property
    def devices(self) -> DeviceNames:
        """The devices that somebody watches."""
        return self._all

    def said(self, path: str, devices: DeviceNames) -> None:
        """Take what one path says now, in the place of what it said before."""
        self._by_path[path] = devices
        before, self._all = self._all, frozenset().union(*self._by_path.values())
        if self._all != before:
            self._changed()
