"""The adapter and the link against a real server and a real spool: resume, restarts, silence, refusals."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.server import serve

from adapters.legacy_link import LegacyLink
from legacy_ws.protocol import dashboard as ws
from legacy_ws.server import LegacyServer
from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import Event, Position, StreamId
from monitoring.service import Gap, Status
from monitoring.topics import GLOBAL, parse_topics
from tests.fakes.event_factory import event, run
from tests.integration.legacy.conftest import TOKEN, Owner, linked, service, until

WEB = StreamId("web-1/system")
ALL = frozenset({GLOBAL})


async def take(subscription, count, seconds=20):
    async with asyncio.timeout(seconds):
        return [await anext(subscription) for _ in range(count)]


def places(items):
    return [tuple(item.position) if isinstance(item, Event) else item for item in items]


async def test_from_now_on_delivers_nothing_older(server):
    server.hub.take(run(WEB, 5))
    async with service(server.url) as legacy, legacy.subscribe(ALL) as subscription:
        await subscription.wait_live()
        server.hub.take([event(WEB, 6)])
        assert places(await take(subscription, 1)) == [(1, 6)]


async def test_a_cut_connection_is_resumed_without_gap_or_double(server):
    async with service(server.url) as legacy, legacy.subscribe(ALL, Cursor()) as subscription:
        await subscription.wait_live()
        got = []
        for round_ in range(4):
            server.hub.take([event(WEB, 3 * round_ + step) for step in (1, 2, 3)])
            got += await take(subscription, 2)
            for connection in list(server._listeners.connections):
                connection.transport.abort()
            got += await take(subscription, 1)
        assert places(got) == [(1, seq) for seq in range(1, 13)]
        assert (await legacy.health()).counters["reconnects"] >= 3


async def test_a_server_that_comes_back_empty_is_refilled_and_nothing_is_repeated(owner, tmp_path):
    owner.open(WEB)
    owner.write(WEB, 9)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(LegacyServer(token=TOKEN, port=0))
        link = await stack.enter_async_context(linked(owner.spool, first.link_url))
        legacy = await stack.enter_async_context(service(first.url))
        subscription = await stack.enter_async_context(legacy.subscribe(ALL, Cursor()))
        got = await take(subscription, 10)
        await subscription.wait_live()
        await until(lambda: owner.spool.acknowledged("legacy") == 10)
        await first.drain()
        await until(lambda: not subscription.live)
        owner.write(WEB, 5)  # while the server is away
        second = await stack.enter_async_context(LegacyServer(token=TOKEN, port=first.port, fill_seconds=30))
        got += await take(subscription, 5)
        await asyncio.wait_for(subscription.wait_live(), 10)
        owner.write(WEB, 1)
        got += await take(subscription, 1)
        assert places(got) == [(1, seq) for seq in range(1, 17)]
        assert link.state.refilled_events == 10
        assert second.hub.measured.traffic.events_restored == 10
        assert second.hub.measured.traffic.events_taken == 6
        async with asyncio.timeout(10):
            assert owner.spool.acknowledged("legacy") == 16
        late = await stack.enter_async_context(legacy.subscribe(ALL))
        await late.wait_live()
        owner.write(WEB, 1)
        assert places(await take(late, 1)) == [(1, 17)]


async def test_what_the_spool_no_longer_retains_comes_as_a_gap_and_heads_come_back(tmp_path):
    owner = Owner(tmp_path, retain_events=100)
    quiet = StreamId("db-1/system")
    owner.open(quiet)
    owner.open(WEB)
    owner.write(WEB, 20)
    try:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(LegacyServer(token=TOKEN, port=0))
            await stack.enter_async_context(linked(owner.spool, first.link_url))
            await until(lambda: owner.spool.acknowledged("legacy") == 22)
            await first.drain()
            owner.write(WEB, 480)
            owner.spool.acknowledge("supabase", 502)
            owner.spool.set_enabled("legacy", enabled=False)
            owner.spool.acknowledge("legacy", 502)
            owner.write(WEB, 1)
            await stack.enter_async_context(LegacyServer(token=TOKEN, port=first.port, fill_seconds=30))
            legacy = await stack.enter_async_context(service(first.url))
            since = Cursor({WEB: Position(1, 7), quiet: Position(1, 1)})
            subscription = await stack.enter_async_context(legacy.subscribe(ALL, since))
            gap, *rest = await take(subscription, 10)
            assert isinstance(gap, Gap)
            assert (gap.stream, gap.epoch, gap.from_seq) == (WEB, 1, 8)
            assert rest[0].seq == gap.to_seq + 1 > 300
            await take(subscription, 502 - gap.to_seq - 9)
            await asyncio.wait_for(subscription.wait_live(), 10)  # the quiet stream's head was adopted
    finally:
        owner.spool.close()


async def test_kill_9_of_the_server_costs_a_subscription_nothing(owner, server_process):
    owner.open(WEB)
    owner.open("web-1/containers")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(linked(owner.spool, server_process.link_url))
        legacy = await stack.enter_async_context(service(server_process.url))
        subscription = await stack.enter_async_context(legacy.subscribe(ALL, Cursor()))
        killed = asyncio.Event()

        async def write():
            rounds = 0
            while not killed.is_set():  # until the end: the server may need long to come back
                owner.write(WEB, 2)
                owner.write("web-1/containers", 1)
                rounds += 1
                await asyncio.sleep(0.02)
            return rounds

        writer = asyncio.create_task(write())
        got = await take(subscription, 20)
        for _ in range(2):
            assert await server_process.signal(signal.SIGKILL) == -signal.SIGKILL
            got += await take(subscription, len(subscription._items))
            await server_process.start()
            got += await take(subscription, 60, 60)
        killed.set()
        rounds = await writer
        total = 3 * rounds + 2
        got += await take(subscription, total - len(got), 60)
        await asyncio.wait_for(subscription.wait_live(), 10)
        assert not subscription._items
        assert not [item for item in got if isinstance(item, Gap)]
        for stream, count in ((WEB, 2 * rounds + 1), ("web-1/containers", rounds + 1)):
            assert [item.seq for item in got if item.stream == stream] == list(range(1, count + 1))
        await until(lambda: owner.spool.acknowledged("legacy") == total)


async def test_sigterm_drains_and_exits_0_and_sigint_too(server_process):
    for number in (signal.SIGTERM, signal.SIGINT):
        async with service(server_process.url) as legacy:
            subscription = legacy.subscribe(ALL, Cursor())
            await until(lambda: legacy._peer.worked)
            assert await server_process.signal(number) == 0
            await subscription.close()
        await server_process.start()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--token-file", "/nonexistent/x"], "token file /nonexistent/x cannot be used"),
        (["--port", "{port}"], "port {port} on 127.0.0.1, for the legacy server, is taken"),
        (["--mount", "8080/ws=chat"], "'chat' is no dialect"),
        (["--stream-token-file", "/nonexistent/y"], "token file /nonexistent/y cannot be used"),
        (["--host", "203.0.113.7"], "cannot listen on 203.0.113.7"),
    ],
)
async def test_what_keeps_the_process_from_starting_is_one_line(server_process, options, line):
    port = str(server_process.port)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "legacy_ws", "--port", "0", "--token-file", str(server_process.token_file),
        *[option.format(port=port) for option in options],
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    (only,) = errors.decode().splitlines()
    assert line.format(port=port) in only


async def test_snapshot_then_subscribe_misses_nothing(server):
    server.hub.take(run(WEB, 4))
    async with service(server.url) as legacy:
        snapshot = await legacy.snapshot(parse_topics(["devices.web-1"]))
        assert [one.seq for one in snapshot.state] == [1, 4]
        server.hub.take([event(WEB, 5)])
        async with legacy.subscribe(ALL, snapshot.cursor) as subscription:
            assert places(await take(subscription, 1)) == [(1, 5)]


async def test_a_wrong_path_is_refused_with_a_hint(server):
    async with service(server.url + "x") as legacy:
        with pytest.raises(Refused, match=r"HTTP 404.*check the path"):
            await legacy.snapshot(ALL)
        with pytest.raises(Refused, match=r"HTTP 404.*dashboards use /ws"):
            await anext(legacy.subscribe(ALL))


async def test_something_that_is_no_websocket_server_is_refused():
    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with other, service(f"ws://127.0.0.1:{other.sockets[0].getsockname()[1]}/ws") as legacy:
        with pytest.raises(Refused, match="does not speak WebSocket"):
            await anext(legacy.subscribe(ALL))


@pytest.mark.parametrize("url", ["http://127.0.0.1/ws", "nonsense"])
async def test_what_is_no_address_is_refused(url):
    async with service(url) as legacy:
        with pytest.raises(Refused, match="use ws://"):
            await anext(legacy.subscribe(ALL))


async def test_a_seed_server_without_subscribe_is_refused():
    async def seed(connection):
        async for _ in connection:
            await connection.send(ws.encode(ws.ErrorMessage("unknown", event().occurred_at)), text=True)

    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(serve(seed, "127.0.0.1", 0))
        legacy = await stack.enter_async_context(
            service(f"ws://127.0.0.1:{other.sockets[0].getsockname()[1]}/ws")
        )
        with pytest.raises(Refused, match="refused the subscription"):
            await anext(legacy.subscribe(ALL))


async def test_a_server_that_is_not_there_yet_is_waited_for(unused_tcp_port):
    url = f"ws://127.0.0.1:{unused_tcp_port}/ws"
    async with service(url, random=lambda: 0.1) as legacy:
        with pytest.raises(Unreachable):
            await legacy.snapshot(ALL)
        async with legacy.subscribe(ALL) as subscription:
            await until(lambda: "Connect call failed" in legacy._peer.detail)
            assert (await legacy.health()).status is Status.CONNECTING
            async with LegacyServer(token=TOKEN, port=unused_tcp_port) as server:
                await asyncio.wait_for(subscription.wait_live(), 10)
                server.hub.take(run(WEB, 1))
                assert places(await take(subscription, 1)) == [(1, 1)]
                assert (await legacy.health()).status is Status.LIVE


async def test_a_silent_peer_is_noticed_and_left(server):
    """A server that stops answering without closing, as after a pulled cable."""
    server.hub.take(run(WEB, 1))
    holding = asyncio.Event()
    relays = set()

    async def relay(reader, writer):
        relays.add(asyncio.current_task())
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", server.port)

        async def pump(source, target):
            while data := await source.read(65536):
                if not holding.is_set():
                    target.write(data)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(reader, up_writer))
                group.create_task(pump(up_reader, writer))
        finally:
            writer.close()
            up_writer.close()

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/ws"
    async with proxy, service(url, silence_seconds=1.0) as legacy, legacy.subscribe(ALL) as subscription:
        await subscription.wait_live()
        holding.set()
        server.hub.take([event(WEB, 2)])
        await until(lambda: not subscription.live, 5)
        assert "no sign of life" in (await legacy.health()).detail
        holding.clear()
        assert places(await take(subscription, 1)) == [(1, 2)]
    # The streams' server owns no handler once it is closed (before Python 3.12): they are ended here.
    for each in relays:
        each.cancel()
    await asyncio.gather(*relays, return_exceptions=True)


async def test_a_slow_consumer_is_cut_off_resumes_and_loses_nothing():
    async with AsyncExitStack() as stack:
        small = await stack.enter_async_context(LegacyServer(token=TOKEN, port=0, max_queue=20))
        legacy = await stack.enter_async_context(service(small.url, random=lambda: 0.1))
        subscription = await stack.enter_async_context(legacy.subscribe(ALL, Cursor()))
        await subscription.wait_live()
        seq = 0
        while not small.hub.measured.traffic.slow_clients_closed:
            # what compresses badly, or thousands would fit between the server and its client
            small.hub.take([event(WEB, seq + step, note=secrets.token_hex(2500)) for step in range(1, 11)])
            seq += 10
            await asyncio.sleep(0)
            assert seq < 50_000
        assert places(await take(subscription, seq, 30)) == [(1, one) for one in range(1, seq + 1)]


async def test_the_wrong_token_is_said_and_the_spool_waits(owner, server):
    owner.open(WEB)
    link = LegacyLink(owner.spool, server.link_url, "wrong", random=lambda: 0.1)
    task = asyncio.create_task(link.run())
    await until(lambda: "401" in link.state.detail)
    assert "check the link's token" in link.state.detail
    assert owner.spool.acknowledged("legacy") == 0
    task.cancel()
    await asyncio.wait({task})


async def test_a_long_backlog_goes_over_in_frames_and_is_acknowledged(owner, server):
    owner.open(WEB)
    owner.write(WEB, 3000, size=500)
    async with linked(owner.spool, server.link_url) as link:
        await until(lambda: owner.spool.acknowledged("legacy") == 3001)
        assert server.hub.ring.heads() == {WEB: (1, 3001)}
        assert link.state.sent_events == 3001
        assert link.state.refilled_events == 0


async def test_an_event_too_large_for_the_link_is_said_and_does_not_stop_it(tmp_path, server):
    """A spool with a larger bound of its own than the link's; by default it refuses such an event."""
    owner = Owner(tmp_path, max_event_bytes=5_000_000)
    with owner.spool:
        owner.open(WEB)
        owner.write(WEB, 1, size=2_000_000)
        owner.write(WEB, 1)
        async with linked(owner.spool, server.link_url) as link:
            await until(lambda: owner.spool.acknowledged("legacy") == 3)
            assert link.state.unsendable_events == 1
            assert server.hub.ring.heads() == {WEB: (1, 3)}


async def test_ending_a_link_as_its_connection_breaks_ends_it(owner, server):
    owner.open(WEB)
    for _ in range(10):
        link = LegacyLink(owner.spool, server.link_url, TOKEN, random=lambda: 0.0)
        task = asyncio.create_task(link.run())
        await until(lambda link=link: link.state.connected)
        for connection in list(server._links):
            connection.transport.abort()
        await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done
        assert task.cancelled()


async def test_a_link_that_skips_lets_the_others_run(owner, server):
    """A server that came back with everything: each batch is read, found to be there, and passed over."""
    owner.open(WEB)
    owner.write(WEB, 3000)
    async with linked(owner.spool, server.link_url):
        await until(lambda: owner.spool.acknowledged("legacy") == 3001)
    reads: list[int] = []
    turns: list[int] = []
    read = owner.spool.read

    def counted(after, limit):
        rows = read(after, limit)
        asyncio.get_running_loop().call_soon(turns.append, after)
        reads.append(len(turns))
        return rows

    owner.spool.read = counted
    async with linked(owner.spool, server.link_url) as link:
        await until(lambda: len(reads) > 7)
        assert link.state.refilled_events == 0
    assert reads[:7] == list(range(7))


async def test_a_link_that_is_up_stays_up(owner, server):
    owner.open(WEB)
    async with linked(owner.spool, server.link_url) as link:
        for count in range(2, 12):
            owner.write(WEB, 1)
            await until(lambda count=count: owner.spool.acknowledged("legacy") == count)
        assert link.state.connects == 1


async def test_a_server_that_has_just_started_waits_for_all_of_its_links(tmp_path):
    """Answered after the first of two, "from now on" would soon be "from the beginning" of the other's streams."""
    (tmp_path / "other").mkdir()
    owners = Owner(tmp_path), Owner(tmp_path / "other")
    other = StreamId("crossfade/alerts")
    owners[0].open(WEB)
    owners[1].open(other)
    owners[1].write(other, 9)
    try:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(
                LegacyServer(token=TOKEN, port=0, fill_seconds=60, links=2)
            )
            legacy = await stack.enter_async_context(service(server.url))
            subscription = await stack.enter_async_context(legacy.subscribe(ALL))
            await stack.enter_async_context(linked(owners[0].spool, server.link_url))
            await until(lambda: owners[0].spool.acknowledged("legacy") == 1)
            assert not subscription.live
            assert (await legacy.health()).detail == "the history is not there yet"
            await stack.enter_async_context(linked(owners[1].spool, server.link_url))
            await asyncio.wait_for(subscription.wait_live(), 10)
            owners[1].write(other, 1)
            assert places(await take(subscription, 1)) == [(1, 11)]
    finally:
        for each in owners:
            each.spool.close()
