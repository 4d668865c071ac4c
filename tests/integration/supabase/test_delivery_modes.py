"""The migration's part of the delivery: what is published, what is broadcast, who beats, and who may see it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from tests.fakes.event_factory import event, run
from tests.integration.supabase.conftest import Database


async def messages(database: Database, since: Any, *topics: str) -> list[dict[str, Any]]:
    rows = json.loads(
        await database.call(
            "select coalesce(json_agg(m order by m.inserted_at, m.ctid), '[]') from realtime.messages m"
            " where topic = any($1) and inserted_at > $2",
            list(topics),
            since,
        )
    )
    for row in rows:
        if row["event"] == "events":
            row["bytes"] = len(json.dumps(row["payload"]))
            row["payload"]["events"] = json.loads(row["payload"]["events"])
    return [row for row in rows if row["private"] and row["extension"] == "broadcast"]


@pytest.fixture
async def since(database: Database) -> Any:
    return await database.call("select (clock_timestamp() at time zone 'utc')")


async def published(database: Database) -> bool:
    found: bool = await database.call(
        "select exists (select from pg_publication_tables where pubname = 'supabase_realtime'"
        " and tablename = 'cf_events')"
    )
    return found


async def test_the_feed_is_published_in_changes_mode_only(database: Database) -> None:
    await database.mode("broadcast")
    assert not await published(database)
    await database.mode("broadcast")
    assert not await published(database)
    await database.mode("changes")
    assert await published(database)


async def test_a_statement_is_one_message_a_device_and_one_for_all(
    database: Database, device: str, since: Any
) -> None:
    await database.mode("broadcast")
    one, two = f"{device}-1", f"{device}-2"
    await database.publish(*run(f"{one}/system", 3), *run(f"{one}/drives", 2), *run(f"{two}/system", 2))
    sent = await messages(database, since, f"device:{one}", f"device:{two}", "feed")
    places = {
        message["topic"]: [(e["stream"], e["seq"]) for e in message["payload"]["events"]] for message in sent
    }
    first = [(f"{one}/drives", 1), (f"{one}/drives", 2), *((f"{one}/system", n) for n in (1, 2, 3))]
    second = [(f"{two}/system", 1), (f"{two}/system", 2)]
    assert len(sent) == 3
    assert places == {f"device:{one}": first, f"device:{two}": second, "feed": first + second}


async def test_nothing_is_broadcast_in_changes_mode_nor_of_what_was_there_already(
    database: Database, device: str, since: Any
) -> None:
    events = run(f"{device}/system", 3)
    await database.mode("changes")
    await database.publish(*events)
    await database.mode("broadcast")
    await database.publish(*events)
    assert await messages(database, since, f"device:{device}") == []


async def test_messages_stay_under_200_kb_and_what_is_larger_is_named(
    database: Database, device: str, since: Any
) -> None:
    stream = f"{device}/system"
    await database.mode("broadcast")
    large = [event(stream, seq, text="x" * 60_000) for seq in range(2, 9)]
    await database.publish(event(stream, 1), *large, event(stream, 9, text="x" * 150_000), event(stream, 10))
    sent = await messages(database, since, f"device:{device}")
    assert len(sent) > 3
    assert max(message["bytes"] for message in sent) <= 200_000
    assert [e["seq"] for message in sent for e in message["payload"]["events"]] == [*range(1, 9), 10]
    assert [m["payload"]["heads"] for m in sent if m["payload"]["heads"]] == [{stream: [1, 9]}]


async def test_of_many_owners_one_beats_and_says_which_heads_moved(
    database: Database, device: str, since: Any
) -> None:
    await database.mode("broadcast", 0.5)
    await database.publish(*run(f"{device}/system", 4))
    owners = [Database(database.postgres) for _ in range(4)]
    before = await database.call("select beat from cf_delivery")
    try:
        async with asyncio.timeout(20):
            while await database.call("select beat from cf_delivery") == before:
                waits = await asyncio.gather(*(owner.call("select cf_beat()") for owner in owners))
                assert all(0 < wait <= 0.5 for wait in waits)
    finally:
        await asyncio.gather(*(owner.close() for owner in owners))
    assert await database.call("select beat from cf_delivery") == before + 1
    sent = [m["payload"] for m in await messages(database, since, "beat")]
    assert sent[-1]["mode"] == "broadcast"
    assert sent[-1]["beat"] == before + 1
    assert sent[-1]["heads"][f"{device}/system"] == [1, 4]


async def test_a_mode_that_there_is_not_is_refused(database: Database) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="no mode"):
        await database.call("select cf_set_mode('chnges')")
    with pytest.raises(asyncpg.CheckViolationError):
        await database.call("select cf_set_mode(null, 0.01)")


@pytest.mark.parametrize(
    ("role", "topic", "allowed"),
    [
        ("viewer", "feed", True),
        ("operator", "beat", True),
        ("admin", "device:web-1", True),
        ("viewer", "feeds", False),
        ("viewer", "chat", False),
        ("stranger", "feed", False),
        (None, "device:web-1", False),
    ],
)
async def test_readers_alone_may_listen(
    database: Database, role: str | None, topic: str, *, allowed: bool
) -> None:
    """As Realtime asks it: a row of the topic is there, and the reader sees it or not."""
    claims = json.dumps({"role": "authenticated", "app_metadata": {"crossfade_role": role} if role else {}})
    await database.call("select 1")
    transaction = database._connection.transaction()
    await transaction.start()
    try:
        for name, value in (("realtime.topic", topic), ("request.jwt.claims", claims)):
            await database.call("select set_config($1, $2, true)", name, value)
        await database.call(
            "insert into realtime.messages (topic, extension, private) values ($1, 'broadcast', true)", topic
        )
        await database._connection.execute("set local role authenticated")
        assert await database.call("select exists (select from realtime.messages)") is allowed
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.call(
                "insert into realtime.messages (topic, extension, private) values ($1, 'broadcast', true)",
                topic,
            )
    finally:
        await transaction.rollback()


async def test_nobody_but_an_owner_beats_or_chooses(database: Database) -> None:
    await database.call("select 1")
    for function in ("cf_beat()", "cf_set_mode('changes')"):
        transaction = database._connection.transaction()
        await transaction.start()
        await database._connection.execute("set local role authenticated")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.call(f"select {function}")
        await transaction.rollback()


async def test_a_page_of_history_is_bounded_in_bytes(database: Database, device: str) -> None:
    stream = f"{device}/system"
    # not compressible, so that what is stored is as large as what is sent
    text = "".join(f"{n * 2654435761 % 2**32:08x}" for n in range(50_000))
    await database.publish(*(event(stream, seq, text=text) for seq in range(1, 11)))
    cursor: dict[str, Any] = {}
    pages = []
    while True:
        answer = json.loads(
            await database.call("select cf_events_after($1, $2)", json.dumps(cursor), [f"devices.{device}"])
        )
        pages.append([e["seq"] for e in answer["events"]])
        if not answer["more"]:
            break
        cursor = {stream: [1, pages[-1][-1]]}
    assert [seq for page in pages for seq in page] == list(range(1, 11))
    assert 2 <= len(pages) <= 5
