"""The parts of ``crossfade up``: what each one runs, when it is ready, and what it comes after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from crossfade import packaged
from crossfade.addresses import reachable
from crossfade.errors import CrossfadeError
from crossfade.supervisor import probes
from crossfade.supervisor.process import Command
from crossfade.supervisor.supervisor import Service, Spec, Step
from embedded.errors import EmbeddedError, MigrationFailed
from embedded.migrations import apply_migrations
from embedded.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from crossfade.plan import Plan

_COLLECT_STOP_SECONDS = 8.0
_LOCK_SECONDS = 10
"""How long a migration waits for a lock. At start-up nobody of ours holds one; what is in the way is a person's session."""


def build(plan: Plan) -> list[Spec]:
    """Return the parts of a plan, in the order in which they start."""
    postgres = Postgres(plan.data.root, host=plan.addresses.host, port=plan.addresses.port_database)
    builders: dict[str, Callable[[Plan, Postgres], Spec]] = {
        "postgres": _postgres,
        "migrations": _migrations,
        "realtime": _realtime,
        "legacy": _legacy,
        "collect": _collect,
        "parity": _parity,
        "dashboard": _dashboard,
    }
    return [builders[name](plan, postgres) for name in plan.parts]


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


@dataclass(slots=True)
class _PostgresLife:
    """Prepares PostgreSQL before each start, in a thread: it blocks."""

    postgres: Postgres

    async def prepare(self) -> None:
        """Make or check the cluster, and wait until nothing of a killed server is left."""
        try:
            await asyncio.to_thread(self.postgres.prepare)
            await asyncio.to_thread(self.postgres.wait_for_old_backends)
        except EmbeddedError as error:
            if error.retryable:
                raise
            raise CrossfadeError(str(error)) from error

    async def ready(self) -> str:
        """Connect once."""
        connection = await asyncpg.connect(self.postgres.dsn(), timeout=3)
        await connection.close()
        return ""


def _postgres(plan: Plan, postgres: Postgres) -> Spec:
    life = _PostgresLife(postgres)
    return Service(
        "postgres",
        lambda: Command(
            postgres.argv(),
            environment=postgres.environment(),
            inherit_environment=False,
            user=postgres.run_as(),
            stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for clients to leave
            death_signal=signal.SIGQUIT,  # takes its own children with it, which SIGKILL would not
        ),
        life.ready,
        prepare=life.prepare,
        address=plan.addresses.shown("postgres"),
        essential=True,
        stop_seconds=15.0,
        start_seconds=120.0,  # recovery after a crash may read much WAL
    )


def _migrations(plan: Plan, postgres: Postgres) -> Step:
    async def run() -> str:
        connection = await asyncpg.connect(
            postgres.dsn(), timeout=10, server_settings={"lock_timeout": f"{_LOCK_SECONDS}s"}
        )
        applying = asyncio.ensure_future(_apply(connection, (packaged.migrations(), *plan.migrations)))
        try:
            applied = await asyncio.shield(applying)
        except asyncio.CancelledError:
            # With its connection cut, what is still being applied ends at once, whatever the server does.
            connection.terminate()
            applying.cancel()
            await asyncio.gather(applying, return_exceptions=True)
            raise
        finally:
            with contextlib.suppress(TimeoutError):
                await connection.close(timeout=3)
        return f"{applied} applied" if applied else "nothing to apply"

    return Step("migrations", run, after=("postgres",))


async def _apply(connection: asyncpg.Connection, directories: Iterable[Path]) -> int:
    """Apply the migrations of some directories; return how many were not there yet."""
    try:
        return sum([len(await apply_migrations(connection, directory)) for directory in directories])
    except (asyncpg.LockNotAvailableError, MigrationFailed) as error:
        if not isinstance(error.__cause__ or error, asyncpg.LockNotAvailableError):
            raise
        where = f"{error.file}:{error.line}: " if isinstance(error, MigrationFailed) else ""
        raise CrossfadeError(
            f"{where}waited {_LOCK_SECONDS} s for a lock that another session holds; end that session (see pg_locks "
            "and pg_stat_activity) and start again"
        ) from error


def _realtime(plan: Plan, postgres: Postgres) -> Spec:
    addresses = plan.addresses

    def command() -> Command:
        return Command(
            [
                *_python("-m", "embedded.gateway"),
                *("--host", addresses.host, "--port", str(addresses.port_supabase)),
                *("--keys", str(plan.data.supabase), "--pg-socket-dir", str(postgres.socket_dir)),
                *("--pg-port", str(postgres.port)),
                *(("--enable-signup",) if plan.signup else ()),
            ]
        )

    return Service(
        "realtime",
        command,
        probes.http(reachable(addresses.host), addresses.port_supabase, "/health"),
        after=("postgres", "migrations"),
        address=addresses.shown("realtime"),
    )


def _legacy(plan: Plan, _: Postgres) -> Spec:
    addresses = plan.addresses

    async def prepare() -> None:
        ensure_link_token(plan)

    return Service(
        "legacy",
        lambda: Command(
            _python(
                *("-m", "legacy_ws", "--host", addresses.host, "--port", str(addresses.port_legacy)),
                *("--token-file", str(plan.data.link_token)),
            )
        ),
        probes.http(reachable(addresses.host), addresses.port_legacy, "/health"),
        prepare=prepare,
        address=addresses.shown("legacy"),
    )


def _collect(plan: Plan, postgres: Postgres) -> Spec:
    options: list[str] = ["--data-dir", str(plan.data.root), "--interval", f"{plan.interval_seconds:g}"]
    options += ["--device", plan.device] if plan.device else []
    options += [] if plan.docker else ["--no-docker"]
    if "legacy" in plan.parts:
        options += ["--legacy-url", plan.addresses.legacy_link]

    def command() -> Command:
        hosted = plan.settings.database_url
        # By the environment: a command line, with its password, is every user's to read.
        url = hosted.get_secret_value() if hosted else postgres.dsn()
        return Command(
            _python("-m", "crossfade.collect", *options),
            environment={"DATABASE_URL": url},
        )

    status = _Fresh(plan.data.run / "collect.json")

    async def prepare() -> None:
        ensure_link_token(plan)
        await status.forget()

    return Service(
        "collect",
        command,
        status.ready,
        after=("postgres", "migrations", "legacy"),
        prepare=prepare,
        stop_seconds=_COLLECT_STOP_SECONDS,
    )


def _parity(plan: Plan, _: Postgres) -> Spec:
    status = _Fresh(plan.data.parity)
    return Service(
        "parity",
        lambda: Command(_python("-m", "crossfade.parity", "--data-dir", str(plan.data.root))),
        status.ready,
        after=("realtime", "legacy", "collect"),
        prepare=status.forget,
        start_seconds=60.0,
    )


def _dashboard(plan: Plan, _: Postgres) -> Spec:
    addresses = plan.addresses

    def command() -> Command:
        return Command(
            _python(
                *("-m", "streamlit", "run", str(packaged.dashboard_script())),
                *("--server.address", addresses.host, "--server.port", str(addresses.port_dashboard)),
                *("--server.headless", "true", "--server.fileWatcherType", "none"),
                *("--browser.gatherUsageStats", "false"),
            ),
            environment={
                "CROSSFADE_DATA_DIR": str(plan.data.root),
                "CROSSFADE_FLAGS": str(plan.flags),
            },
        )

    return Service(
        "dashboard",
        command,
        probes.http(reachable(addresses.host), addresses.port_dashboard, "/_stcore/health"),
        after=("realtime", "legacy"),
        address=addresses.shown("dashboard"),
        start_seconds=60.0,
    )


@dataclass(slots=True)
class _Fresh:
    """For parts that listen nowhere: ready once the status file has been written by this life of the part."""

    path: Path

    async def forget(self) -> None:
        """Remove what an earlier life has written."""
        self.path.unlink(missing_ok=True)

    async def ready(self) -> str:
        """Look for the file."""
        if not self.path.exists():
            raise probes.NotReady(f"{self.path} is not written yet")
        return ""


def ensure_link_token(plan: Plan) -> None:
    """Make the secret of the collector's link, for its owner only, unless it is there."""
    path = plan.data.link_token
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
