"""Somebody's server without ids, over real sockets: what is promised of it, and what is said where nothing can be."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from websockets.asyncio.server import serve

from adapters.foreign_websocket import ForeignWebSocket
from legacy_ws.protocol.foreign import Heartbeat
from legacy_ws.protocol.plain_dashboard import PlainDashboard
from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import Event
from monitoring.overlap import Overlap
from monitoring.service import Gap, Status
from monitoring.topics import GLOBAL, parse_topics
from tests.fakes.event_factory import event
from tests.fakes.plain_server import PlainServer
from tests.integration.legacy.conftest import service as identified_service
from tests.integration.legacy.conftest import until

WEB, DB = "web-1/system", "db-1/system"
ALL = frozenset({GLOBAL})


@pytest.fixture
async def plain():
    async with PlainServer() as server:
        yield server


@asynccontextmanager
async def foreign(url, dialect=None, **settings):
    one = ForeignWebSocket(url, dialect or PlainDashboard(), **settings)
    try:
        yield one
    finally:
        await one.close()


async def take(subscription, count, seconds=20):
    async with asyncio.timeout(seconds):
        return [await anext(subscription) for _ in range(count)]


def numbers(items):
    return [item.payload["metadata"]["n"] if isinstance(item, Event) else item for item in items]


async def test_cuts_are_made_good_as_far_as_the_server_remembers_and_told_beyond(plain):
    async with foreign(plain.url, random=lambda: 0.1) as service, service.subscribe(ALL) as subscription:
        await subscription.wait_live()
        await plain.broadcast(event(WEB, 1), event(WEB, 2))
        assert numbers(await take(subscription, 2)) == [1, 2]
        await plain.stop()
        await plain.broadcast(event(WEB, 3))  # nobody hears it, but it is remembered
        await plain.start()
        await plain.broadcast(event(WEB, 4))
        assert numbers(await take(subscription, 2)) == [3, 4]
        await plain.stop()
        for seq in range(5, 205):
            await plain.broadcast(event(WEB, seq))
        await plain.start()
        gap, *rest = await take(subscription, 51)
        assert (gap.stream, gap.epoch, gap.from_seq, gap.to_seq) == (WEB, 0, 5, None)
        assert numbers(rest) == list(range(155, 205))
        health = await service.health()
        assert health.counters["gaps"] == 1
        assert health.counters["recovered"] in (51, 52)  # the fourth was heard or remembered


async def test_a_burst_beyond_every_buffer_holds_up_only_the_sender_and_nothing_is_lost(plain):
    async with foreign(plain.url) as service, service.subscribe(ALL) as subscription:
        await subscription.wait_live()
        sending = asyncio.create_task(
            plain.broadcast(*(event(WEB, seq, n=seq, note="x" * 2000) for seq in range(1, 10_001)))
        )
        await until(lambda: len(subscription._items) >= 2048)
        await asyncio.sleep(0.3)  # a reader that does not read: what is read ahead stays within its bounds
        assert len(subscription._items) == 2048
        assert not sending.done()
        assert numbers(await take(subscription, 10_000, 60)) == list(range(1, 10_001))
        await sending


async def test_a_snapshot_is_what_the_greeting_says(plain):
    await plain.broadcast(event(WEB, 1), event(WEB, 2), event(DB, 1))
    async with foreign(plain.url) as service:
        snapshot = await service.snapshot(parse_topics(["devices.web-1"]))
        assert numbers(snapshot.state) == [2]
        assert snapshot.cursor == Cursor()
        stats = [one for one in (await service.snapshot(ALL)).state if one.kind == "stats"]
        assert [(one.stream, one.payload) for one in stats] == [("legacy/websocket", {"connected": 0})]
        assert not any(one.identified for one in snapshot.state)


async def test_a_quiet_server_stays_live_and_a_silent_one_is_left(plain):
    class Impatient(PlainDashboard):
        @property
        def heartbeat(self):
            return Heartbeat(every_seconds=0.2)

    async with foreign(plain.url, Impatient()) as service, service.subscribe(ALL) as subscription:
        await subscription.wait_live()
        await asyncio.sleep(1.0)  # five heartbeats
        assert plain.connections == 1
        assert (await service.health()).status is Status.LIVE
        for client in plain._clients:
            client.transport.pause_reading()  # it no longer answers pings
        await until(lambda: "no sign of life" in service._peer.detail, 5)
        await until(lambda: plain.connections == 2)


async def test_a_heartbeat_of_the_dialects_own_is_sent_and_its_answer_is_a_message(plain):
    class Asking(PlainDashboard):
        @property
        def heartbeat(self):
            return Heartbeat(every_seconds=0.1, frame=b'{"type":"stats"}')

    async with foreign(plain.url, Asking()) as service, service.subscribe(ALL) as subscription:
        await subscription.wait_live()
        await asyncio.sleep(0.5)
        await plain.broadcast(event(WEB, 1))
        assert numbers(await take(subscription, 1)) == [1]
        assert plain.connections == 1


async def test_a_server_that_does_not_greet_is_no_server_of_the_dialect(plain):
    plain.greets = False

    class Impatient(PlainDashboard):
        @property
        def heartbeat(self):
            return Heartbeat(every_seconds=0.1)

    async with foreign(plain.url, Impatient(), open_seconds=0.3, random=lambda: 0.1) as service:
        async with service.subscribe(ALL) as subscription:
            await until(lambda: "no greeting" in service._peer.detail)
            assert not subscription.live
        with pytest.raises(Unreachable):
            await service.snapshot(ALL)


async def test_a_server_that_complains_instead_of_greeting_refuses():
    async def complain(connection):
        await connection.send('{"type": "error", "error": "token please"}')
        await connection.wait_closed()

    async with serve(complain, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        async with foreign(url) as service:
            with pytest.raises(Refused, match="token please"):
                await service.snapshot(ALL)


async def test_garbage_is_counted_and_passed_over(plain):
    async with foreign(plain.url) as service, service.subscribe(ALL) as subscription:
        await subscription.wait_live()
        await plain.say({"type": "event", "connection_type": 7})
        await plain.broadcast(event(WEB, 1))
        assert numbers(await take(subscription, 1)) == [1]
        assert (await service.health()).counters["unreadable"] == 1


async def test_a_server_that_is_down_is_probed_by_one_connection_and_then_all_come_back(plain):
    raw = []
    async with foreign(plain.url, random=lambda: 0.05, on_raw=raw.append) as service:
        subscriptions = [service.subscribe(ALL) for _ in range(20)]
        for subscription in subscriptions:
            await subscription.wait_live()
        await plain.stop()
        await until(lambda: service._peer.breaker.state.opened == 1)
        health = await service.health()
        assert health.counters["breaker_state"] in (1, 2)
        assert health.counters["breaker_failures_in_row"] >= 5
        assert health.status is Status.RECONNECTING
        before = service._peer.breaker.state.attempts
        await asyncio.sleep(1.0)
        # 20 connections by themselves would have tried more than a hundred times
        assert service._peer.breaker.state.attempts - before < 20
        with pytest.raises(Unreachable):
            await service.snapshot(ALL)
        await plain.start()
        for subscription in subscriptions:
            await asyncio.wait_for(subscription.wait_live(), 5)
        assert (await service.health()).counters["breaker_state"] == 0
        await plain.broadcast(event(WEB, 1))
        for subscription in subscriptions:
            assert numbers(await take(subscription, 1)) == [1]
        assert len(raw) == 20


async def test_a_client_goes_over_to_a_feed_with_identity_and_back_without_loss_or_double(plain, server):
    """The overlap between two real servers: one without ids, ours with them, both told the same."""
    seq = 0

    async def happen(count):
        nonlocal seq
        for _ in range(count):
            seq += 1
            one = event(WEB, seq, n=seq)
            await plain.broadcast(one)
            # the bridge's event: what the server without ids said, with an identity
            seen = {
                key: value for key, value in plain.recent[-1].items() if key not in ("type", "broadcast_time")
            }
            server.hub.take([replace(one, payload=seen)])

    async with foreign(plain.url) as without, identified_service(server.url) as within:
        loop = asyncio.get_running_loop()
        overlap = Overlap(likeness=without.capabilities.likeness)
        got = []

        async def pump(name, subscription):
            async for item in subscription:
                offer = overlap.gap if isinstance(item, Gap) else overlap.offer
                got.extend(offer(name, item, loop.time()))

        names = iter(range(100))

        async def opened(service):
            name, subscription = next(names), service.subscribe(ALL)
            overlap.open(name, service.capabilities)
            await subscription.wait_live()
            overlap.live(name, loop.time())
            return subscription, asyncio.create_task(pump(name, subscription))

        async def closed(leg):
            subscription, task = leg
            await subscription.close()
            await task

        active = await opened(without)
        for service in (within, without):
            candidate = await opened(service)
            while overlap.obstacle(loop.time()):
                await happen(3)
                await asyncio.sleep(0.05)
                assert seq < 3000
            assert overlap.alignment(loop.time()).certain
            got.extend(overlap.switch(loop.time()))
            await happen(1)
            await closed(active)
            active = candidate
        await until(lambda: len(got) >= seq)
        await closed(active)
        assert [item.payload["metadata"]["n"] for item in got] == list(range(1, seq + 1))
        assert seq > 100
        assert overlap.cursor[WEB].seq > seq / 3
