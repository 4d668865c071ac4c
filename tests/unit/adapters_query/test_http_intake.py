"""What the answers of a query service mean for the events that were handed over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest
import respx

from adapters.http_intake import HttpIntake
from monitoring.events import Draft, StreamId
from monitoring.intake import Taken

URL = "http://query.example:8000"
DRAFTS = [
    Draft(StreamId("app-7/things"), "thing", datetime(2026, 11, 21, 8, tzinfo=UTC), {"n": n}, UUID(int=n))
    for n in range(5)
]


async def taken(drafts: Sequence[Draft] = DRAFTS) -> Sequence[Taken]:
    async with HttpIntake(lambda: (URL, "secret")) as intake:
        return await intake.take(drafts)


def receipt(request: httpx.Request) -> httpx.Response:
    """Answer as the service does; it refuses event 3."""
    items = [
        {"id": event["id"], "kept": event["payload"]["n"] != 3, "repeated": event["payload"]["n"] == 1,
         "reason": "bad" if event["payload"]["n"] == 3 else None, "again": False}
        for event in json.loads(request.content)["events"]
    ]  # fmt: skip
    return httpx.Response(202, json={"items": items})


@respx.mock
async def test_each_event_is_answered_by_itself() -> None:
    route = respx.post(f"{URL}/api/events").mock(side_effect=receipt)
    assert await taken() == [Taken(), Taken(repeated=True), Taken(), Taken("bad"), Taken()]
    request = route.calls.last.request
    assert request.headers["authorization"] == "Bearer secret"
    assert json.loads(request.content)["events"][2] == {
        "id": str(UUID(int=2)), "stream": "app-7/things", "kind": "thing",
        "occurred_at": "2026-11-21T08:00:00.000000Z", "payload": {"n": 2},
    }  # fmt: skip


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 502, 503])
@respx.mock
async def test_what_may_pass_is_tried_again(status: int) -> None:
    respx.post(f"{URL}/api/events").respond(status, json={"detail": "not now"})
    outcomes = await taken()
    assert all(each.again for each in outcomes)
    assert f"{status}: not now" in str(outcomes[0].refused)


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout(""), httpx.InvalidURL("x")]
)
@respx.mock
async def test_a_service_that_is_away_is_tried_again(error: Exception) -> None:
    respx.post(f"{URL}/api/events").mock(side_effect=error)
    assert all(each.again and "cannot be reached" in str(each.refused) for each in await taken())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"items": []}', b'{"items": [1,2,3,4,5]}'])
@respx.mock
async def test_an_answer_that_makes_no_sense_is_tried_again(content: bytes) -> None:
    respx.post(f"{URL}/api/events").respond(202, content=content)
    assert all(each.again for each in await taken())


@pytest.mark.parametrize("status", [400, 413])
@respx.mock
async def test_of_a_batch_that_is_refused_whole_only_the_bad_event_is_lost(status: int) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        numbers = [event["payload"]["n"] for event in json.loads(request.content)["events"]]
        return httpx.Response(status, json={"detail": "no"}) if 2 in numbers else receipt(request)

    respx.post(f"{URL}/api/events").mock(side_effect=answer)
    outcomes = await taken()
    assert [each.refused is None for each in outcomes] == [True, True, False, False, True]
    assert [each.again for each in outcomes] == [False] * 5


@respx.mock
async def test_what_follows_an_event_that_waits_waits_too() -> None:
    answers = [httpx.Response(413), httpx.Response(503)]
    route = respx.post(f"{URL}/api/events").mock(side_effect=answers)
    assert all(each.again for each in await taken())
    assert route.call_count == 2
