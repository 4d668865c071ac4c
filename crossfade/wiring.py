"""Wiring: from settings and a data directory to services.

Whoever calls owns what is returned, and closes it. On the embedded Supabase the viewer's token is made here with its
secret; on a hosted one ``CROSSFADE_ACCESS_TOKEN``, else the key itself, stands for the viewer.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from adapters.client_reports import ClientReports
from adapters.flag_file import FlagFile
from adapters.move_log import MoveLog
from adapters.rollout_journal import CeilingFile
from crossfade.errors import CrossfadeError, NotRunning
from crossfade.foreign import ForeignServer, foreign_server
from crossfade.paths import DataDir
from crossfade.plan import flags_file, known_addresses
from crossfade.settings import Settings, load_settings
from embedded.errors import EmbeddedError
from embedded.keys import Keys, load_or_create, sign
from legacy_ws.protocol.containers import ContainerDialect
from monitoring.flags.routing import evaluate_route
from monitoring.handover import Limits
from monitoring.route import Route, Routes
from monitoring.service import Backend, MonitoringService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from monitoring.events import Event
    from monitoring.logs import LogSource
    from monitoring.pacing import Pacer
    from monitoring.router import Router
    from monitoring.witness import Witness

    OnRaw = Callable[[Event], None]

_TOKEN_SECONDS = 3600
_RENEW_SECONDS = 600
"""A token is made anew when it has less than this left."""


class Role(StrEnum):
    """What somebody may do: what row level security and the services look at."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    AGENT = "agent"
    """May read, and carry out the commands of the agent it is named after."""


def access_token(jwt_secret: str, subject: str, role: Role, *, now: float, seconds: float) -> str:
    """Return a token of a user of the embedded Supabase that is valid for some seconds."""
    claims = {
        "iss": "supabase",
        "aud": "authenticated",
        "role": "authenticated",
        "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, f"crossfade:{subject}")),
        "iat": int(now),
        "exp": int(now + seconds),
        # not user_metadata, which users of a hosted project can write themselves
        "app_metadata": {"crossfade_role": role.value, "crossfade_name": subject},
    }
    return sign(claims, jwt_secret)


class UserToken:
    """Makes and renews the token of one user of the embedded Supabase."""

    def __init__(
        self,
        jwt_secret: str,
        subject: str,
        role: Role = Role.VIEWER,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = jwt_secret
        self._subject = subject
        self._role = role
        self._clock = clock
        self._token = ""
        self._expires = 0.0

    def __call__(self) -> str:
        """Return a token that is valid for ten minutes at least."""
        now = self._clock()
        if self._expires - now < _RENEW_SECONDS:
            self._expires = now + _TOKEN_SECONDS
            self._token = access_token(
                self._secret, self._subject, self._role, now=now, seconds=_TOKEN_SECONDS
            )
        return self._token


def embedded_keys(data: DataDir) -> Keys:
    """Return the keys of the embedded Supabase; raises NotRunning where there has never been one."""
    if not data.keys.exists():
        raise NotRunning(
            f"there is no Supabase in {data.root}; run crossfade up, or name its data directory (--data-dir, CROSSFADE_DATA_DIR)"
        )
    try:
        return load_or_create(data.supabase)
    except EmbeddedError as error:
        raise CrossfadeError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Wiring:
    """Makes services for one installation."""

    data: DataDir
    settings: Settings

    def connect_backend(
        self, backend: Backend, on_raw: OnRaw | None = None, *, role: Role = Role.VIEWER
    ) -> MonitoringService:
        """Return the service of one backend; needs a running event loop.

        ``on_raw`` sees events off the wire of those that push; ``role`` is that of `supabase`.
        """
        # Here, because most commands connect to neither, and the clients' libraries take most of a second to import.
        if backend is Backend.LEGACY and (foreign := self.foreign()) is not None:
            from adapters.foreign_websocket import ForeignWebSocket  # noqa: PLC0415 - see above

            return ForeignWebSocket(foreign.url, foreign.load(), on_raw=on_raw)
        if backend is Backend.LEGACY:
            from adapters.legacy_websocket import LegacyWebSocket  # noqa: PLC0415 - see above

            url = known_addresses(self.data, self.settings).legacy
            return LegacyWebSocket(url, on_raw=on_raw)
        if backend is Backend.POLLING:
            from adapters.http_polling import HttpPolling  # noqa: PLC0415 - see above

            _, key, token = self.supabase(role)
            return HttpPolling(known_addresses(self.data, self.settings).query, token or (lambda: key))
        from adapters.supabase_realtime import SupabaseRealtime  # noqa: PLC0415 - see above

        url, key, token = self.supabase(role)
        return SupabaseRealtime(url, key, token, on_raw=on_raw)

    def logs(self) -> LogSource:
        """Return where container logs come from: our legacy server, or Supabase when that one cannot be read."""
        from adapters.either_logs import EitherLogs  # noqa: PLC0415 - as for the services
        from adapters.legacy_logs import LegacyLogs  # noqa: PLC0415 - as above
        from adapters.supabase_connection import Project  # noqa: PLC0415 - as above
        from adapters.supabase_logs import SupabaseLogs  # noqa: PLC0415 - as above

        legacy = urlsplit(known_addresses(self.data, self.settings).legacy)
        over_legacy = LegacyLogs(urlunsplit(legacy._replace(path=ContainerDialect.path)))
        return EitherLogs([over_legacy, SupabaseLogs(Project(*self.supabase()))])

    def foreign(self) -> ForeignServer | None:
        """Return another's server that stands in the place of our legacy one; None when none does."""
        return foreign_server(self.settings, self.data)

    def supabase(self, role: Role = Role.VIEWER) -> tuple[str, str, Callable[[], str] | None]:
        """Return URL, key and a token of Supabase; raises CrossfadeError.

        ``role`` is what the embedded one's token says; on a hosted one the token is the installation's.
        """
        settings = self.settings
        if settings.supabase_url is not None:
            settings.require_complete()
            key = settings.supabase_key.get_secret_value() if settings.supabase_key else ""
            given = settings.access_token
            if given is None:
                return settings.supabase_url, key, None
            token = given.get_secret_value()
            return settings.supabase_url, key, lambda: token
        keys = embedded_keys(self.data)
        return (
            known_addresses(self.data, settings).supabase,
            keys.anon_key,
            UserToken(keys.jwt_secret, self.client_id(), role),
        )

    def database_url(self) -> str:
        """Return the URL of the database, for its owner; raises CrossfadeError where there is none."""
        if self.settings.hosted:
            self.settings.require_complete()
        if self.settings.database_url is not None:
            return self.settings.database_url.get_secret_value()
        password = quote(embedded_keys(self.data).db_password)
        at = known_addresses(self.data, self.settings)
        return f"postgresql://postgres:{password}@{at.near}:{at.port_database}/postgres"

    def flags(self) -> FlagFile:
        """Return the installation's flag file; nothing is read yet."""
        return open_flags(self.data, flags_file(self.data, self.settings), self.settings.switches)

    @contextlib.asynccontextmanager
    async def connect_router(
        self,
        client_id: str | None = None,
        *,
        backend: Backend | None = None,
        on_raw: Mapping[Backend, OnRaw] | None = None,
        flags: FlagFile | None = None,
        pacer: Pacer | None = None,
    ) -> AsyncIterator[Router]:
        """Serve one client by the route its flags choose, or by one backend alone, for the length of the block.

        ``flags`` is a file of `flags` that the caller wants to look at too; it is kept up to date meanwhile. Clients
        of one process share a ``pacer``.
        """
        flags = flags or self.flags()
        await asyncio.to_thread(flags.refresh)
        taps = on_raw or {}
        services = {
            each: self.connect_backend(each, taps.get(each)) for each in ([backend] if backend else Backend)
        }
        routes = Pinned(backend) if backend else FlagRoutes(flags)
        client = client_id or self.client_id()
        reports = self.client_reports()
        # A client that is kept to one backend is no evidence of what the flags do.
        witness = None if backend else reports.witness(client)
        router = self.router(services, routes, client, pacer=pacer, witness=witness)
        tasks = [
            asyncio.ensure_future(task) for task in (flags.run(), reports.run())
        ]  # owned: ended with the block
        try:
            yield router
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await router.close()

    def router(
        self,
        services: Mapping[Backend, MonitoringService],
        routes: Routes,
        client_id: str,
        *,
        pacer: Pacer | None = None,
        witness: Witness | None = None,
    ) -> Router:
        """Return a client's router over services, which it owns; its moves are recorded in the data directory."""
        from monitoring.router import Router  # noqa: PLC0415 - as for the adapters

        return Router(
            services,
            routes,
            client_id,
            now=lambda: datetime.now(UTC),
            limits=Limits(spread=self.settings.move_spread_seconds),
            pacer=pacer,
            record=MoveLog(self.data.moves).record,
            witness=witness,
        )

    def client_reports(self) -> ClientReports:
        """Return the report of what this process's clients see; whoever runs it ends it."""
        return ClientReports(self.data.client_reports, block_seconds=self.settings.rollout_block_seconds)

    def client_id(self) -> str:
        """Return the stable client id of this user on this data directory."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # an id without a name, in a container
            user = str(os.getuid())
        try:
            return self.data.client_id.read_text("ascii").strip() + f"-{user}"
        except (OSError, UnicodeDecodeError):
            pass
        made = f"cli-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(OSError):  # read-only, or no directory yet: an id for this once
            handle = os.open(self.data.client_id, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(made + "\n")
        return f"{made}-{user}"


def open_flags(data: DataDir, path: Path, environment: Mapping[str, bool]) -> FlagFile:
    """Return a flag file whose last good text is kept in the data directory, under the limit of the rollout there.

    ``environment`` are the settings' switches, which win over the file's.
    """
    return FlagFile(
        path, kept=data.good_flags(path), environment=environment, ceiling=CeilingFile(data.rollout_journal)
    )


def here(data_dir: Path | None = None) -> Wiring:
    """Return the wiring of a data directory on this machine, by default the environment's; raises UsageError."""
    settings = load_settings()
    if data_dir is not None:
        settings = settings.model_copy(update={"data_dir": data_dir})
    return Wiring(DataDir.of(settings.data_dir), settings)


@dataclass(frozen=True, slots=True)
class Pinned(Routes):
    """One backend for everybody, whatever happens to it."""

    backend: Backend

    def route(self, client_id: str) -> Route:  # noqa: ARG002 - the same for each
        """Return the one backend."""
        return Route(self.backend, fallbacks=())

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002 - nothing ever changes
        """Return at once: nothing ever changes."""
        return lambda: None


@dataclass(frozen=True, slots=True)
class FlagRoutes(Routes):
    """Where a flag file wants a client."""

    flags: FlagFile

    def route(self, client_id: str) -> Route:
        """Return how the client should be served now."""
        return evaluate_route(self.flags.current(), client_id)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called each time other flags come into force; returns what ends that."""
        return self.flags.listen(wake)
