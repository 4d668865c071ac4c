"""TLS handshakes of a listener, bounded in number and in time.

A server that is given a certificate, as uvicorn can be, hears of a client only when its handshake is over: how many are in
progress nobody knows, and each may take a minute. So here connections are accepted one by one, and handed on when they are TLS.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Final

from embedded.patience import REQUEST_SECONDS, Mentions, most_connections

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = REQUEST_SECONDS
_SHARE: Final = 4
_BACKLOG: Final = 2048
_RETRY_SECONDS: Final = 1.0
"""How long nobody is accepted when that has failed, for want of open files above all: as asyncio's own servers do."""


def most_handshakes() -> int:
    """Return how many may be in progress at one listener: a quarter of the connections that it may have, 1024 as a rule."""
    return most_connections() // _SHARE


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what a server shows; raises OSError (ssl.SSLError is one) for files that cannot be used together."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    return listener


class Handshakes:
    """The handshakes in progress at one listener; ``make`` makes what speaks on a connection once it is TLS.

    Of more than ``most`` the one that began first is cut off, and so is one that is not over after ``seconds``. Who does its
    part takes milliseconds, so that those who do not go first.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        make: Callable[[], asyncio.Protocol],
        *,
        most: int | None = None,
        seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        self._context = context
        self._make = make
        self._most = most_handshakes() if most is None else most
        self._seconds = seconds
        self._shaking: dict[asyncio.Task[None], None] = {}  # who began first is the first
        self._cut = Mentions()

    def __len__(self) -> int:
        return len(self._shaking)

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections until cancelled; handshakes that are in progress then are given up."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:
                    _log.error("No TLS connection can be accepted: %s", error)
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                if len(self._shaking) >= self._most:
                    first = next(iter(self._shaking))
                    del self._shaking[first]
                    first.cancel()
                    self._say("more are in progress than may be")
                self._begin(group, connection)
                await asyncio.sleep(0)  # of two that come at once the first one's handshake begins first

    def _begin(self, group: asyncio.TaskGroup, connection: socket.socket) -> None:
        task = group.create_task(self._shake(connection))
        self._shaking[task] = None

        def ended(task: asyncio.Task[None]) -> None:
            self._shaking.pop(task, None)
            if task.cancelled():  # perhaps before it began
                connection.close()

        task.add_done_callback(ended)

    async def _shake(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make, connection, ssl=self._context, ssl_handshake_timeout=self._seconds
            )
        except (ConnectionAbortedError, TimeoutError):
            self._say(f"one was not over after {self._seconds:g} s")
        except OSError as error:  # ssl.SSLError is one: no TLS, or none that we speak; or the client has gone
            _log.debug("A TLS handshake failed: %s", error)

    def _say(self, why: str) -> None:
        if (cut := self._cut.one_more(asyncio.get_running_loop().time())) is not None:
            _log.warning(
                "TLS handshakes are cut off: %d since this was said last, this one because %s.", cut, why
            )
