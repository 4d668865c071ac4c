"""The guarded rollout through the installed command: nobody touches anything, and what Supabase loses takes clients back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from crossfade.paths import DataDir
from crossfade.settings import Settings
from crossfade.verify import DeliveryCheck
from crossfade.wiring import FlagRoutes, Wiring
from embedded.postgres import Postgres
from monitoring.pacing import Pacer
from monitoring.router import Router
from monitoring.service import PUSHING
from monitoring.topics import GLOBAL
from tests.e2e.installation import Installation, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-own")]

CLIENTS = 12
BLOCK_SECONDS = 0.5
LOSE = """
create function public.test_lose() returns trigger language plpgsql as $$
begin return case when random() < 0.1 then null else new end; end $$;
create trigger test_lose before insert on public.cf_events for each row execute function public.test_lose();
"""


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("rollout"))
    try:
        installation.start("--without", "dashboard", "--no-docker", "--interval", "0.2")
        yield installation
    finally:
        installation.remove()


class Clients:
    """Clients of one process, each checked for holes and doubles as its events come in."""

    def __init__(self, root: Path) -> None:
        settings = Settings(data_dir=root / ".crossfade", rollout_block_seconds=BLOCK_SECONDS)
        self.wiring = Wiring(DataDir.of(settings.data_dir), settings)
        self.checks = [DeliveryCheck() for _ in range(CLIENTS)]
        self.routers: list[Router] = []

    async def run(self, ready: asyncio.Event) -> None:
        flags, reports, pacer = self.wiring.flags(), self.wiring.client_reports(), Pacer()
        await asyncio.to_thread(flags.refresh)
        routes = FlagRoutes(flags)
        async with asyncio.TaskGroup() as group:
            group.create_task(flags.run())
            group.create_task(reports.run())
            for number, check in enumerate(self.checks):
                services = {backend: self.wiring.connect_backend(backend) for backend in PUSHING}
                name = f"client-{number}"
                router = self.wiring.router(
                    services, routes, name, pacer=pacer, witness=reports.witness(name)
                )
                self.routers.append(router)
                group.create_task(self.follow(router, check))
            ready.set()

    async def follow(self, router: Router, check: DeliveryCheck) -> None:
        try:
            async for item in router.subscribe([GLOBAL]):
                check.take(item)
        finally:
            await router.close()

    def on(self, backend: str) -> int:
        return sum(router.backend == backend for router in self.routers)


async def until(what: str, condition: Any, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not within {seconds:g} s: {what}")


def status(made: Installation) -> dict[str, Any]:
    return json.loads(made.run("rollout", "status", "--format", "json").stdout)


def said(made: Installation, *words: str, code: int = 0) -> str:
    done = made.run(*words)
    assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


async def test_a_rollout_goes_forward_by_itself_and_back_by_itself(made: Installation) -> None:
    data = DataDir.of(made.directory / ".crossfade")
    said(
        made,
        *("rollout", "start", "--ladder", "50,100", "--dwell", "1s", "--max-disturbed", "0.05"),
        *("--latency-budget", "5"),
    )
    said(made, "flags", "set", "live.percent", "100", "--why", "test")
    clients, ready = Clients(made.directory), asyncio.Event()
    running = asyncio.ensure_future(clients.run(ready))
    try:
        await ready.wait()
        kill_controller(made)
        await until("everybody is on Supabase", lambda: clients.on("supabase") == CLIENTS, 120)
        actions = [entry["action"] for entry in entries(data)]
        assert actions == ["start", "rehearse", "rehearse", "rehearsed", "advance", "advance"]
        assert all(gate["answer"] == "PASS" for entry in entries(data)[4:] for gate in entry["gates"])
        assert "as far as the flag file wishes" in said(made, "rollout", "status")

        made_by_hand = await asyncpg.connect(
            Postgres(data.root, port=json.loads(data.state.read_text())["addresses"]["port_database"]).dsn()
        )
        await made_by_hand.execute(LOSE)
        await until("everybody is back", lambda: clients.on("legacy") == CLIENTS, 60)
        latch = status(made)["state"]["cohorts"]["default"]["latch"]
        assert "missing_supabase" in latch or "gap in" in latch
        assert latch in said(made, "rollout", "status", code=1)
        assert "--ack" in said(made, "rollout", "resume", code=1)
        assert latch in said(made, "flags", "explain", "client-1")
        before = len(entries(data))
        kill_controller(made)
        await made_by_hand.execute("drop trigger test_lose on public.cf_events")
        assert (await made_by_hand.fetchval("select count(*) from public.cf_flags_audit")) >= 1
        await until_mirrored(made_by_hand, before)
        await made_by_hand.close()
        assert clients.on("legacy") == CLIENTS, "the latch holds"
        for check in clients.checks:
            assert (check.faults, check.findings) == (0, [])
            assert check.events > 0
    finally:
        running.cancel()
        await asyncio.wait({running})


def kill_controller(made: Installation) -> None:
    """Kill -9; what it had seen is in its checkpoint, what it had decided in its journal."""
    before = made.part("rollout")["pid"]
    os.kill(before, signal.SIGKILL)
    wait_until("the controller is back", lambda: made.part("rollout")["pid"] not in {None, before})


def paths(data: DataDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data.run / "collect.json").read_text())["paths"]
    return found


async def until_mirrored(connection: asyncpg.Connection, count: int) -> None:
    async with asyncio.timeout(20):
        while await connection.fetchval("select count(*) from public.cf_rollout_journal") < count:
            await asyncio.sleep(0.1)


def entries(data: DataDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.rollout_journal.read_text().splitlines()]


async def test_off_stops_the_feed_and_complete_stops_the_legacy_server(made: Installation) -> None:
    data = DataDir.of(made.directory / ".crossfade")
    port = json.loads(data.state.read_text())["addresses"]["port_database"]
    database = await asyncpg.connect(Postgres(data.root, port=port).dsn())

    async def becomes(query: str, value: Any) -> None:
        async with asyncio.timeout(20):
            while await database.fetchval(query) != value:
                await asyncio.sleep(0.1)

    published = "select exists (select from pg_publication_tables where tablename = 'cf_events')"
    said(made, "flags", "set", "stage", "off")
    await becomes(published, value=False)
    rows = await database.fetchval("select count(*) from cf_events")
    async with asyncio.timeout(20):  # rows are kept all the same
        while await database.fetchval("select count(*) from cf_events") <= rows:
            await asyncio.sleep(0.1)
    said(made, "flags", "set", "stage", "complete")
    await becomes(published, value=True)
    assert made.part("legacy")["state"] == "ready", "a file alone completes nothing"
    assert "no rollout has been started" in said(made, "rollout", "complete", "--confirm", code=1)

    said(made, "flags", "set", "stage", "shadow")
    said(
        made,
        *("rollout", "start", "--ladder", "100", "--dwell", "1s", "--reverse-window", "1s"),
        *("--max-disturbed", "0.05", "--latency-budget", "5"),
    )
    said(made, "flags", "set", "stage", "complete")
    assert "rampdown: not there yet: default" in said(made, "rollout", "complete", "--confirm", code=1)
    clients, ready = Clients(made.directory), asyncio.Event()
    running = asyncio.ensure_future(clients.run(ready))
    try:
        await ready.wait()
        await until("rampdown", lambda: entries(data)[-1]["after"] == "rampdown", 60)
        async with asyncio.timeout(60):
            while True:  # in a thread: the clients go on meanwhile
                dry = await asyncio.to_thread(made.run, "rollout", "complete", "--confirm", "--dry-run")
                if dry.returncode == 0:
                    break
        await asyncio.to_thread(said, made, "rollout", "complete", code=1)
        await asyncio.to_thread(said, made, "rollout", "complete", "--confirm")
        await until("the legacy server is stopped", lambda: made.part("legacy")["state"] == "stopped", 60)
        assert entries(data)[-1]["action"] == "complete"
        assert "cannot be undone" in said(made, "rollout", "rollback", code=1)
        await until("the collector has said so", lambda: not paths(data)["legacy"]["enabled"], 10)
        before = [check.events for check in clients.checks]
        await until(
            "events go on",
            lambda: all(
                check.events > count + 3 for check, count in zip(clients.checks, before, strict=True)
            ),
            30,
        )
        assert clients.on("supabase") == CLIENTS
        assert [(check.faults, check.findings) for check in clients.checks] == [(0, [])] * CLIENTS
        assert "complete" in said(made, "status")
    finally:
        running.cancel()
        await asyncio.wait({running})
        await database.close()
