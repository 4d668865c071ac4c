"""Analytics in the database: rates, percentiles, top-N and availability, over samples that are rolled up and that are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from monitoring.events import Event, Kind, StreamId
from tests.integration.query.conftest import Publish

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
HOUR = NOW.replace(minute=0) - timedelta(hours=5)
"""An hour that is over: the tests' database rolls it up."""


def sample(
    stream: str, seq: int, at: datetime, payload: dict[str, Any], kind: str = Kind.METRIC_COLLECTED
) -> Event:
    return Event(uuid4(), StreamId(stream), 1, seq, kind, at, payload)


async def ask(http: httpx.AsyncClient, what: str, **query: Any) -> dict[str, Any]:
    response = await http.get(f"/api/analytics/{what}", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "private, max-age=15"
    found: dict[str, Any] = response.json()
    return found


async def roll_up(connection: asyncpg.Connection, stream: str) -> None:
    """Roll up the hours of a stream that are over."""
    await connection.execute(
        "select cf_roll_up_hour(stream, hour) from cf_rollup_pending where stream = $1 and hour < $2",
        stream,
        NOW - timedelta(hours=2),
    )
    await connection.execute(
        "delete from cf_rollup_pending where stream = $1 and hour < $2", stream, NOW - timedelta(hours=2)
    )


@pytest.fixture
async def stream(publish: Publish, device: str) -> str:
    """An hour of samples, one a minute: a gauge that counts the minutes, a counter that rises 60 a minute and restarts."""
    name = f"{device}/system"
    await publish(
        *(
            sample(
                name,
                n + 1,
                HOUR + timedelta(minutes=n),
                {"cpu_usage": n, "bytes": 60 * (n if n < 30 else n - 30)},
            )
            for n in range(60)
        )
    )
    return name


RANGE = {"from": HOUR.isoformat(), "to": (HOUR + timedelta(hours=1)).isoformat()}


@pytest.mark.parametrize("rolled_up", [False, True])
async def test_a_rate_survives_a_restart_of_its_counter(
    http: httpx.AsyncClient, connection: asyncpg.Connection, stream: str, *, rolled_up: bool
) -> None:
    if rolled_up:
        await roll_up(connection, stream)
    found = await ask(http, "rates", stream=stream, field="bytes", interval="10m", **RANGE)
    rates = [(rate, increase) for _, rate, increase in found["intervals"]]
    # The first minute has nothing before it; at the restart the counter begins anew at 0.
    assert [increase for _, increase in rates] == pytest.approx([540, 600, 600, 540, 600, 600])
    assert rates[1][0] == pytest.approx(1.0)


@pytest.mark.parametrize("rolled_up", [False, True])
async def test_percentiles_are_those_of_the_samples(
    http: httpx.AsyncClient, connection: asyncpg.Connection, stream: str, *, rolled_up: bool
) -> None:
    if rolled_up:
        await roll_up(connection, stream)
    found = await ask(
        http, "percentiles", stream=stream, field="cpu_usage", interval="1h", p=[0, 50, 100], **RANGE
    )
    assert found["of"] == "samples"
    (one,) = found["intervals"]
    assert (one["samples"], one["low"], one["high"]) == (60, 0, 59)
    assert one["values"] == [0, 29.5, 59]


async def test_percentiles_of_a_long_range_are_of_means_and_say_so(
    http: httpx.AsyncClient, connection: asyncpg.Connection, stream: str
) -> None:
    await roll_up(connection, stream)
    begin = (HOUR - timedelta(days=12)).isoformat()
    found = await ask(
        http, "percentiles", stream=stream, field="cpu_usage", interval="1d", **RANGE | {"from": begin}
    )
    assert found["of"] == "means of 10m"
    assert sum(one["samples"] for one in found["intervals"]) == 60
    assert {one["high"] for one in found["intervals"]} <= {59, 60 - NOW.minute, *range(60)}


async def test_the_top_is_ranked_in_each_interval_rolled_up_or_not(
    http: httpx.AsyncClient, connection: asyncpg.Connection, publish: Publish, device: str
) -> None:
    field = f"load_{device[4:]}"
    for number in range(4):
        name = f"{device}-{number}/system"
        await publish(
            *(
                sample(name, n + 1, HOUR + timedelta(minutes=n), {field: number if n < 30 else -number})
                for n in range(60)
            )
        )
        if number % 2:
            await roll_up(connection, name)
    found = await ask(http, "top", field=field, interval="30m", n=2, **RANGE)
    ranked = [[each["stream"].rpartition("-")[2] for each in one["top"]] for one in found["intervals"]]
    assert ranked == [["3/system", "2/system"], ["0/system", "1/system"]]
    assert found["of"] == 4


async def test_a_star_stands_for_every_name_in_brackets(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    listed = [{"name": name, "id": name, "status": "running", "running": True, f"cpu_{device[4:]}": cpu}
              for name, cpu in (("web", 3), ("db", 9))]  # fmt: skip
    await publish(
        sample(
            f"{device}/containers",
            1,
            NOW,
            {"available": True, "containers": listed},
            Kind.CONTAINERS_COLLECTED,
        )
    )
    found = await ask(
        http, "top", category="containers", field=f"containers[*].cpu_{device[4:]}", interval="1h"
    )
    (one,) = [each["top"] for each in found["intervals"]]
    assert [each["field"] for each in one] == [
        f"containers[db].cpu_{device[4:]}",
        f"containers[web].cpu_{device[4:]}",
    ]


def changed(stream: str, seq: int, at: datetime, old: str, new: str) -> Event:
    return sample(stream, seq, at, {"old_status": old, "new_status": new}, Kind.DEVICE_STATUS_CHANGED)


async def test_availability_tells_down_from_silent(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    """Down for 12 minutes of an hour, and for 6 others nothing was heard."""
    name = f"{device}/system"
    events = [
        sample(name, 0, HOUR + timedelta(minutes=n), {"cpu_usage": 1}) for n in range(60) if not 40 <= n < 46
    ]
    events.append(changed(name, 0, HOUR - timedelta(minutes=30), "unknown", "up"))
    events.append(changed(name, 0, HOUR + timedelta(minutes=10), "up", "down"))
    events.append(changed(name, 0, HOUR + timedelta(minutes=22), "down", "up"))
    ordered = sorted(events, key=lambda each: each.occurred_at)
    await publish(
        *(
            Event(each.id, each.stream, 1, seq, each.kind, each.occurred_at, each.payload)
            for seq, each in enumerate(ordered, start=1)
        )
    )
    found = await ask(http, "availability", device=device, interval="30m", **RANGE)
    (one,) = found["targets"]
    assert (one["up_seconds"], one["down_seconds"], one["silent_seconds"]) == (42 * 60, 12 * 60, 6 * 60)
    assert one["availability"] == pytest.approx(0.7)
    assert [interval[1] for interval in one["intervals"]] == pytest.approx([18 / 30, 24 / 30])
    assert one["changes"] == 2


async def test_a_container_counts_while_it_is_there(
    http: httpx.AsyncClient, publish: Publish, connection: asyncpg.Connection, device: str
) -> None:
    name = f"{device}/containers"

    def container(seq: int, minute: int, previous: Any, current: Any) -> Event:
        payload = {"container": {"id": "1", "name": "web"}, "previous": previous, "current": current}
        at = HOUR + timedelta(minutes=minute)
        return sample(name, seq, at, payload, Kind.CONTAINER_STATUS_CHANGED)

    runs = {"name": "web", "status": "running", "health": None, "running": True}
    await publish(
        container(1, 0, None, runs),
        container(2, 20, runs, runs | {"health": "unhealthy"}),
        container(3, 30, runs | {"health": "unhealthy"}, runs),
        container(4, 40, runs, None),
    )
    await connection.execute(
        "insert into cf_devices_latest (device, sampled_at) values ($1, now()) on conflict do nothing", device
    )
    found = await ask(http, "availability", device=device, container="*", interval="1h", **RANGE)
    (one,) = found["targets"]
    assert (one["container"], one["up_seconds"], one["down_seconds"]) == ("web", 30 * 60, 10 * 60)
    assert one["availability"] == pytest.approx(0.75)


async def test_events_are_counted_by_what_was_asked(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    await publish(
        *(sample(f"{device}/orders", n + 1, NOW, {}, "made" if n % 3 else "paid") for n in range(9))
    )
    found = await ask(http, "events", topic=f"devices.{device}", by="kind", interval="1h")
    assert {each["name"]: each["total"] for each in found["rates"]} == {"made": 6, "paid": 3}
    assert found["total"] == 9


@pytest.mark.parametrize(
    ("what", "query", "at"),
    [
        ("rates", {"stream": "web-1", "field": "x"}, "query stream"),
        ("rates", {"stream": "web-1/system", "field": "x", "interval": "1"}, "query interval"),
        ("rates", {"stream": "web-1/system", "field": "x", "interval": "1s"}, "query interval"),
        ("percentiles", {"stream": "web-1/system", "field": "x", "p": 101}, "query p 0"),
        ("percentiles", {"stream": "web-1/system", "field": "x", "p": "nan"}, "query p 0"),
        ("top", {"field": "x\0"}, "query field"),
        ("top", {"field": "x", "category": "a/b"}, "query category"),
        ("availability", {"interval": "10s", "limit": 100}, "query interval"),
        ("availability", {"device": "a b"}, "query device"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_place(
    http: httpx.AsyncClient, what: str, query: dict[str, Any], at: str
) -> None:
    response = await http.get(f"/api/analytics/{what}", params=query)
    assert response.status_code == 400, response.text
    assert response.json()["errors"][0]["at"] == at
