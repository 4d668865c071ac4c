"""``/ws/containers``: seed 002's controller. State on connect, changes only when something changed, logs on demand."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from legacy_ws.errors import MalformedMessage, shown
from legacy_ws.protocol.container_states import ContainerState, ContainerStates, StateChange
from legacy_ws.protocol.dialect import (
    Answer,
    Arrival,
    AskLogs,
    Dialect,
    EndLogs,
    LogTail,
    Session,
    Telling,
    everybody,
)
from legacy_ws.protocol.records import Codec, Message, Record, encode

MOST_LINES = 1_000
"""Lines of a snapshot; who asks for more gets so many."""
_DEFAULT_LINES = 100
_LONGEST_NAME = 300


@dataclass(frozen=True, slots=True)
class Container(Record):
    """A container as the seed shows it. ``device`` is ours: names are unique on one machine only."""

    name: str
    full_name: str
    status: str
    status_detail: str
    running: bool
    health: str | None
    id: str
    created: bool
    device: str = ""


@dataclass(frozen=True, slots=True)
class Change(Record):
    """What became of a container; the previous values of a new one are null, a deleted one is ``removed``."""

    CAMEL: ClassVar[bool] = True
    name: str
    previous_status: str | None
    previous_health: str | None
    current_status: str
    current_health: str | None
    running: bool
    status_detail: str
    device: str = ""


@dataclass(frozen=True, slots=True)
class InitialState(Message):
    """Server: every container; the first message, and again when a restarted server has its history back."""

    TYPE: ClassVar[str] = "initial_state"
    timestamp: datetime
    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class StatusChange(Message):
    """Server: containers whose status, health or running state changed."""

    TYPE: ClassVar[str] = "status_change"
    timestamp: datetime
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class LogSnapshot(Message):
    """Server: a container's last lines, once, in answer to a subscription."""

    TYPE: ClassVar[str] = "log_snapshot"
    CAMEL: ClassVar[bool] = True
    container: str
    logs: tuple[str, ...]
    last_log_timestamp: datetime | None


@dataclass(frozen=True, slots=True)
class NewLogs(Message):
    """Server: lines that came since the last message about the container."""

    TYPE: ClassVar[str] = "new_logs"
    CAMEL: ClassVar[bool] = True
    container: str
    logs: tuple[str, ...]
    last_log_timestamp: datetime | None


@dataclass(frozen=True, slots=True)
class ErrorMessage(Message):
    """Server: what it did not understand or cannot do; the connection goes on."""

    TYPE: ClassVar[str] = "error"
    error: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class SubscribeLogs(Message):
    """Client: send the last lines of a container, and then new ones."""

    TYPE: ClassVar[str] = "subscribe_logs"
    container: str
    lines: int = _DEFAULT_LINES


@dataclass(frozen=True, slots=True)
class UnsubscribeLogs(Message):
    """Client: send no more lines of a container."""

    TYPE: ClassVar[str] = "unsubscribe_logs"
    container: str


SERVER = Codec(InitialState, StatusChange, LogSnapshot, NewLogs, ErrorMessage)
"""What a server sends."""
CLIENT = Codec(SubscribeLogs, UnsubscribeLogs)
"""What a client sends."""


def container(state: ContainerState, now: datetime, prefix: str = "") -> Container:
    """Return a container as the seed shows it; ``name`` is its full name without the project's prefix."""
    return Container(
        name=state.full_name.removeprefix(prefix),
        full_name=state.full_name,
        status=state.status,
        status_detail=state.detail(now),
        running=state.running,
        health=state.health,
        id=state.id,
        created=True,
        device=state.device,
    )


def change(one: StateChange, now: datetime, prefix: str = "") -> Change:
    """Return a change as the seed shows it."""
    return Change(
        name=one.now.full_name.removeprefix(prefix),
        previous_status=one.before.status if one.before else None,
        previous_health=one.before.health if one.before else None,
        current_status=one.now.status,
        current_health=one.now.health,
        running=one.now.running,
        status_detail=one.now.detail(now),
        device=one.now.device,
    )


def log_snapshot(tail: LogTail) -> bytes:
    """Write the answer to a subscription."""
    return encode(LogSnapshot(tail.container, tail.lines, tail.last_at))


def new_logs(tail: LogTail) -> bytes:
    """Write new lines."""
    return encode(NewLogs(tail.container, tail.lines, tail.last_at))


class ContainerSession(Session):
    """One connection to the controller, and to the relay: the requests are the same."""

    def __init__(self, dialect: ContainerDialect) -> None:
        self._dialect = dialect

    @property
    def audience(self) -> Hashable:
        """Everybody is told every change."""
        return None

    def opened(self, now: datetime) -> Iterable[Answer]:
        """Return the state."""
        return (self._dialect.state(now),)

    def received(self, text: str, now: datetime) -> Iterable[Answer]:
        """Answer a request for logs."""
        match CLIENT.read(text):
            case SubscribeLogs(name, lines):
                if lines < 0:
                    raise MalformedMessage(f"lines must be 0 or more, got {lines}")
                state = self._dialect.find(name)
                return (
                    AskLogs(
                        name,
                        state.device,
                        state.full_name,
                        min(lines, MOST_LINES),
                        log_snapshot,
                        new_logs,
                        failed=lambda reason: self.refused(reason, now),
                    ),
                )
            case UnsubscribeLogs(name):
                return (EndLogs(name),)
        return ()

    def refused(self, reason: str, now: datetime) -> bytes:
        """Return an ``error``."""
        return encode(ErrorMessage(reason, now))


class ContainerDialect(Dialect):
    """The controller."""

    name: ClassVar[str] = "containers"
    path: ClassVar[str] = "/ws/containers"

    def __init__(self, prefix: str = "") -> None:
        """``prefix`` is the project's, which a container's ``name`` lacks (``latestrelayer-``)."""
        self.prefix = prefix
        self.states = ContainerStates()

    def session(self) -> Session:
        """Return the session of a new connection."""
        return ContainerSession(self)

    def take(self, arrival: Arrival, *, news: bool) -> Telling | None:
        """Tell changes of status, health and running state, and nothing else."""
        changes = self.states.take(arrival.event)
        if not changes or not news:
            return None
        return everybody(lambda: self.changed(changes, arrival.at))

    def filled(self, now: datetime) -> Iterable[Telling]:
        """Tell the state to who connected before it was known."""
        return (everybody(lambda: self.state(now)),)

    def state(self, now: datetime) -> bytes:
        """Write every container."""
        return encode(InitialState(now, self.containers(now)))

    def changed(self, changes: Sequence[StateChange], now: datetime) -> bytes:
        """Write what changed."""
        return encode(StatusChange(now, tuple(change(one, now, self.prefix) for one in changes)))

    def containers(self, now: datetime) -> tuple[Container, ...]:
        """Return every container as the seed shows it."""
        return tuple(container(state, now, self.prefix) for state in self.states.all)

    def find(self, name: str) -> ContainerState:
        """Return the container that a request means, by name, full name, or device/full name; raises MalformedMessage."""
        if not 0 < len(name) <= _LONGEST_NAME:
            raise MalformedMessage(f"container must be a name of up to {_LONGEST_NAME} characters")
        found = [state for state in self.states.all if name in self._names(state)]
        if not found:
            raise MalformedMessage(
                f"no container {shown(name)} is known; initial_state names those there are"
            )
        if len(found) > 1:
            names = ", ".join(f"{state.device}/{state.full_name}" for state in found[:5])
            raise MalformedMessage(f"{shown(name)} is the name of several containers: {names}")
        return found[0]

    def _names(self, state: ContainerState) -> tuple[str, str, str]:
        full = state.full_name
        return full.removeprefix(self.prefix), full, f"{state.device}/{full}"
