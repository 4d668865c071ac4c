"""The collecting process, its database and its legacy server, each a real process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapters.spool import Spool
from adapters.spool_reader import SpoolReader
from monitoring.events import StreamId

SYSTEM = StreamId("web-1/system")


@asynccontextmanager
async def process(*arguments: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("ab") as output:
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", *arguments, stdout=output, stderr=output
        )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


class Setting:
    """A data directory and the command lines of the processes on it."""

    def __init__(self, root: Path, database_url: str) -> None:
        self.root = root
        self.database_url = database_url
        (root / "legacy").mkdir(parents=True)
        (root / "legacy" / "link.token").write_text("a-secret")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.legacy_port = probe.getsockname()[1]

    def collect(self) -> Any:
        return process(
            "-m", "crossfade.collect", "--data-dir", str(self.root), "--device", "web-1", "--interval", "0.3",
            "--database-url", self.database_url, "--no-docker",
            "--legacy-url", f"ws://127.0.0.1:{self.legacy_port}/link",
            log=self.root / "collect.log",
        )  # fmt: skip

    def legacy(self) -> Any:
        return process(
            "-m", "legacy_ws", "--port", str(self.legacy_port),
            "--token-file", str(self.root / "legacy" / "link.token"),
            log=self.root / "legacy.log",
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        try:
            return json.loads((self.root / "run" / "collect.json").read_text())
        except FileNotFoundError:
            return {}

    async def until(
        self, condition: Callable[[dict[str, Any]], Any], what: str, seconds: float = 30.0
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition(self.status()):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(
                f"{what}: not within {seconds} s; {self.status()} {(self.root / 'collect.log').read_text()}"
            )

    def said(self) -> str:
        return (self.root / "collect.log").read_text()


@pytest.fixture
def setting(tmp_path: Path, database: Any) -> Setting:
    return Setting(tmp_path / "data", database.url)


def fed(status: dict[str, Any]) -> bool:
    """Tell whether this run read the host, and both paths have all of it."""
    return (
        bool(status)
        and all(path["connected"] and path["pending"] == 0 for path in status["paths"].values())
        and status["collectors"]["host"]["read"] >= 2
    )


async def stopped(running: asyncio.subprocess.Process) -> int:
    running.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        return await running.wait()


async def test_both_paths_get_everything_and_a_restart_goes_on(setting: Setting, database: Any) -> None:
    async with setting.legacy():
        for _ in range(2):
            async with setting.collect() as running:
                pid = running.pid
                await setting.until(
                    lambda status, pid=pid: status.get("pid") == pid and fed(status), "both paths"
                )
                assert setting.status()["detail"] == "collecting"
                assert "not watched" in setting.status()["docker"]["detail"]
                assert await stopped(running) == 0
            last = setting.status()
            assert not last["running"]
            assert last["paths"]["supabase"]["pending"] == last["paths"]["legacy"]["pending"] == 0
    with SpoolReader(setting.root / "spool.db") as reader:
        written = [(e.epoch, e.seq, e.kind) for _, e in reader.read(0, 1000) if e.stream == SYSTEM]
    assert written == await database.rows(SYSTEM)
    assert [seq for _, seq, _ in written] == list(range(1, len(written) + 1))
    statuses = await database.connection.fetch(
        "select payload ->> 'new_status' as status from public.cf_events where kind = 'device_status_changed' order by seq"
    )
    assert [row["status"] for row in statuses] == ["up", "unknown", "up", "unknown"]


async def test_a_dead_legacy_server_and_a_killed_collector_lose_nothing(
    setting: Setting, database: Any
) -> None:
    async with setting.collect() as running:
        await setting.until(lambda s: s and s["paths"]["supabase"]["events"] >= 3, "the database alone")
        assert not setting.status()["paths"]["legacy"]["connected"]
        running.send_signal(signal.SIGKILL)
        await running.wait()
    async with setting.legacy(), setting.collect() as running:
        pid = running.pid
        await setting.until(lambda s: s.get("pid") == pid and fed(s), "both paths")
        assert await stopped(running) == 0
    rows = await database.rows(SYSTEM)
    assert [seq for _, seq, _ in rows] == list(range(1, len(rows) + 1))
    assert setting.status()["paths"]["legacy"]["sent_events"] >= len(rows)


async def test_without_a_database_the_first_start_waits_and_says_so(setting: Setting) -> None:
    setting.database_url = "postgresql+asyncpg://u:hidden@127.0.0.1:1/d"
    async with setting.collect() as running:
        await setting.until(
            lambda s: s and "waiting for the database" in s["detail"] and "away" in s["detail"],
            "the sentence",
        )
        assert await stopped(running) == 0
    assert "hidden" not in setting.said()
    assert "Traceback" not in setting.said()


async def test_a_second_process_is_refused_in_one_line(setting: Setting) -> None:
    setting.root.joinpath("run").mkdir()
    with Spool.open(setting.root / "spool.db"):
        async with setting.collect() as running:
            async with asyncio.timeout(20):
                assert await running.wait() == 1
    assert f"in use by process {os.getpid()}" in setting.said()
    assert setting.said().count("\n") == 1


@pytest.mark.parametrize(
    ("break_it", "said", "exit_code"),
    [
        (lambda setting: (setting.root / "spool.db").write_bytes(b"junk" * 2000), "is damaged", 1),
        (lambda setting: (setting.root / "legacy" / "link.token").unlink(), "link.token", 1),
        (lambda setting: setattr(setting, "database_url", "mysql://h/d"), "expected postgresql://", 1),
    ],
)
async def test_what_it_cannot_start_with_is_one_line(
    setting: Setting, break_it: Callable[[Setting], Any], said: str, exit_code: int
) -> None:
    break_it(setting)
    async with setting.collect() as running:
        async with asyncio.timeout(20):
            assert await running.wait() == exit_code
    assert said in setting.said()
    assert setting.said().count("\n") <= 2
    assert "Traceback" not in setting.said()


async def test_a_killed_database_delays_only_its_own_path(tmp_path: Path, postgres: Any) -> None:
    setting = Setting(tmp_path / "data", postgres.url(database="crossfade"))
    async with setting.legacy(), setting.collect() as running:
        await setting.until(fed, "both paths")
        os.kill(postgres.pid, signal.SIGKILL)
        await setting.until(lambda s: not s["paths"]["supabase"]["connected"], "the loss")
        sent = setting.status()["paths"]["legacy"]["sent_events"]
        await setting.until(lambda s: s["paths"]["legacy"]["sent_events"] > sent, "the other path")
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        await setting.until(fed, "both paths again")
        assert await stopped(running) == 0
    connection = await asyncpg.connect(postgres.dsn(database="crossfade"))
    seqs = await connection.fetch("select seq from public.cf_events where stream = $1 order by seq", SYSTEM)
    await connection.execute("truncate public.cf_events, public.cf_stream_heads, public.cf_leases")
    await connection.close()
    assert [row["seq"] for row in seqs] == list(range(1, len(seqs) + 1))
    assert len(seqs) == setting.status()["streams"][SYSTEM]["seq"]


async def test_checks_are_picked_up_while_it_runs_and_a_mistake_leaves_the_last_good_ones(
    setting: Setting, database: Any
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    file = setting.root / "checks.yaml"
    good = f"checks:\n  shop:\n    http: http://127.0.0.1:{closed}/\n    every: 1s\n"
    async with setting.legacy():
        async with setting.collect() as running:
            await setting.until(fed, "both paths")
            assert setting.status()["checks"]["count"] == 0
            file.write_text(good)
            await setting.until(
                lambda s: s["collectors"].get("check shop", {}).get("status") == "down", "the check"
            )
            assert "nothing listens" in setting.status()["collectors"]["check shop"]["last_error"]
            file.write_text(good + "    evry: 5s\n")
            await setting.until(lambda s: s["checks"]["problem"], "the mistake")
            assert "line 5: shop.evry: there is no such key" in setting.status()["checks"]["problem"]
            failed = setting.status()["collectors"]["check shop"]["failed"]
            await setting.until(
                lambda s: s["collectors"]["check shop"]["failed"] > failed, "the check goes on"
            )
            running.send_signal(signal.SIGKILL)
            await running.wait()
        async with setting.collect() as running:
            pid = running.pid
            await setting.until(
                lambda s: s["pid"] == pid and s["collectors"].get("check shop", {}).get("failed", 0) > 1,
                "the last good checks after a restart",
            )
            # remembered over the kill: nothing is told that everybody knows
            assert setting.status()["collectors"]["check shop"]["status"] == "down"
            file.unlink()
            await setting.until(lambda s: "check shop" not in s["collectors"], "the end of the check")
            assert await stopped(running) == 0
    rows = await database.connection.fetch(
        "select kind, payload from public.cf_events where stream = 'web-1/checks' order by epoch, seq"
    )
    changes = [json.loads(row["payload"]) for row in rows if row["kind"] == "check_status_changed"]
    assert [(change["check"], change["old_status"], change["new_status"]) for change in changes] == [
        ("shop", "unknown", "down"),
        ("shop", "down", "unknown"),
    ]
    assert sum(row["kind"] == "check_completed" for row in rows) >= 5
    assert "Traceback" not in setting.said()
