"""The adapter under the real server's habits and faults: each event once and in order, and nothing left running."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from adapters import supabase_realtime
from monitoring.cursor import Cursor
from monitoring.errors import Refused
from monitoring.events import Position
from monitoring.service import Status
from monitoring.topics import parse_topics
from tests.fakes.event_factory import event, run
from tests.integration.supabase.conftest import Database, StartGateway, Subscribe, restart, until

MODES = ("changes", "broadcast")


def whole(last: int, first: int = 1) -> list[int]:
    return list(range(first, last + 1))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("topics", ["device", "global"])
async def test_nothing_is_lost_while_a_feed_becomes_live(
    mode: str, topics: str, database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    """The real server says SUBSCRIBED up to 2 s before it is, and looks for changes each half second."""
    await database.mode(mode)
    _, supabase = gateway("early-subscribed", "poll-500ms")
    stream = f"{device}/system"
    wanted = parse_topics([f"devices.{device}"] if topics == "device" else [])
    async with database.beating(), database.writing(stream) as writing:
        await writing.goes_on(5)
        client = await subscribe(supabase, wanted, Cursor({stream: Position(1, 1)}), live=False)
        await writing.goes_on(300)
    await client.has(stream, writing.last)
    assert client.of(stream) == whole(writing.last, 2)
    assert client.gaps == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_database_restart_that_nobody_is_told_of(
    mode: str, database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    """As the real server: the channels stay joined, and nothing comes through them any more."""
    await database.mode(mode)
    _, supabase = gateway("silent-fault", "poll-100ms")
    stream = f"{device}/system"
    async with database.beating():
        async with database.writing(stream) as writing:
            client = await subscribe(supabase, parse_topics([f"devices.{device}"]), Cursor())
            await writing.goes_on()
            await asyncio.to_thread(restart, database.postgres)
            await writing.goes_on(200)
        await client.has(stream, writing.last)
        if mode == "changes":  # broadcasts come again by themselves
            await client.counted("reconnects")
            async with asyncio.timeout(20):
                await client.subscription.wait_live()
        received = (await client.service.health()).counters.get("received", 0)
        await database.publish(event(stream, writing.last + 1))
        await client.has(stream, writing.last + 1)
        await client.counted("received", received + 1)
    assert client.of(stream) == whole(writing.last + 1)
    assert client.gaps == []


@pytest.mark.parametrize("mode", MODES)
async def test_the_gateway_is_killed_and_comes_back(
    mode: str, database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    await database.mode(mode)
    process, supabase = gateway()
    stream = f"{device}/system"
    async with database.beating(), database.writing(stream) as writing:
        client = await subscribe(supabase, parse_topics([f"devices.{device}"]), Cursor())
        await writing.goes_on()
        for _ in range(2):
            process.kill()
            await until(lambda: not client.subscription.live, "the client noticing")
            await writing.goes_on(50)
            assert (await client.service.health()).status is Status.RECONNECTING
            process.start()
            async with asyncio.timeout(20):
                await client.subscription.wait_live()
            await writing.goes_on(20)
    await client.has(stream, writing.last)
    assert client.of(stream) == whole(writing.last)


@pytest.mark.parametrize("mode", MODES)
async def test_a_token_is_replaced_before_its_end(
    mode: str, database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    await database.mode(mode)
    _, supabase = gateway()
    stream = f"{device}/system"
    made: list[float] = []

    def token() -> str:
        made.append(time.monotonic())
        return supabase.token(seconds=4)

    async with database.beating(), database.writing(stream) as writing:
        client = await subscribe(supabase, parse_topics([f"devices.{device}"]), Cursor(), token=token)
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 9, "two lives of a token", 30)
    await client.has(stream, writing.last)
    assert client.of(stream) == whole(writing.last)
    counters = (await client.service.health()).counters
    assert counters["connections"] == 1
    assert counters.get("reconnects", 0) == 0


@pytest.mark.parametrize("mode", MODES)
async def test_a_token_that_comes_late_costs_nothing_but_time(
    mode: str, database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    """The server closes the channel at the token's end; the next one comes a while later."""
    await database.mode(mode)
    _, supabase = gateway()
    stream = f"{device}/system"
    first, began = supabase.token(seconds=3), time.monotonic()

    def token() -> str:
        return first if time.monotonic() - began < 6 else supabase.token()

    async with database.beating(), database.writing(stream) as writing:
        client = await subscribe(supabase, parse_topics([f"devices.{device}"]), Cursor(), token=token)
        await client.counted("reconnects", 1)
        async with asyncio.timeout(30):
            await client.subscription.wait_live()
    await client.has(stream, writing.last)
    assert client.of(stream) == whole(writing.last)


async def test_the_mode_is_switched_under_live_clients(
    database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    await database.mode("changes")
    _, supabase = gateway("poll-100ms")
    streams = [f"{device}/system", f"{device}/drives"]
    asked = ([f"devices.{device}"], [], ["categories.system", "categories.drives"])
    async with database.beating(), database.writing(*streams, every=0.005) as writing:
        clients = [await subscribe(supabase, parse_topics(topics), Cursor()) for topics in asked]
        for switched, mode in enumerate(("broadcast", "changes", "broadcast", "changes"), 1):
            await writing.goes_on(100)
            await database.mode(mode)
            for client in clients:
                await client.counted("connections", switched + 1)
                async with asyncio.timeout(20):
                    await client.subscription.wait_live()
                assert f"{mode} mode" in (await client.service.health()).detail
        await writing.goes_on(100)
    for client in clients:
        for stream in streams:
            await client.has(stream, writing.last)
            assert client.of(stream) == whole(writing.last)
        assert (await client.service.health()).counters["received"] > 300


async def test_a_heartbeat_from_before_the_subscription_changes_nothing(
    database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    """A server that was away delivers what it has not yet delivered, to newcomers too: the modes of then among it."""
    process, supabase = gateway()
    process.kill()
    for mode in ("broadcast", "changes", "broadcast", "changes"):
        await database.mode(mode)
        await database.publish(*run(f"{device}-{mode}/system", 400))
    process.start()
    stream = f"{device}/system"
    client = await subscribe(supabase, parse_topics([]), Cursor())
    await database.publish(*run(stream, 3))
    await client.has(stream, 3)
    counters = (await client.service.health()).counters
    assert counters["connections"] == 1
    assert all(client.of(f"{device}-{mode}/system") == whole(400) for mode in MODES)


async def test_a_reader_that_does_not_read_is_bounded_and_gets_all_of_it_later(
    database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    await database.mode("broadcast")
    _, supabase = gateway()
    stream = f"{device}/system"
    service = supabase_realtime.SupabaseRealtime(supabase.url, supabase.keys.anon_key, supabase.token)
    count = 30_000
    async with service.subscribe(parse_topics([f"devices.{device}"]), Cursor()) as subscription:
        await subscription.wait_live()
        for start in range(1, count, 500):
            await database.publish(*(event(stream, seq) for seq in range(start, start + 500)))
        # the reader takes one event, so that the feed moves on and counts
        got = [(await anext(subscription)).seq]  # type: ignore[union-attr]
        async with asyncio.timeout(60):
            while len(got) < count:
                item: Any = await anext(subscription)
                got.append(item.seq)
    counters = (await service.health()).counters
    await service.close()
    assert got == whole(count)
    assert counters["dropped"] > 0
    assert counters["backfilled"] >= counters["dropped"]


async def test_a_rate_limit_makes_late_and_not_blind(
    database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    """The server closes the channels of who receives more than 100 messages a second, averaged over a minute."""
    await database.mode("broadcast")
    _, supabase = gateway("hosted-limits", "join-penalty")
    stream = f"{device}/system"
    client = await subscribe(supabase, parse_topics([f"devices.{device}"]), Cursor())
    async with database.writing(stream, every=0) as writing:
        await client.counted("rate_limited", seconds=60)
    health = await client.service.health()
    assert health.status is Status.RECONNECTING
    assert "Too many messages" in health.detail
    assert "history is read" in health.detail
    last = writing.last + 1
    await database.publish(event(stream, last))
    await client.has(stream, last, seconds=supabase_realtime.POLL_SECONDS + 5)
    assert not client.subscription.live
    assert client.of(stream) == whole(last)
    assert (await client.service.health()).counters["connections"] == 1


async def test_row_changes_that_a_limit_passes_over_are_read_back(
    database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    """Of too many changes nobody is told: they do not come, and neither does the heartbeat."""
    await database.mode("changes")
    _, supabase = gateway("hosted-limits")
    stream = f"{device}/system"
    client = await subscribe(supabase, parse_topics([f"devices.{device}"]), Cursor())
    async with database.beating():
        for start in range(1, 12_001, 500):
            await database.publish(*(event(stream, seq) for seq in range(start, start + 500)))
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 6, "the limit's next tick", 10)
        await database.publish(event(stream, 12_001))
        await client.has(stream, 12_001)
        assert client.of(stream) == whole(12_001)
        noticed = (await client.service.health()).counters
        assert noticed["backfilled"] >= 1, "what the limit passed over"
        assert noticed.get("silences", 0) + noticed.get("reconnects", 0) >= 1, "by events or by heartbeats"


async def test_after_sleep_the_feed_is_begun_anew_at_once(
    database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    await database.mode("broadcast")
    _, supabase = gateway()
    stream = f"{device}/system"
    slept = 0.0
    client = await subscribe(
        supabase, parse_topics([f"devices.{device}"]), Cursor(), wall=lambda: time.time() + slept
    )
    await database.publish(*run(stream, 3))
    await client.has(stream, 3)
    slept = 3600.0
    await client.counted("connections", 2, seconds=5)
    await database.publish(event(stream, 4))
    await client.has(stream, 4)
    assert client.of(stream) == whole(4)


@pytest.mark.parametrize("mode", MODES)
async def test_idle_clients_do_not_poll(
    mode: str, database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    await database.mode(mode)
    _, supabase = gateway()
    client = await subscribe(supabase, parse_topics([f"devices.{device}"]), Cursor())
    before = await database.call("select beat from cf_delivery")
    async with database.beating():
        async with asyncio.timeout(30):
            while await database.call("select beat from cf_delivery") < before + 14:
                await asyncio.sleep(0.1)
    assert (await client.service.health()).counters.get("looks", 0) == 0
    assert client.subscription.live


async def test_a_row_that_is_no_event_is_left_out_and_its_place_is_told(
    database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    await database.mode("changes")
    _, supabase = gateway()
    stream = f"{device}/system"
    client = await subscribe(supabase, parse_topics([f"devices.{device}"]), Cursor())
    bad = event(stream, 3)
    await database.publish(*run(stream, 2))
    await database.call(
        "insert into cf_events (stream, epoch, seq, id, device, category, metric_type, kind, occurred_at, payload)"
        " values ($1, 1, 3, $2, $3, 'system', 'system_metrics', '', now(), '{}')",
        stream, bad.id, device,
    )  # fmt: skip
    await database.call(
        "insert into cf_events (stream, epoch, seq, id, device, category, metric_type, kind, occurred_at, payload)"
        " values ($1, 1, 1, gen_random_uuid(), $2, 'no name', 'no name', 'x', now(), '{}')",
        f"{device}/no name", device,
    )  # fmt: skip
    await database.publish(event(stream, 4))
    await client.has(stream, 4)
    assert client.of(stream) == [1, 2, 4]
    assert [(gap.from_seq, gap.to_seq) for gap in client.gaps] == [(3, 3)]
    assert client.subscription.live


async def test_heads_that_the_reader_may_not_read_are_not_asked_for_again(
    database: Database, gateway: StartGateway, subscribe: Subscribe, device: str
) -> None:
    """A project's own, narrower policy: the heartbeat names streams that this reader never sees."""
    await database.mode("changes")
    _, supabase = gateway()
    for table in ("cf_events", "cf_stream_heads"):
        await database.call(
            f"create policy narrow on {table} as restrictive for select to authenticated"
            f" using (device <> '{device}-secret')"
        )
    try:
        client = await subscribe(supabase, parse_topics(["categories.system"]))
        async with database.beating(), database.writing(f"{device}-secret/system") as writing:
            await client.counted("holes", seconds=30)
            before = await database.call("select beat from cf_delivery")
            await writing.goes_on(10)
            async with asyncio.timeout(30):
                while await database.call("select beat from cf_delivery") < before + 4:
                    await asyncio.sleep(0.1)
        assert (await client.service.health()).counters["holes"] == 1
    finally:
        for table in ("cf_events", "cf_stream_heads"):
            await database.call(f"drop policy narrow on {table}")


@pytest.mark.parametrize("mode", MODES)
async def test_who_may_not_read_is_told_and_not_kept_waiting(
    mode: str, database: Database, gateway: StartGateway, device: str
) -> None:
    await database.mode(mode)
    _, supabase = gateway("join-penalty")
    service = supabase_realtime.SupabaseRealtime(
        supabase.url, supabase.keys.anon_key, lambda: supabase.token("stranger")
    )
    async with asyncio.timeout(20):
        with pytest.raises(Refused, match="crossfade_role"):
            await anext(service.subscribe(parse_topics([f"devices.{device}"])))
    await service.close()
