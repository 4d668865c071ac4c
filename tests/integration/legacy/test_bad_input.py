"""What no client should send, over a real socket: answered in the dialect's form, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from legacy_ws.server import LegacyServer
from tests.fakes.bad_input import (
    anything,
    ends_its_own_connection_only,
    is_answered_and_so_is_its_neighbour,
    is_answered_with_errors,
)
from tests.fakes.dialect_host import told
from tests.fakes.tcp_proxy import TcpProxy
from tests.integration.legacy.conftest import (
    BEARER,
    STREAM_TOKEN,
    TOKEN,
    dashboard,
    linked,
    read_to_the_end,
    that_reads_little,
    until,
)
from tests.unit.legacy_ws.test_container_states import entry

WEB = "web-1/system"
PATHS = ["/ws", "/ws/containers", "/ws/frontend", "/ws/metrics", "/ws/stream"]


def a_client(server, path):
    return dashboard(server.url_of(path), additional_headers=BEARER)


@pytest.mark.parametrize("path", PATHS)
async def test_bad_messages_are_answered_in_the_dialects_form_and_disturb_nobody(server, path):
    await is_answered_with_errors(lambda: a_client(server, path), path)


@pytest.mark.parametrize("path", PATHS)
async def test_a_flood_is_read_slowly_and_others_are_served_meanwhile(server, path):
    plain = dashboard(
        server.url_of(path), additional_headers=BEARER, compression=None
    )  # as fast as it can be written
    async with a_client(server, path) as other, plain as client:

        async def flood():
            with suppress(ConnectionClosed):
                while True:
                    for _ in range(100):
                        await client.socket.send('{"type":"nonsense"}')
                    await asyncio.sleep(
                        0
                    )  # until the sockets are full sending never waits, and the server is in this loop

        flooding = asyncio.create_task(flood())
        before = server.hub.measured.traffic.messages_received
        await until(lambda: server.hub.measured.traffic.messages_received > before + 100)
        began = time.monotonic()
        for _ in range(10):
            await other.send(type="nonsense")
            await other.next("error")
        assert time.monotonic() - began < 2
        read = server.hub.measured.traffic.messages_received - before
        assert read < 100 + 50 * (time.monotonic() - began + 2) + 20
        client.socket.transport.abort()
        await flooding


@pytest.mark.parametrize("path", PATHS[1:])
async def test_a_client_that_stands_still_is_closed_and_others_go_on(path):
    async with (
        LegacyServer(token=TOKEN, port=0, max_queue=10, stream_token=STREAM_TOKEN) as server,
        that_reads_little(server.url_of(path), additional_headers=BEARER) as slow,
        a_client(server, path) as quick,
    ):
        for client in (slow, quick):
            if path == "/ws/stream":
                await client.send(type="subscription", action="subscribe", topics=["global"])
                await client.next("subscription")
            elif path == "/ws/metrics":
                await client.send(type="subscribe", page="sessions")
                await client.next("session_list")
            else:
                await client.next()
        seq = 0
        while not server.hub.measured.traffic.slow_clients_closed:
            seq += 1
            assert seq < 5_000
            name = f"{seq}-{'x' * 20_000}"
            entries = [entry(name)]
            server.hub.take(
                [
                    told(
                        "web-1/containers",
                        "containers_collected",
                        seq,
                        available=True,
                        containers=entries,
                    ),
                    told("app-7/sessions", "session_created", seq, session_id=name),
                ]
            )
            for _ in range(2 if path == "/ws/stream" else 1):
                await quick.next()
        with pytest.raises(ConnectionClosed) as closed:
            await read_to_the_end(slow.socket)
        assert closed.value.rcvd.code == 1013
        await quick.send(type="nonsense")
        await quick.next("error")


async def test_clients_that_come_and_vanish_while_everybody_is_written_to_disturb_nobody(
    owner, server_process
):
    owner.open(WEB)
    async with linked(owner.spool, server_process.link_url), dashboard(server_process.url) as staying:
        await staying.next("initial_stats")
        stop = asyncio.Event()

        async def write():
            while not stop.is_set():
                owner.write(WEB, 5, size=500)
                await asyncio.sleep(0)

        async def come_and_vanish():
            for _ in range(25):
                async with dashboard(server_process.url) as passing:
                    await passing.next(
                        "initial_stats"
                    )  # a frame of another's would come before it, and not be read
                    first = (await passing.next("event"))["metadata"]["event"]["seq"]
                    assert (await passing.next("event"))["metadata"]["event"]["seq"] == first + 1
                    passing.socket.transport.abort()

        async def read():
            seq = 0
            while not stop.is_set() or seq < owner.spool.heads()[WEB].seq:
                seq += 1
                assert (await staying.next("event"))["metadata"]["event"]["seq"] == seq

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(read())
            async with asyncio.TaskGroup() as passing:
                for _ in range(8):
                    passing.create_task(come_and_vanish())
            stop.set()


@pytest.mark.parametrize("path", PATHS)
async def test_a_half_open_socket_is_given_up_and_others_go_on(path):
    async with (
        LegacyServer(token=TOKEN, port=0, ping_seconds=0.3, stream_token=STREAM_TOKEN) as server,
        TcpProxy(("127.0.0.1", server.port)) as network,
        dashboard(network.url("ws") + path, additional_headers=BEARER, ping_interval=None) as silent,
        a_client(server, path) as other,
    ):
        await silent.send(type="nonsense")
        await silent.next("error")
        await until(lambda: server.hub.clients == 2)
        network.stall()
        await until(lambda: server.hub.clients == 1)
        await other.send(type="nonsense")
        await other.next("error")


@pytest.mark.parametrize("path", [*PATHS, "/ws/metrics_update"])
def test_whatever_a_client_sends_it_is_answered_and_its_neighbour_too(path, loop_of_servers):
    run, server = loop_of_servers

    @given(anything)
    @settings(max_examples=25, deadline=None)
    def holds(messages):
        run(is_answered_and_so_is_its_neighbour(lambda: a_client(server, path), messages))

    holds()


@pytest.mark.parametrize("path", PATHS)
def test_bytes_that_are_no_websocket_end_their_own_connection_only(path, loop_of_servers):
    run, server = loop_of_servers

    @given(st.binary(min_size=1, max_size=300))
    @settings(max_examples=25, deadline=None)
    def holds(data):
        run(ends_its_own_connection_only(lambda: a_client(server, path), data))

    holds()


@pytest.fixture
def loop_of_servers():
    """Return what runs a coroutine beside a server, and the server: Hypothesis calls plain functions."""
    with asyncio.Runner() as runner:
        server = LegacyServer(token=TOKEN, port=0, stream_token=STREAM_TOKEN)
        runner.run(server.__aenter__())
        try:
            yield runner.run, server
        finally:
            runner.run(server.drain())
