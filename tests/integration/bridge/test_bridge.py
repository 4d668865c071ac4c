"""Somebody's server without ids, bridged to Supabase: its clients move there and back, and restarts double nothing."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from adapters.foreign_websocket import ForeignWebSocket
from legacy_ws.protocol.plain_dashboard import PlainDashboard
from monitoring.events import Event
from monitoring.route import Route
from monitoring.router import Router
from monitoring.service import Backend, Gap, MoveAbandoned, Moved
from monitoring.topics import parse_topics
from tests.fakes.event_factory import event
from tests.fakes.plain_server import PlainServer
from tests.integration.bridge.conftest import realtime, stored, until


class Wishes:
    """Flags that a test sets directly."""

    def __init__(self):
        self.wished = Route(Backend.LEGACY)
        self.wakes = set()

    def route(self, _client_id):
        return self.wished

    def listen(self, wake):
        self.wakes.add(wake)
        return lambda: self.wakes.discard(wake)

    def set(self, backend):
        self.wished = Route(backend)
        for wake in tuple(self.wakes):
            wake()


@pytest.fixture
async def plain():
    async with PlainServer(remembers=2000) as server:
        yield server


class Load:
    """A server that something happens on all the time: events numbered 1, 2, 3 ..."""

    def __init__(self, server, device, every=0.02):
        self.server, self.device, self.every = server, device, every
        self.stream = f"{device}/system"
        self.last = 0
        self.stopped = False

    async def happen(self, count=1):
        for _ in range(count):
            self.last += 1
            await self.server.broadcast(event(self.stream, self.last, n=self.last))

    async def goes_on(self, count):
        goal = self.last + count
        await until(lambda: self.last >= goal, f"{count} more events", 60)

    @contextlib.asynccontextmanager
    async def __call__(self):
        async def run():
            while not self.stopped:
                await self.happen()
                await asyncio.sleep(self.every)

        async with asyncio.TaskGroup() as group:
            group.create_task(run())
            try:
                yield self
            finally:
                self.stopped = True


class MovingClient:
    """A client of the server and of Supabase, and everything it was given."""

    def __init__(self, supabase):
        self.supabase = supabase
        self.wishes = Wishes()
        self.got = []

    @classmethod
    @contextlib.asynccontextmanager
    async def live(cls, server, embedded_supabase, *devices):
        async with realtime(embedded_supabase) as supabase:
            client = cls(supabase)
            services = {
                Backend.LEGACY: ForeignWebSocket(server.url, PlainDashboard()),
                Backend.SUPABASE: supabase,
            }
            router = Router(services, client.wishes, "client-1", now=lambda: datetime.now(UTC))
            subscription = router.subscribe(parse_topics([f"devices.{device}" for device in devices]))

            async def read():
                async for item in subscription:
                    client.got.append(item)

            reading = asyncio.create_task(read())
            await asyncio.wait_for(subscription.wait_live(), 20)
            yield client
            await router.close()
            await reading

    @property
    def moves(self):
        return [(item.from_backend, item.to_backend) for item in self.got if isinstance(item, Moved)]

    @property
    def gaps(self):
        return [item for item in self.got if isinstance(item, Gap | MoveAbandoned)]

    @property
    def numbers(self):
        return [number_of(item) for item in self.got if number_of(item)]

    async def move(self, to, moves):
        self.wishes.set(to)
        await until(lambda: self.moves == moves, lambda: f"moved; {self.moves}, {self.gaps}", 90)


def number(payload):
    return payload["metadata"]["n"]


def number_of(item):
    return number(item.payload) if isinstance(item, Event) and "metadata" in item.payload else None


async def arrived(sql, device, last, seconds=20):
    """Wait until the last event is in Supabase; return (numbers, kinds that are not the server's)."""
    async with asyncio.timeout(seconds):
        while True:
            rows = await stored(sql, device)
            numbers = [number(payload) for _, payload in rows if "metadata" in payload]
            if last in numbers:
                return numbers, [(kind, payload) for kind, payload in rows if "metadata" not in payload]
            await asyncio.sleep(0.05)


THERE = (Backend.LEGACY, Backend.SUPABASE)
BACK = (Backend.SUPABASE, Backend.LEGACY)


async def test_a_client_moves_to_supabase_and_back_under_load_and_has_each_event_once(
    plain, bridge, embedded_supabase, device
):
    await bridge(plain.url).start()
    load = Load(plain, device)
    async with MovingClient.live(plain, embedded_supabase, device) as client:
        async with load():
            await load.goes_on(50)
            await client.move(Backend.SUPABASE, [THERE])
            await load.goes_on(50)
            await client.move(Backend.LEGACY, [THERE, BACK])
            await load.goes_on(50)
            await client.move(Backend.SUPABASE, [THERE, BACK, THERE])
            await load.goes_on(50)
        await until(lambda: load.last in client.numbers, "the last event")
    assert client.numbers == list(range(1, load.last + 1))
    assert not client.gaps
    assert {item.identified for item in client.got if number_of(item)} == {True, False}
    assert load.last > 300


async def test_a_move_reads_back_the_last_minute_and_not_all_that_supabase_has_kept(
    plain, bridge, embedded_supabase, sql, device
):
    """A server without ids gives no cursor to begin at; hours of history, read by every client that moves, are no answer."""
    await bridge(plain.url).start()
    load, rare = Load(plain, device), Load(plain, f"{device}-rare")
    await load.happen(3000)
    await rare.happen()
    await arrived(sql, load.device, 3000, 60)
    await arrived(sql, rare.device, 1, 60)
    await sql.execute(
        "update cf_events set recorded_at = recorded_at - interval '1 hour' where device = any($1)",
        [load.device, rare.device],
    )
    async with MovingClient.live(plain, embedded_supabase, load.device, rare.device) as client:
        async with load():
            await load.goes_on(20)
            await client.move(Backend.SUPABASE, [THERE])
            await load.goes_on(20)
        await until(lambda: load.last in client.numbers, "the last event")
        await rare.happen()
        await until(lambda: client.numbers[-1] == rare.last, "what happens rarely")
        read_back = (await client.supabase.health()).counters["backfilled"]
    assert client.numbers == [*range(3001, load.last + 1), rare.last]
    assert not client.gaps
    assert read_back < 1000


async def test_a_bridge_that_is_killed_again_and_again_doubles_nothing_and_loses_nothing(
    plain, bridge, sql, device
):
    one = bridge(plain.url)
    await one.start()
    load = Load(plain, device)
    await load.happen()
    await arrived(sql, device, 1)  # a bridge that never kept anything begins at its next start
    async with load():
        for _ in range(4):
            await load.goes_on(40)
            await one.kill()
            await load.goes_on(20)  # nobody hears them, but the server remembers
            await one.start()
        await load.goes_on(20)
    numbers, own = await arrived(sql, device, load.last)
    assert numbers == list(range(1, load.last + 1))
    assert "bridge_gap" not in [kind for kind, _ in own]
    assert await one.stop() == 0


async def test_what_the_server_no_longer_remembers_is_said_in_the_stream(plain, bridge, sql, device):
    plain.recent = type(plain.recent)(maxlen=5)
    one = bridge(plain.url)
    await one.start()
    load = Load(plain, device)
    await load.happen(10)
    await arrived(sql, device, 10)
    await one.kill()
    await load.happen(20)
    await one.start()
    await load.happen()
    numbers, own = await arrived(sql, device, 31)
    assert numbers == [*range(1, 11), *range(26, 32)]
    assert [kind for kind, _ in own] == ["stream_opened", "bridge_gap"]
    assert own[1][1]["lost"] is None
    assert "does not remember" in own[1][1]["reason"]
    rows = [number(payload) if "metadata" in payload else kind for kind, payload in await stored(sql, device)]
    assert rows[11:13] == ["bridge_gap", 26]  # after the opening and the ten: where it belongs


async def test_a_cut_is_made_good_from_the_server_s_memory(plain, bridge, sql, device):
    one = bridge(plain.url)
    await one.start()
    load = Load(plain, device)
    await load.happen(3)
    await arrived(sql, device, 3)
    await plain.stop()
    await load.happen(4)
    await plain.start()
    await until(lambda: one.report["server"]["status"] == "live" and plain._clients, "it is back")
    await load.happen()
    numbers, own = await arrived(sql, device, 8)
    assert numbers == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [kind for kind, _ in own] == ["stream_opened"]


async def test_a_second_bridge_of_the_same_server_leaves_the_streams_to_the_first(plain, bridge, sql, device):
    first, second = bridge(plain.url, name="first"), bridge(plain.url, name="second")
    await first.start()
    load = Load(plain, device)
    await load.happen(5)
    await arrived(sql, device, 5)
    await second.start()
    await load.happen(5)
    numbers, _ = await arrived(sql, device, 10)
    await until(lambda: second.report["bridge"]["not_ours"] == 5, "the second leaves them to the first")
    assert numbers == list(range(1, 11))


async def test_a_second_bridge_takes_over_from_a_killed_one_and_misses_nothing(plain, bridge, sql, device):
    first, second = bridge(plain.url, name="first"), bridge(plain.url, name="second")
    await first.start()
    load = Load(plain, device, every=0.05)
    await load.happen(5)
    await arrived(sql, device, 5)
    await second.start()
    async with load():
        await until(lambda: second.report["bridge"]["not_ours"] > 20, "the second hears what the first tells")
        await first.kill()
        killed_at = load.last
        await until(
            lambda: second.report["bridge"]["taken_over"], "the lease expires, the second goes on", 60
        )
        await load.goes_on(20)
    numbers, own = await arrived(sql, device, load.last)
    assert numbers == list(range(1, load.last + 1))
    assert [kind for kind, _ in own] == ["stream_opened", "stream_opened"]
    assert second.report["bridge"]["taken_over"] > 1
    assert load.last > killed_at + 20


async def test_a_bridge_on_another_machine_says_what_happened_before_it_came(plain, bridge, sql, device):
    first = bridge(plain.url, name="first")
    await first.start()
    load = Load(plain, device)
    await load.happen(5)
    await arrived(sql, device, 5)
    assert await first.stop() == 0  # lets go of its leases
    await load.happen(5)
    second = bridge(plain.url, name="second")
    await second.start()
    await load.happen(2)
    numbers, own = await arrived(sql, device, 12)
    assert numbers == [*range(1, 6), 11, 12]
    assert [kind for kind, _ in own] == ["stream_opened", "stream_opened", "bridge_gap"]
    assert "another owner told this stream" in own[-1][1]["reason"]
    rows = [number(payload) if "metadata" in payload else kind for kind, payload in await stored(sql, device)]
    assert rows[-3:] == ["bridge_gap", 11, 12]


async def test_a_wrong_address_is_said_in_one_line(plain, bridge):
    async def refuse(connection):
        raise AssertionError  # nobody comes so far

    one = bridge("http://127.0.0.1:1/ws")
    with pytest.raises(AssertionError, match="CROSSFADE_LEGACY_URL: it must look like ws://HOST:PORT/PATH"):
        await one.start()
    other = bridge(plain.url, "plain-dashbord", name="other")
    with pytest.raises(AssertionError, match="'plain-dashbord' is no dialect; there are plain-dashboard"):
        await other.start()
