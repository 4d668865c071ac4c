"""Recording what somebody's server says: its messages to a file, and as one more client that does no harm."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect

from adapters.legacy_dialect import CONNECTION_ERRORS, explain
from legacy_ws.protocol import socketio
from monitoring.events import format_time

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_MAX_MESSAGES = 100_000
_OPEN_SECONDS = 10.0
_BEAT_SECONDS = 5.0
_NEW = 4
"""From this Engine.IO protocol on the client joins, and the server pings."""


def protocol_of(url: str) -> int:
    """Return the Engine.IO protocol that an address asks for; 0 when it is no such address."""
    text = parse_qs(urlsplit(url).query).get("EIO", [""])[0]
    return int(text) if text.isdigit() else 0


async def record(
    url: str, file: BinaryIO, seconds: float, hello: Sequence[str], opened: Callable[[], None]
) -> list[tuple[float, str | bytes]]:
    """Record for some seconds, at most 100,000 messages; return what was received, with the seconds of each.

    ``hello`` is sent first. Each message is a line of JSON in the file: ``at``, ``direction``, and ``text``, or ``base64``
    when it is binary. ``opened`` is called once the server has taken the connection. Ends early, with what there is, when
    the server ends the connection, and on SIGINT. Raises Refused, Unreachable when there is none.
    """
    recording = _Recording(file, protocol_of(url))
    try:
        async with connect(
            url, proxy=None, max_size=_MAX_MESSAGE_BYTES, open_timeout=_OPEN_SECONDS, close_timeout=1.0
        ) as connection:
            opened()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds) as deadline:
                    loop = asyncio.get_running_loop()
                    loop.add_signal_handler(signal.SIGINT, lambda: deadline.reschedule(loop.time()))
                    await recording.listen(connection, hello)
    except CONNECTION_ERRORS as error:
        if not recording.received:
            raise explain(url, error) from error
    return recording.received


class _Recording:
    """One connection, and what was said over it."""

    def __init__(self, file: BinaryIO, protocol: int) -> None:
        self.received: list[tuple[float, str | bytes]] = []
        self._file = file
        self._protocol = protocol
        self._beat_at = time.monotonic() + _BEAT_SECONDS

    async def listen(self, connection: ClientConnection, hello: Sequence[str]) -> None:
        """Note every message until there are too many; says nothing but ``hello`` and what Socket.IO asks for."""
        for text in hello:
            await self._send(connection, text)
        while len(self.received) < _MAX_MESSAGES:
            try:
                async with asyncio.timeout(_BEAT_SECONDS):
                    message = await connection.recv()
            except TimeoutError:
                message = None
            if message is not None:
                self._note("received", message)
                self.received.append((time.monotonic(), message))
            if answer := self._answer(message):
                await self._send(connection, answer.decode())

    def _answer(self, message: str | bytes | None) -> bytes | None:
        if 0 < self._protocol < _NEW and time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + _BEAT_SECONDS
            return socketio.PING
        if self._protocol < _NEW or not isinstance(message, str):
            return None
        if socketio.opened(message):
            return socketio.CONNECT
        return socketio.PONG if message.encode() == socketio.PING else None

    async def _send(self, connection: ClientConnection, text: str) -> None:
        await connection.send(text)
        self._note("sent", text)

    def _note(self, direction: str, message: str | bytes) -> None:
        said = (
            {"text": message} if isinstance(message, str) else {"base64": base64.b64encode(message).decode()}
        )
        line = {"at": format_time(datetime.now(UTC)), "direction": direction, **said}
        self._file.write(orjson.dumps(line) + b"\n")


def files(directory: Path) -> tuple[Path, Path]:
    """Return where the recording and the draft go."""
    return directory / "recording.jsonl", directory / "dialect.py"
