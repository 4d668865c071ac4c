"""The latest rows of applications: exact over repeats, bounded, never in the way of an event, seen by readers alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from monitoring.events import StreamId, format_time, metric_type_of

OWNER = uuid.UUID(int=11)
TABLES = ("cf_sessions_latest", "cf_connections_latest", "cf_semaphores_latest", "cf_requests_latest")
AT = datetime.now(UTC)


def rows(stream: str, events: Sequence[tuple[str, Any]], first: int = 1, epoch: int = 1) -> str:
    """Return a batch for cf_append."""
    return json.dumps(
        [
            {
                "id": str(uuid.uuid4()), "stream": stream, "epoch": epoch, "seq": first + number, "kind": kind,
                "occurred_at": format_time(AT + timedelta(seconds=first + number)), "payload": payload,
                "metric_type": metric_type_of(StreamId(stream)),
            }
            for number, (kind, payload) in enumerate(events)
        ]
    )  # fmt: skip


async def append(connection: asyncpg.Connection, stream: str, batch: str) -> int:
    await connection.fetchval("select cf_acquire_lease($1, $2, 1)", stream, OWNER)
    return int(await connection.fetchval("select cf_append($1, $2)", OWNER, batch))


async def count(connection: asyncpg.Connection, table: str, device: str) -> int:
    return int(await connection.fetchval(f"select count(*) from {table} where device = $1", device))  # noqa: S608


def used(type_: str = "redis", **more: Any) -> tuple[str, Any]:
    return "connection_event", {"connection_type": type_, **more}


async def test_events_that_are_sent_again_are_not_counted_again_even_when_the_feed_has_forgotten_them(
    connection: asyncpg.Connection, device: str
) -> None:
    connections, requests = f"{device}/connections", f"{device}/requests"
    interval = ("http_requests", {"count": 5, "errors": 1, "interval_seconds": 2, "duration_ms_total": 10.5})
    batches = [
        (connections, rows(connections, [used(data_size_bytes=3, response_time_ms=2)] * 4)),
        (requests, rows(requests, [interval] * 3)),
    ]

    async def counted() -> tuple[Any, ...]:
        one = await connection.fetchrow(
            "select events, data_bytes::int, responses, response_ms_total, response_ms_max, seq "
            "from cf_connections_latest where device = $1",
            device,
        )
        two = await connection.fetchrow(
            "select requests, errors, duration_ms_total, per_second, seq from cf_requests_latest where device = $1",
            device,
        )
        return (*one, *two)

    for stream, batch in batches:
        await append(connection, stream, batch)
    once = (4, 12, 4, 8.0, 2.0, 4, 15, 3, 31.5, 2.5, 3)
    assert await counted() == once
    for stream, batch in batches:
        assert await append(connection, stream, batch) == 0
    assert await counted() == once
    await connection.execute("delete from cf_events where device = $1", device)
    for stream, batch in batches:
        await append(connection, stream, batch)
    assert await counted() == once
    await append(connection, connections, rows(connections, [used(error="no")], first=5))
    one = await connection.fetchrow(
        "select events, errors, last_error from cf_connections_latest where device = $1", device
    )
    assert tuple(one) == (5, 1, "no")


async def test_sessions_come_change_and_go(connection: asyncpg.Connection, device: str) -> None:
    stream = f"{device}/sessions"

    def change(kind: str, id_: str, **attributes: Any) -> tuple[str, Any]:
        return f"session_{kind}", {"session_id": id_, "attributes": attributes}

    await append(
        connection,
        stream,
        rows(stream, [
            change("created", "a", n=1), change("created", "b"), change("updated", "a", n=2),
            change("destroyed", "b"), change("created", "c"), change("updated", "d", n=9),
        ]),
    )  # fmt: skip

    async def active() -> list[tuple[Any, ...]]:
        found = await connection.fetch(
            "select session_id, attributes::text, created_at - $2, updated_at - $2 from cf_sessions_latest "
            "where device = $1 order by 1",
            device,
            AT,
        )
        return [
            (id_, json.loads(had), *(round(at.total_seconds()) for at in ats)) for id_, had, *ats in found
        ]

    assert await active() == [("a", {"n": 2}, 1, 3), ("c", {}, 5, 5), ("d", {"n": 9}, 6, 6)]
    late = rows(stream, [change("updated", "a", n=3), change("destroyed", "c")], first=7)
    await append(connection, stream, late)
    await append(connection, stream, late)
    assert await active() == [("a", {"n": 3}, 1, 7), ("d", {"n": 9}, 6, 6)]
    await connection.execute(
        "update cf_sessions_latest set recorded_at = now() - interval '25 hours' where device = $1 and session_id = 'd'",
        device,
    )
    await append(connection, stream, rows(stream, [change("created", "e")], first=9))
    assert [each[0] for each in await active()] == ["a", "e"]


@pytest.mark.parametrize(
    ("category", "kind", "key", "table", "bound"),
    [
        ("sessions", "session_created", "session_id", "cf_sessions_latest", 10_000),
        ("connections", "connection_event", "connection_type", "cf_connections_latest", 200),
        ("semaphores", "semaphore_gauge", "name", "cf_semaphores_latest", 1_000),
    ],
)
async def test_an_application_cannot_grow_the_tables(
    connection: asyncpg.Connection, device: str, category: str, kind: str, key: str, table: str, bound: int
) -> None:
    stream = f"{device}/{category}"
    events = [(kind, {key: f"{number:06}"}) for number in range(bound + 7)]
    for start in range(0, len(events), 5_000):
        await append(connection, stream, rows(stream, events[start : start + 5_000], first=start + 1))
    oldest = await connection.fetchval(f"select min({key}) from {table} where device = $1", device)  # noqa: S608
    assert (await count(connection, table, device), oldest) == (bound, "000007")


ODD = [None, True, -1, 1e300, -1e300, 1.5, 10**18, "x", "", "x" * 9_000, [], {}, [1], {"a": 1}]


async def test_no_payload_keeps_an_event_out(connection: asyncpg.Connection, device: str) -> None:
    shapes = {
        "sessions": [("session_created", ("session_id", "attributes")), ("session_destroyed", ("session_id",))],
        "connections": [("connection_event", ("connection_type", "data_size_bytes", "response_time_ms", "error"))],
        "semaphores": [("semaphore_gauge", ("name", "limit", "in_use", "waiting"))],
        "requests": [("http_requests", ("count", "errors", "interval_seconds", "duration_ms_total", "routes"))],
    }  # fmt: skip
    for category, kinds in shapes.items():
        stream = f"{device}/{category}"
        good = {
            "session_id": "s",
            "connection_type": "redis",
            "name": "pool",
            "count": 1,
            "interval_seconds": 1,
        }
        events = [(kind, {}) for kind, _ in kinds]
        events += [(kind, good | {key: value}) for kind, keys in kinds for key in keys for value in ODD]
        assert await append(connection, stream, rows(stream, events)) == len(events)


async def test_kinds_in_other_streams_and_other_kinds_change_nothing(
    connection: asyncpg.Connection, device: str
) -> None:
    for stream in (f"{device}/things", f"{device}/sessions"):
        await append(connection, stream, rows(stream, [used(), ("thing", {"session_id": "s"})]))
    for table in TABLES:
        assert await count(connection, table, device) == 0


async def fill(connection: asyncpg.Connection, device: str) -> None:
    for category, event in (
        ("sessions", ("session_created", {"session_id": "s"})),
        ("connections", used()),
        ("semaphores", ("semaphore_gauge", {"name": "pool", "in_use": 1})),
        ("requests", ("http_requests", {"count": 1, "interval_seconds": 5})),
    ):
        await append(connection, f"{device}/{category}", rows(f"{device}/{category}", [event]))


@pytest.mark.parametrize("table", TABLES)
async def test_who_sees_the_rows_and_who_writes_them(
    connection: asyncpg.Connection, device: str, table: str
) -> None:
    await fill(connection, device)

    async def seen(role: str, crossfade_role: str | None = None) -> int:
        claims = {"role": role, "app_metadata": {"crossfade_role": crossfade_role}}
        async with connection.transaction():
            await connection.execute(
                "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)",
                role,
                json.dumps(claims),
            )
            return await count(connection, table, device)

    for role in ("viewer", "operator", "admin"):
        assert await seen("authenticated", role) == 1
    assert await seen("authenticated") == 0
    assert await seen("authenticated", "nobody") == 0
    assert await seen("service_role") == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await seen("anon")
    for statement in (
        f"delete from {table}",  # noqa: S608
        f"update {table} set epoch = 1",  # noqa: S608
        f"insert into {table} (device) values ('x')",  # noqa: S608
        "select cf_count('1')",
        "select cf_project_sessions('{}')",
        "select cf_project_connections('{}')",
        "select cf_project_semaphores('{}')",
        "select cf_project_requests('{}')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_admin(connection, statement)


async def as_admin(connection: asyncpg.Connection, statement: str) -> None:
    """Run a statement as a signed-in admin, who may read everything and write nothing."""
    claims = json.dumps({"role": "authenticated", "app_metadata": {"crossfade_role": "admin"}})
    async with connection.transaction():
        await connection.execute(
            "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)",
            claims,
        )
        await connection.execute(statement)


async def test_the_service_role_writes_events_and_with_them_the_rows(
    connection: asyncpg.Connection, device: str
) -> None:
    async with connection.transaction():
        await connection.execute("set local role service_role")
        await fill(connection, device)
        for table in TABLES:
            assert await count(connection, table, device) == 1
