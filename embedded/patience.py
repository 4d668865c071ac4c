"""How long a server of HTTP waits for its clients, and for how many of them at once.

It waits for a request to be complete, for the next one, and for an answer to be read. The libraries do so without limit in
one place or another: uvicorn for the head of a request, aiohttp for its body, both for an answer to be read. Here every wait
ends; and where there are more connections than may be, the one that has waited longest for its client makes room for the
newest. Whoever sends and reads as clients do is waited for only milliseconds, so that those who do not go first, however many
they are. To close a connection between two requests is always allowed (RFC 9112, 9.5).

The shells, a protocol of uvicorn's and one of aiohttp's, tell a `Client` what happens on its connection.
"""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger(__name__)

REQUEST_SECONDS: Final = 10.0
UNREAD_SECONDS: Final = 30.0
UNREAD_BYTES: Final = 64 * 1024
_MOST, _LEAST = 4096, 64
_MOST_UPGRADED: Final = 10_000
_OTHER_FILES: Final = 64
"""What a process has open besides: its database, its logs, its listeners."""
_SAY_SECONDS: Final = 60.0
_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
    b"Content-Length: 38\r\nConnection: close\r\n\r\nthe request was not complete in time\r\n"
)


def most_connections() -> int:
    """Return how many connections one listener may have: half the files that this process may open, which are made more.

    After a restart all clients come back at once, and who was accepted has not been heard yet: too few places would cost
    some of them theirs. The usual soft limit, 1024, is for programs that use ``select``.
    """
    return max(_LEAST, min(_MOST, _files(2 * _MOST) // 2))


def most_upgraded() -> int:
    """Return how many connections may have gone over to WebSocket: 10,000, or what is left of the files beside the others."""
    files = _files(2 * _MOST + _MOST_UPGRADED)
    return max(_LEAST, min(_MOST_UPGRADED, files - most_connections() - _OTHER_FILES))


def _files(wanted: int) -> int:
    """Return how many files this process may open, having made them as many as are wanted where that is allowed."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    if files < wanted:
        files = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return files


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a listener puts up with."""

    connections: int
    request_seconds: float = REQUEST_SECONDS
    """From the first byte of a request, or the beginning of the connection, to the end of its head."""
    unread_seconds: float = UNREAD_SECONDS
    """In so long a client has to read ``unread_bytes`` of what waits for it, or all."""
    unread_bytes: int = UNREAD_BYTES


class Mentions:
    """Counts what happens, and says once a minute how often it did."""

    def __init__(self) -> None:
        self._count = 0
        self._said_at = float("-inf")

    def one_more(self, now: float) -> int | None:
        """Count one at a time in seconds; return how many there were since that was last returned, None within a minute of it."""
        self._count += 1
        if now - self._said_at < _SAY_SECONDS:
            return None
        count, self._count, self._said_at = self._count, 0, now
        return count


class Crowd:
    """The connections of one listener."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds: Final = Bounds(most_connections()) if bounds is None else bounds
        self._all: set[Client] = set()
        self._waiting: dict[Client, None] = {}  # who has waited longest is the first
        self._closed = Mentions()

    def __len__(self) -> int:
        return len(self._all)

    def join(self, client: Client) -> None:
        """Take a connection in; if that makes one too many, another goes, or the new one where all are being answered."""
        self._all.add(client)
        self._waiting[client] = None
        if len(self._all) > self.bounds.connections:
            longest = next(iter(self._waiting))
            self.close(longest, "there are more connections than may be")

    def waits(self, client: Client) -> None:
        """Note that a client has to do something next; it is the newest of those."""
        self._waiting.pop(client, None)
        if client in self._all:
            self._waiting[client] = None

    def works(self, client: Client) -> None:
        """Note that we have to do something next."""
        self._waiting.pop(client, None)

    def leave(self, client: Client) -> None:
        """Forget a connection."""
        self._all.discard(client)
        self._waiting.pop(client, None)

    def close(self, client: Client, why: str) -> None:
        """Cut a connection off; the log says so once a minute, however many there are."""
        self.leave(client)
        client.cut_off()
        if (closed := self._closed.one_more(client.loop.time())) is not None:
            _log.warning(
                "Connections whose clients do nothing are closed: %d since this was said last, this one because %s.",
                closed,
                why,
            )


class Client:
    """The other end of one connection, and what is waited for: made with the connection, told by the shell."""

    def __init__(self, crowd: Crowd, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self._crowd = crowd
        self._transport = transport
        self._bounds = crowd.bounds
        self._heard = False  # a head is complete, and its answer not
        self._whole = True  # the last request was complete when it was answered
        self._begun = False  # something of a request is here
        self._gone = False
        self._late: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._unread = 0
        self._await_request()
        crowd.join(self)

    def received(self) -> None:
        """Bytes came, and were worked on: unless they completed a head, its time has begun."""
        if not self._heard and not self._gone:
            self._begun = True
            self._await_request()

    def heard(self) -> None:
        """The head of a request is complete. Its body has a time of its own, which is the application's business."""
        self._heard, self._whole = True, False
        self._stop_late()

    def asked(self) -> None:
        """A request is complete: it is for us to answer."""
        if self._heard:
            self._whole = True
            self._crowd.works(self)

    def answered(self) -> None:
        """An answer is written, or about to be: it is for the client to read it, and to go on."""
        if self._gone:
            return
        self._heard = self._begun = False
        self._crowd.waits(self)
        self.must_read()

    def must_read(self) -> None:
        """There may be something for the client to read: it has to do so."""
        if self._reading is None and not self._gone:
            self._unread = self._transport.get_write_buffer_size()
            self._reading = self.loop.call_later(self._bounds.unread_seconds, self._has_read)

    def leave(self) -> None:
        """The connection has ended, or is none of HTTP's any more."""
        self._gone = True
        self._stop_late()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._crowd.leave(self)

    def cut_off(self) -> None:
        """End the connection, whatever waits to be written."""
        self.leave()
        self._transport.abort()

    def _await_request(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self._bounds.request_seconds, self._is_late)

    def _stop_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_late(self) -> None:
        self._late = None
        unheard = self._begun and self._whole and not self._transport.is_closing()
        if unheard and not self._transport.get_write_buffer_size():
            self._transport.write(_TOO_SLOW)
            self._transport.close()  # after what was written; which a client that reads nothing puts off
            self.must_read()
        else:
            self._crowd.close(self, f"no request was complete after {self._bounds.request_seconds:g} s")

    def _has_read(self) -> None:
        """See what the client has read since; nothing more is to be seen to when that is all."""
        self._reading = None
        before, unread = self._unread, self._transport.get_write_buffer_size()
        if unread and before and before - unread < self._bounds.unread_bytes:
            self._crowd.close(self, f"{unread} bytes of an answer were not read")
        elif unread:
            self.must_read()
