"""Events by topic, time, kind, device and project, page by page, over the real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from monitoring.events import Event, StreamId
from tests.integration.query.conftest import Publish, Token

NOW = datetime.now(UTC).replace(microsecond=0)


def told(stream: str, kinds: list[str], *, ago: float = 0) -> list[Event]:
    """Return events a second apart, the last one some seconds ago."""
    begin = NOW - timedelta(seconds=ago + len(kinds) - 1)
    return [
        Event(uuid4(), StreamId(stream), 1, seq, kind, begin + timedelta(seconds=seq - 1), {"n": seq})
        for seq, kind in enumerate(kinds, start=1)
    ]


async def every(http: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    """Return the events of all pages."""
    found: list[dict[str, Any]] = []
    while True:
        response = await http.get("/api/events", params=query)
        assert response.status_code == 200, response.text
        page = response.json()
        found += page["events"]
        if page["next"] is None:
            return found
        query["next"] = page["next"]


async def test_pages_have_every_event_once_the_newest_first(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    await publish(*told(f"{device}/orders", ["made"] * 7), *told(f"{device}/bills", ["made"] * 5))
    for limit in (1, 3, 5, 12, 100):
        found = await every(http, device=device, limit=limit)
        assert len({each["id"] for each in found}) == len(found) == 12
        assert [each["occurred_at"] for each in found] == sorted(
            (each["occurred_at"] for each in found), reverse=True
        )


async def test_topic_time_and_kind_choose(http: httpx.AsyncClient, publish: Publish, device: str) -> None:
    await publish(
        *told(f"{device}/orders", ["made", "paid", "made"]), *told(f"{device}/bills", ["made"], ago=60)
    )
    assert [each["stream"] for each in await every(http, topic=f"devices.{device}", kind="made")] == [
        f"{device}/orders", f"{device}/orders", f"{device}/bills",
    ]  # fmt: skip
    since = (NOW - timedelta(seconds=1)).isoformat()
    assert [each["kind"] for each in await every(http, device=device, **{"from": since})] == ["made", "paid"]
    assert [each["kind"] for each in await every(http, device=device, to=since)] == ["made", "made"]
    assert await every(http, device=device, kind="nothing") == []


async def test_among_many_streams_rare_events_are_found_over_short_pages(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    for number in range(60):
        kinds = ["common"] * 3 + (["rare"] if number % 20 == 0 else [])
        await publish(*told(f"{device}-{number}/orders", kinds))
    found = await every(http, topic="categories.orders", kind="rare", limit=2)
    assert {each["stream"] for each in found} >= {f"{device}-{number}/orders" for number in (0, 20, 40)}


async def test_an_unchanged_page_is_not_sent_again(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    await publish(*told(f"{device}/orders", ["made"]))
    first = await http.get("/api/events", params={"device": device})
    tag = {"If-None-Match": first.headers["etag"]}
    assert (await http.get("/api/events", params={"device": device}, headers=tag)).status_code == 304


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ({"next": "bm9uc2Vuc2U"}, "query next"),
        ({"next": "';drop table cf_events;--"}, "query next"),
        ({"device": "../../etc/passwd"}, "query device"),
        ({"device": "a' or 1=1 --"}, "query device"),
        ({"kind": "a\0b"}, "query kind"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "query from"),
        ({"limit": 1001}, "query limit"),
        ({"project": "shop"}, "query project"),
        ({"topic": "device.x"}, "query topic (1)"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_place(
    http: httpx.AsyncClient, query: dict[str, Any], at: str
) -> None:
    response = await http.get("/api/events", params=query)
    assert response.status_code == 400, response.text
    assert response.json()["errors"][0]["at"] == at


async def test_an_export_has_what_the_pages_have(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    await publish(*told(f"{device}/orders", ["made"] * 1500))
    lines = (await http.get("/api/export/events", params={"device": device})).text.splitlines()
    assert len(lines) == 1500
    table = await http.get("/api/export/events", params={"device": device, "format": "csv", "limit": 10})
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in table.headers["content-disposition"]
    assert table.text.splitlines()[0] == "id,stream,epoch,seq,kind,occurred_at,payload"
    assert len(table.text.splitlines()) == 11


async def test_a_cell_that_a_spreadsheet_would_run_is_text(
    http: httpx.AsyncClient, publish: Publish, device: str
) -> None:
    await publish(*told(f"{device}/orders", ["=HYPERLINK(1)"]))
    table = await http.get("/api/export/events", params={"device": device, "format": "csv"})
    assert ",'=HYPERLINK(1)," in table.text


async def test_who_may_not_read_gets_nothing(http: httpx.AsyncClient, token: Token) -> None:
    stranger = {"Authorization": f"Bearer {token(app_metadata=None)}"}
    for path in ("/api/events", "/api/export/events", "/api/devices", "/api/containers", "/api/sessions",
                 "/api/projects", "/monitoring/dashboard", "/api/data", "/api/analytics/events"):  # fmt: skip
        assert (await http.get(path, headers=stranger)).status_code == 403, path
