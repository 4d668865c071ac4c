"""An owner's process that is killed ten times in a row under load, with a reader on each path of the real backends."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from adapters.legacy_websocket import LegacyWebSocket
from adapters.spool import Spool
from adapters.spool_reader import SpoolReader
from adapters.supabase_realtime import SupabaseRealtime
from crossfade.verify import DeliveryCheck
from legacy_ws.server import LegacyServer
from monitoring.cursor import Cursor
from monitoring.events import Event, StreamId
from monitoring.service import Gap, MonitoringService
from monitoring.topics import parse_topics
from tests.conftest import EmbeddedSupabase

TOKEN = "a-secret"
KILLS = 10

_APPLICATION = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from adapters.publisher import publishing
from monitoring.events import Draft, StreamId

async def main(path, database_url, legacy_url, token, device):
    streams = [StreamId(f"{device}/{name}") for name in ("system", "containers", "sessions", "drives")]
    async with publishing(Path(path), database_url=database_url, legacy_url=legacy_url, legacy_token=token) as publisher:
        n = 0
        while True:
            now = datetime.now(UTC)
            await publisher.append([Draft(stream, "seen", now, {"n": n, "text": "x" * 300}) for stream in streams])
            n += 1
            if n == 1:
                print("appends", flush=True)
            await asyncio.sleep(0.005)

asyncio.run(main(*sys.argv[1:]))
"""


def _interruptible() -> None:
    """Take interrupts, also where this was begun in the background of a shell, which ignores them for its jobs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Owner:
    """The command line of an owner over one spool, and what is killed of it."""

    def __init__(self, command: list[str], spool: Path, log: Path, *, load: int) -> None:
        """``load`` events are appended at least before a kill that is not an early one."""
        self.load = load
        self.command = command
        self.spool = spool
        self.log = log
        self.chance = random.Random(11)

    async def killed(self, *, early: bool) -> None:
        """Start the process and kill it: while it starts, or at some moment after it has begun to append."""
        before = self._position()
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "error", *self.command, stdout=log, stderr=log,
                preexec_fn=_interruptible,
            )  # fmt: skip
        try:
            if not early:
                async with asyncio.timeout(30):
                    while self._position() < before + self.load:
                        assert process.returncode is None, self.log.read_text()
                        await asyncio.sleep(0.005)
            await asyncio.sleep(self.chance.uniform(0.0, 0.8))
        finally:
            process.kill()
            await process.wait()

    def _position(self) -> int:
        if not self.spool.exists():
            return 0
        with SpoolReader(self.spool) as reader:
            return reader.position()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let it go on, to the end of the block; then stop it in order."""
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "error", *self.command, stdout=log, stderr=log,
                preexec_fn=_interruptible,
            )  # fmt: skip
        try:
            yield
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(15):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


class Reader:
    """A client of one path from the beginning on."""

    def __init__(self) -> None:
        self.check = DeliveryCheck()
        self.events: list[Event] = []
        self.gaps: list[Gap] = []

    async def read(self, service: MonitoringService, device: str) -> None:
        async with service.subscribe(parse_topics([f"devices.{device}"]), Cursor()) as subscription:
            async for item in subscription:
                self.check.take(item)
                if isinstance(item, Event):
                    self.events.append(item)
                elif isinstance(item, Gap):
                    self.gaps.append(item)


@pytest.mark.parametrize("kind", ["application", "collector"])
async def test_ten_kills_in_a_row_lose_nothing_and_double_nothing_on_either_path(
    embedded_supabase: EmbeddedSupabase, tmp_path: Path, kind: str
) -> None:
    device = f"killed-{kind}"
    database_url = embedded_supabase.postgres.url()
    (tmp_path / "token").write_text(TOKEN)
    async with LegacyServer(token=TOKEN, port=0, max_queue=10_000) as server:
        command = {
            "application": [
                "-c", textwrap.dedent(_APPLICATION), str(tmp_path / "spool.db"), database_url, server.link_url,
                TOKEN, device,
            ],
            "collector": [
                "-m", "crossfade.collect", "--data-dir", str(tmp_path), "--device", device, "--interval", "0.2",
                "--no-docker", "--database-url", database_url, "--legacy-url", server.link_url,
                "--link-token-file", str(tmp_path / "token"),
            ],
        }[kind]  # fmt: skip
        load = {"application": 60, "collector": 2}[kind]
        owner = Owner(command, tmp_path / "spool.db", tmp_path / "owner.log", load=load)
        services: dict[str, MonitoringService] = {
            "legacy": LegacyWebSocket(server.url),
            "supabase": SupabaseRealtime(
                embedded_supabase.url, embedded_supabase.keys.anon_key, embedded_supabase.token
            ),
        }
        readers = {name: Reader() for name in services}
        async with asyncio.TaskGroup() as group:
            reading = [
                group.create_task(readers[name].read(service, device)) for name, service in services.items()
            ]
            for number in range(KILLS):
                await owner.killed(early=number % 5 == 4)
            async with owner.running():
                with SpoolReader(owner.spool) as spool:
                    after = spool.position()
                    async with asyncio.timeout(60):
                        while spool.position() <= after + 3 or min(spool.acknowledged().values()) <= after:
                            await asyncio.sleep(0.02)
            with Spool.open(owner.spool) as spool:
                heads = spool.heads()
                assert spool.state().waiting == {"supabase": 0, "legacy": 0}, owner.log.read_text()
            try:
                async with asyncio.timeout(60):
                    while any(reader.check._last != dict(heads) for reader in readers.values()):
                        await asyncio.sleep(0.02)
            except TimeoutError:
                pytest.fail(f"{heads} {[reader.check._last for reader in readers.values()]}")
            finally:
                for task in reading:
                    task.cancel()
        for service in services.values():
            await service.close()
    expected = sum(seq for _, seq in heads.values())
    assert {epoch for epoch, _ in heads.values()} == {1}
    for name, reader in readers.items():
        assert reader.check.faults == 0, (name, reader.check.findings)
        assert len(reader.events) == len({event.id for event in reader.events}) == expected, name
    by_id = [{event.id: event for event in reader.events} for reader in readers.values()]
    assert by_id[0] == by_id[1]
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "select stream, count(*) as count, max(seq) as last from cf_events where device = $1 group by stream",
            device,
        )
    finally:
        await connection.close()
    assert {StreamId(row["stream"]): (row["count"], row["last"]) for row in rows} == {
        stream: (seq, seq) for stream, (_, seq) in heads.items()
    }
    assert expected >= load * KILLS * 4 // 5
