"""What it takes to understand somebody's monitoring server over a WebSocket: the one interface, no I/O.

Implement `ForeignDialect` for a server and everything that reads such servers can use it: the adapter
(`adapters.foreign_websocket`), a bridge to the spool, a recorder. A dialect holds no state of a connection; it
translates, and says in plain data what the caller is to send and how long silence is normal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from monitoring.events import Draft, StreamId
from monitoring.fingerprint import Likeness
from monitoring.topics import Topic


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that happened, as a server without our identities tells it.

    ``occurred_at`` is aware and in UTC, the server's time where it tells one. ``id`` is the server's own, where it has
    any. ``payload`` is plain JSON and has all that the server said of it.
    """

    stream: StreamId
    kind: str
    occurred_at: datetime
    payload: Mapping[str, Any]
    id: str | None = None

    @property
    def draft(self) -> Draft:
        """The same as a collector would put it on a spool, to be given an identity."""
        return Draft(self.stream, self.kind, self.occurred_at, self.payload)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a server tells a new client of the time before: no news.

    ``recent`` are the last events it broadcast, oldest first, without omissions between them; ``state`` is anything
    else that stands now.
    """

    recent: tuple[Observation, ...] = ()
    state: tuple[Observation, ...] = ()


@dataclass(frozen=True, slots=True)
class Complaint:
    """The server says that it did not understand us, or cannot."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The server is to be sent this at once: an answer that its protocol asks for."""

    frame: bytes


Said = Observation | Memory | Complaint | Reply


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How to tell a quiet server from a dead one.

    After ``every_seconds`` of silence ``frame`` is sent, or a WebSocket ping when it is None; after as long again
    without an answer the connection is given up.
    """

    every_seconds: float = 5.0
    frame: bytes | None = None
    regularly: bool = False
    """Send ``frame`` as often while the server speaks, too: it gives up clients that it does not hear."""


class ForeignDialect(Protocol):
    """One server's way of speaking."""

    @property
    def name(self) -> str:
        """A short name for logs and settings."""
        ...

    @property
    def likeness(self) -> Likeness:
        """What makes two of its observations the same event."""
        ...

    @property
    def heartbeat(self) -> Heartbeat:
        """How it shows that it is alive."""
        ...

    @property
    def greets(self) -> bool:
        """Whether every connection begins with a `Memory`; a client is live only once it has come."""
        ...

    def hello(self) -> Sequence[bytes]:
        """Return the messages to send first on every connection, as UTF-8 text."""
        ...

    def subscribe(self, topics: Collection[Topic]) -> Sequence[bytes]:
        """Return the messages that ask for the topics, after ``hello``; it may bring more than was asked for."""
        ...

    def decode(self, frame: str | bytes) -> Sequence[Said]:
        """Return what a message says, in order, nothing for what does not concern us; raises MalformedMessage."""
        ...
