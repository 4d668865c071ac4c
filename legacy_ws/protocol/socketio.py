"""Socket.IO over a WebSocket, the text frames of a client: pure.

Engine.IO puts one digit in front of each message, Socket.IO another (https://socket.io/docs/v4/engine-io-protocol/,
https://socket.io/docs/v4/socket-io-protocol/). Address such a server as
``ws://HOST:PORT/socket.io/?EIO=4&transport=websocket``; servers of Socket.IO 2 and before speak ``EIO=3``.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol.foreign import Complaint, Heartbeat, Reply, Said
from legacy_ws.protocol.json_dialect import JsonDialect

_EVENT: Final = re.compile(r"42(?:(/[^,]*),)?\d*(\[.*)\Z", re.DOTALL)
_REFUSED: Final = re.compile(r"44(?:(/[^,]*),)?(.*)\Z", re.DOTALL)

CONNECT: Final = b"40"
"""Joins the default namespace; Socket.IO 2 and before join by themselves."""
PING: Final = b"2"
PONG: Final = b"3"


def event(frame: str | bytes) -> tuple[str, Sequence[Any]] | None:
    """Return the name and the arguments of an event, None for any other frame; raises MalformedMessage."""
    found = _EVENT.match(_text(frame))
    if found is None:
        return None
    try:
        name, *arguments = orjson.loads(found[2])
    except (orjson.JSONDecodeError, ValueError) as error:
        raise MalformedMessage(f"not an event of Socket.IO: {error}") from None
    return str(name), arguments


def opened(frame: str | bytes) -> bool:
    """Tell whether this is the first frame of an Engine.IO server."""
    return _text(frame).startswith('0{"sid"')


class SocketIoDialect(JsonDialect):
    """A server that speaks Socket.IO. Override ``on``; ``protocol`` is the ``EIO`` of its address."""

    protocol: int = 4

    @property
    def heartbeat(self) -> Heartbeat:  # type: ignore[override] # a property is as good as an attribute to readers
        """From version 4 the server pings; before, the client has to."""
        return Heartbeat() if self.protocol >= 4 else Heartbeat(frame=PING, regularly=True)  # noqa: PLR2004 - EIO=4

    def decode(self, frame: str | bytes) -> Sequence[Said]:
        """Return what a frame says, and what the protocol wants to be answered; raises MalformedMessage."""
        text = _text(frame)
        match text[:1]:
            case "0" if self.protocol >= 4:  # noqa: PLR2004 - EIO=4
                return (Reply(CONNECT),)
            case "2":
                return (Reply(PONG),)
            case "4":
                return self._message(text)
            case _:
                return ()

    def _message(self, text: str) -> Sequence[Said]:
        if refused := _REFUSED.match(text):
            return (Complaint(refused[2][:200] or "no reason given"),)
        said = event(text)
        return () if said is None else self.careful(lambda: self.on(*said))

    def read(self, message: Mapping[str, Any]) -> Iterable[Said]:  # noqa: ARG002 - events have a name of their own
        """Return nothing: events come to ``on``."""
        return ()

    @abstractmethod
    def on(self, event: str, arguments: Sequence[Any]) -> Iterable[Said]:
        """Return what an event says, nothing for what does not concern us; may trust it, as ``read`` may."""


def _text(frame: str | bytes) -> str:
    if isinstance(frame, str):
        return frame
    try:
        return frame.decode()
    except UnicodeDecodeError:
        raise MalformedMessage("a binary frame, which belongs to no event of ours") from None
