"""What a rule file says, as values. Pure; ``rule_file`` reads the text.

A rule watches one metric (`readings` has their names) on every *target* that has it: a device, or an item of a device
(a container, a disk, a network). Each target of each rule has an alert of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

STRICT = {"extra": "forbid", "strict": False}
"""How the edge reads these classes: no key is unknown."""

_ZERO = timedelta()


class Severity(StrEnum):
    """How bad it is; in this order."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the least."""
        return tuple(Severity).index(self)


class Aggregate(StrEnum):
    """What a window of values is made of one."""

    AVG = "avg"
    MIN = "min"
    MAX = "max"
    LAST = "last"


class NoData(StrEnum):
    """What to make of a target whose readings stay away."""

    SHOW = "show"
    """A state of its own, and nobody is told."""
    NOTIFY = "notify"
    """The same, and it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every rule has."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = STRICT

    name: str
    severity: Severity = Severity.WARNING
    summary: str = ""
    devices: Sequence[str] = ("*",)
    """Patterns (``web-*``); one that begins with ``!`` leaves out."""
    items: Sequence[str] = ("*",)
    for_: timedelta = _ZERO
    """How long it must hold before the alert fires; until then it is pending."""
    cooldown: timedelta = timedelta(minutes=10)
    """After a target was told of, it is not told of again for so long; what still fires then is."""
    inhibited_by: Sequence[str] = ()
    """Rules that, while they fire for the same device, are the cause of this one: it is not told."""
    notify: bool = True
    """False for a rule that is only a part of others."""
    channels: Sequence[str] = ()
    """None means every channel."""
    no_data: NoData = NoData.SHOW
    no_data_after: timedelta = timedelta(minutes=5)
    """At least three intervals of the readings are waited for in any case."""

    def covers(self, device: str, item: str) -> bool:
        """Tell whether the rule is about a target."""
        return matches(self.devices, device) and matches(self.items, item)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold(Common):
    """A number over or under a limit; between ``clear`` and the limit it stays what it was (hysteresis)."""

    kind: Literal["threshold"]
    metric: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    over: timedelta = _ZERO
    """The window; zero looks at the newest value."""
    aggregate: Aggregate = Aggregate.AVG


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Common):
    """How fast a counter grows, per second, over a window; a counter that starts again is none the worse."""

    kind: Literal["rate"]
    metric: str
    over: timedelta
    above: float | None = None
    below: float | None = None
    clear: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRule(Common):
    """A word that is one of some: a container's status, a device's."""

    kind: Literal["state"]
    metric: str
    states: Sequence[str]
    was: Sequence[str] = ()
    """Only when it was one of these just before: what was stopped all along is no alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence(Common):
    """Nothing came of a device's category for some time, while our own feed was live."""

    kind: Literal["absence"]
    category: str
    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite(Common):
    """Other rules that fire for one device at once: ``all`` of them, or ``any``."""

    kind: Literal["composite"]
    all: Sequence[str] = ()
    any: Sequence[str] = ()


Limited = Threshold | Rate
Rule = Threshold | Rate | StateRule | Absence | Composite


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where messages go. ``url`` is an apprise URL (``json://HOST/PATH``, ``mailto://...``) and a secret."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = STRICT

    name: str
    url: str = ""
    url_file: str = ""
    """A file with the URL in it, instead: relative to the rule file."""
    severity: Severity = Severity.INFO
    """The least that is told there."""
    burst: int = 5
    every: timedelta = timedelta(seconds=30)
    """At most ``burst`` messages at once and then one ``every`` so long; what waits meanwhile becomes one message."""

    def __repr__(self) -> str:
        """Leave out the URL: it holds a secret."""
        return f"Channel({self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """A window in which some targets are expected to misbehave: once, or each day or week."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = STRICT

    name: str
    start: datetime
    """Aware."""
    lasts: timedelta
    repeat: Literal["never", "daily", "weekly"] = "never"
    rules: Sequence[str] = ("*",)
    devices: Sequence[str] = ("*",)
    items: Sequence[str] = ("*",)

    def open_at(self, at: datetime) -> bool:
        """Tell whether the window is open."""
        passed = at - self.start
        if passed < _ZERO:
            return False
        period = {"never": None, "daily": timedelta(days=1), "weekly": timedelta(weeks=1)}[self.repeat]
        return (passed if period is None else passed % period) < self.lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Alerts of one device become one message."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = STRICT

    wait: timedelta = timedelta(seconds=1)
    """How long the first one waits for others."""
    interval: timedelta = timedelta(seconds=30)
    """After a message about a device, how long until the next about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A whole rule file."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = STRICT

    rules: Sequence[Rule] = ()
    channels: Sequence[Channel] = ()
    maintenance: Sequence[Maintenance] = ()
    grouping: Grouping = Grouping()

    def rule(self, name: str) -> Rule | None:
        """Return the rule of a name."""
        return next((rule for rule in self.rules if rule.name == name), None)


def matches(patterns: Sequence[str], name: str) -> bool:
    """Tell whether a name is let in by the patterns (``*``, ``?``); those that begin with ``!`` win."""
    if any(fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    return not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)
