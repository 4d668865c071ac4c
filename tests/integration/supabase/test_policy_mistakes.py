"""A row level policy with a mistake in it: the comparison sees it, since its taps have a viewer's rights and no more."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import websockets

from adapters.legacy_websocket import LegacyWebSocket
from adapters.spool import Spool
from adapters.spool_reader import SpoolReader
from adapters.supabase_realtime import SupabaseRealtime
from legacy_ws.server import LegacyServer
from monitoring.events import Draft, StreamId, stream_id, to_json
from monitoring.route import Route
from monitoring.router import Router
from monitoring.service import Backend
from monitoring.topics import parse_topics
from monitoring.witness import Witness
from tests.conftest import EmbeddedSupabase
from tests.integration.supabase.conftest import Database, StartGateway, until
from validation.clients import Fault, Report
from validation.limits import Limits
from validation.observation import Outcome
from validation.result import Result
from validation.runner import LiveComparison
from validation.terms import Terms
from validation.verdict import Verdict

TOKEN = "policy-tests"
LIMITS = Limits(grace_seconds=1.0, grace_cap_seconds=4.0, truth_is_complete=False)
MISTAKES = {
    "none": None,
    "hides some rows": "coalesce((payload ->> 'n')::int % 7, 0) <> 3",
    "hides a stream": "stream not like '%/drives'",
}


class ToSupabase:
    """A client whose flags have it on Supabase."""

    def route(self, _client_id: str) -> Route:
        return Route(Backend.SUPABASE, fallbacks=())

    def listen(self, _wake: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class Owner:
    """Spools events and puts them on both paths, as an owner's forwarders do."""

    def __init__(self, spool: Spool, reader: SpoolReader, database: Database, server: LegacyServer) -> None:
        self.spool, self.reader, self.database, self.server = spool, reader, database, server
        self.place = 0

    async def publish(self, streams: list[StreamId], n: int) -> None:
        now = datetime.now(UTC)
        self.spool.append([Draft(stream, "metric_collected", now, {"n": n}) for stream in streams])
        await self.forward()

    async def forward(self) -> None:
        read = self.reader.read(self.place, 1000)
        self.place = read[-1][0]
        events = [event for _, event in read]
        await self.database.publish(*events)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with websockets.connect(self.server.link_url, additional_headers=headers) as link:
            await link.recv()
            frame = {"type": "events", "position": self.place, "events": [to_json(each) for each in events]}
            await link.send(json.dumps(frame))
            assert json.loads(await link.recv())["type"] == "ack"


@pytest.fixture
def supabase(gateway: StartGateway) -> EmbeddedSupabase:
    return gateway()[1]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path / "spool.db") as made:
        yield made


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_policy_that_hides_what_a_viewer_should_see_is_a_finding(
    supabase: EmbeddedSupabase, database: Database, spool: Spool, stack: AsyncExitStack, tmp_path: Path, device: str,
    mistake: str,
) -> None:  # fmt: skip
    streams = [stream_id(device, "system"), stream_id(device, "drives")]
    for stream in streams:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    reader = stack.enter_context(SpoolReader(tmp_path / "spool.db"))
    server = await stack.enter_async_context(LegacyServer(token=TOKEN, port=0))
    await database.mode("changes")
    owner = Owner(spool, reader, database, server)
    await owner.forward()
    condition = MISTAKES[mistake]
    if condition is not None:
        stack.push_async_callback(set_policy, database, "true")
        await set_policy(database, condition)

    witness = Witness("dash-1", time.monotonic, block_seconds=1.0)
    services = {
        Backend.LEGACY: LegacyWebSocket(server.url),
        Backend.SUPABASE: SupabaseRealtime(supabase.url, supabase.keys.anon_key, supabase.token),
    }
    its_own = {Backend.SUPABASE: SupabaseRealtime(supabase.url, supabase.keys.anon_key, supabase.token)}
    client = Router(its_own, ToSupabase(), "dash-1", now=lambda: datetime.now(UTC), witness=witness)
    for service in (*services.values(), client):
        stack.push_async_callback(service.close)

    def views() -> list[Report]:
        witness.close_block()
        return [Report(number, "dash-1", "ops", said) for number, said in witness.sees().items()]

    topic = f"devices.{device}"
    comparison = LiveComparison(
        reader,
        terms=Terms(LIMITS, topics=(topic,), clients_seconds=1.0),
        clients=views,
        tick_seconds=0.05,
    )
    async with client.subscribe(parse_topics([topic])) as subscription:
        reading = asyncio.ensure_future(_read(subscription))
        running = asyncio.ensure_future(comparison.run(services, 4.0))
        await until(lambda: comparison.session is not None, "the comparison has begun")
        for n in range(30):
            await owner.publish(streams, n)
            await asyncio.sleep(0.1)
        result = await running
        reading.cancel()
        await asyncio.wait({reading})
    _check(result, mistake, device)


async def _read(subscription: object) -> None:
    async for _ in subscription:  # type: ignore[attr-defined]
        pass


async def set_policy(database: Database, condition: str) -> None:
    await database.call(
        f"alter policy cf_readers on public.cf_events using ((select public.cf_is_reader()) and {condition})"
    )


def _check(result: Result, mistake: str, device: str) -> None:
    hidden = result.counts[Outcome.MISSING_SUPABASE]
    each = result.published // 2
    assert each > 10
    assert result.clients.clients == 1
    if mistake == "none":
        assert result.verdict is Verdict.PASS, result.reasons
        assert result.clients.agree == result.clients.blocks >= 1
        return
    assert result.verdict is Verdict.FAIL
    if mistake == "hides some rows":
        assert hidden == 2 * sum(n % 7 == 3 for n in range(each))
        assert result.clients.faults[Fault.MISSING] >= 1, result.clients
        assert any("what clients saw differs" in reason for reason in result.reasons)
    else:
        assert hidden == result.streams[f"{device}/drives"][Outcome.MISSING_SUPABASE] == each
