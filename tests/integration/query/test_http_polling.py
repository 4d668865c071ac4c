"""The polling adapter over the real service and the real database, beyond what the contract asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from adapters.http_polling import HttpPolling
from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import Position
from monitoring.service import Backend, Capabilities, Item, Status
from monitoring.subscription import Subscription
from monitoring.topics import Topic, parse_topics
from tests.conftest import EmbeddedSupabase
from tests.fakes.event_factory import event, run
from tests.integration.query.conftest import Publish, Token
from tests.query_process import QueryProcess


@pytest.fixture
async def polling(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase
) -> AsyncIterator[HttpPolling]:
    made = HttpPolling(query_process.url, embedded_supabase.token, every_seconds=0.05)
    yield made
    await made.close()


def topics(device: str) -> frozenset[Topic]:
    return parse_topics([f"devices.{device}"])


async def take(subscription: Subscription[Item], count: int) -> list[Item]:
    async with asyncio.timeout(30):
        return [await anext(subscription) for _ in range(count)]


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_says_what_it_is(polling: HttpPolling) -> None:
    assert (polling.backend, polling.capabilities) == (Backend.POLLING, Capabilities())
    assert (await polling.health()).status is Status.CONNECTING
    with pytest.raises(ValueError, match="some time apart"):
        HttpPolling("http://127.0.0.1:1", str, every_seconds=0)


async def test_a_long_absence_is_read_page_by_page_in_order(
    polling: HttpPolling, publish: Publish, device: str
) -> None:
    system, containers = f"{device}/system", f"{device}/containers"
    await publish(*run(system, 450), *run(containers, 250))
    async with polling.subscribe(topics(device), Cursor({system: Position(1, 50)})) as subscription:
        items = await take(subscription, 650)
        assert [item for item in items if item.stream == system] == run(system, 450)[50:]
        assert [item for item in items if item.stream == containers] == run(containers, 250)
        await subscription.wait_live()
    counters = (await polling.health()).counters
    assert (counters["pages"], counters["events"]) == (4, 650)


async def test_an_idle_poll_reads_no_events(polling: HttpPolling, publish: Publish, device: str) -> None:
    await publish(*run(f"{device}/system", 3))
    async with polling.subscribe(topics(device)) as subscription:
        await subscription.wait_live()
        while (counters := (await polling.health()).counters).get("unchanged", 0) < 5:
            await asyncio.sleep(0.01)
        assert counters.get("pages", 0) == 0
        assert counters["polls"] == counters["unchanged"] + 1


async def test_an_outage_is_said_and_nothing_of_it_is_missed(
    polling: HttpPolling, publish: Publish, device: str, query_process: QueryProcess
) -> None:
    stream = f"{device}/system"
    await publish(*run(stream, 2))
    async with polling.subscribe(topics(device)) as subscription:
        await subscription.wait_live()
        query_process.kill()
        await until(lambda: not subscription.live)
        health = await polling.health()
        assert health.status is Status.RECONNECTING
        assert "next try in" in health.detail
        await publish(event(stream, 3), event(stream, 4))
        await asyncio.to_thread(query_process.start)
        assert await take(subscription, 2) == [event(stream, 3), event(stream, 4)]
        await subscription.wait_live()
        assert (await polling.health()).counters["errors"] >= 1


async def test_more_topics_than_a_request_has_room_for(
    polling: HttpPolling, publish: Publish, device: str
) -> None:
    mine = [f"{device}-{number}" for number in range(150)]
    for name in mine[:2]:
        await publish(*run(f"{name}/system", 3))
    await publish(*run(f"{device}-other/system", 500))
    wanted = parse_topics(f"devices.{name}" for name in mine)
    assert (await polling.snapshot(wanted)).cursor.keys() == {f"{name}/system" for name in mine[:2]}
    async with polling.subscribe(wanted, Cursor()) as subscription:
        items = await take(subscription, 6)
        assert {item.stream for item in items} == {f"{name}/system" for name in mine[:2]}
        await publish(event(f"{device}-other/system", 501), event(f"{mine[0]}/system", 4))
        assert await take(subscription, 1) == [event(f"{mine[0]}/system", 4)]
    assert (await polling.health()).counters["events"] == 7


async def test_whoever_may_not_read_is_told_at_once(query_process: QueryProcess, token: Token) -> None:
    nobody = HttpPolling(query_process.url, lambda: token(app_metadata=None))
    subscription = nobody.subscribe(parse_topics([]))
    with pytest.raises(Refused, match="crossfade_role"):
        await subscription.wait_live()
    with pytest.raises(Refused, match="crossfade_role"):
        await nobody.snapshot(parse_topics([]))
    await nobody.close()


async def test_a_token_that_ends_is_waited_out(
    query_process: QueryProcess, publish: Publish, device: str, token: Token
) -> None:
    tokens = [token()]
    polling = HttpPolling(query_process.url, lambda: tokens[-1], every_seconds=0.05)
    async with polling.subscribe(topics(device), Cursor()) as subscription:
        await subscription.wait_live()
        tokens.append(token(exp=int(time.time()) - 1))
        await until(lambda: not subscription.live)
        assert "expired" in (await polling.health()).detail
        await publish(*run(f"{device}/system", 2))
        tokens.append(token())
        assert len(await take(subscription, 2)) == 2
    await polling.close()


async def test_nobody_there_is_unreachable(polling: HttpPolling) -> None:
    away = HttpPolling("http://127.0.0.1:9", str)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        await away.snapshot(parse_topics([]))
    await away.close()


async def test_a_slow_reader_holds_up_its_own_polls_only(
    polling: HttpPolling, publish: Publish, device: str
) -> None:
    stream = f"{device}/system"
    for first in range(1, 4001, 1000):
        await publish(*[each for each in run(stream, first + 999) if each.seq >= first])
    async with polling.subscribe(topics(device), Cursor()) as slow:
        counters = {}
        while counters.get("pages", 0) < 11:  # 2,048 items wait for the reader, and one page waits with them
            counters = (await polling.health()).counters
            await asyncio.sleep(0.01)
        async with polling.subscribe(topics(device)) as other:
            await other.wait_live()
        assert (await polling.health()).counters["pages"] == 11
        assert await take(slow, 4000) == run(stream, 4000)


async def test_the_address_may_be_wrong(embedded_supabase: EmbeddedSupabase) -> None:
    wrong = {
        embedded_supabase.url: "HTTP 404",
        "http://x:y": "check the address",
        "x:8000": "check the address",
    }
    for url, reason in wrong.items():
        elsewhere = HttpPolling(url, embedded_supabase.token)
        with pytest.raises(Refused, match=reason):
            await elsewhere.snapshot(parse_topics([]))
        await elsewhere.close()


async def test_connections_are_kept_between_polls(
    http: httpx.AsyncClient, polling: HttpPolling, device: str
) -> None:
    async with polling.subscribe(topics(device)) as subscription:
        await subscription.wait_live()
        while (await polling.health()).counters["polls"] < 10:
            await asyncio.sleep(0.01)
        pool = polling._client._http._transport._pool  # type: ignore[attr-defined]  # httpx has no public way to count
        assert len(pool.connections) == 1
