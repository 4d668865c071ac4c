"""Routes of clients elsewhere, from the real service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.edge_routes import DEFAULT, EdgeRoutes
from adapters.query_client import QueryClient
from monitoring.flags.editing import edit
from monitoring.flags.loading import load
from monitoring.flags.routing import evaluate_route
from monitoring.route import Route
from monitoring.service import Backend
from tests.conftest import EmbeddedSupabase
from tests.query_process import QueryProcess
from tests.service_process import ROOT

SHIPPED = (ROOT / "flags.yaml").read_text()


@pytest.fixture
async def client(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase
) -> AsyncIterator[QueryClient]:
    made = QueryClient(query_process.url, embedded_supabase.token)
    yield made
    await made.close()


@pytest.fixture
async def routes(client: QueryClient) -> AsyncIterator[EdgeRoutes]:
    made = EdgeRoutes(client, every_seconds=0.1)
    running = asyncio.ensure_future(made.run())
    yield made
    running.cancel()
    await asyncio.wait({running})


async def changed(routes: EdgeRoutes, client_id: str, backend: Backend) -> float:
    """Wait until a client's route has a backend, by being woken alone; returns how many seconds that took."""
    woken = asyncio.Event()
    stop = routes.listen(woken.set)
    began = time.monotonic()
    async with asyncio.timeout(10):
        while routes.route(client_id).backend is not backend:
            woken.clear()
            await woken.wait()
    stop()
    return time.monotonic() - began


async def test_a_flag_edit_reaches_a_client_elsewhere_within_a_second(
    routes: EdgeRoutes, flags: Path
) -> None:
    answer = await routes.answered("web-1", 10)
    assert answer.route == Route(Backend.LEGACY)
    assert answer.route.fallbacks == (Backend.SUPABASE, Backend.POLLING)
    assert answer.age_seconds is not None
    assert answer.age_seconds < 5
    flags.write_text(edit(SHIPPED, "live.percent", "100"))
    assert await changed(routes, "web-1", Backend.SUPABASE) < 2
    flags.write_text(edit(SHIPPED, "websocket_session_events", "false"))
    await changed(routes, "web-1", Backend.LEGACY)
    assert routes.route("web-1") == Route(Backend.LEGACY, frozenset({"sessions"}))


async def test_before_the_first_answer_the_default_is_stated(client: QueryClient) -> None:
    nowhere = QueryClient("http://127.0.0.1:9", str)
    routes = EdgeRoutes(nowhere, every_seconds=0.05)
    assert "not asked yet" in routes.explain("web-1").detail
    running = asyncio.ensure_future(routes.run())
    began = time.monotonic()
    answer = await routes.answered("web-1", 0.5)
    assert 0.4 < time.monotonic() - began < 3
    assert (answer.route, answer.route.fallbacks) == (DEFAULT, (Backend.POLLING,))
    assert answer.age_seconds is None
    assert "127.0.0.1:9" in answer.detail
    assert "the legacy server by default" in answer.detail
    running.cancel()
    await asyncio.wait({running})
    await nowhere.close()


async def test_the_last_answer_stays_while_the_edge_is_away(
    routes: EdgeRoutes, query_process: QueryProcess, flags: Path
) -> None:
    flags.write_text(edit(SHIPPED, "live.allow", "web-1"))
    await changed(routes, "web-1", Backend.SUPABASE)
    query_process.kill()
    try:
        async with asyncio.timeout(10):
            while "stays in force" not in (answer := routes.explain("web-1")).detail:
                await asyncio.sleep(0.01)
        assert answer.route.backend is Backend.SUPABASE
        first = answer.age_seconds or 0
        await asyncio.sleep(0.2)
        assert (routes.explain("web-1").age_seconds or 0) >= first + 0.2
    finally:
        await asyncio.to_thread(query_process.start)
    async with asyncio.timeout(15):
        while "up to date" not in routes.explain("web-1").detail:
            await asyncio.sleep(0.01)
    assert routes.route("web-1").backend is Backend.SUPABASE


async def test_many_clients_of_one_process_share_requests(client: QueryClient, flags: Path) -> None:
    text = edit(SHIPPED, "live.percent", "37")
    flags.write_text(text)
    asked: list[int] = []

    class Counting(QueryClient):
        async def routes(self, clients, tag=""):  # type: ignore[no-untyped-def]
            answer = await client.routes(clients, tag)
            asked.append(0 if answer.body is None else len(clients))
            return answer

    routes = EdgeRoutes(Counting("http://unused", str), every_seconds=0.05)
    names = [f"web-{number}" for number in range(1100)]
    for name in names:
        assert routes.route(name) is DEFAULT
    running = asyncio.ensure_future(routes.run())
    mine = load(text)
    async with asyncio.timeout(20):
        while any(routes.route(name) != evaluate_route(mine, name) for name in names):
            await asyncio.sleep(0.01)
        del asked[:]
        while len(asked) < 6:
            await asyncio.sleep(0.01)
    assert not any(asked), "nothing has changed: nothing is sent"
    routes.forget("web-0")
    assert (await routes.answered("web-0", 10)).age_seconds is not None
    running.cancel()
    await asyncio.wait({running})
