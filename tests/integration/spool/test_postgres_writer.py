"""Events from the spool into the database: each once, whatever the database does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from adapters.postgres_writer import PACE, PostgresWriter
from adapters.spool import Spool
from adapters.spool_file import SpoolFull, SpoolUnwritable, StreamNotOpen
from monitoring.events import Draft, Kind, Position, StreamId
from tests.integration.spool.writing import CONTAINERS, STREAMS, SYSTEM, delivered, drafts, until, writing


async def test_every_event_arrives_once_and_as_it_was(database: Any, spool: Spool) -> None:
    async with writing(spool, database.url) as writer:
        await writer.opened()
        assert spool.heads() == {SYSTEM: Position(1, 1), CONTAINERS: Position(1, 1)}
        spool.append(drafts(3) + drafts(2, CONTAINERS))
        await until(delivered(spool), "delivery")
    assert await database.rows(SYSTEM) == [
        (1, 1, "stream_opened"),
        *((1, n, "metric_collected") for n in (2, 3, 4)),
    ]
    rows = await database.connection.fetch(
        "select id, occurred_at, metric_type from public.cf_events order by id"
    )
    events = sorted((event for _, event in spool.read(0, 100)), key=lambda event: event.id)
    assert [(row["id"], row["occurred_at"]) for row in rows] == [
        (event.id, event.occurred_at) for event in events
    ]
    assert {row["metric_type"] for row in rows} == {"system_metrics", "container"}
    assert writer.status.events == 7


async def test_a_backlog_goes_out_in_batches_in_order(database: Any, spool: Spool) -> None:
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    for _ in range(13):
        spool.append(drafts(100))
    async with writing(spool, database.url):
        await until(delivered(spool), "delivery")
    assert [seq for _, seq, _ in await database.rows(SYSTEM)] == list(range(1, 1302))
    transactions = await database.connection.fetch("select count(*) as n from public.cf_events group by xmin")
    assert max(row["n"] for row in transactions) <= 500


async def test_a_restart_goes_on_in_the_same_epoch(database: Any, spool: Spool) -> None:
    async with writing(spool, database.url) as writer:
        await writer.opened()
        spool.append(drafts(1))
        await until(delivered(spool), "delivery")
    spool.append(drafts(1))
    async with writing(spool, database.url) as writer:
        await writer.opened()
        spool.append(drafts(1))
        await until(delivered(spool), "delivery")
    assert [(epoch, seq) for epoch, seq, _ in await database.rows(SYSTEM)] == [(1, 1), (1, 2), (1, 3), (1, 4)]


async def test_what_the_database_has_already_is_no_double(database: Any, spool: Spool) -> None:
    """The answer to a commit was lost: the same batch is sent again."""
    async with writing(spool, database.url) as writer:
        await writer.opened()
        spool.append(drafts(5))
        await until(delivered(spool), "delivery")
    spool._acknowledged["supabase"] = 0
    async with writing(spool, database.url) as writer:
        await until(delivered(spool), "delivery")
    assert writer.status.events == 0
    assert writer.status.duplicates == 7
    assert len(await database.rows(SYSTEM)) == 6


async def test_a_rejected_event_becomes_a_tombstone_in_its_place(database: Any, spool: Spool) -> None:
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    spool.append([*drafts(20), *drafts(1, text="a\0b"), *drafts(25), *drafts(1, text="a\0b")])
    async with writing(spool, database.url) as writer:
        await until(delivered(spool), "delivery")
    rows = await database.rows(SYSTEM)
    assert [seq for _, seq, _ in rows] == list(range(1, 49))
    assert [seq for _, seq, kind in rows if kind == "tombstone"] == [22, 48]
    assert writer.status.tombstones == 2
    buried = await database.connection.fetchrow("select id, payload from public.cf_events where seq = 22")
    assert "rejected" in buried["payload"]
    assert buried["id"] == next(event.id for _, event in spool.read(0, 100) if event.seq == 22)


async def test_every_poison_that_a_spool_takes_becomes_a_tombstone_and_holds_up_nothing(
    database: Any, spool: Spool
) -> None:
    """What JSON can say and PostgreSQL cannot store, each between two events that it can."""
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    now = datetime.now(UTC)
    container = {"id": "a", "name": "a", "status": "up", "running": True}
    listed = {"available": True, "containers": [container | {"memory_used_bytes": 1e30}]}
    poison = [
        Draft(SYSTEM, Kind.METRIC_COLLECTED, now, {"text": "a\0b"}),
        Draft(SYSTEM, Kind.METRIC_COLLECTED, now, {"a\0b": 1}),
        Draft(SYSTEM, "seen\0", now, {}),
    ]
    deep: dict[str, Any] = {}
    for _ in range(240):
        deep = {"n": deep}
    harmless = [  # to the event; what is made of it for SQL is left out
        Draft(SYSTEM, Kind.METRIC_COLLECTED, now, {"cpu_usage": {"user": 1}}),
        Draft(SYSTEM, Kind.METRIC_COLLECTED, now, {"cpu_usage": "1e400"}),
        Draft(CONTAINERS, Kind.CONTAINERS_COLLECTED, now, listed),
        Draft(CONTAINERS, Kind.CONTAINERS_COLLECTED, now, {"available": True, "containers": 7}),
        Draft(SYSTEM, "seen", now, deep),
        Draft(SYSTEM, "seen", now, {"n": 1.7976931348623157e308, "m": 5e-324, "i": 2**63 - 1}),
        Draft(SYSTEM, "seen", datetime(1, 1, 1, tzinfo=UTC), {}),
        Draft(SYSTEM, "seen", datetime(9999, 12, 31, tzinfo=UTC), {"text": "\ufffe\u2028 '\"\\ {}"}),
    ]
    for each in poison + harmless:
        spool.append([*drafts(1), each, *drafts(1)])
    async with writing(spool, database.url) as writer:
        await until(delivered(spool), "delivery")
        assert writer.status.connects == 1
    written = {stream: [e for _, e in spool.read(0, 500) if e.stream == stream] for stream in STREAMS}
    buried = []
    for stream, events in written.items():
        rows = await database.connection.fetch(
            "select id, seq, kind from public.cf_events where stream = $1 order by seq", stream
        )
        assert [(row["id"], row["seq"]) for row in rows] == [(event.id, event.seq) for event in events]
        buried += [row["id"] for row in rows if row["kind"] == "tombstone"]
    bad = [
        event.id
        for events in written.values()
        for event in events
        if any(event.kind == each.kind and event.payload == each.payload for each in poison)
    ]
    assert set(buried) == set(bad)
    assert writer.status.tombstones == len(poison)
    latest = await database.connection.fetchrow("select hostname from public.cf_devices_latest")
    assert latest["hostname"] == "web-1"
    assert await database.connection.fetchval("select count(*) from public.cf_samples") > len(harmless)


async def test_a_backlog_goes_out_no_faster_than_its_pace(database: Any, spool: Spool) -> None:
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    for _ in range(30):
        spool.append(drafts(100))
    async with writing(spool, database.url):
        await until(delivered(spool), "delivery", seconds=60)
    begun = await database.connection.fetch(
        "select recorded_at, count(*) as n from public.cf_events group by 1 order by 1"
    )
    assert max(row["n"] for row in begun) <= 500
    full = [row["recorded_at"] for row in begun if row["n"] == 500]
    assert len(full) == 6
    assert (full[-1] - full[0]).total_seconds() > 0.8 * 5 * 500 / PACE  # each may begin a little late


async def test_a_cut_connection_loses_nothing(database: Any, spool: Spool) -> None:
    async with writing(spool, database.url) as writer:
        await writer.opened()
        spool.append(drafts(2))
        await until(delivered(spool), "delivery")
        await database.connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'crossfade collect'"
        )
        spool.append(drafts(2))
        await until(delivered(spool), "delivery after a cut")
        assert writer.status.connects == 2
    assert [seq for _, seq, _ in await database.rows(SYSTEM)] == [1, 2, 3, 4, 5]


async def test_a_taken_lease_stops_its_stream_only_and_comes_back_as_a_new_epoch(
    database: Any, spool: Spool
) -> None:
    async with writing(spool, database.url, ttl_seconds=1) as writer:
        await writer.opened()
        spool.append(drafts(1) + drafts(1, CONTAINERS))
        await until(delivered(spool), "delivery")
        thief = uuid4()
        await database.connection.execute(
            "update public.cf_leases set owner = $1, epoch = 2, expires_at = now() + interval '3 s' where stream = $2",
            thief, SYSTEM,
        )  # fmt: skip
        spool.append(drafts(1) + drafts(1, CONTAINERS))
        await until(lambda: SYSTEM in writer.status.lost, "fencing")
        await until(delivered(spool), "delivery of the other stream")
        assert len(await database.rows(CONTAINERS)) == 3
        with pytest.raises(StreamNotOpen):
            spool.append(drafts(1))
        await until(lambda: spool.is_open(SYSTEM), "the lease that came free")
        assert spool.epoch_of(SYSTEM) == 3
        spool.append(drafts(1))
        await until(delivered(spool), "delivery in the new epoch")
    rows = await database.rows(SYSTEM)
    assert rows[-2:] == [(3, 1, "stream_opened"), (3, 2, "metric_collected")]
    opened = next(
        event for _, event in spool.read(0, 100) if event.stream == SYSTEM and event.position == (3, 1)
    )
    assert opened.previous == Position(1, 3)


async def test_a_lease_that_another_owner_holds_is_waited_for(database: Any, spool: Spool) -> None:
    await database.connection.fetchval("select public.cf_acquire_lease($1, $2, null, 2)", SYSTEM, uuid4())
    async with writing(spool, database.url, ttl_seconds=1) as writer:
        await writer.opened()
        assert writer.status.lost == {SYSTEM}
        assert spool.is_open(CONTAINERS)
        await until(lambda: spool.is_open(SYSTEM), "the lease that came free")
        assert spool.epoch_of(SYSTEM) == 2


async def test_the_spool_goes_on_without_the_database(tmp_path: Path, spool: Spool) -> None:
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    async with writing(spool, "postgresql+asyncpg://u:p@127.0.0.1:1/d") as writer:
        async with asyncio.timeout(5):
            await writer.opened()
        spool.append(drafts(3))
        await until(lambda: "away" in writer.status.detail, "the reason")
        assert not writer.status.connected
    assert spool.state().waiting == {"supabase": 5}


async def test_a_database_without_the_tables_says_what_to_do(postgres: Any, spool: Spool) -> None:
    async with writing(spool, postgres.url()) as writer:
        await until(lambda: writer.status.last_error, "the reason")
    assert "apply supabase/migrations" in writer.status.detail


async def test_a_wrong_password_says_what_to_check_and_never_shows_it(postgres: Any, spool: Spool) -> None:
    async with writing(
        spool, f"postgresql://postgres:wrong-secret@127.0.0.1:{postgres.port}/postgres"
    ) as writer:
        await until(lambda: writer.status.last_error, "the reason")
    assert "check user, password" in writer.status.detail
    assert "wrong-secret" not in writer.status.detail


async def test_a_full_spool_drains_into_a_database_that_lost_the_leases(
    database: Any, tmp_path: Path
) -> None:
    """The new epoch's first event is taken by a full spool: without it nothing would ever go out."""
    with Spool.open(tmp_path / "full.db", max_events=20, retain_events=0) as full:
        full.set_enabled("legacy", enabled=False)
        full.open_stream(SYSTEM, 1, None, datetime.now(UTC))
        full.append(drafts(19))
        with pytest.raises(SpoolFull):
            full.append(drafts(1))
        async with writing(full, database.url):
            await until(lambda: delivered(full)() and full.is_open(CONTAINERS), "delivery")
            full.append(drafts(1))
            await until(delivered(full), "delivery of what came then")
    assert len(await database.rows(SYSTEM)) == 21


async def test_a_stream_that_cannot_be_opened_holds_up_no_other(database: Any, spool: Spool) -> None:
    spool.open_stream(SYSTEM, 5, None, datetime.now(UTC))
    spool.append(drafts(3))
    await database.connection.execute(  # the database is behind the spool in this stream: its epoch is a stale one
        "insert into public.cf_leases (stream, owner, epoch, expires_at, released) values ($1, $2, 3, now(), true)",
        CONTAINERS, uuid4(),
    )  # fmt: skip
    refusing = RefusingSpool(spool)
    async with writing(cast("Spool", refusing), database.url) as writer:
        await until(delivered(spool), "delivery of the other stream")
        assert writer.status.connected
        assert "web-1/containers cannot be opened yet" in str(writer.status.last_error)
    assert len(await database.rows(SYSTEM)) == 4


class RefusingSpool:
    """A spool whose disk has no room for a new stream."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spool, name)

    def open_stream(
        self, stream: StreamId, epoch: int, previous: Position | None, at: datetime, *, drained: bool
    ) -> Any:
        raise SpoolUnwritable(
            Path("spool.db"), f"the disk is full ({stream} {epoch} {previous} {at} {drained})"
        )


async def test_an_error_of_the_driver_does_not_swallow_the_cancellation(spool: Spool) -> None:
    """The connection breaks in the moment in which the writer is cancelled."""

    class Breaking(PostgresWriter):
        async def _session(self) -> None:
            try:
                started.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionResetError("cut") from None

    started = asyncio.Event()
    task = asyncio.create_task(Breaking(spool, "postgresql://u:p@127.0.0.1:1/d", STREAMS).run())
    await started.wait()
    task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({task})
    assert task.cancelled()


async def test_a_list_that_names_a_container_twice_holds_up_nothing(database: Any, spool: Spool) -> None:
    for stream in STREAMS:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
    one = {"id": "000000000000", "name": "a", "status": "running", "running": True}
    listed = {"available": True, "containers": [one, {**one, "name": "b"}]}
    async with writing(spool, database.url):
        spool.append([Draft(CONTAINERS, Kind.CONTAINERS_COLLECTED, datetime.now(UTC), listed)])
        spool.append(drafts(3))
        await until(delivered(spool), "everything is stored")
    kinds = [kind for _, _, kind in await database.rows(CONTAINERS)]
    assert kinds.count("tombstone") == 0
    assert kinds.count("containers_collected") >= 1
    assert await database.connection.fetchval("select count(*) from public.cf_containers_latest") == 1
