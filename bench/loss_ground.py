"""What bench/loss.py stands on: a database with Crossfade's tables, the gateway with its habits, a writer, clients."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
from programs import HERE, ROOT, Program, program

from embedded import keys as key_store
from embedded.migrations import apply_bootstrap, apply_migrations
from embedded.ports import free_port
from embedded.postgres import Postgres
from monitoring.events import stream_id, uuid7
from tests.fakes.tcp_proxy import TcpProxy

HABITS = ("early-subscribed", "lossy-fault", "poll-500ms", "connect-penalty", "join-penalty")
STUCK = ("silent-fault",)
"""What is worse than was measured: after a fault the feed says and brings nothing more, until somebody notices."""
STREAMS = tuple(f"bench-{number}/system" for number in range(4))

Identity = str
"""An event as ``stream epoch seq``."""


@dataclasses.dataclass(slots=True)
class Told:
    """Something that a client said to its application."""

    at: float
    state: str
    text: str


class Client:
    """A client process behind a proxy of its own."""

    def __init__(self, kind: str, proxy: TcpProxy, running: Program, out: Path) -> None:
        self.kind = kind
        self.proxy = proxy
        self.told: list[Told] = []
        self.counters: dict[str, int] = {}
        self.received: list[tuple[Identity, float]] = []
        self.count = 0
        """Events so far, as it says twice a second."""
        self.stopped_at = 0.0
        self._program = running
        self._out = out
        self._changed = asyncio.Event()
        self._done = asyncio.Event()

    async def listen(self) -> None:
        """Take what it says until it has ended."""
        while not self._done.is_set():
            said = json.loads(await self._program.line(600))
            if "state" in said:
                self.told.append(Told(**said))
            self.counters = said.get("counters", self.counters)
            self.count = said.get("count", self.count)
            if "done" in said:
                self._done.set()
            self._changed.set()

    async def live(self) -> float:
        """Return when it was first told that its feed is live."""
        async with asyncio.timeout(60):
            while not (found := [told.at for told in self.told if told.state == "live"]):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    async def quiet(self, seconds: float, patience: float) -> None:
        """Wait until nothing has arrived for so long, or until patience is at its end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                before = -1
                while before != self.count:
                    before = self.count
                    await asyncio.sleep(seconds)

    async def stop(self) -> None:
        """End it and read what it received."""
        self.stopped_at = time.monotonic()
        self._program.hang_up()
        async with asyncio.timeout(60):
            await self._done.wait()
        for line in self._out.read_text().splitlines():
            identity, _, moment = line.rpartition(" ")
            self.received.append((identity, float(moment)))


class Ground:
    """Everything that runs. Faults of the server are its methods; those of the network belong to a client's proxy."""

    def __init__(self, directory: Path, postgres: Postgres) -> None:
        self.directory = directory
        self.postgres = postgres
        self.keys = key_store.load_or_create(directory / "keys")
        self.port = free_port("127.0.0.1")
        self.log = directory / "written"
        self.errors = directory / "errors.log"
        self._gateway: asyncio.subprocess.Process | None = None
        self._secret = directory / "secret"
        self._secret.touch(0o600)
        self._secret.write_text(self.keys.jwt_secret)
        self.writer: Program

    # -- the gateway

    async def start_gateway(self, habits: tuple[str, ...] = HABITS) -> None:
        argv = [sys.executable, "-m", "embedded.gateway", "--port", str(self.port)]
        argv += ["--keys", str(self.directory / "keys"), "--pg-socket-dir", str(self.postgres.socket_dir)]
        argv += ["--pg-port", str(self.postgres.port)]
        argv += [word for name in habits for word in ("--habit", name)]
        with self.errors.open("ab") as log:
            self._gateway = await asyncio.create_subprocess_exec(
                *argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=log
            )
        assert self._gateway.stdout is not None
        async with asyncio.timeout(30):
            line = await self._gateway.stdout.readline()
        if not line.startswith(b"listening"):
            raise RuntimeError(f"the gateway did not start, see {self.errors}")

    async def kill_gateway(self) -> None:
        if self._gateway is not None:
            with contextlib.suppress(ProcessLookupError):
                self._gateway.kill()
            await self._gateway.wait()

    async def restart_gateway(self, habits: tuple[str, ...] = HABITS) -> None:
        """Kill -9 and start again at once."""
        await self.kill_gateway()
        await self.start_gateway(habits)

    # -- PostgreSQL

    async def restart_postgres(self) -> None:
        """What `pg_ctl restart -m immediate` does."""
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGQUIT)
        while self.postgres.pid is not None:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(self.postgres.start)

    async def terminate_slot(self) -> None:
        """Terminate the backend of the replication slot."""
        connection = await asyncpg.connect(self.postgres.dsn())
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'"
        )
        await connection.close()

    async def one_transaction(self, rows: int) -> dict[Identity, float]:
        """Append events in one transaction, as the product never does; return them with their moment."""
        stream, owner = stream_id(f"burst-{uuid.uuid4().hex[:8]}", "system"), uuid.uuid4()
        events = [
            {
                "id": str(uuid7(int(time.time() * 1000), secrets.randbits(74))),
                "stream": stream, "epoch": 1, "seq": seq, "kind": "tick", "metric_type": "system_metrics",
                "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "payload": {"n": seq},
            }
            for seq in range(1, rows + 1)
        ]  # fmt: skip
        connection = await asyncpg.connect(self.postgres.dsn())
        await connection.execute("select cf_acquire_lease($1, $2, 1)", stream, owner)
        began = time.monotonic()
        await connection.execute("select cf_append($1, $2)", owner, json.dumps(events), timeout=120)
        await connection.close()
        return {f"{stream} 1 {seq}": began for seq in range(1, rows + 1)}

    # -- clients

    @contextlib.asynccontextmanager
    async def client(
        self, kind: str, *, life: float = 3600, renew_after: float | None = None
    ) -> AsyncIterator[Client]:
        """Run a client; it is being connected when this is entered."""
        out = self.directory / f"client-{uuid.uuid4().hex[:8]}"
        async with TcpProxy(("127.0.0.1", self.port)) as proxy:
            options: list[str | Path] = [
                "--url",
                proxy.url(),
                "--key",
                self.keys.anon_key,
                "--secret",
                self._secret,
            ]
            options += ["--out", out, "--life", str(life)]
            options += [] if renew_after is None else ["--renew-after", str(renew_after)]
            async with program(self.errors, HERE / "loss_client.py", kind, *options) as running:
                one = Client(kind, proxy, running, out)
                listening = asyncio.ensure_future(one.listen())
                try:
                    yield one
                finally:
                    listening.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await listening

    # -- the writer

    async def rate(self, per_second: float) -> None:
        self.writer.tell(f"rate {per_second:g}")

    async def written(self) -> dict[Identity, float]:
        """Stop writing, wait until all of it is in the database, and return every event with its moment."""
        self.writer.tell("drain")
        await self.writer.line(120)
        found = {}
        for line in self.log.read_text().splitlines():
            identity, _, moment = line.rpartition(" ")
            found[identity] = float(moment)
        return found


@contextlib.asynccontextmanager
async def ground(mode: str) -> AsyncIterator[Ground]:
    """Yield everything started, on free ports, with an empty database."""
    directory = Path(tempfile.mkdtemp(prefix="cf-loss-"))
    postgres = Postgres(directory / "pg", port=0, durable=False)
    try:
        await asyncio.to_thread(postgres.start)
        connection = await asyncpg.connect(postgres.dsn())
        await apply_bootstrap(connection)
        await apply_migrations(connection, ROOT / "supabase" / "migrations")
        await connection.close()
        made = Ground(directory, postgres)
        try:
            await made.start_gateway()
            argv = [HERE / "event_writer.py", "--spool", directory / "spool.db", "--log", made.log]
            argv += ["--streams", ",".join(STREAMS), "--mode", mode]
            async with program(made.errors, *argv, DATABASE_URL=postgres.dsn()) as made.writer:
                if (said := await made.writer.line()) != "ready":
                    raise RuntimeError(f"the writer said {said!r}")
                yield made
        finally:
            await made.kill_gateway()
    finally:
        await asyncio.to_thread(postgres.stop)
        postgres.remove()
        shutil.rmtree(directory, ignore_errors=True)
