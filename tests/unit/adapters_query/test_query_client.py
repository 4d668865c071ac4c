"""Answers that are not the service's own: what proxies and overloaded services say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import respx

from adapters.http_polling import HttpPolling
from adapters.query_client import AskedToWait, QueryClient, retry_after
from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.service import Status
from monitoring.topics import parse_topics

URL = "http://query.example"
ALL = parse_topics([])


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    made = QueryClient(URL + "/", lambda: "token")
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("86400", 300),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1" * 400, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(text, now=1000) == seconds


@respx.mock
async def test_each_kind_of_answer_is_an_error_of_ours(client: QueryClient) -> None:
    problem = {"detail": "the database does not answer", "type": "urn:crossfade:problem:database-away"}
    route = respx.get(f"{URL}/api/heads")
    for answer, error, words in (
        (httpx.Response(503, json=problem), Unreachable, "HTTP 503: the database does not answer"),
        (httpx.Response(502, text="<html>\n  bad gateway"), Unreachable, "HTTP 502: <html> bad gateway"),
        (httpx.Response(500), Unreachable, "HTTP 500: Internal Server Error"),
        (httpx.Response(302), Unreachable, "HTTP 302"),
        (httpx.Response(429), Unreachable, "HTTP 429"),
        (httpx.Response(401), Refused, "sign in again"),
        (httpx.Response(404), Refused, "check the address"),
        (httpx.Response(200, text="<html>welcome"), Unreachable, "not JSON"),
        (httpx.Response(200, json=[]), Refused, "unreadable heads"),
        (httpx.Response(200, json={"a/b": "x"}), Refused, "unreadable heads"),
    ):
        route.side_effect = [answer]
        with pytest.raises(error, match=words):
            await client.heads(ALL)
    route.side_effect = httpx.ReadTimeout("")
    with pytest.raises(Unreachable, match="ReadTimeout"):
        await client.heads(ALL)
    respx.post(f"{URL}/api/events/after").respond(json={"events": [{}], "heads": {}})
    with pytest.raises(Refused, match="unreadable event"):
        await client.after(Cursor(), ALL)
    respx.get(f"{URL}/api/snapshot").respond(json=1)
    with pytest.raises(Refused, match="not an object"):
        await client.snapshot(ALL)


@respx.mock
async def test_a_service_that_says_when_to_come_back_is_heard(client: QueryClient) -> None:
    respx.get(f"{URL}/api/heads").respond(503, headers={"Retry-After": "9"})
    with pytest.raises(AskedToWait) as waiting:
        await client.heads(ALL)
    assert waiting.value.retry_after_seconds == 9


@respx.mock
async def test_polls_wait_as_long_as_they_are_asked_to() -> None:
    answers = [httpx.Response(429, headers={"Retry-After": "1"}), httpx.Response(200, json={})]
    route = respx.get(f"{URL}/api/heads").mock(side_effect=answers)
    polling = HttpPolling(URL, lambda: "token")
    began = asyncio.get_running_loop().time()
    async with polling.subscribe(ALL) as subscription, asyncio.timeout(10):
        await subscription.wait_live()
    assert asyncio.get_running_loop().time() - began >= 1
    assert route.call_count == 2
    assert route.calls[0].request.headers["authorization"] == "Bearer token"
    health = await polling.health()
    assert (health.status, health.counters["errors"]) == (Status.LIVE, 1)
    await polling.close()
    assert (await polling.health()).status is Status.CLOSED


@respx.mock
async def test_the_tag_of_an_answer_comes_back_with_the_next_question(client: QueryClient) -> None:
    route = respx.get(f"{URL}/api/heads")
    route.side_effect = [
        httpx.Response(200, json={"a/b": [1, 2]}, headers={"ETag": '"one"'}),
        httpx.Response(304),
    ]
    heads, tag = await client.heads(ALL)
    assert (heads, tag) == (Cursor.from_json({"a/b": [1, 2]}), '"one"')
    assert await client.heads(ALL, tag) == (None, '"one"')
    assert "if-none-match" not in route.calls[0].request.headers
    assert route.calls[1].request.headers["if-none-match"] == '"one"'


async def test_a_token_that_cannot_be_had_is_an_outage_and_ends_nothing() -> None:
    def away() -> str:
        raise OSError("the sign-in service does not answer")

    client = QueryClient(URL, away)
    with pytest.raises(Unreachable, match="no access token: the sign-in service does not answer"):
        await client.connection()
    polling = HttpPolling(URL, away)
    subscription = polling.subscribe(ALL)
    while (await polling.health()).status is not Status.RECONNECTING:
        await asyncio.sleep(0)
    assert not subscription.ended
    await polling.close()
