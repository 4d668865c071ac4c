"""The bridge as a process of its own, between somebody's server and a real embedded Supabase."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapters.supabase_realtime import SupabaseRealtime
from tests.conftest import ROOT, EmbeddedSupabase
from tests.e2e.installation import clean_environment


async def until(condition: Callable[[], Any], what: str | Callable[[], str], seconds: float = 20.0) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{what if isinstance(what, str) else what()}: not within {seconds} s")


@dataclass
class BridgeProcess:
    """``python -m crossfade.bridge``, which can be killed and started again where it was."""

    supabase: EmbeddedSupabase
    directory: Path
    url: str
    dialect: str = "plain-dashboard"
    process: asyncio.subprocess.Process | None = None

    @property
    def report(self) -> dict[str, Any]:
        """What it says of itself."""
        try:
            return json.loads((self.directory / "run" / "bridge.json").read_text())
        except (OSError, ValueError):
            return {}

    async def start(self) -> None:
        """Start it, and wait until it follows the server."""
        environment = clean_environment(
            DATABASE_URL=self.supabase.postgres.dsn(),
            CROSSFADE_LEGACY_URL=self.url,
            CROSSFADE_LEGACY_DIALECT=self.dialect,
        )
        with (self.directory / "bridge.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "crossfade.bridge", "--data-dir", str(self.directory)),
                cwd=ROOT, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        pid = self.process.pid
        await until(self._follows(pid), "the bridge follows the server", 30)

    def _follows(self, pid: int) -> Callable[[], bool]:
        def follows() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, (self.directory / "bridge.log").read_text()
            report = self.report
            return (
                report.get("pid") == pid
                and report["server"]["status"] == "live"
                and report["supabase"]["connected"]
            )

        return follows

    async def kill(self) -> None:
        """Kill -9."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def stop(self) -> int:
        """Ask it to end; returns its exit status."""
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(20):
            return await self.process.wait()


@pytest.fixture
async def bridge(
    embedded_supabase: EmbeddedSupabase, tmp_path: Path
) -> AsyncIterator[Callable[..., BridgeProcess]]:
    """Return what makes a bridge of a server; all are ended."""
    made: list[BridgeProcess] = []

    def make(url: str, dialect: str = "plain-dashboard", name: str = "bridge") -> BridgeProcess:
        directory = tmp_path / name
        directory.mkdir()
        made.append(BridgeProcess(embedded_supabase, directory, url, dialect))
        return made[-1]

    yield make
    for each in made:
        await each.kill()


@pytest.fixture
async def sql(embedded_supabase: EmbeddedSupabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn())
    yield connection
    await connection.close()


async def stored(sql: asyncpg.Connection, device: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (kind, payload) of a device's events in Supabase, in order."""
    rows = await sql.fetch(
        "select kind, payload from cf_events where device = $1 order by stream, epoch, seq", device
    )
    return [(row["kind"], json.loads(row["payload"])) for row in rows]


@contextlib.asynccontextmanager
async def realtime(supabase: EmbeddedSupabase) -> AsyncIterator[SupabaseRealtime]:
    """A viewer's service."""
    service = SupabaseRealtime(supabase.url, supabase.keys.anon_key, supabase.token)
    try:
        yield service
    finally:
        await service.close()


@pytest.fixture
def device() -> str:
    return f"dev-{uuid.uuid4().hex[:12]}"
