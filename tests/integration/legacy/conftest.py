"""The real parts: a server in this process or its own, a spool on disk, the link, and a client that knows only JSON."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from adapters.legacy_link import LegacyLink
from adapters.legacy_websocket import LegacyWebSocket
from adapters.spool import Spool
from legacy_ws.server import LegacyServer
from monitoring.events import Draft, StreamId
from tests.fakes.log_source import ScriptedLogs

TOKEN = "integration-tests"
STREAM_TOKEN = "a-token-of-its-own"
BEARER = {"Authorization": f"Bearer {STREAM_TOKEN}"}


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


class Owner:
    """A spool and who writes it."""

    def __init__(self, directory: Path, **settings: int) -> None:
        self.spool = Spool.open(directory / "spool.db", **settings)

    def open(self, stream: str, epoch: int = 1) -> None:
        self.spool.open_stream(StreamId(stream), epoch, None, datetime.now(UTC))

    def write(self, stream: str, count: int = 1, size: int = 10) -> None:
        at = datetime.now(UTC)
        self.spool.append(
            [Draft(StreamId(stream), "metric_collected", at, {"note": "x" * size}) for _ in range(count)]
        )


@pytest.fixture
def owner(tmp_path):
    one = Owner(tmp_path)
    yield one
    one.spool.close()


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "link.token"
    path.write_text(TOKEN + "\n")
    return path


@pytest.fixture
def logs() -> ScriptedLogs:
    return ScriptedLogs()


@pytest.fixture
async def server(tmp_path: Path, logs: ScriptedLogs) -> AsyncIterator[LegacyServer]:
    async with LegacyServer(
        token=TOKEN, port=0, stream_token=STREAM_TOKEN, export_dir=tmp_path / "exports", logs=logs
    ) as one:
        yield one


async def get(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a GET."""

    def request() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()

    return await asyncio.to_thread(request)


@asynccontextmanager
async def linked(spool: Spool, url: str) -> AsyncIterator[LegacyLink]:
    """Run a link for as long as the block lasts."""
    link = LegacyLink(spool, url, TOKEN, random=lambda: 0.5)
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class JsonClient:
    """A dashboard as the seed has it: a WebSocket and JSON."""

    def __init__(self, socket):
        self.socket = socket

    async def send(self, **message):
        await self.socket.send(json.dumps(message))

    async def next(self, type_=None, seconds=10):
        """Return the next message, or the next of a type."""
        async with asyncio.timeout(seconds):
            while True:
                message = json.loads(await self.socket.recv())
                if type_ in (None, message["type"]):
                    return message


@asynccontextmanager
async def dashboard(url, **settings):
    async with connect(url, proxy=None, close_timeout=1, **settings) as socket:
        yield JsonClient(socket)


@asynccontextmanager
async def that_reads_little(url, **settings):
    """Connect a client whose socket takes next to nothing while nobody reads from it."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    parts = urlsplit(url)
    await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
    async with connect(
        url,
        sock=raw,
        proxy=None,
        compression=None,  # what compresses well would fit for long
        max_queue=1,
        ping_interval=None,
        max_size=None,
        close_timeout=0,
        **settings,
    ) as connection:
        yield JsonClient(connection)


async def read_to_the_end(connection):
    """Read until the connection is closed, which raises ConnectionClosed."""
    async with asyncio.timeout(10):
        while True:
            await connection.recv()


@asynccontextmanager
async def service(url, **settings):
    one = LegacyWebSocket(url, **settings)
    try:
        yield one
    finally:
        await one.close()


class ServerProcess:
    """``python -m legacy_ws`` as the supervisor starts it."""

    def __init__(self, token_file: Path, log: Path) -> None:
        self.token_file = token_file
        self.log = log
        self.port = 0
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            before = log.tell()
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "legacy_ws", "--port", str(self.port), "--token-file", str(self.token_file),
                *options, stderr=log,
            )  # fmt: skip
        await until(
            lambda: (
                b"event=listening" in self.log.read_bytes()[before:] or self.process.returncode is not None
            )
        )
        line = next(line for line in self.log.read_text()[before:].splitlines() if "event=listening" in line)
        self.port = int(line.rpartition("port=")[2].split()[0])

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def link_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/link"

    async def signal(self, number: int) -> int:
        assert self.process is not None
        os.kill(self.process.pid, number)
        return await asyncio.wait_for(self.process.wait(), 10)

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.signal(signal.SIGKILL)


@pytest.fixture
async def server_process(token_file, tmp_path) -> AsyncIterator[ServerProcess]:
    process = ServerProcess(token_file, tmp_path / "server.log")
    await process.start()
    yield process
    await process.stop()
