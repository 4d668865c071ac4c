"""Commands to containers: the port, what a command came to, and why one failed.

::

    ControlError
    ├── EngineAway          no engine answers, so nothing was done
    ├── NoSuchContainer     there is no container of this name
    ├── CommandRefused      the engine said no, and why
    ├── Unconfirmed         the engine took the command, but what it should cause was not seen in time
    └── ActionFailed        what a person wanted to do or see was refused, or is not possible here
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from monitoring.errors import MonitoringError
from monitoring.logs import LogLine


class Command(StrEnum):
    """What can be done to a container."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"


class ControlError(MonitoringError):
    """Base of what a command fails with; the message says what happened, where, and what to do next."""


class EngineAway(ControlError):  # noqa: N818 - named for what it is, like the others of the tree
    """No engine answers."""

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(f"no container engine answers on {device}: {reason}")
        self.device = device
        self.reason = reason


class NoSuchContainer(ControlError):  # noqa: N818
    """There is no container of this name; ``known`` are some that there are."""

    def __init__(self, device: str, name: str, known: Sequence[str]) -> None:
        there = f"there are {', '.join(known[:10])}" if known else "there is none at all"
        super().__init__(f"{device} has no container {name[:100]!r}; {there}")
        self.device = device
        self.name = name
        self.known = tuple(known)


class CommandRefused(ControlError):  # noqa: N818
    """The engine did not do it."""

    def __init__(self, device: str, name: str, command: str, reason: str) -> None:
        super().__init__(f"{device}: cannot {command} {name}: {reason}")
        self.device = device
        self.name = name
        self.reason = reason


class Unconfirmed(ControlError):  # noqa: N818
    """The engine took the command, but its event did not come."""

    def __init__(self, device: str, name: str, command: str, seconds: float) -> None:
        super().__init__(
            f"{device}: the engine took '{command} {name}', but no event of it came within {seconds:g} s; "
            "look at the container's state before trying again"
        )
        self.device = device
        self.name = name


class ActionFailed(ControlError):  # noqa: N818
    """What a person wanted to do or see was refused, or is not possible here."""


class SignInNeeded(ActionFailed):
    """Who somebody is was not believed, or is not any more: they have to sign in."""


@dataclass(frozen=True, slots=True)
class ContainerSummary:
    """One container as a list shows it; ``detail`` is the engine's own sentence."""

    id: str
    name: str
    image: str
    status: str
    health: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to, as the event after it and the state after that say.

    ``changed`` is False when the container was already as wanted; then there was no event, and ``at`` is None.
    """

    device: str
    name: str
    container: str
    command: Command
    changed: bool
    status: str
    exit_code: int | None
    at: datetime | None


class ContainerControl(Protocol):
    """Who carries out commands to the containers of one device. Every method raises ControlError."""

    @property
    def device(self) -> str:
        """Whose containers these are."""
        ...

    async def containers(self) -> Sequence[ContainerSummary]:
        """Return all containers, by name."""
        ...

    async def command(self, command: Command, name: str, *, grace_seconds: int = 10) -> Outcome:
        """Carry out a command and return once the event that it should cause was seen.

        ``grace_seconds`` is how long the container may take to end before it is killed. Cancelling does not take back what
        the engine was told.
        """
        ...

    async def logs(self, name: str, lines: int) -> Sequence[LogLine]:
        """Return the last lines of a container's log."""
        ...
