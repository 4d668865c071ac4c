"""Clients that stall, at both of our servers of HTTP over real sockets: uvicorn's and aiohttp's with our bounds on them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from aiohttp import web
from websockets.asyncio.client import connect

from crossfade.http_connection import PatientProtocol
from embedded import connections
from embedded.connections import PatientHandler, bounded_wait, upgraded
from embedded.patience import Bounds, Crowd
from services.bodies import BoundedBodies

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 20
LARGE = 8 << 20
"""More than the kernel takes for a peer that reads nothing."""
HEAD = b"GET /ok HTTP/1.1\r\nHost: x\r\n"
SLOW_POST = b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"


async def _application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    body = b"x" * LARGE if scope["path"] == "/large" else b"ok"
    size = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [size]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def uvicorn_server(bounds: Bounds) -> AsyncIterator[tuple[int, Crowd]]:
    crowd = Crowd(bounds)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await BoundedBodies(_application, seconds=bounds.request_seconds)(scope, receive, send)

    config = uvicorn.Config(
        application, http=partial(PatientProtocol, crowd), ws="websockets-sansio", lifespan="off",
        log_config=None, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]  # the test's are its own
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.ensure_future(server.serve([listener]))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
        yield listener.getsockname()[1], crowd
        server.should_exit = True
        await serving


@asynccontextmanager
async def aiohttp_server(bounds: Bounds) -> AsyncIterator[tuple[int, Crowd]]:
    crowd = Crowd(bounds)

    async def ok(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="ok")

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * LARGE)

    async def echo(request: web.Request) -> web.WebSocketResponse:
        made = web.WebSocketResponse()
        await made.prepare(request)
        async for message in made:
            await made.send_str(message.data)
        return made

    async def tell(request: web.Request, response: web.StreamResponse) -> None:
        if isinstance(response, web.WebSocketResponse):
            upgraded(request)

    app = web.Application(middlewares=[bounded_wait])
    app.on_response_prepare.append(tell)
    app.router.add_route("*", "/ok", ok)
    app.router.add_get("/large", large)
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        partial(PatientHandler, runner.server, crowd, loop=loop), "127.0.0.1", 0
    )
    yield server.sockets[0].getsockname()[1], crowd
    server.close()
    await runner.cleanup()


Serve = Callable[[Bounds], AbstractAsyncContextManager[tuple[int, Crowd]]]


@pytest.fixture(params=[uvicorn_server, aiohttp_server], ids=["uvicorn", "aiohttp"])
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Serve:
    def made(bounds: Bounds) -> AbstractAsyncContextManager[tuple[int, Crowd]]:
        monkeypatch.setattr(connections, "BODY_SECONDS", bounds.request_seconds)
        opened: AbstractAsyncContextManager[tuple[int, Crowd]] = request.param(bounds)
        return opened

    return made


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes, or cuts the connection off."""
    got = b""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(1 << 16):
                got += piece
    return got


async def answered(port: int) -> bool:
    """Ask as clients do."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(HEAD + b"Connection: close\r\n\r\n")
        return (await to_the_end(reader)).endswith(b"ok")
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_client_that_sends_nothing_is_closed(serve: Serve) -> None:
    async with serve(Bounds(100, request_seconds=0.3)) as (port, crowd):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await to_the_end(reader) == b""
        assert len(crowd) == 0
        writer.close()


@pytest.mark.parametrize("half", [HEAD, SLOW_POST, SLOW_POST + b"x"], ids=["head", "no body", "some body"])
async def test_half_a_request_is_told_that_it_is_late(serve: Serve, half: bytes) -> None:
    async with serve(Bounds(100, request_seconds=0.3)) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(half)
        assert (await to_the_end(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()


@pytest.mark.parametrize("begun", [HEAD + b"X-Slow: ", SLOW_POST], ids=["head", "body"])
async def test_a_request_byte_by_byte_is_not_waited_for_until_its_end(serve: Serve, begun: bytes) -> None:
    async with serve(Bounds(100, request_seconds=0.3)) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)

        async def drip() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        got = await to_the_end(reader)
        dripping.cancel()
        assert got.startswith(b"HTTP/1.1 408 ")
        assert got.count(b"HTTP/1.1 ") == 1
        writer.close()


async def test_a_client_that_does_not_read_its_answer_is_cut_off(serve: Serve) -> None:
    async with serve(Bounds(100, unread_seconds=0.3)) as (port, crowd):
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            deaf.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: len(crowd) == 1)
            await until(lambda: len(crowd) == 0)
            assert await answered(port)


async def test_a_slow_reader_gets_all_of_its_answer(serve: Serve) -> None:
    async with serve(Bounds(100, unread_seconds=0.3, unread_bytes=1)) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = 0
        while piece := await reader.read(1 << 18):
            got += len(piece)
            await asyncio.sleep(0.03)
        assert got > LARGE
        writer.close()


async def test_those_who_stall_make_room_for_those_who_do_not(serve: Serve) -> None:
    """Three times as many as there is room for, in each way to stall; all that time others are answered."""
    async with serve(Bounds(20, request_seconds=60, unread_seconds=60)) as (port, crowd):
        stalled = []
        for number in range(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((b"", HEAD, SLOW_POST)[number % 3])
            stalled.append((reader, writer))
            assert await answered(port)
        assert len(crowd) <= 20
        for reader, writer in stalled[:40]:
            assert await to_the_end(reader) == b""
            writer.close()
        for _, writer in stalled[40:]:
            writer.close()


async def test_a_connection_that_is_kept_and_a_websocket_outlive_the_time_for_a_request(serve: Serve) -> None:
    async with serve(Bounds(100, request_seconds=0.3, unread_seconds=0.1)) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with connect(f"ws://127.0.0.1:{port}/ws") as spoken:
            for _ in range(3):
                writer.write(HEAD + b"\r\n")
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(2) == b"ok"
                silent, closing = await asyncio.open_connection("127.0.0.1", port)
                assert await to_the_end(silent) == b""  # the time is over
                closing.close()
                await spoken.send("still here")
                async with asyncio.timeout(DEADLINE_SECONDS):
                    assert await spoken.recv() == "still here"
        writer.close()


async def test_requests_in_one_piece_are_answered_in_their_order(serve: Serve) -> None:
    async with serve(Bounds(100, request_seconds=0.3)) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((HEAD + b"\r\n") * 5 + HEAD + b"Connection: close\r\n\r\n")
        assert (await to_the_end(reader)).count(b"HTTP/1.1 200 ") == 6
        writer.close()


@pytest.mark.parametrize(
    ("soft", "hard", "expected"), [(256, 1000, "500 1000"), (1024, 9000, "4096 8192"), (100, 100, "64 100")]
)
def test_there_is_room_for_as_many_as_the_hard_limit_of_files_allows(
    soft: int, hard: int, expected: str
) -> None:
    program = (
        "import resource; from embedded.patience import most_connections; "
        "print(most_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    limited = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["/bin/sh", "-c", limited, sys.executable, program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(("hard", "expected"), [(1000, "436 500 1000"), (9000, "4840 4096 9000")])
def test_websockets_have_what_is_left_of_the_files(hard: int, expected: str) -> None:
    program = (
        "import resource; from embedded.patience import most_connections, most_upgraded; "
        "print(most_upgraded(), most_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    limited = f'ulimit -Sn 256 && ulimit -Hn {hard} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["/bin/sh", "-c", limited, sys.executable, program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected
