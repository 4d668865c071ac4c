"""The parts of ``crossfade up``: what each one runs, when it is ready, and what it comes after."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import asyncpg

from adapters.heartbeat import EMBEDDED_SECONDS, set_delivery
from adapters.rollout_journal import CeilingFile
from crossfade import packaged
from crossfade.addresses import reachable
from crossfade.errors import CrossfadeError
from crossfade.foreign import foreign_server
from crossfade.http_parts import HTTP_PARTS, service
from crossfade.secret_files import ensure_secret
from crossfade.supervisor import probes
from crossfade.supervisor.process import Command
from crossfade.supervisor.supervisor import Service, Spec, Step
from embedded.errors import EmbeddedError, MigrationFailed
from embedded.migrations import apply_migrations
from embedded.postgres import Postgres
from embedded.seeds import Seeds, apply_seeds, find_seeds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crossfade.plan import Plan
    from crossfade.settings import Settings

_COLLECT_STOP_SECONDS = 8.0
_LOCK_SECONDS = 10
"""How long a migration waits for a lock. At start-up nobody of ours holds one; what is in the way is a person's session."""
_LINKED = frozenset({"collect", "query", "control", "alerts"})
"""The parts that feed the legacy server."""


def build(plan: Plan) -> list[Spec]:
    """Return the parts of a plan, in the order in which they start."""
    postgres = Postgres(plan.data.root, host=plan.addresses.host, port=plan.addresses.port_database)
    builders: dict[str, Callable[[Plan, Postgres], Spec]] = {
        "postgres": _postgres,
        "migrations": _migrations,
        "realtime": _realtime,
        "legacy": _legacy,
        "collect": _collect,
        "bridge": _bridge,
        "parity": _parity,
        "rollout": _rollout,
        "gateway": _gateway,
        "alerts": _alerts,
        "dashboard": _dashboard,
    }
    builders |= {name: partial(service, part) for name, part in HTTP_PARTS.items()}
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
        applying = asyncio.ensure_future(_apply(connection, plan))
        try:
            return await asyncio.shield(applying)
        except asyncio.CancelledError:
            # With its connection cut, what is still being applied ends at once, whatever the server does.
            connection.terminate()
            applying.cancel()
            await asyncio.gather(applying, return_exceptions=True)
            raise
        finally:
            with contextlib.suppress(TimeoutError):
                await connection.close(timeout=3)

    return Step("migrations", run, after=("postgres",))


async def _apply(connection: asyncpg.Connection, plan: Plan) -> str:
    """Apply the migrations that are not there yet, choose the mode, fill a new database; return what was done."""
    seeds = Seeds(()) if plan.project is None else find_seeds(plan.project)
    try:
        directories = (packaged.migrations(), *plan.migrations)
        applied = sum([len(await apply_migrations(connection, directory)) for directory in directories])
        beat_seconds = plan.settings.heartbeat_seconds or EMBEDDED_SECONDS
        await set_delivery(connection, plan.settings.realtime_mode, beat_seconds)
        seeded = await apply_seeds(connection, seeds)
    except (asyncpg.LockNotAvailableError, MigrationFailed) as error:
        if not isinstance(error.__cause__ or error, asyncpg.LockNotAvailableError):
            raise
        where = f"{error.file}:{error.line}: " if isinstance(error, MigrationFailed) else ""
        raise CrossfadeError(
            f"{where}waited {_LOCK_SECONDS} s for a lock that another session holds; end that session (see pg_locks "
            "and pg_stat_activity) and start again"
        ) from error
    done = [f"{applied} applied"] if applied else []
    done += [f"seeded from {', '.join(seeded)}"] if seeded else []
    done += [f"no seed file is {pattern}" for pattern in seeds.unmatched]
    return "; ".join(done) or "nothing to apply"


def _realtime(plan: Plan, postgres: Postgres) -> Spec:
    addresses = plan.addresses

    def command() -> Command:
        return Command(
            [
                *_python("-m", "crossfade.realtime"),
                *("--host", addresses.host, "--port", str(addresses.port_supabase)),
                *("--keys", str(plan.data.supabase), "--pg-socket-dir", str(postgres.socket_dir)),
                *("--pg-port", str(postgres.port)),
                *(("--enable-signup",) if plan.signup else ()),
                *(part for name in plan.habits for part in ("--habit", name)),
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
        ensure_secret(plan.data.link_token)
        ensure_secret(plan.data.stream_token)

    return Service(
        "legacy",
        lambda: Command(
            _python(
                *("-m", "crossfade.legacy", "--host", addresses.host, "--port", str(addresses.port_legacy)),
                *("--token-file", str(plan.data.link_token)),
                *("--stream-token-file", str(plan.data.stream_token)),
                *("--export-dir", str(plan.data.exports)),
                *("--mount", addresses.legacy_mounts),
                *("--polling-report", str(plan.data.run / "collect.json")),
                *("--links", str(sum(plan.has(part) for part in _LINKED) or 1)),
                f"--container-prefix={plan.settings.legacy_container_prefix}",
            )
        ),
        probes.http(reachable(addresses.host), addresses.port_legacy, "/health"),
        prepare=prepare,
        address=addresses.shown("legacy"),
        done_with=_completed(plan),
    )


def _collect(plan: Plan, postgres: Postgres) -> Spec:
    options: list[str] = ["--data-dir", str(plan.data.root), "--interval", f"{plan.interval_seconds:g}"]
    options += ["--device", plan.device] if plan.device else []
    options += _polling(plan.settings)
    options += [] if plan.docker else ["--no-docker"]
    if plan.hosted:  # the embedded one has been told already, by the step that made it
        options += ["--realtime-mode", plan.settings.realtime_mode] if plan.settings.realtime_mode else []
        seconds = plan.settings.heartbeat_seconds
        options += ["--heartbeat", f"{seconds:g}"] if seconds else []
    options += ["--keep", plan.settings.keep] if plan.settings.keep else []
    limit = plan.settings.storage_limit_bytes
    options += ["--storage-limit", str(limit)] if limit else []
    if plan.has("legacy"):
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
        ensure_secret(plan.data.link_token)
        await status.forget()

    return Service(
        "collect",
        command,
        status.ready,
        after=("postgres", "migrations", "legacy"),
        prepare=prepare,
        stop_seconds=_COLLECT_STOP_SECONDS,
    )


def _polling(settings: Settings) -> list[str]:
    """Return what the collector is told of reading other machines and checks."""
    words = ["--containers-interval", f"{settings.polling_container_interval:g}"]
    words += ["--system-interval", f"{settings.polling_system_metrics_interval:g}"]
    words += ["--drives-interval", f"{settings.polling_drive_health_interval:g}"]
    words += ["--watched-interval", f"{settings.polling_watched_interval:g}"]
    words += ["--most-at-once", str(settings.polling_max_concurrent_devices)]
    words += ["--checks", str(settings.checks.absolute())] if settings.checks else []
    return words if settings.polling_enabled else [*words, "--no-polling"]


def _bridge(plan: Plan, postgres: Postgres) -> Spec:
    status = _Fresh(plan.data.bridge)

    def command() -> Command:
        hosted = plan.settings.database_url
        foreign = foreign_server(plan.settings)
        environment = {"DATABASE_URL": hosted.get_secret_value() if hosted else postgres.dsn()}
        if foreign is not None:  # by the environment: the address may hold a token
            environment |= {"CROSSFADE_LEGACY_URL": foreign.url, "CROSSFADE_LEGACY_DIALECT": foreign.dialect}
        return Command(
            _python("-m", "crossfade.bridge", "--data-dir", str(plan.data.root)), environment=environment
        )

    return Service(
        "bridge",
        command,
        status.ready,
        after=("postgres", "migrations"),
        prepare=status.forget,
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
        done_with=_completed(plan),
    )


def _completed(plan: Plan) -> Callable[[], bool]:
    """Return what tells whether the migration is complete: then there is no legacy server, and nothing to compare."""
    ceiling = CeilingFile(plan.data.rollout_journal)
    return lambda: ceiling.look().completed


def _rollout(plan: Plan, postgres: Postgres) -> Spec:
    status = _Fresh(plan.data.rollout)

    def command() -> Command:
        hosted = plan.settings.database_url
        return Command(
            _python(
                *("-m", "crossfade.rollout", "--data-dir", str(plan.data.root), "--flags", str(plan.flags))
            ),
            environment={"DATABASE_URL": hosted.get_secret_value() if hosted else postgres.dsn()},
        )

    return Service(
        "rollout",
        command,
        status.ready,
        after=("postgres", "migrations"),
        prepare=status.forget,
        start_seconds=60.0,
    )


def _gateway(plan: Plan, _: Postgres) -> Spec:
    addresses = plan.addresses

    async def prepare() -> None:
        ensure_secret(plan.data.stream_token)

    return Service(
        "gateway",
        lambda: Command(
            _python(
                *("-m", "crossfade.gateway", "--data-dir", str(plan.data.root), "--flags", str(plan.flags)),
                *("--host", addresses.host, "--mount", addresses.gateway_mounts),
            )
        ),
        probes.http(*addresses.gateway_place, "/health"),
        after=("realtime", "query", "legacy"),
        prepare=prepare,
        address=addresses.shown("gateway"),
    )


def _alerts(plan: Plan, postgres: Postgres) -> Spec:
    options = ["--data-dir", str(plan.data.root), "--rules", str(plan.alerts), "--flags", str(plan.flags)]
    if plan.has("legacy"):
        options += ["--legacy-link", plan.addresses.legacy_link]
    status = _Fresh(plan.data.alerts_status)

    def command() -> Command:
        hosted = plan.settings.database_url
        url = hosted.get_secret_value() if hosted else postgres.dsn("authenticator")
        return Command(_python("-m", "crossfade.alerts", *options), environment={"DATABASE_URL": url})

    async def prepare() -> None:
        ensure_secret(plan.data.link_token)
        await status.forget()

    return Service(
        "alerts",
        command,
        status.ready,
        after=("postgres", "migrations", "realtime", "query", "legacy"),
        prepare=prepare,
        stop_seconds=_COLLECT_STOP_SECONDS,
    )


def _dashboard(plan: Plan, _: Postgres) -> Spec:
    addresses = plan.addresses

    def command() -> Command:
        return Command(
            _python(
                *("-m", "crossfade.dashboard"),
                *("--host", addresses.host, "--port", str(addresses.port_dashboard)),
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
