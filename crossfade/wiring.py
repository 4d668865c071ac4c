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
from typing import TYPE_CHECKING

from adapters.flag_file import FlagFile
from crossfade.errors import CrossfadeError, NotRunning
from crossfade.plan import flags_file, known_addresses
from embedded.errors import EmbeddedError
from embedded.keys import Keys, load_or_create, sign
from monitoring.flags.evaluation import evaluate
from monitoring.service import Backend, MonitoringService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from crossfade.paths import DataDir
    from crossfade.settings import Settings
    from monitoring.events import Event
    from monitoring.router import Router

    OnRaw = Callable[[Event], None]

_TOKEN_SECONDS = 3600
_RENEW_SECONDS = 600
"""A token is made anew when it has less than this left."""


class ViewerToken:
    """Makes and renews the token of one viewer of the embedded Supabase."""

    def __init__(self, jwt_secret: str, subject: str, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = jwt_secret
        self._subject = subject
        self._clock = clock
        self._token = ""
        self._expires = 0.0

    def __call__(self) -> str:
        """Return a token that is valid for ten minutes at least."""
        now = self._clock()
        if self._expires - now < _RENEW_SECONDS:
            self._expires = now + _TOKEN_SECONDS
            claims = {
                "iss": "supabase",
                "aud": "authenticated",
                "role": "authenticated",
                "sub": self._subject,
                "iat": int(now),
                "exp": int(self._expires),
                "app_metadata": {"crossfade_role": "viewer"},
            }
            self._token = sign(claims, self._secret)
        return self._token


def embedded_keys(data: DataDir) -> Keys:
    """Return the keys of the embedded Supabase; raises NotRunning where there has never been one."""
    if not data.keys.exists():
        raise NotRunning(f"there is no Supabase in {data.root}; run crossfade up, or name its --data-dir")
    try:
        return load_or_create(data.supabase)
    except EmbeddedError as error:
        raise CrossfadeError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Wiring:
    """Makes services for one installation."""

    data: DataDir
    settings: Settings

    def connect_backend(self, backend: Backend, on_raw: OnRaw | None = None) -> MonitoringService:
        """Return the service of one backend; needs a running event loop. ``on_raw`` sees events off the wire."""
        # Here, because most commands connect to neither, and the clients' libraries take most of a second to import.
        if backend is Backend.LEGACY:
            from adapters.legacy_websocket import LegacyWebSocket  # noqa: PLC0415 - see above

            url = known_addresses(self.data, self.settings).legacy
            return LegacyWebSocket(url, on_raw=on_raw)
        from adapters.supabase_realtime import SupabaseRealtime  # noqa: PLC0415 - see above

        url, key, token = self.supabase()
        return SupabaseRealtime(url, key, token, on_raw=on_raw)

    def supabase(self) -> tuple[str, str, Callable[[], str] | None]:
        """Return URL, key and the viewer's token of Supabase; raises CrossfadeError."""
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
        subject = str(uuid.uuid5(uuid.NAMESPACE_URL, f"crossfade:{self.client_id()}"))
        return (
            known_addresses(self.data, settings).supabase,
            keys.anon_key,
            ViewerToken(keys.jwt_secret, subject),
        )

    def flags(self) -> FlagFile:
        """Return the installation's flag file; nothing is read yet."""
        return open_flags(self.data, flags_file(self.data, self.settings))

    @contextlib.asynccontextmanager
    async def connect_router(
        self,
        client_id: str,
        *,
        on_raw: Mapping[Backend, OnRaw] | None = None,
        flags: FlagFile | None = None,
    ) -> AsyncIterator[Router]:
        """Serve one client from the backend its flags choose, for the length of the block.

        ``flags`` is a file of `flags` that the caller wants to look at too; it is kept up to date meanwhile.
        """
        from monitoring.router import Router  # noqa: PLC0415 - as for the adapters

        flags = flags or self.flags()
        await asyncio.to_thread(flags.refresh)
        taps = on_raw or {}
        services = {backend: self.connect_backend(backend, taps.get(backend)) for backend in Backend}
        router = Router(services, FlagRoutes(flags), client_id, now=lambda: datetime.now(UTC))
        watching = asyncio.ensure_future(flags.run())  # owned: ended with the block
        try:
            yield router
        finally:
            watching.cancel()
            await asyncio.wait({watching})
            await router.close()

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


def open_flags(data: DataDir, path: Path) -> FlagFile:
    """Return a flag file whose last good text is kept in the data directory."""
    return FlagFile(path, kept=data.good_flags(path))


@dataclass(frozen=True, slots=True)
class FlagRoutes:
    """Where a flag file wants a client."""

    flags: FlagFile

    def wish(self, client_id: str) -> Backend:
        """Return the backend the client should be on now."""
        return evaluate(self.flags.current(), client_id).value
