"""Pushing by a spool: what flush said is kept arrives on both paths, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from adapters.legacy_websocket import LegacyWebSocket
from crossfade import push
from legacy_ws.server import LegacyServer
from monitoring.topics import parse_topics
from tests.conftest import ROOT, EmbeddedSupabase
from tests.integration.push.conftest import stored

TOKEN = "push-tests"

_PUSH_FOR_EVER = """
import os, sys
from crossfade import push
device, spool, database_url, legacy_url, first = sys.argv[1:]
app = push.application(device, spool=spool, database_url=database_url, legacy_url=legacy_url, legacy_token="push-tests",
    batch_seconds=0.005)
number = int(first)
while True:
    for _ in range(number % 13 + 1):
        if app.event("things", "thing", {"number": number}):
            number += 1
    if app.flush(20):
        os.write(1, f"{number}\\n".encode())  # promised: everything below this number arrives
"""


@pytest.fixture
async def server() -> AsyncIterator[LegacyServer]:
    async with LegacyServer(token=TOKEN, port=0) as one:
        yield one


async def test_a_process_killed_while_it_pushes_loses_nothing_that_it_was_told_is_kept(
    embedded_supabase: EmbeddedSupabase,
    server: LegacyServer,
    connection: asyncpg.Connection,
    device: str,
    tmp_path: Path,
) -> None:
    spool, dsn, link = (
        tmp_path / "app.db",
        embedded_supabase.postgres.dsn(),
        f"ws://127.0.0.1:{server.port}/link",
    )
    promised = 0
    for round_ in range(5):
        command = [sys.executable, "-c", _PUSH_FOR_EVER, device, str(spool), dsn, link, str(promised)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        for _ in range(8 + 7 * round_):
            line = await asyncio.to_thread(process.stdout.readline)
            assert line
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        promised = int((line + rest).splitlines()[-1])
    async with push.application(
        device, spool=spool, database_url=dsn, legacy_url=link, legacy_token=TOKEN
    ) as app:
        app.event("things", "thing", {"number": -1})
        assert await app.aflush(20)
        everything = [each["number"] for each in await stored(connection, f"{device}/things", promised)]
        while everything[-1] != -1:
            everything = [each["number"] for each in await stored(connection, f"{device}/things", promised)]
        assert set(range(promised)) <= set(everything)
        # What was on the disk, and not yet promised when the process died, was pushed anew by the next one.
        assert promised > 500
        identities = await connection.fetch(
            "select epoch, seq, id from cf_events where stream = $1 order by 1, 2", f"{device}/things"
        )
        assert len({row["id"] for row in identities}) == len(identities)
        legacy = LegacyWebSocket(f"ws://127.0.0.1:{server.port}/ws")
        try:
            async with asyncio.timeout(20):
                while True:
                    snapshot = await legacy.snapshot(parse_topics([f"devices.{device}"]))
                    if any(event.payload.get("number") == -1 for event in snapshot.state):
                        break
                    await asyncio.sleep(0.02)
        finally:
            await legacy.close()


async def test_a_stream_of_another_owner_is_waited_for_and_holds_up_no_other(
    embedded_supabase: EmbeddedSupabase, connection: asyncpg.Connection, device: str, tmp_path: Path
) -> None:
    await connection.execute(
        "select cf_acquire_lease($1, gen_random_uuid(), null, 3)", f"{device}/things"
    )  # another owner, for a while
    async with push.application(
        device, spool=tmp_path / "app.db", database_url=embedded_supabase.postgres.dsn()
    ) as app:
        assert app.event("things", "thing", {"number": 0})
        assert app.event("others", "thing", {"number": 0})
        await stored(connection, f"{device}/others", 1)
        assert app.status().problem is not None
        assert await app.aflush(30)
        assert app.status().problem is None
    assert await stored(connection, f"{device}/things", 1) == [{"number": 0}]


async def test_two_processes_with_one_spool_are_told_apart(
    embedded_supabase: EmbeddedSupabase, device: str, tmp_path: Path
) -> None:
    dsn = embedded_supabase.postgres.dsn()
    async with push.application(device, spool=tmp_path / "app.db", database_url=dsn) as first:
        first.event("things", "thing", {})
        assert await first.aflush(20)
        second = push.application(device, spool=tmp_path / "app.db", database_url=dsn)
        second.event("things", "thing", {})
        assert not await second.aflush(1)
        assert "is in use by process" in str(second.status().problem)
        second.close(0.1)


@pytest.mark.parametrize("url", ["nonsense", "postgresql://127.0.0.1:9/nowhere"])
async def test_a_database_that_is_not_there_harms_no_application(url: str, tmp_path: Path) -> None:
    app = push.application("app", spool=tmp_path / "app.db", database_url=url)
    assert app.event("things", "thing", {})
    assert not await app.aflush(0.5)
    app.close(0.2)
    assert app.status().lost == {"closed": 1}
