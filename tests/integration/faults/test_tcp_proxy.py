"""The proxy itself: each fault is what it says, seen from both ends of real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from tests.fakes.tcp_proxy import BUFFER_BYTES, Direction, TcpProxy

QUIET_SECONDS = 0.2
"""How long nothing may arrive for "nothing passes"; on loopback what passes is there within a millisecond."""


class Far:
    """The server's end of the newest connection."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.met = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.writers.append(writer)
        self.met.set()


@pytest.fixture
async def far() -> AsyncIterator[tuple[Far, int]]:
    one = Far()
    server = await asyncio.start_server(one.accept, "127.0.0.1", 0)
    yield one, server.sockets[0].getsockname()[1]
    server.close()
    for writer in one.writers:
        writer.close()


@pytest.fixture
async def proxy(far: tuple[Far, int]) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(("127.0.0.1", far[1])) as one:
        yield one


@asynccontextmanager
async def near(proxy: TcpProxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def hears(reader: asyncio.StreamReader, wanted: bytes) -> None:
    async with asyncio.timeout(5):
        assert await reader.readexactly(len(wanted)) == wanted


async def hears_nothing(reader: asyncio.StreamReader) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_SECONDS):
            await reader.read(1)


async def test_it_carries_both_directions_and_the_end_of_each(far: tuple[Far, int], proxy: TcpProxy) -> None:
    async with near(proxy) as (reader, writer), asyncio.timeout(5):
        writer.write(b"there")
        await far[0].met.wait()
        await hears(far[0].reader, b"there")
        writer.write_eof()
        assert await far[0].reader.read() == b""
        far[0].writer.write(b"and back")
        far[0].writer.close()
        assert await reader.read() == b"and back"


async def test_delayed_bytes_come_later_and_in_order(far: tuple[Far, int], proxy: TcpProxy) -> None:
    loop = asyncio.get_running_loop()
    async with near(proxy) as (_, writer):
        proxy.delay(0.05, jitter_seconds=0.1)
        began = loop.time()
        for number in range(10):
            writer.write(bytes([number]))
            await writer.drain()
            await asyncio.sleep(0)
        await asyncio.wait_for(far[0].met.wait(), 5)
        await hears(far[0].reader, bytes(range(10)))
        assert loop.time() - began >= 0.05


async def test_a_stall_passes_nothing_and_loses_nothing(far: tuple[Far, int], proxy: TcpProxy) -> None:
    async with near(proxy) as (reader, writer):
        writer.write(b"1")
        await asyncio.wait_for(far[0].met.wait(), 5)
        await hears(far[0].reader, b"1")
        proxy.stall()
        writer.write(b"2")
        far[0].writer.write(b"3")
        await hears_nothing(far[0].reader)
        await hears_nothing(reader)
        met = len(far[0].writers)
        async with near(proxy) as (newer, _):
            await hears_nothing(newer)  # accepted, and not forwarded
            assert len(far[0].writers) == met
            await proxy.resume()
            await hears(far[0].reader, b"2")
            await hears(reader, b"3")


@pytest.mark.parametrize("passing", Direction)
async def test_half_open_is_one_direction_only(
    far: tuple[Far, int], proxy: TcpProxy, passing: Direction
) -> None:
    async with near(proxy) as (reader, writer):
        writer.write(b"0")
        await asyncio.wait_for(far[0].met.wait(), 5)
        await hears(far[0].reader, b"0")
        proxy.halve(passing)
        writer.write(b"1")
        far[0].writer.write(b"2")
        if passing is Direction.TO_SERVER:
            await hears(far[0].reader, b"1")
            await hears_nothing(reader)
        else:
            await hears(reader, b"2")
            await hears_nothing(far[0].reader)


async def test_garbled_bytes_come_twice_and_only_once(far: tuple[Far, int], proxy: TcpProxy) -> None:
    async with near(proxy) as (_, writer):
        proxy.garble(Direction.TO_SERVER)
        writer.write(b"ab")
        await asyncio.wait_for(far[0].met.wait(), 5)
        await hears(far[0].reader, b"abab")
        writer.write(b"cd")
        await hears(far[0].reader, b"cd")


async def test_a_reset_ends_both_sides_and_welcomes_new_connections(
    far: tuple[Far, int], proxy: TcpProxy
) -> None:
    async with near(proxy) as (reader, writer):
        writer.write(b"1")
        await asyncio.wait_for(far[0].met.wait(), 5)
        await hears(far[0].reader, b"1")
        proxy.reset()
        for end in (reader, far[0].reader):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(end.read(1), 5)
    far[0].met.clear()
    async with near(proxy) as (_, writer):
        writer.write(b"2")
        await asyncio.wait_for(far[0].met.wait(), 5)
        await hears(far[0].reader, b"2")


async def test_a_close_is_an_end_not_an_error(far: tuple[Far, int], proxy: TcpProxy) -> None:
    async with near(proxy) as (reader, writer):
        writer.write(b"1")
        await asyncio.wait_for(far[0].met.wait(), 5)
        await hears(far[0].reader, b"1")
        proxy.close()
        for end in (reader, far[0].reader):
            assert await asyncio.wait_for(end.read(1), 5) == b""


async def test_refused_means_that_nobody_listens_until_it_resumes(
    far: tuple[Far, int], proxy: TcpProxy
) -> None:
    port = proxy.port
    async with near(proxy) as (reader, writer):
        writer.write(b"1")
        await asyncio.wait_for(far[0].met.wait(), 5)
        await proxy.refuse()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    await proxy.resume()
    assert proxy.port == port
    async with near(proxy) as (_, writer):
        writer.write(b"2")


async def test_a_server_that_is_away_resets_the_client() -> None:
    async with TcpProxy(("127.0.0.1", 1)) as proxy, near(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)


async def test_what_is_held_back_is_bounded(far: tuple[Far, int], proxy: TcpProxy) -> None:
    """A writer behind a delay of a minute is stopped, instead of filling the proxy's memory."""
    async with near(proxy) as (_, writer):
        proxy.delay(60.0)
        sent = 0
        chunk = bytes(64 * 1024)
        with suppress(TimeoutError):
            while True:
                writer.write(chunk)
                async with asyncio.timeout(QUIET_SECONDS):
                    await writer.drain()
                sent += len(chunk)
        assert sent > BUFFER_BYTES
        assert sent < 64 * 1024 * 1024  # the kernel's own buffers on loopback are some MB


async def test_every_message_of_a_websocket_server_comes_twice_on_command() -> None:
    async def greet(socket) -> None:
        async for message in socket:
            await socket.send(message)

    async with (
        serve(greet, "127.0.0.1", 0, compression=None) as server,
        TcpProxy(("127.0.0.1", next(iter(server.sockets)).getsockname()[1])) as proxy,
        connect(proxy.url("ws"), compression=None, proxy=None) as socket,
        asyncio.timeout(10),
    ):
        await socket.send("once")
        assert await socket.recv() == "once"
        proxy.duplicate_frames()
        for message in ("twice", b"\x00" * 70_000, "x" * 300):
            await socket.send(message)
            assert [await socket.recv(), await socket.recv()] == [message, message]
        await (await socket.ping())  # control frames pass once
        await proxy.resume()
        await socket.send("once")
        await socket.send("more")
        assert [await socket.recv(), await socket.recv()] == ["once", "more"]
