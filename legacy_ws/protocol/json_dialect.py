"""What a dialect of JSON messages needs not say again: a base class, and the few words its file is written with.

A dialect of one's own is one file with one subclass (docs/writing-a-dialect.md). What its ``read`` trips over is told as
a malformed message, with the reason, and the connection goes on.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import json_object as obj
from legacy_ws.protocol.foreign import ForeignDialect, Heartbeat, Said
from monitoring.errors import InvalidEvent
from monitoring.fingerprint import Likeness
from monitoring.topics import Topic

_UNADDRESSABLE: Final = re.compile(r"[^A-Za-z0-9._:@-]+")
_LONGEST_NAME: Final = 128
_TRIPPED: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, InvalidEvent)
"""What code that trusts a message raises when the message is another."""


class JsonDialect(ForeignDialect):
    """Messages are JSON objects, and the server speaks first. Override ``read``, and what is otherwise."""

    name: str = "unnamed"
    likeness: Likeness = Likeness()
    heartbeat: Heartbeat = Heartbeat()
    greets: bool = False

    def hello(self) -> Sequence[bytes]:
        """Return nothing."""
        return ()

    def subscribe(self, topics: Collection[Topic]) -> Sequence[bytes]:  # noqa: ARG002 - for servers that ask nothing
        """Return nothing: every client gets everything."""
        return ()

    def decode(self, frame: str | bytes) -> Sequence[Said]:
        """Return what a message says; raises MalformedMessage."""
        message = obj.read(frame)
        return self.careful(lambda: self.read(message))

    @abstractmethod
    def read(self, message: Mapping[str, Any]) -> Iterable[Said]:
        """Return what a message says, nothing for what does not concern us.

        It may trust the message: what it raises over a missing or strange value is told as a malformed message.
        """

    def careful(self, reading: Callable[[], Iterable[Said]]) -> Sequence[Said]:
        """Return what a reading says; raises MalformedMessage for what it trips over."""
        try:
            return tuple(reading())
        except _TRIPPED as error:
            raise MalformedMessage(f"{self.name}: {type(error).__name__}: {error}"[:300]) from error


def addressable(text: str) -> str:
    """Return a name that topics can address."""
    return _UNADDRESSABLE.sub("-", text).lstrip("._:@-")[:_LONGEST_NAME] or "unknown"


def from_unix(seconds: float) -> datetime:
    """Return the time of a number of seconds since 1970; raises ValueError or OverflowError."""
    return datetime.fromtimestamp(seconds, UTC)


def from_text(text: str) -> datetime:
    """Return the time of an ISO 8601 text, in UTC unless it says otherwise; raises ValueError."""
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
