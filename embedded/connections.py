"""The connections of the embedded Supabase: aiohttp's, which wait for their clients only as long as `patience` says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from embedded.patience import Client, Crowd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BODY_SECONDS: Final = 30.0
"""Enough for the largest body at 17 Mbit/s, and for a usual one over any line."""
_KEEP_ALIVE_SECONDS: Final = 75.0
"""Longer than reverse proxies keep an idle connection to us, so that theirs is the side that closes."""


class PatientHandler(web.RequestHandler):
    """Tells what happens on a connection."""

    _client: Client

    def __init__(
        self, manager: web.Server, crowd: Crowd, *, loop: asyncio.AbstractEventLoop, **given: Any
    ) -> None:
        ours: dict[str, Any] = {"access_log": None, "keepalive_timeout": _KEEP_ALIVE_SECONDS}
        super().__init__(manager, loop=loop, **ours, **given)
        self._crowd = crowd
        self._event_loop = loop

    @property
    def client(self) -> Client:
        """The other end."""
        return self._client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        # A socket's, always; that uvloop's are no asyncio.Transport is no matter.
        self._client = Client(self._crowd, cast("asyncio.Transport", transport), self._event_loop)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait for nothing any more."""
        self._client.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some of a request."""
        super().data_received(data)
        self._client.received()

    def pause_writing(self) -> None:
        """Have written more than the client reads."""
        super().pause_writing()
        self._client.must_read()


@web.middleware
async def bounded_wait(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer a request, unless its body is not complete in time: then with 408."""
    client = request.protocol.client if isinstance(request.protocol, PatientHandler) else None
    if client is not None:
        client.heard()
        request.content.on_eof(client.asked)
    try:
        return await (handler(request) if request.content.is_eof() else _in_time(request, handler))
    finally:
        if client is not None:
            client.answered()


def upgraded(request: web.Request) -> None:
    """Leave a connection to those who speak WebSocket on it; they have bounds of their own."""
    if isinstance(request.protocol, PatientHandler):
        request.protocol.client.leave()


async def _in_time(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer a request whose body is still to come; once that is here there is no haste any more."""
    deadline: asyncio.Timeout | None = None

    def complete() -> None:
        if deadline is not None:
            deadline.reschedule(None)

    request.content.on_eof(complete)
    try:
        async with asyncio.timeout(BODY_SECONDS) as waiting:
            deadline = waiting
            try:
                return await handler(request)
            finally:
                deadline = None
    except TimeoutError:
        if not waiting.expired():
            raise
        message = f"the body was not complete after {BODY_SECONDS:g} s; send it again"
        late = web.json_response({"message": message}, status=408)
        late.force_close()
        return late
