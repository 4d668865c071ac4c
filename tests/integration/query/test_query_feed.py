"""The feed by HTTP: what the database's functions say, and nobody else's rows."""

from __future__ import annotations

import json

import asyncpg
import httpx

from monitoring.events import to_json
from services.access import Caller
from services.database import Database
from tests.conftest import EmbeddedSupabase
from tests.fakes.event_factory import event, run
from tests.integration.query.conftest import Publish


async def test_heads_snapshot_and_missed_events_are_those_of_the_database(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    system, containers = f"{device}/system", f"{device}/containers"
    await publish(*run(system, 5), *run(containers, 2))
    here = {"topic": [f"devices.{device}"]}
    assert (await http.get("/api/heads", params=here)).json() == {system: [1, 5], containers: [1, 2]}
    snapshot = (await http.get("/api/snapshot", params=here)).json()
    assert snapshot["cursor"] == {system: [1, 5], containers: [1, 2]}
    assert to_json(event(system, 5)) in snapshot["state"]
    asked = {"cursor": {system: [1, 3]}, "topics": [f"devices.{device}"], "limit": 3}
    page = (await http.post("/api/events/after", json=asked)).json()
    assert [(each["stream"], each["seq"]) for each in page["events"]] == [
        (containers, 1),
        (containers, 2),
        (system, 4),
    ]
    assert page["more"] is True
    assert page["heads"] == {system: [1, 5], containers: [1, 2]}
    asked["cursor"] |= {containers: [1, 2], system: [1, 4]}
    page = (await http.post("/api/events/after", json=asked)).json()
    assert (page["events"], page["more"]) == ([to_json(event(system, 5))], False)


async def test_topics_are_united_and_none_means_everything(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    await publish(*run(f"{device}/system", 1), *run(f"{device}-b/system", 1), *run(f"{device}-c/system", 1))
    both = {"topic": [f"devices.{device}", f"devices.{device}-b"]}
    assert (await http.get("/api/heads", params=both)).json().keys() == {
        f"{device}/system",
        f"{device}-b/system",
    }
    assert (await http.get("/api/heads")).json().keys() >= {f"{device}/system", f"{device}-c/system"}


async def test_an_idle_poll_is_answered_without_content_until_something_moves(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    stream, here = f"{device}/system", {"topic": [f"devices.{device}"]}
    await publish(*run(stream, 2))
    first = await http.get("/api/heads", params=here)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for held in (tag, f'"other", W/{tag}', "*"):
        idle = await http.get("/api/heads", params=here, headers={"If-None-Match": held})
        assert (idle.status_code, idle.content, idle.headers["etag"]) == (304, b"", tag)
    await publish(event(stream, 3))
    moved = await http.get("/api/heads", params=here, headers={"If-None-Match": tag})
    assert (moved.status_code, moved.json()) == (200, {stream: [1, 3]})


async def test_the_database_decides_about_rows_whatever_the_service_thinks(
    embedded_supabase: EmbeddedSupabase, publish: Publish, device: str
) -> None:
    await publish(*run(f"{device}/system", 1))
    viewer = json.dumps({"app_metadata": {"crossfade_role": "viewer"}})
    sql, topics = "select public.cf_heads($1)", [f"devices.{device}"]
    async with Database(embedded_supabase.postgres.dsn("authenticator"), pool_size=1) as database:
        assert json.loads(
            await database.answer(Caller("authenticated", viewer, reads=True, writes=False), sql, topics)
        )
        # The same connection, a moment later: nothing of the caller before is left.
        assert (
            await database.answer(Caller("authenticated", "{}", reads=True, writes=False), sql, topics)
            == "{}"
        )
        assert json.loads(
            await database.answer(Caller("service_role", "{}", reads=True, writes=False), sql, topics)
        )


async def test_the_service_itself_may_read_nothing(embedded_supabase: EmbeddedSupabase) -> None:
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn("authenticator"))
    try:
        refused = ""
        try:
            await connection.fetchval("select count(*) from cf_events")
        except asyncpg.InsufficientPrivilegeError as error:
            refused = str(error)
    finally:
        await connection.close()
    assert "permission denied" in refused
