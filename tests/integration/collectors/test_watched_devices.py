"""A machine that somebody watches by name is read faster, over either backend, for as long as it is watched."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from adapters.interest import InterestListener, WatchedDevices
from adapters.legacy_link import LegacyLink
from adapters.legacy_websocket import LegacyWebSocket
from adapters.spool import Spool
from adapters.supabase_realtime import SupabaseRealtime
from collectors.schedule import Schedule, Scheduler
from collectors.ssh.fleet import Fleet
from collectors.ssh.intervals import Intervals
from legacy_ws.server import LegacyServer
from monitoring.events import Draft, StreamId, stream_id
from monitoring.interest import Interest
from monitoring.service import Backend, MonitoringService
from monitoring.topics import GLOBAL, parse_topic
from tests.conftest import EmbeddedSupabase
from tests.fakes.ssh_devices import FakeDevice
from tests.integration.collectors.test_container_logs import until as in_time

WATCHED_SECONDS = 2.0
"""A reading has nine tenths of it, which a busy machine needs."""


async def until(condition: Callable[[], Any], what: str) -> None:
    await in_time(condition, what, seconds=90.0)


class Collecting:
    """A collector of one machine over SSH, with both ways that interest comes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.scheduler = Scheduler(self._publish, limit=10, ready=self._ready)
        self.interest = Interest(self._changed)
        self.changes: list[frozenset[str]] = []
        self.fleet = Fleet(intervals=Intervals(watched=WATCHED_SECONDS))

    def _changed(self) -> None:
        self.changes.append(self.interest.devices)
        self.scheduler.reconsider()

    def _publish(self, _: Sequence[Draft]) -> None:
        """Nobody reads it: how often the machine is asked is looked at."""

    async def _ready(self, _: Iterable[StreamId]) -> None:
        """Every stream is open."""

    def schedule(self, category: str) -> Schedule:
        (found,) = [
            each for each in self.scheduler.schedules if each.collector.name == stream_id(self.name, category)
        ]
        return found

    async def reads(self, more: int) -> None:
        before = self.schedule("system").ticks.read
        await until(lambda: self.schedule("system").ticks.read >= before + more, f"{more} more readings")


@pytest.fixture
async def server() -> AsyncIterator[LegacyServer]:
    async with LegacyServer(token="secret", port=0) as one:
        yield one


@pytest.fixture
async def collecting(
    tmp_path: Path, server: LegacyServer, embedded_supabase: EmbeddedSupabase
) -> AsyncIterator[Collecting]:
    one = Collecting(f"watched-{uuid.uuid4().hex[:8]}")
    fake = FakeDevice(tmp_path)
    await fake.start()
    with Spool.open(tmp_path / "spool.db") as spool:
        spool.open_stream(stream_id(one.name, "system"), 1, None, datetime.now(UTC))
        spool.set_enabled("supabase", enabled=False)
        spool.set_enabled("legacy", enabled=True)
        _, begun = one.fleet.update({one.name: fake.device(one.name)})
        for collector, pace in begun[0].collectors:
            one.scheduler.add(collector, pace, remote=True, watched=lambda: one.name in one.interest.devices)
        link = LegacyLink(
            spool, server.link_url, "secret", watched=lambda devices: one.interest.said("legacy", devices)
        )
        listener = InterestListener(
            embedded_supabase.postgres.dsn(),
            [WatchedDevices(lambda devices: one.interest.said("supabase", devices))],
        )
        tasks = [asyncio.create_task(part.run()) for part in (one.scheduler, link, listener)]
        await until(lambda: one.schedule("system").ticks.read == 1, "the first reading")
        await until(lambda: link.state.connected, "the link")
        yield one
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await one.scheduler.close("the test is over")
        await one.fleet.close()
    await fake.stop()


@asynccontextmanager
async def viewer(
    backend: Backend, server: LegacyServer, supabase: EmbeddedSupabase
) -> AsyncIterator[MonitoringService]:
    service: MonitoringService = (
        LegacyWebSocket(server.url)
        if backend is Backend.LEGACY
        else SupabaseRealtime(supabase.url, supabase.keys.anon_key, supabase.token)
    )
    try:
        yield service
    finally:
        await service.close()


async def expire(supabase: EmbeddedSupabase, device: str, after: timedelta = timedelta()) -> None:
    """Have what viewers said of a device expire now, or in a while."""
    connection = await asyncpg.connect(supabase.postgres.dsn())
    await connection.execute(
        "update public.cf_device_interest set expires_at = clock_timestamp() + $2 where device = $1",
        device,
        after,
    )
    await connection.close()


@pytest.mark.parametrize("backend", [Backend.LEGACY, Backend.SUPABASE])
async def test_a_watched_machine_is_read_faster_until_the_last_viewer_goes(
    backend: Backend, collecting: Collecting, server: LegacyServer, embedded_supabase: EmbeddedSupabase
) -> None:
    async with AsyncExitStack() as stack:
        overview = await stack.enter_async_context(viewer(backend, server, embedded_supabase))
        everything = overview.subscribe([GLOBAL])
        await until(lambda: everything.live, "the overview")
        assert collecting.schedule("system").interval_seconds == 300, (
            "an overview is no interest in one machine"
        )

        async with viewer(backend, server, embedded_supabase) as service:
            topic = parse_topic(f"devices.{collecting.name}")
            one, other = service.subscribe([topic]), service.subscribe([topic])
            await until(lambda: one.live and other.live, "the subscriptions")
            await collecting.reads(2)
            assert collecting.schedule("containers").interval_seconds == WATCHED_SECONDS
            assert collecting.schedule("drives").interval_seconds == 3600, "no drive is woken to be watched"
            await one.close()
            await collecting.reads(1)
        if backend is Backend.SUPABASE:
            await expire(embedded_supabase, collecting.name)
        await until(lambda: collecting.schedule("system").interval_seconds == 300, "nobody watches any more")


async def test_a_database_that_goes_away_takes_its_interest_with_it(
    collecting: Collecting, embedded_supabase: EmbeddedSupabase
) -> None:
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())
    try:
        await watch(embedded_supabase, str(uuid.uuid4()), [collecting.name])
        await expire(embedded_supabase, collecting.name, timedelta(minutes=10))
        await until(lambda: collecting.name in collecting.interest.devices, "the interest")
        assert await connection.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'crossfade interest'"
        )
        await until(
            lambda: collecting.changes == [{collecting.name}, frozenset(), {collecting.name}],
            "gone, and back",
        )
    finally:
        await connection.close()
        await expire(embedded_supabase, collecting.name)


async def watch(
    supabase: EmbeddedSupabase, viewer: str, devices: list[str], token: str | None = None
) -> httpx.Response:
    headers = {"apikey": supabase.keys.anon_key, "Authorization": f"Bearer {token or supabase.token()}"}
    async with httpx.AsyncClient() as client:
        return await client.post(
            f"{supabase.url}/rest/v1/rpc/cf_watch_devices",
            headers=headers,
            json={"p_viewer": viewer, "p_devices": devices},
        )


async def test_interest_is_for_viewers_and_bounded_and_replaces_what_was_said(
    embedded_supabase: EmbeddedSupabase,
) -> None:
    me = str(uuid.uuid4())
    assert (await watch(embedded_supabase, me, ["a"], embedded_supabase.token("nobody"))).status_code == 403
    stranger = await watch(embedded_supabase, me, ["a"], embedded_supabase.keys.anon_key)
    assert stranger.status_code in {401, 403, 404}
    too_many = await watch(embedded_supabase, me, [f"d{number}" for number in range(101)])
    assert "at most 100 devices" in too_many.json()["message"]
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())

    async def watched() -> list[str]:
        return [
            row["device"]
            for row in await connection.fetch(
                "select device from public.cf_device_interest where viewer = $1 order by device",
                uuid.UUID(me),
            )
        ]

    try:
        assert (await watch(embedded_supabase, me, ["b", "a", "a"])).json() == {"seconds": 30}
        assert await watched() == ["a", "b"]
        assert (await watch(embedded_supabase, me, ["b", "c"])).json() == {"seconds": 30}
        assert await watched() == ["b", "c"]
        await watch(embedded_supabase, me, [])
        assert await watched() == []
    finally:
        await connection.close()
