"""The errors of the inside.

::

    MonitoringError
    ├── InvalidEvent       a foreign message that is not an event of ours (the peer misbehaved)
    ├── InvalidTopic       a topic nobody could have meant (our caller's mistake)
    ├── InvalidCursor      a cursor that cannot be read
    ├── InvalidFlags       a flag file that was refused, with the line
    ├── InvalidRollout     a rollout's state that makes no sense, or a command that is not possible in it
    ├── InvalidDevice      a device that cannot be meant
    ├── InvalidDeviceFile  a file of devices that was refused, with every line to blame
    ├── LogsUnavailable    a container's log cannot be read (in monitoring.logs)
    ├── ControlError       a container could not be started, stopped or restarted (in monitoring.control)
    ├── Unreachable        a backend that cannot be reached now; trying again may help
    └── Refused            a backend that answered no (key, permission, schema); trying again will not help
"""

from __future__ import annotations

from collections.abc import Sequence


class MonitoringError(Exception):
    """Base of every error this package raises."""


class InvalidEvent(MonitoringError):  # noqa: N818 - named for what it is, like the others of the tree
    """A message that is not an event; ``reason`` says which rule it breaks."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not an event: {reason}")
        self.reason = reason


class InvalidTopic(MonitoringError):  # noqa: N818
    """A topic that cannot be parsed."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(
            f"topic {text!r}: {reason}; use global, devices.NAME, categories.NAME or metrics.NAME (* for any)"
        )
        self.text = text
        self.reason = reason


class InvalidCursor(MonitoringError):  # noqa: N818
    """A cursor that cannot be read."""


class InvalidFlags(MonitoringError):  # noqa: N818
    """A flag file that was refused. ``line`` counts from 1; 0 when no line is to blame."""

    def __init__(self, reason: str, *, line: int = 0) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.reason = reason
        self.line = line


class InvalidDevice(MonitoringError):  # noqa: N818
    """A device that cannot be meant. ``field`` is the one to blame, or empty."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


class InvalidDeviceFile(MonitoringError):  # noqa: N818
    """A file of devices that was refused whole. ``problems`` are (line, what is wrong there); lines count from 1."""

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        super().__init__("; ".join(f"line {line}: {reason}" if line else reason for line, reason in problems))
        self.problems = problems


class Unreachable(MonitoringError):  # noqa: N818
    """A backend that cannot be reached now."""

    def __init__(self, backend: str, reason: str) -> None:
        super().__init__(f"{backend} cannot be reached: {reason}")
        self.backend = backend
        self.reason = reason


class Refused(MonitoringError):  # noqa: N818
    """A backend that refused us; ``hint`` says what to change."""

    def __init__(self, backend: str, reason: str, hint: str = "") -> None:
        super().__init__(f"{backend} refused: {reason}" + (f"; {hint}" if hint else ""))
        self.backend = backend
        self.reason = reason
        self.hint = hint


class InvalidRollout(MonitoringError):  # noqa: N818
    """A rollout's state, policy or journal that makes no sense, or a command that is not possible in its state."""
