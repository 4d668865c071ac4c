"""A service as a process: what every ASGI part needs to be given, and how it is served until it is told to stop.

A part that is a service is a module with ``main``, run as ``python -m MODULE --data-dir D --host H --port P``, and a row in
`crossfade.http_parts`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from adapters.database_url import asyncpg_url
from adapters.errors import AdapterError
from crossfade import logs
from crossfade.errors import CrossfadeError, UsageError
from crossfade.http_connection import PatientProtocol
from crossfade.paths import DataDir
from crossfade.reports import DataDirReports
from crossfade.settings import Settings, load_settings
from crossfade.tls_handshakes import Handshakes, bound, server_context
from crossfade.wiring import embedded_keys
from embedded.patience import Crowd
from services.access import Tokens
from services.database import Database
from services.provided import Shared
from services.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 3
_KEEP_ALIVE_SECONDS = 30
"""Clients that poll every five seconds keep their connection."""
_CANNOT_START = 3
"""uvicorn's exit status for a server that could not begin."""

Hosted = tuple["ASGIApp", "Sequence[AbstractAsyncContextManager[Any]]"]
"""An application, and what is entered before it is served and left after it."""


def parser(name: str, port: int, doc: str | None) -> argparse.ArgumentParser:
    """Return the arguments that every service takes."""
    made = argparse.ArgumentParser(
        prog=f"python -m crossfade.{name}", description=(doc or "").partition("\n")[0]
    )
    made.add_argument("--data-dir", type=Path, required=True, metavar="D")
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=port)
    made.add_argument("--tls-port", type=int, metavar="PORT", help="speak TLS there besides")
    made.add_argument("--tls-host", metavar="HOST", help="and on this address (default: as --host)")
    made.add_argument("--tls-cert", type=Path, metavar="PEM")
    made.add_argument("--tls-key", type=Path, metavar="PEM")
    return made


def database_url() -> str:
    """Return the address of the database, as asyncpg reads it; raises UsageError."""
    dsn = os.environ.get("DATABASE_URL", "")
    if not dsn:
        raise UsageError("DATABASE_URL is not set")
    return asyncpg_url(dsn)


def project_keys(settings: Settings, data: DataDir) -> tuple[str, str]:
    """Return JWT secret and public key of the project; raises CrossfadeError."""
    if settings.supabase_url is None:
        keys = embedded_keys(data)
        return keys.jwt_secret, keys.anon_key
    if settings.jwt_secret is None:
        raise UsageError("SUPABASE_JWT_SECRET is not set: without it no token can be checked")
    key = settings.supabase_key
    return settings.jwt_secret.get_secret_value(), key.get_secret_value() if key else ""


def shared(name: str, settings: Settings, data: DataDir) -> Shared:
    """Return what every service is given: a pool of its own, and who may call; raises CrossfadeError."""
    secret, _ = project_keys(settings, data)
    return Shared(
        database=Database(database_url(), name=f"crossfade-{name}"),
        tokens=Tokens(secret),
        version=version("crossfade"),
        reports=DataDirReports(data),
    )


def rate(per_second: float) -> Rate | None:
    """Return the rate of a setting; None for 0, which is no limit."""
    return Rate(per_second, max(1, int(2 * per_second))) if per_second else None


def common() -> dict[str, Any]:
    """Return how every server of a process is set up."""
    return {
        "http": partial(PatientProtocol, Crowd()),
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": _DRAIN_SECONDS,
    }


class _Second(uvicorn.Server):
    """A server that speaks TLS, and leaves the signals to the first one."""

    def __init__(self, config: uvicorn.Config, context: ssl.SSLContext) -> None:
        super().__init__(config)
        self._handshakes = Handshakes(context, self._protocol)
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # a generator there
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - the base's
        """Listen; ends the process when that cannot be, as the base does."""
        await super().startup(sockets=[])  # it accepts nobody itself
        host, port = self.config.host, self.config.port
        try:
            self._listener = bound(host, port)
        except OSError as error:
            _log.error("TLS cannot be spoken at %s:%d: %s", host, port, error)
            sys.exit(_CANNOT_START)
        self._accepting = asyncio.create_task(self._handshakes.serve(self._listener))  # awaited by shutdown
        _log.info("TLS is spoken at %s:%d", host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nobody any more, and finish what is asked."""
        if self._accepting is not None and self._listener is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._listener.close()
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        """Return what speaks on a connection, as the base makes it."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # ours, and uvicorn's own, take these
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def _second(given: argparse.Namespace, app: ASGIApp, settings: Mapping[str, Any]) -> _Second | None:
    """Return the server that speaks TLS, if there is to be one; raises OSError for a certificate that cannot be used."""
    if given.tls_port is None:
        return None
    host = given.tls_host or given.host
    config = uvicorn.Config(app, host=host, port=given.tls_port, lifespan="off", **settings)
    return _Second(config, server_context(given.tls_cert, given.tls_key))


def run(name: str, given: argparse.Namespace, make: Callable[[Settings, DataDir], Hosted]) -> int:
    """Serve a service until it is told to stop; return 0, or 1 with one line about what is wrong."""
    logs.to_stderr(logging.INFO)
    try:
        app, around = make(load_settings(), DataDir.of(given.data_dir))
    except (AdapterError, CrossfadeError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    settings = common()
    config = uvicorn.Config(app, host=given.host, port=given.port, lifespan="on", **settings)
    return serve(config, around, _second(given, app, settings))


def serve(
    config: uvicorn.Config,
    around: Sequence[AbstractAsyncContextManager[Any]] = (),
    second: uvicorn.Server | None = None,
) -> int:
    """Serve an application, and by a second server besides, until told to stop; return the exit status."""
    server = uvicorn.Server(config)

    async def both() -> None:
        async with AsyncExitStack() as stack:
            for each in around:
                await stack.enter_async_context(each)
            # Owned: ended with the first.
            over_tls = asyncio.ensure_future(second.serve()) if second else None
            # uvicorn raises the signal that ended it once more, in here; what is around still has to be left in peace.
            with contextlib.suppress(SystemExit):
                await server.serve()
            if second is not None and over_tls is not None:
                second.should_exit = True
                await over_tls

    # uvicorn raises the signal that ended it once more when it has shut down; by then that is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(both())
    return 0 if server.started else 1
