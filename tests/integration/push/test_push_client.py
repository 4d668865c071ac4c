"""Pushing to a real query service over a real PostgreSQL: kept, delivered once, and counted when it cannot be."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from crossfade import push
from tests.conftest import ROOT, EmbeddedSupabase
from tests.integration.push.conftest import stored
from tests.query_process import QueryProcess


@pytest.fixture
def operator(embedded_supabase: EmbeddedSupabase) -> str:
    return embedded_supabase.token("operator")


async def test_what_flush_says_is_kept_is_in_the_feed_and_in_the_latest_rows(
    query_process: QueryProcess, operator: str, connection: asyncpg.Connection, device: str
) -> None:
    async with push.application(device, query_process.url, token=operator) as app:
        app.session_created("s-1", user="ann")
        app.session_created("s-2", user="bob")
        app.session_updated("s-1", page="/cart")
        app.session_destroyed("s-2")
        app.connection("redis", data_size_bytes=10, response_time_ms=2.0)
        app.connection("redis", data_size_bytes=5, response_time_ms=4.0, error="timed out")
        app.connection("glm", direction="inbound")
        app.semaphore("pool", in_use=3, limit=10)
        assert await app.aflush(20)
    assert [each["session_id"] for each in await stored(connection, f"{device}/sessions", 4)] == [
        "s-1", "s-2", "s-1", "s-2",
    ]  # fmt: skip
    await stored(connection, f"{device}/connections", 3)
    await stored(connection, f"{device}/semaphores", 1)
    sessions = await connection.fetch(
        "select session_id, attributes::text from cf_sessions_latest where device = $1", device
    )
    assert [tuple(row) for row in sessions] == [("s-1", '{"page": "/cart", "user": "ann"}')]
    rows = await connection.fetch(
        "select connection_type, events, errors, data_bytes::int, response_ms_total, last_error "
        "from cf_connections_latest where device = $1 order by 1",
        device,
    )
    assert [tuple(row) for row in rows] == [
        ("glm", 1, 0, 0, 0.0, None),
        ("redis", 2, 1, 15, 6.0, "timed out"),
    ]
    gauges = await connection.fetchrow(
        "select name, capacity, in_use from cf_semaphores_latest where device = $1", device
    )
    assert tuple(gauges) == ("pool", 10, 3)


async def test_http_requests_of_an_application_are_counted_and_pushed(
    query_process: QueryProcess, operator: str, connection: asyncpg.Connection, device: str
) -> None:
    api = FastAPI()

    @api.get("/users/{user}")
    async def user(user: int) -> int:
        return user

    async with push.application(device, query_process.url, token=operator) as app:
        transport = httpx.ASGITransport(app=app.count_requests(api))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            for number in range(7):
                await client.get(f"/users/{number}")
            await client.get("/nothing")
        assert await app.aflush(20)
    counted: Counter[tuple[str, str]] = Counter()
    for payload in await stored(
        connection, f"{device}/requests", 1
    ):  # of one interval, or of two on a slow machine
        for row in payload["routes"]:
            counted[row["route"], row["status"]] += row["count"]
            assert sum(row["buckets"]) == row["count"]
    assert counted == {("/users/{user}", "2xx"): 7, ("unmatched", "4xx"): 1}
    total = await connection.fetchrow(
        "select requests, errors from cf_requests_latest where device = $1", device
    )
    assert tuple(total) == (8, 0)


async def test_the_service_is_killed_again_and_again_and_each_event_arrives_once_in_order(
    query_process: QueryProcess, operator: str, connection: asyncpg.Connection, device: str
) -> None:
    async with push.application(device, query_process.url, token=operator, batch_seconds=0.02) as app:
        number = 0
        for _ in range(4):
            for _ in range(150):
                assert app.event("things", "thing", {"number": number})
                number += 1
                await asyncio.sleep(0.001)
            query_process.kill()
            for _ in range(50):
                assert app.event("things", "thing", {"number": number})
                number += 1
            query_process.start()
        assert await app.aflush(30)
        assert app.status().kept == number
        assert not app.status().lost
    payloads = await stored(connection, f"{device}/things", number)
    assert [each["number"] for each in payloads] == list(range(number))


async def test_a_viewer_may_not_push_and_the_application_goes_on(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase, device: str
) -> None:
    app = push.application(device, query_process.url, token=embedded_supabase.token("viewer"))
    assert app.event("things", "thing", {})
    assert not await app.aflush(1)
    assert "operator or admin" in str(app.status().problem)
    app.close(0.2)
    assert app.status().lost == {"closed": 1}


async def test_a_token_that_was_renewed_is_used(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase, operator: str, device: str
) -> None:
    tokens = iter([embedded_supabase.token("operator", seconds=-5)])
    async with push.application(device, query_process.url, token=lambda: next(tokens, operator)) as app:
        app.event("things", "thing", {})
        assert await app.aflush(20)


def test_the_last_events_of_a_process_go_out_at_its_end_by_name_too(
    query_process: QueryProcess, operator: str, device: str
) -> None:
    """By name: asyncio could not resolve it any more by then."""
    url = query_process.url.replace("127.0.0.1", "localhost")
    program = f"""
from crossfade import push
app = push.application({device!r}, {url!r}, token={operator!r})
app.event("things", "thing", {{"last": True}})
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=30, cwd=ROOT
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    heads = httpx.get(
        f"{query_process.url}/api/snapshot",
        params={"topic": f"devices.{device}"},
        headers={"Authorization": f"Bearer {operator}"},
    )
    deadline = time.monotonic() + 10
    while "thing" not in heads.text:
        assert time.monotonic() < deadline, heads.text
        time.sleep(0.02)
        heads = httpx.get(heads.request.url, headers={"Authorization": f"Bearer {operator}"})


def test_a_process_whose_service_is_away_ends_in_time_and_says_what_is_lost(operator: str) -> None:
    program = f"""
import time
from crossfade import push
app = push.application("app", "http://127.0.0.1:9", token={operator!r})
app.event("things", "thing", {{}})
print(time.monotonic())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=30, cwd=ROOT
    )
    assert ended.returncode == 0
    assert time.monotonic() - float(ended.stdout) < 8  # two seconds, and what a busy machine adds
    assert "app ended with 1 events that nobody kept: they are lost" in ended.stderr
