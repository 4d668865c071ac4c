"""Several owners at once: leases let go, kept and taken, epochs that follow each other, and what readers of both paths are told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import orjson
import pytest

from adapters.legacy_websocket import LegacyWebSocket
from adapters.publisher import Publisher, publishing
from adapters.spool import Spool
from adapters.spool_file import SpoolCorrupt, StreamNotOpen
from adapters.supabase_realtime import SupabaseRealtime
from legacy_ws.server import LegacyServer
from monitoring.cursor import Cursor
from monitoring.errors import InvalidEvent
from monitoring.events import Draft, Event, Position, StreamId
from monitoring.service import Gap, MonitoringService
from monitoring.topics import parse_topics
from tests.conftest import EmbeddedSupabase
from tests.fakes.tcp_proxy import TcpProxy

TOKEN = "a-secret"
_devices = itertools.count(1)


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{what}: not within {seconds} s")


class Ground:
    """Both backends, a device of this test's own, and owners over a spool file each."""

    def __init__(self, supabase: EmbeddedSupabase, server: LegacyServer, folder: Path) -> None:
        self.supabase = supabase
        self.server = server
        self.folder = folder
        self.device = f"owned-{next(_devices)}"
        self.stream = StreamId(f"{self.device}/system")
        self.database_url = supabase.postgres.url()

    def drafts(self, count: int, stream: StreamId | None = None) -> list[Draft]:
        return [Draft(stream or self.stream, "seen", datetime.now(UTC), {"n": n}) for n in range(count)]

    @asynccontextmanager
    async def owner(
        self, name: str, *, ttl_seconds: int = 30, database_url: str | None = None
    ) -> AsyncIterator[Publisher]:
        """An owner; it dies at the end of the block unless it was stopped: nothing is drained, nothing let go."""
        with Spool.open(self.folder / f"{name}.db") as spool:
            publisher = Publisher(
                spool,
                database_url=database_url or self.database_url,
                legacy_url=self.server.link_url,
                legacy_token=TOKEN,
                ttl_seconds=ttl_seconds,
            )
            await publisher.start()
            try:
                yield publisher
            finally:
                assert publisher._running is not None
                publisher._running.cancel()
                await asyncio.wait({publisher._running})

    async def rows(self, stream: StreamId | None = None) -> list[tuple[int, int, str]]:
        connection = await asyncpg.connect(self.database_url)
        try:
            rows = await connection.fetch(
                "select epoch, seq, kind from public.cf_events where stream = $1 order by epoch, seq",
                stream or self.stream,
            )
        finally:
            await connection.close()
        return [tuple(row) for row in rows]

    @asynccontextmanager
    async def readers(self) -> AsyncIterator[dict[str, list[Any]]]:
        """A reader of each path from the beginning on; what each was told of this test's device."""
        services: dict[str, MonitoringService] = {
            "legacy": LegacyWebSocket(self.server.url),
            "supabase": SupabaseRealtime(self.supabase.url, self.supabase.keys.anon_key, self.supabase.token),
        }
        told: dict[str, list[Any]] = {name: [] for name in services}

        async def read(name: str) -> None:
            topics = parse_topics([f"devices.{self.device}"])
            async with services[name].subscribe(topics, Cursor()) as subscription:
                async for item in subscription:
                    told[name].append(item)

        tasks = [asyncio.create_task(read(name)) for name in services]
        try:
            yield told
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for service in services.values():
                await service.close()


@pytest.fixture
async def ground(embedded_supabase: EmbeddedSupabase, tmp_path: Path) -> AsyncIterator[Ground]:
    async with LegacyServer(token=TOKEN, port=0) as server:
        yield Ground(embedded_supabase, server, tmp_path)


def places(items: Sequence[Any]) -> list[Any]:
    """Return positions of events, and gaps as (epoch, from, to)."""
    return [
        tuple(item.position) if isinstance(item, Event) else (item.epoch, item.from_seq, item.to_seq)
        for item in items
        if isinstance(item, Event | Gap)
    ]


async def test_a_stopped_owner_hands_over_at_once_and_nobody_is_told_of_a_gap(ground: Ground) -> None:
    async with ground.readers() as told:
        async with ground.owner("a") as first:
            await first.append(ground.drafts(3))
            await first.stop()
        began = time.monotonic()
        async with ground.owner("b") as second:
            opened = await second.append(ground.drafts(2))
            assert time.monotonic() - began < 10  # its lease would have held for 30 s
            assert [event.position for event in opened] == [(2, 2), (2, 3)]
            expected = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3)]
            for name, items in told.items():
                await until(lambda items=items: places(items) == expected, f"all of it over {name}")
                assert items[4].previous == Position(1, 4)
                assert items[4].follows_drained
            await second.stop()


async def test_a_standby_takes_over_within_seconds_of_an_orderly_stop(ground: Ground) -> None:
    async with ground.owner("a") as first, ground.owner("b") as second:
        await first.append(ground.drafts(1))
        with pytest.raises(StreamNotOpen):
            await second.append(ground.drafts(1))
        assert second.status().supabase.lost == {ground.stream}
        await first.stop()
        await until(lambda: second.spool.is_open(ground.stream), "the lease that was let go", seconds=10)
        assert second.spool.epoch_of(ground.stream) == 2
        with pytest.raises(
            StreamNotOpen
        ):  # the first has let go: what it took now would be in nobody's epoch
            await first.append(ground.drafts(1))


async def test_an_owner_that_died_goes_on_in_its_epoch_at_once(ground: Ground) -> None:
    for round_ in range(3):
        began = time.monotonic()
        async with ground.owner("a") as owner:
            await owner.append(ground.drafts(2))
            assert time.monotonic() - began < 10
            if round_ == 1:
                await owner.drain(20)
    async with ground.owner("a") as owner:
        assert await owner.drain(20)
        await owner.stop()
    assert [place[:2] for place in await ground.rows()] == [(1, seq) for seq in range(1, 8)]
    assert ground.server.hub.ring.heads()[ground.stream] == (1, 7)


async def test_what_a_fenced_owner_still_had_is_told_as_a_gap_on_both_paths(ground: Ground) -> None:
    """The first owner loses the database, not the legacy server, goes on, and comes back after its successor."""
    target = urlsplit(ground.database_url)
    assert target.hostname is not None
    async with (
        TcpProxy((target.hostname, target.port or 5432)) as proxy,
        ground.readers() as told,
    ):
        through = ground.database_url.replace(f":{target.port}/", f":{proxy.port}/")
        async with ground.owner("a", ttl_seconds=1, database_url=through) as first:
            await first.append(ground.drafts(4))
            await until(lambda: first.spool.drained(ground.stream), "both paths")
            await proxy.refuse()
            await first.append(ground.drafts(3))
            await until(lambda: first.spool.acknowledged("legacy") == 8, "the legacy path")
            async with ground.owner("b", ttl_seconds=1) as second:
                await until(lambda: second.status().supabase.connected, "the connection")
                second.claim([ground.stream])
                await until(lambda: second.spool.is_open(ground.stream), "the expired lease")
                await second.append(ground.drafts(2))
                legacy = [*((1, seq) for seq in range(1, 9)), (1, 9, None), (2, 1), (2, 2), (2, 3)]
                supabase = [*((1, seq) for seq in range(1, 6)), (1, 6, None), (2, 1), (2, 2), (2, 3)]
                await until(lambda: places(told["legacy"]) == legacy, "what legacy tells")
                await until(lambda: places(told["supabase"]) == supabase, "what Supabase tells")
                reasons = {item.reason for items in told.values() for item in items if isinstance(item, Gap)}
                assert reasons == {"the owner before lost its lease: what it had not yet delivered is lost"}

                await proxy.resume()
                await until(lambda: first.status().supabase.fenced_events == 3, "the fencing")
                status = first.status().supabase
                assert f"3 events of stream {ground.stream} (epoch 1 seq 6 to epoch 1 seq 8)" in str(
                    status.last_error
                )
                assert status.lost == {ground.stream}
                with pytest.raises(StreamNotOpen, match="another owner"):
                    await first.append(ground.drafts(1))
                await second.append(ground.drafts(1))
                await until(lambda: places(told["legacy"]) == [*legacy, (2, 4)], "what legacy tells then")
                await until(
                    lambda: places(told["supabase"]) == [*supabase, (2, 4)], "what Supabase tells then"
                )
                await second.stop()
            # The first gets the stream back, in an epoch of its own that follows an epoch that was drained.
            await until(lambda: first.spool.is_open(ground.stream), "the lease that was let go")
            await first.append(ground.drafts(1))
            for items in told.values():
                await until(lambda items=items: places(items)[-2:] == [(3, 1), (3, 2)], "the third epoch")
            assert await first.drain(20)
            await first.stop()
    assert [place[:2] for place in await ground.rows()] == [
        place for place in [*supabase, (2, 4), (3, 1), (3, 2)] if len(place) == 2
    ]


async def test_leftovers_that_come_in_a_later_epoch_of_their_owner_stay_out(ground: Ground) -> None:
    """Dead with events on the disk, back after another's epoch has come and gone: its own third epoch begins after them."""
    async with ground.owner("a", ttl_seconds=1) as first:
        await first.append(ground.drafts(1))
        await until(lambda: first.spool.drained(ground.stream), "both paths")
    with Spool.open(ground.folder / "a.db") as spool:
        spool.append(ground.drafts(2))
    async with ground.owner("b", ttl_seconds=1) as second:
        second.claim([ground.stream])
        await until(lambda: second.spool.is_open(ground.stream), "the expired lease")
        await second.append(ground.drafts(1))
        await second.stop()
    async with ground.owner("a", ttl_seconds=1) as first:
        await until(lambda: first.spool.epoch_of(ground.stream) == 3, "the new epoch")
        await first.append(ground.drafts(1))
        assert await first.drain(20)
        assert first.status().supabase.fenced_events == 2
        await first.stop()
    assert [place[:2] for place in await ground.rows()] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
    health = ground.server.hub.health()
    assert ground.server.hub.ring.heads()[ground.stream] == (3, 2), health


async def test_owners_that_want_the_same_streams_never_write_one_at_the_same_time(ground: Ground) -> None:
    """Three applications with streams of their own, and all of them after two that they share, stopping and coming back."""
    shared = [StreamId(f"{ground.device}/shared-{n}") for n in range(2)]
    written: dict[StreamId, list[tuple[Position, str]]] = {}

    async def application(name: str) -> None:
        own = StreamId(f"{ground.device}/{name}")
        for _ in range(3):
            async with ground.owner(name) as publisher:
                publisher.claim(shared)
                for _ in range(15):
                    for stream in [own, *shared]:
                        try:
                            events = await publisher.append(ground.drafts(3, stream))
                        except StreamNotOpen:
                            continue
                        written.setdefault(stream, []).extend((event.position, name) for event in events)
                    await asyncio.sleep(0.01)
                assert await publisher.drain(30)
                await publisher.stop()

    names = ["x", "y", "z"]
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(application(name))
    ring = ground.server.hub.ring
    for stream in [*shared, *(StreamId(f"{ground.device}/{name}") for name in names)]:
        rows = await ground.rows(stream)
        by_epoch: dict[int, list[int]] = {}
        for epoch, seq, _ in rows:
            by_epoch.setdefault(epoch, []).append(seq)
        for epoch, seqs in by_epoch.items():
            assert seqs == list(range(1, len(seqs) + 1)), (stream, epoch)
            # At most one: an owner may have had the lease for so short that it wrote nothing.
            assert len({name for position, name in written[stream] if position.epoch == epoch}) <= 1
        assert sorted(place for place, _ in written[stream]) == [
            (epoch, seq) for epoch, seq, kind in rows if kind != "stream_opened"
        ]
        assert ring.heads()[stream] == rows[-1][:2]
        replay = ring.replay(parse_topics([f"devices.{ground.device}"]), Cursor())
        kept = [tuple(each.event.position) for each in replay.events if each.event.stream == stream]
        assert kept == [place[:2] for place in rows]
    assert {len(await ground.rows(stream)) > 0 for stream in shared} == {True}


async def test_a_new_stream_needs_the_database_once_and_a_name(ground: Ground, tmp_path: Path) -> None:
    async with publishing(tmp_path / "away.db", database_url="postgresql://u:p@127.0.0.1:1/d") as publisher:
        with pytest.raises(StreamNotOpen, match="never opened"):
            await publisher.append(ground.drafts(1), open_seconds=0.1)
        with pytest.raises(InvalidEvent, match="must be 1-128 letters"):
            await publisher.append(ground.drafts(1, StreamId("no address")))
        assert publisher.spool.refused == {"StreamNotOpen": 1}
    async with publishing(tmp_path / "here.db", database_url=ground.database_url) as publisher:
        assert [event.seq for event in await publisher.append(ground.drafts(1))] == [2]
        assert publisher.status().legacy is None
        assert await publisher.drain(10)  # a path that is off holds nothing back


async def test_a_forwarder_that_ended_for_good_is_heard_by_whoever_appends(ground: Ground) -> None:
    with Spool.open(ground.folder / "a.db") as spool:
        publisher = Publisher(
            spool, database_url=ground.database_url, legacy_url=ground.server.link_url, legacy_token=TOKEN
        )
        await publisher.start()
        await publisher.append(ground.drafts(1))
        await publisher.drain(10)
        spool._db.execute("drop table events")
        spool._position += 1  # so that the forwarders look
        for waiter in spool._waiters:
            waiter.set_result(None)
        async with asyncio.timeout(20):
            with pytest.raises(ExceptionGroup) as raised:
                await publisher.failed()
        assert raised.group_contains(Exception, match="no such table")
        with pytest.raises(ExceptionGroup):
            await publisher.append(ground.drafts(1))
        with pytest.raises(ExceptionGroup):
            await publisher.stop()


async def test_no_lease_expires_in_the_first_term_after_a_start_of_the_database(ground: Ground) -> None:
    """Nobody could renew it while the database was down; a standby that is quicker must not win by that."""
    connection = await asyncpg.connect(ground.database_url)
    try:
        for ttl, free in ((100_000, False), (1, True)):
            stream = f"{ground.stream}-{ttl}"
            await connection.execute(
                "insert into public.cf_leases (stream, owner, epoch, expires_at, ttl_seconds) "
                "values ($1, $2, 4, clock_timestamp() - interval '1 h', $3)",
                stream, uuid4(), ttl,
            )  # fmt: skip
            answer = orjson.loads(
                await connection.fetchval(
                    "select public.cf_acquire_leases($1, $2::jsonb)",
                    uuid4(),
                    orjson.dumps({stream: None}).decode(),
                )
            )
            assert answer[stream].get("epoch") == (5 if free else None)
            assert answer[stream].get("drained") == (False if free else None)
    finally:
        await connection.close()


async def test_a_corrupt_spool_is_named_by_the_one_who_opens_it(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"junk" * 2000)
    with pytest.raises(SpoolCorrupt):
        async with publishing(tmp_path / "x.db", database_url="postgresql://u:p@127.0.0.1:1/d"):
            pass
