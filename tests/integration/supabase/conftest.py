"""A migrated database, and the embedded Supabase over it as a process of its own, with the real server's habits if asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapters.supabase_realtime import SupabaseRealtime
from embedded.keys import load_or_create
from embedded.postgres import Postgres
from monitoring.cursor import Cursor
from monitoring.events import Event, metric_type_of, to_json
from monitoring.service import Gap, Item
from monitoring.subscription import Subscription
from tests.conftest import ROOT, EmbeddedSupabase
from tests.fakes.event_factory import event, opened
from tests.migrated_postgres import migrated_postgres


@pytest.fixture(scope="package")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One PostgreSQL for all tests here, migrated. Tests keep apart by their devices, and each chooses the mode it needs."""
    with migrated_postgres(tmp_path_factory.mktemp("pg")) as server:
        yield server


_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
)
"""How PostgreSQL is missed while it is restarted."""


def restart(postgres: Postgres) -> None:
    """As ``pg_ctl restart -m immediate`` does it: every connection is cut, and the log is replayed."""
    process = postgres._process
    assert process is not None
    process.send_signal(signal.SIGQUIT)
    postgres.stop()
    postgres.start()


@dataclass
class Database:
    """What an owner does: events, heartbeats, the mode. Connects anew when PostgreSQL was restarted."""

    postgres: Postgres
    owner: str = field(default_factory=lambda: str(uuid.uuid4()))
    _connection: Any = None

    async def call(self, statement: str, *arguments: Any) -> Any:
        """Return the one value that a statement returns."""
        async with asyncio.timeout(60):
            while True:
                try:
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await asyncpg.connect(self.postgres.dsn(), timeout=5)
                    return await self._connection.fetchval(statement, *arguments)
                except _AWAY:
                    await asyncio.sleep(0.05)

    async def publish(self, *events: Event) -> None:
        for stream, epoch in sorted({(e.stream, e.epoch) for e in events}):
            await self.call("select cf_acquire_lease($1, $2, $3)", stream, self.owner, epoch)
        rows = [{**to_json(e), "metric_type": metric_type_of(e.stream)} for e in events]
        await self.call("select cf_append($1, $2)", self.owner, json.dumps(rows))

    async def mode(self, mode: str, beat_seconds: float = 0.5) -> None:
        await self.call("select cf_set_mode($1, $2)", mode, beat_seconds)

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beat as an owner does, over a connection of its own, through every restart."""
        own = Database(self.postgres)

        async def beat() -> None:
            while True:
                await asyncio.sleep(await own.call("select cf_beat()"))

        task = asyncio.create_task(beat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            await own.close()
            if not task.cancelled():
                task.result()

    @contextlib.asynccontextmanager
    async def writing(self, *streams: str, every: float = 0.01) -> AsyncIterator[Writing]:
        """Write to the streams one event after another, over a connection of its own, through every restart."""
        own = Database(self.postgres, self.owner)
        writing = Writing()

        async def write() -> None:
            while not writing.stopped:
                writing.last += 1
                events = [
                    opened(stream) if writing.last == 1 else event(stream, writing.last) for stream in streams
                ]
                await own.publish(*events)
                await asyncio.sleep(every)

        task = asyncio.create_task(write())
        try:
            yield writing
        finally:
            writing.stopped = True
            await asyncio.wait({task}, timeout=30)
            task.cancel()
            await own.close()
        task.result()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


@dataclass
class Writing:
    """How far a writer is."""

    last: int = 0
    stopped: bool = False

    async def goes_on(self, count: int = 20) -> None:
        """Wait until so many more events were written."""
        goal = self.last + count
        await until(lambda: self.last >= goal, f"{count} more events written", 30)


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[Database]:
    made = Database(postgres)
    yield made
    await made.close()


class Gateway:
    """The embedded Supabase's process, which can be killed and started again where it was."""

    def __init__(self, postgres: Postgres, habits: Iterable[str] = ()) -> None:
        self.postgres = postgres
        self.habits = tuple(habits)
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> EmbeddedSupabase:
        command = [
            *(sys.executable, "-m", "embedded.gateway", "--port", str(self.port)),
            *("--keys", str(self.postgres.data_dir / "supabase")),
            *("--pg-socket-dir", str(self.postgres.socket_dir), "--pg-port", str(self.postgres.port)),
            *(part for habit in self.habits for part in ("--habit", habit)),
        ]
        with (self.postgres.data_dir / "gateway.log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), f"the gateway did not start: {line!r}"
        url = line.removeprefix("listening on ").strip()
        self.port = int(url.rpartition(":")[2])
        keys = load_or_create(self.postgres.data_dir / "supabase")
        return EmbeddedSupabase(self.postgres, keys, url, self.process)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None


StartGateway = Callable[..., tuple[Gateway, EmbeddedSupabase]]


@pytest.fixture
def gateway(postgres: Postgres) -> Iterator[StartGateway]:
    """Return what starts a gateway with some habits."""
    made: list[Gateway] = []

    def start(*habits: str) -> tuple[Gateway, EmbeddedSupabase]:
        gateway = Gateway(postgres, habits)
        made.append(gateway)
        return gateway, gateway.start()

    yield start
    for each in made:
        each.kill()


class Client:
    """A subscriber, and everything it was given."""

    def __init__(self, service: SupabaseRealtime, subscription: Subscription[Item]) -> None:
        self.service = service
        self.subscription = subscription
        self.events: list[Event] = []
        self.gaps: list[Gap] = []
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for item in self.subscription:
            if isinstance(item, Gap):
                self.gaps.append(item)
            elif isinstance(item, Event):
                self.events.append(item)

    def of(self, stream: str) -> list[int]:
        """Return the seqs of a stream, as they came."""
        return [event.seq for event in self.events if event.stream == stream]

    async def has(self, stream: str, last: int, seconds: float = 20.0) -> None:
        """Wait until a seq of the stream has come."""
        await until(lambda: self.of(stream)[-1:] == [last], f"seq {last} of {stream}", seconds)

    async def counted(self, what: str, at_least: int = 1, seconds: float = 20.0) -> None:
        """Wait until the service has counted something so often."""
        async with asyncio.timeout(seconds):
            while (await self.service.health()).counters.get(what, 0) < at_least:
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self.service.close()
        await self._task


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{what}: not within {seconds} s")


Subscribe = Callable[..., Any]


@pytest.fixture
async def subscribe() -> AsyncIterator[Subscribe]:
    """Return what makes a live client; at the end all are closed, and nothing of them may be left running."""
    before = asyncio.all_tasks()
    clients: list[Client] = []

    async def make(
        supabase: EmbeddedSupabase,
        topics: Any,
        since: Cursor | None = None,
        *,
        live: bool = True,
        token: Callable[[], str] | None = None,
        **options: Any,
    ) -> Client:
        service = SupabaseRealtime(supabase.url, supabase.keys.anon_key, token or supabase.token, **options)
        subscription = service.subscribe(topics, since)
        clients.append(Client(service, subscription))
        if live:
            async with asyncio.timeout(20):
                await subscription.wait_live()
        return clients[-1]

    yield make
    async with asyncio.timeout(20):
        await asyncio.gather(*(client.close() for client in clients))
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks were left running: {left}"


@pytest.fixture
def device() -> str:
    return f"dev-{uuid.uuid4().hex[:12]}"


__all__ = ["Client", "Database", "Gateway", "Path", "restart", "until"]
