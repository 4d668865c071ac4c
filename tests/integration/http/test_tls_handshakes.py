"""TLS handshakes in progress, at the server of our services: closed in time, no more than may be, others undisturbed."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop

from crossfade.hosting import _Second
from crossfade.http_connection import PatientProtocol
from crossfade.tls_handshakes import Handshakes, server_context
from embedded.patience import Bounds, Crowd
from tests.certificates import make_certificate

DEADLINE_SECONDS = 20
GET = b"GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def _application(scope: Any, _receive: Any, send: Any) -> None:
    body = scope["scheme"].encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Secure:
    """A server that speaks TLS, and where its handshakes are counted."""

    def __init__(self, port: int, shaking: Handshakes, certificate: Path) -> None:
        self.port = port
        self.shaking = shaking
        self.trusted = ssl.create_default_context(cafile=str(certificate))

    async def ask(self) -> bytes:
        """Ask as clients do, and return the body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trusted)
        try:
            writer.write(GET)
            return (await to_the_end(reader)).rpartition(b"\r\n\r\n")[2]
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes, or cuts the connection off."""
    got = b""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(1 << 16):
                got += piece
    return got


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(directory: Path, most: int = 100, seconds: float = 60) -> AsyncIterator[Secure]:
    certificate, key = make_certificate(directory)
    context = server_context(certificate, key)
    config = uvicorn.Config(
        _application, host="127.0.0.1", port=0, http=partial(PatientProtocol, Crowd(Bounds(1000))),
        lifespan="off", log_config=None, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = _Second(config, context)
    shaking = server._handshakes = Handshakes(context, server._protocol, most=most, seconds=seconds)
    running = asyncio.ensure_future(server.serve())
    await until(lambda: server._listener is not None)
    assert server._listener is not None
    yield Secure(server._listener.getsockname()[1], shaking, certificate)
    server.should_exit = True
    await running


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Run a coroutine in either loop: uvicorn takes uvloop's where it is installed, and its TLS is another."""

    def made(work: Any) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(work)

    return made


def test_requests_are_answered_and_no_handshake_is_left(run: Callable[[Any], None], tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(tmp_path) as secure:
            assert await asyncio.gather(*(secure.ask() for _ in range(20))) == [b"https"] * 20
            await until(lambda: len(secure.shaking) == 0)

    run(work())


def test_what_comes_with_the_end_of_a_handshake_is_not_lost(
    run: Callable[[Any], None], tmp_path: Path
) -> None:
    """A client that has its request ready sends it in one piece with the last words of the handshake."""

    async def work() -> None:
        async with serving(tmp_path) as secure:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = secure.trusted.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            reader, writer = await asyncio.open_connection("127.0.0.1", secure.port)
            shaken = False
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not shaken:
                    try:
                        client.do_handshake()
                        shaken = True
                        client.write(GET)
                    except ssl.SSLWantReadError:
                        pass
                    writer.write(outgoing.read())
                    if not shaken:
                        incoming.write(await reader.read(1 << 16))
            got = b""
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not got.endswith(b"https"):
                    try:
                        got += client.read(1 << 16)
                    except ssl.SSLWantReadError:
                        incoming.write(await reader.read(1 << 16))
            writer.close()

    run(work())


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01"], ids=["nothing", "some bytes"])
def test_a_handshake_that_stalls_is_cut_off_in_time(
    run: Callable[[Any], None], tmp_path: Path, begun: bytes
) -> None:
    async def work() -> None:
        async with serving(tmp_path, seconds=0.3) as secure:
            reader, writer = await asyncio.open_connection("127.0.0.1", secure.port)
            writer.write(begun)
            await until(lambda: len(secure.shaking) == 1)
            assert await to_the_end(reader) == b""
            await until(lambda: len(secure.shaking) == 0)
            assert await secure.ask() == b"https"
            writer.close()

    run(work())


def test_those_who_stall_make_room_for_those_who_do_not(run: Callable[[Any], None], tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(tmp_path, most=10) as secure:
            stalled = []
            for number in range(40):
                stalled.append(await asyncio.open_connection("127.0.0.1", secure.port))
                if number % 10 == 0:
                    assert await secure.ask() == b"https"
                assert len(secure.shaking) <= 10
            await until(lambda: len(secure.shaking) == 10)
            for reader, _ in stalled[:30]:
                assert await to_the_end(reader) == b""
            assert not any(reader.at_eof() for reader, _ in stalled[30:])
            for _, writer in stalled:
                writer.close()

    run(work())


def test_what_is_no_tls_is_cut_off_at_once(run: Callable[[Any], None], tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(tmp_path) as secure:
            reader, writer = await asyncio.open_connection("127.0.0.1", secure.port)
            writer.write(GET)
            assert b"HTTP" not in await to_the_end(reader)
            await until(lambda: len(secure.shaking) == 0)
            writer.close()

    run(work())
