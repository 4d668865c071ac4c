"""Bodies of requests: read whole before an application sees them, bounded in size and in time."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.problems import Kind, Problem

MAX_BYTES = 1 << 20
"""Larger than a cursor of 10,000 streams."""
SECONDS = 10.0
_DISCARDED = 16
"""Times the largest size that is read, and thrown away, at most."""


class BoundedBodies:
    """ASGI middleware that refuses bodies that are too large or too slow."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BYTES, seconds: float = SECONDS) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(receive)
        except Problem as problem:
            problem.headers["Connection"] = "close"  # the rest of the body is not waited for
            await problem.response()(scope, receive, send)
            return
        if body is None:
            return  # the client has gone
        handed = False

        async def replay() -> Message:
            nonlocal handed
            if handed:
                return await receive()  # tells when the client goes
            handed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """Return the body, None for a client that has gone; raises Problem.

        What is too large is read on for a while and thrown away: most clients send all before they look for an
        answer, and a connection that is closed meanwhile takes the answer with it.
        """
        size = 0
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    size += len(part)
                    if size <= self._max_bytes:
                        parts.append(part)
                    if size > _DISCARDED * self._max_bytes or not message.get("more_body"):
                        break
        except TimeoutError:
            if size > self._max_bytes:
                raise self._too_large() from None
            raise Problem(
                Kind.TOO_SLOW, f"the body was not complete after {self._seconds:g} s; send it again"
            ) from None
        if size > self._max_bytes:
            raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> Problem:
        return Problem(
            Kind.TOO_LARGE, f"the body is larger than {self._max_bytes:,} bytes; send less at once"
        )
