"""Probes: is a part ready? Each is an async callable that returns when it is, and raises when it is not (yet)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Probe = Callable[[], Awaitable[str]]
"""Returns a few words about what is ready (may be empty); raises NotReady, OSError or TimeoutError when it is not."""

_DEADLINE_SECONDS = 3.0


class NotReady(Exception):  # noqa: N818 - an answer rather than an error
    """The part answers, and says that it is not ready."""


def tcp(host: str, port: int) -> Probe:
    """Return a probe that connects to an address."""

    async def probe() -> str:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
        await _close(writer)
        return ""

    return probe


def unix(path: Path) -> Probe:
    """Return a probe that connects to a Unix socket."""

    async def probe() -> str:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            _, writer = await asyncio.open_unix_connection(path)
        await _close(writer)
        return ""

    return probe


def http(host: str, port: int, path: str = "/") -> Probe:
    """Return a probe that asks for a path by HTTP and is content with any status below 500."""

    async def probe() -> str:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()
                )
                line = await reader.readline()
            finally:
                await _close(writer)
        status = line.split(b" ", 2)[1:2]
        if not line.startswith(b"HTTP/") or not status or not status[0].isdigit():
            raise NotReady(f"{host}:{port} does not speak HTTP")
        if int(status[0]) >= 500:  # noqa: PLR2004 - RFC 9110, 15.6: the server's own errors
            raise NotReady(f"{host}:{port}{path} answers {status[0].decode()}")
        return ""

    return probe


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
