"""What there is: devices, containers and sessions as they were told last, the first page, and seed 002's one-time fetch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from monitoring.events import Event, StreamId
from tests.integration.query.conftest import Publish

NOW = datetime.now(UTC).replace(microsecond=0)
SEED_KEYS = {"name", "full_name", "status", "status_detail", "running", "health", "id", "created"}


def told(stream: str, seq: int, kind: str, payload: dict[str, Any]) -> Event:
    return Event(uuid4(), StreamId(stream), 1, seq, kind, NOW + timedelta(seconds=seq), payload)


def listed(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"available": True, "containers": list(containers)}


def container(name: str, status: str = "running", **more: Any) -> dict[str, Any]:
    return {
        "id": f"{name}-id", "name": name, "image": "shop:1", "status": status, "running": status == "running",
        "health": None, "cpu_percent": 12.5, "memory_used_bytes": 1000, "memory_limit_bytes": 4000,
    } | more  # fmt: skip


async def got(http: httpx.AsyncClient, path: str, **query: Any) -> dict[str, Any]:
    response = await http.get(path, params=query or None)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_containers_are_those_of_the_newest_list(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    stream = f"{device}/containers"
    await publish(told(stream, 1, "containers_collected", listed(container("api"), container("gone"))))
    await publish(
        told(
            stream, 2, "containers_collected",
            listed(container("api", "exited"), container("db", health="healthy"), container("web")),
        )
    )  # fmt: skip
    found = (await got(http, "/api/containers", device=device))["containers"]
    assert [(each["name"], each["status"], each["running"], each["health"]) for each in found] == [
        ("api", "exited", False, None), ("db", "running", True, "healthy"), ("web", "running", True, None),
    ]  # fmt: skip
    assert (found[1]["image"], found[1]["cpu_percent"], found[1]["memory_limit_bytes"]) == (
        "shop:1",
        12.5,
        4000,
    )
    first = await got(http, "/api/containers", device=device, limit=2)
    rest = await got(http, "/api/containers", device=device, limit=2, next=first["next"])
    assert [each["name"] for each in first["containers"] + rest["containers"]] == ["api", "db", "web"]
    assert rest["next"] is None
    assert [
        each["name"]
        for each in (await got(http, "/api/containers", device=device, running=False))["containers"]
    ] == ["api"]


async def test_the_one_time_fetch_has_the_seeds_words(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    await publish(
        told(f"{device}/containers", 1, "containers_collected", listed(container("db", health="healthy")))
    )
    answer = await got(http, "/api/data")
    assert answer["type"] == "initial_state"
    assert datetime.fromisoformat(answer["timestamp"]) >= NOW - timedelta(minutes=1)
    (ours,) = (each for each in answer["containers"] if each["device"] == device)
    assert set(ours) == SEED_KEYS | {"device"}
    assert (ours["name"], ours["status"], ours["running"], ours["health"], ours["created"]) == (
        "db", "running", True, "healthy", True,
    )  # fmt: skip


async def test_sessions_are_those_that_have_not_ended(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    stream = f"{device}/sessions"
    ann = {"user": "ann"}
    await publish(
        told(stream, 1, "session_created", {"session_id": "a", "attributes": ann}),
        told(stream, 2, "session_created", {"session_id": "b", "attributes": {}}),
        told(stream, 3, "session_updated", {"session_id": "a", "attributes": ann | {"page": "/cart"}}),
        told(stream, 4, "session_destroyed", {"session_id": "b", "attributes": {}}),
    )
    (only,) = (await got(http, "/api/sessions", device=device))["sessions"]
    assert only["session_id"] == "a"
    assert only["attributes"] == {"user": "ann", "page": "/cart"}
    assert only["created_at"] < only["updated_at"]


async def test_a_device_is_what_all_its_streams_say(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    reading = {"hostname": "web-1.example", "cpu_usage": 12.5, "memory_usage": 48.0}
    await publish(
        told(f"{device}/system", 1, "metric_collected", reading),
        told(
            f"{device}/containers",
            1,
            "containers_collected",
            listed(container("api"), container("db", "exited")),
        ),
    )
    found = await got(http, f"/api/devices/{device}")
    assert (found["hostname"], found["cpu_usage"], found["memory_usage"]) == ("web-1.example", 12.5, 48.0)
    assert (found["containers"], found["containers_running"], found["application"]) == (2, 1, False)
    assert found["categories"] == ["containers", "system"]
    page = await got(http, "/api/devices", limit=1000)
    assert device in [each["device"] for each in page["devices"]]
    assert (await http.get("/api/devices/nobody")).status_code == 404


async def test_the_first_page_counts_what_is_there(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    before = await got(http, "/monitoring/dashboard")
    await publish(
        replace(
            told(f"{device}/system", 1, "metric_collected", {"cpu_usage": 99.5, "memory_usage": 10.0}),
            occurred_at=datetime.now(UTC),  # what is older than a quarter of an hour says nothing of now
        ),
        told(
            f"{device}/containers",
            1,
            "containers_collected",
            listed(container("api"), container("db", "exited")),
        ),
        told(f"{device}/sessions", 1, "session_created", {"session_id": "a"}),
    )
    after = await got(http, "/monitoring/dashboard")
    grown = {
        "devices": after["devices"]["total"] - before["devices"]["total"],
        "containers": after["containers"]["total"] - before["containers"]["total"],
        "running": after["containers"]["running"] - before["containers"]["running"],
        "sessions": after["sessions"] - before["sessions"],
        "streams": after["streams"]["total"] - before["streams"]["total"],
    }
    assert grown == {"devices": 1, "containers": 2, "running": 1, "sessions": 1, "streams": 3}
    assert {"device": device, "cpu_usage": 99.5, "memory_usage": 10.0} in after["devices"]["busiest"]


@pytest.mark.parametrize(
    "path", ["/api/containers?device=nobody", "/api/sessions?device=nobody", "/api/devices/{device}"]
)
async def test_what_has_not_changed_is_not_sent_again(
    http: httpx.AsyncClient, publish: Publish, device: str, path: str
) -> None:
    await publish(told(f"{device}/system", 1, "metric_collected", {"cpu_usage": 1.0}))
    first = await http.get(path.format(device=device))
    again = await http.get(path.format(device=device), headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
