"""Reports of clients elsewhere, through the real service into the files that rollout and comparison read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from adapters.client_reports import MAX_PROCESSES, read, read_seen
from adapters.query_client import QueryClient
from adapters.remote_reports import RemoteReports
from monitoring.events import Position, StreamId
from monitoring.rollout.ledger import Growth, Ledger
from monitoring.service import Backend, Gap
from monitoring.topics import GLOBAL
from tests.conftest import EmbeddedSupabase
from tests.fakes.event_factory import event
from tests.query_process import QueryProcess

STREAM = StreamId("web-1/system")


@pytest.fixture
def kept(embedded_supabase: EmbeddedSupabase) -> Path:
    directory = embedded_supabase.postgres.data_dir / "run/clients"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture
async def reports(
    query_process: QueryProcess, embedded_supabase: EmbeddedSupabase
) -> AsyncIterator[RemoteReports]:
    query = QueryClient(query_process.url, embedded_supabase.token)
    made = RemoteReports(query, every_seconds=0.05)
    running = asyncio.ensure_future(made.run())
    yield made
    running.cancel()
    await asyncio.wait({running})
    await query.close()


async def test_what_a_client_elsewhere_saw_is_kept_where_the_others_are(
    reports: RemoteReports, kept: Path
) -> None:
    witness = reports.witness("far-1")
    witness.serves(Backend.SUPABASE)
    follower = witness.follows([GLOBAL], {STREAM: Position(1, 1)})
    follower.took(event(STREAM, 2))
    follower.seen.close_block()
    async with asyncio.timeout(10):
        while not (found := [each["far-1"] for each in read_seen(kept).values() if "far-1" in each]):
            await asyncio.sleep(0.02)
    assert found[0]["1"]["streams"][STREAM][:3] == [1, 2, 1]
    assert [each["far-1"]["backend"] for each in read(kept).values() if "far-1" in each] == ["supabase"]
    reports.leave(witness)
    async with asyncio.timeout(10):
        while any("far-1" in each for each in read(kept).values()):
            await asyncio.sleep(0.02)


async def test_the_rollout_counts_the_blocks_of_a_client_elsewhere(
    reports: RemoteReports, kept: Path
) -> None:
    witness, ledger = reports.witness("far-2"), Ledger()
    witness.serves(Backend.SUPABASE)

    async def grown(until: Callable[[Growth], object]) -> Growth:
        async with asyncio.timeout(20):
            while True:
                by_client = ledger.grown(read(kept), lambda client: client, lambda _: Backend.SUPABASE)
                if until(found := by_client.get("far-2", Growth())):
                    return found
                await asyncio.sleep(0.02)

    found = await grown(lambda growth: growth.clients)
    assert (found.on_supabase, found.astray, found.blocks) == (1, 0, 0)
    witness.took(event(STREAM, 2))
    witness._ends = 0.0  # the block's time is up
    witness.took(Gap(STREAM, 1, 3, 4, "deleted"))
    found = await grown(lambda growth: growth.blocks)
    assert (found.blocks, found.disturbed, found.events, found.findings) == (1, 1, 1, 1)
    assert found.contributing == {"far-2"}
    assert found.note == "gap in web-1/system: deleted"


async def test_what_is_no_report_is_refused(http: httpx.AsyncClient, kept: Path) -> None:
    before = set(kept.iterdir())
    good = {"process": "0" * 32, "clients": {"a": {}}}
    for wrong in (
        {"process": "../../x"},
        {"clients": {"a": 1}},
        {"clients": {f"c{n}": {} for n in range(501)}},
        {"clients": {"": {}}},
        {"more": 1},
    ):
        assert (await http.post("/api/clients", json=good | wrong)).status_code == 400
    assert set(kept.iterdir()) == before
    answer = await http.post("/api/clients", json=good, headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401


async def test_one_user_may_not_fill_the_disk(http: httpx.AsyncClient, kept: Path) -> None:
    answers = [
        await http.post("/api/clients", json={"process": f"{n:032x}", "clients": {}})
        for n in range(MAX_PROCESSES + 5)
    ]
    assert {each.status_code for each in answers[-5:]} == {429}
    assert answers[-1].json()["type"] == "urn:crossfade:problem:too-many"
    for path in kept.glob("elsewhere-*"):
        path.unlink()
