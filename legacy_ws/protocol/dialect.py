"""What every dialect is, so that the server, and the gateway, can mount any of them. No I/O.

A `Dialect` is told every event and keeps what its messages are made of. Each connection has a `Session`, which turns what
the peer says into messages and *asks*: what only the host can answer (history, figures, logs, a file). An ask knows how its
answer is written in its dialect, so the host needs to know no dialect.

Sessions that subscribed to the same have an equal *audience*. A dialect says what an audience is told, not a client: a
message is written once, whoever gets it, and not at all when nobody asked for it.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from monitoring.cursor import Cursor
from monitoring.events import Event
from monitoring.service import Gap
from monitoring.topics import Topic

EventWriter = Callable[[Event, datetime], bytes]
"""Writes an event that arrived at a time as a message."""

Telling = Callable[[Any], bytes | None]
"""What an audience is told; None is nothing. Called once for each audience that somebody belongs to."""


def everybody(write: Callable[[], bytes]) -> Telling:
    """Tell every audience the same message, written when the first one hears it."""
    written = functools.cache(write)
    return lambda _: written()


class Arrival:
    """An event, when it arrived, and the messages it was written as: each is written once, when first needed."""

    __slots__ = ("_messages", "at", "event", "size_bytes")

    def __init__(self, event: Event, at: datetime) -> None:
        self.event = event
        self.at = at
        self.size_bytes: int | None = None
        """The size of its payload's JSON, once somebody has measured it."""
        self._messages: dict[EventWriter, bytes] = {}

    def written(self, write: EventWriter) -> bytes:
        """Return the event as this writer writes it."""
        message = self._messages.get(write)
        if message is None:
            # A copy: orjson's own result keeps the kilobytes that it was written in, and thousands of these are held.
            message = self._messages[write] = bytes(memoryview(write(self.event, self.at)))
        return message


@dataclass(frozen=True, slots=True)
class Figures:
    """The seed's figures, as the host has them."""

    sections: Mapping[str, Mapping[str, Any]]
    session_metrics: Mapping[str, Any]
    semaphore_metrics: Mapping[str, Any]
    websocket_health: Mapping[str, Any]
    recent: Sequence[Arrival]
    """The newest events, oldest first."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written: ``path`` is where the server serves it."""

    name: str
    path: str
    events: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LogTail:
    """Lines of a container's log, oldest first, each with its time in front; ``last_at`` is that of the last one."""

    container: str
    lines: tuple[str, ...]
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class AskFigures:
    """Ask for the figures of now."""

    write: Callable[[Figures], bytes]


@dataclass(frozen=True, slots=True)
class AskReplay:
    """Ask for what came after a cursor (None: from now on), then live events.

    ``granted`` is called when the host answers, with its heads and what it no longer has; only then does the session's
    audience change. ``waiting`` writes why the answer has to wait.
    """

    topics: frozenset[Topic]
    since: Cursor | None
    granted: Callable[[Cursor, tuple[Gap, ...]], bytes]
    event: EventWriter
    waiting: Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class AskSnapshot:
    """Ask for the newest event of each (stream, kind), and the heads they stand at."""

    topics: frozenset[Topic]
    write: Callable[[tuple[Event, ...], Cursor], bytes]
    waiting: Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class AskExport:
    """Ask for a file with the retained events of the topics."""

    topics: frozenset[Topic]
    write: Callable[[Exported], bytes]
    failed: Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class AskLogs:
    """Ask for a container's last lines and then its new ones; another ask under the same name replaces it.

    ``container`` is what the peer calls it, ``device`` and ``full_name`` say which one that is.
    """

    container: str
    device: str
    full_name: str
    lines: int
    snapshot: Callable[[LogTail], bytes]
    more: Callable[[LogTail], bytes]
    """The same function for every session: new lines are written once for all."""
    failed: Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class EndLogs:
    """Ask for no more lines of what the peer calls so."""

    container: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Ask to tell something to the audiences of this dialect."""

    telling: Telling


Ask = AskFigures | AskReplay | AskSnapshot | AskExport | AskLogs | EndLogs | Announce
Answer = bytes | Ask
"""What a session answers: a message to its peer, or an ask to its host."""


class Session(ABC):
    """One connection."""

    @property
    @abstractmethod
    def audience(self) -> Hashable:
        """What the peer subscribed to; equal ones are told the same."""

    @abstractmethod
    def opened(self, now: datetime) -> Iterable[Answer]:
        """Return what the peer is sent first."""

    @abstractmethod
    def received(self, text: str, now: datetime) -> Iterable[Answer]:
        """Return the answer to a message; raises MalformedMessage, which the host answers with ``refused``."""

    @abstractmethod
    def refused(self, reason: str, now: datetime) -> bytes:
        """Return the dialect's error message."""


class Dialect(ABC):
    """One dialect, with what its messages are made of. One instance serves any number of sessions."""

    name: ClassVar[str]
    """How settings call it."""
    path: ClassVar[str]
    """Where it is mounted unless told otherwise."""
    needs_token: ClassVar[bool] = False
    """Whether a peer has to show a bearer token at the handshake."""
    tick_seconds: float | None = None
    """How often ``tick`` is to be called; None is never."""

    @abstractmethod
    def session(self) -> Session:
        """Return the session of a new connection."""

    @abstractmethod
    def take(self, arrival: Arrival, *, news: bool) -> Telling | None:
        """Take an event and return what is told of it.

        Without ``news`` it restores what an earlier server had told already.
        """

    def subscriptions(self, audience: Any) -> Iterable[str]:  # noqa: ARG002 - for dialects that have some
        """Return what an audience subscribed to, in words; the host counts its clients by them."""
        return ()

    def watched(self, audience: Any) -> frozenset[str]:  # noqa: ARG002 - as above
        """Return the devices that an audience asked for by name: they are read more often while it is there."""
        return frozenset()

    def tick(self, now: datetime) -> Iterable[Telling]:  # noqa: ARG002 - for dialects that have a rhythm
        """Return what is told by the clock."""
        return ()

    def filled(self, now: datetime) -> Iterable[Telling]:  # noqa: ARG002 - for dialects that show a state
        """Return what is told once the history is there, to those who came before it."""
        return ()
