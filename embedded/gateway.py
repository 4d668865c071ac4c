"""The embedded Supabase's one port: Realtime, REST, auth and health, as the gateway of a hosted project has them.

`create_app` joins the parts; `python -m embedded.gateway` serves them until SIGTERM or SIGINT. Exit codes: 0 asked
to stop, 1 a part of it failed, 2 wrong use or unusable keys, 3 the port is taken, 4 PostgreSQL does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import asyncpg
import uvloop
from aiohttp import web

from embedded.auth.handlers import AuthHandlers
from embedded.auth.store import Store
from embedded.connections import PatientHandler, bounded_wait, upgraded
from embedded.errors import EmbeddedError
from embedded.habits import HABITS, Habits, habits
from embedded.habits import NONE as NO_HABITS
from embedded.keys import Keys, load_or_create
from embedded.patience import Crowd
from embedded.realtime import RealtimeServer
from embedded.realtime_http import BroadcastApi
from embedded.realtime_tokens import TokenVerifier
from embedded.rest.database import AWAY, Database, DatabaseOptions
from embedded.rest.handlers import DEFAULT_MAX_ROWS, PREFIX, RestHandlers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

_logger = logging.getLogger(__name__)

DEFAULT_PORT: Final = 54321
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_PORT_TAKEN: Final = 3
EXIT_NO_DATABASE: Final = 4

_MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_MAX_LINE_BYTES: Final = 64 * 1024  # filters with `in` make long URLs
_BACKLOG: Final = 1024
_SHUTDOWN_SECONDS: Final = 3.0
_CONNECT_RETRY_SECONDS: Final = 0.1
_WAIT_FOR_DATABASE_SECONDS: Final = 10.0
# The secret that the Supabase CLI gives everybody: whoever can reach the port would be service_role.
_PUBLIC_SECRETS: Final = frozenset({"super-secret-jwt-token-with-at-least-32-characters-long"})

_EXPOSED_HEADERS: Final = (
    "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Link, Location, Preference-Applied,"
    " Proxy-Status, Range-Unit, Server, Transfer-Encoding, X-Sb-Error-Code, X-Supabase-Api-Version, X-Total-Count"
)
_METHODS: Final = "GET, HEAD, POST, PATCH, PUT, DELETE, OPTIONS"
_REQUEST_HEADERS: Final = "apikey, authorization, content-type, prefer, x-client-info, x-supabase-api-version"
_PREFLIGHT_AGE_SECONDS: Final = "3600"
_SECURE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What a browser must not do with an answer. Scripts of any origin read it all the same: what CORS permits is not the
business of Cross-Origin-Resource-Policy (Fetch Standard, 3.7), which forbids to embed it unread."""


class GatewayError(EmbeddedError):
    """The gateway cannot go on; `exit_code` is what the process ends with."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Where to listen, where PostgreSQL's unix socket is, and what of it is exposed."""

    keys: Keys
    pg_socket_dir: Path
    pg_port: int = 54322
    database: str = "postgres"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    schemas: tuple[str, ...] = ("public",)
    max_rows: int | None = DEFAULT_MAX_ROWS
    wait_for_database_seconds: float = _WAIT_FOR_DATABASE_SECONDS
    signup_enabled: bool = False
    habits: Habits = NO_HABITS

    def database_options(self) -> DatabaseOptions:
        """Return what the REST endpoint needs to know."""
        return DatabaseOptions(
            host=str(self.pg_socket_dir), port=self.pg_port, database=self.database, schemas=self.schemas
        )

    def dsn(self, user: str) -> str:
        """Return the connection string over the unix socket."""
        where = urlencode({"host": str(self.pg_socket_dir), "port": self.pg_port})
        return f"postgresql://{quote(user)}@/{quote(self.database)}?{where}"


FAILURE: Final[web.AppKey[asyncio.Future[str]]] = web.AppKey("failure", asyncio.Future)
"""Set, with the reason, when a background part of the application has ended by itself."""


# -- the application -----------------------------------------------------------------------------------


def create_app(options: GatewayOptions) -> web.Application:
    """Return the application; PostgreSQL has to answer by the time it starts up."""
    app = web.Application(middlewares=[bounded_wait, _cors_and_errors], client_max_size=_MAX_BODY_BYTES)
    database = Database(options.database_options())
    rest = RestHandlers(database, options.keys, schemas=options.schemas, max_rows=options.max_rows)
    realtime = RealtimeServer(
        keys=options.keys,
        dsn=options.dsn("postgres"),
        socket_dir=options.pg_socket_dir,
        port=options.pg_port,
        database=options.database,
        habits=options.habits,
    )

    auth_store = Store(options.dsn("supabase_auth_admin"))
    auth = AuthHandlers(auth_store, options.keys, signup_enabled=options.signup_enabled)

    async def failure(app: web.Application) -> AsyncIterator[None]:
        app[FAILURE] = asyncio.get_running_loop().create_future()
        yield
        app[FAILURE].cancel()

    async def rest_database(app: web.Application) -> AsyncIterator[None]:
        async with database:
            await database.refresh(database.cache)
            async with _background(app, "schema cache", database.listen()):
                yield

    async def auth_database(_: web.Application) -> AsyncIterator[None]:
        async with auth_store:
            yield

    async def realtime_feed(app: web.Application) -> AsyncIterator[None]:
        async with _background(app, "realtime feed", realtime.run()):
            yield

    async def close_sockets(_: web.Application) -> None:
        await realtime.close()

    async def health(_: web.Request) -> web.Response:
        feed = realtime.health()
        state = await database.health()
        healthy = state["status"] == "ok" and bool(feed["live"])
        return web.json_response(
            {"status": "ok" if healthy else "degraded", "database": state, "feed": feed},
            status=200 if healthy else 503,
        )

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok")  # the real server's way of saying that it runs

    app.cleanup_ctx.extend([failure, rest_database, auth_database, realtime_feed])
    app.on_shutdown.append(close_sockets)
    app.on_response_prepare.append(_say_what_may_be_done)
    app.router.add_get("/health", health)
    app.router.add_get("/healthcheck", alive)
    for path in ("/realtime/v1/websocket", "/socket/websocket"):
        app.router.add_route("*", path, realtime.handle)
        app.router.add_route("*", f"{path}/", realtime.handle)
    broadcast = BroadcastApi(
        realtime.hub, realtime.policies, TokenVerifier(options.keys), limits=options.habits.limits
    )
    broadcast.add_routes(app.router)
    app.router.add_routes(auth.routes())
    app.router.add_route("*", PREFIX, rest.handle)
    app.router.add_route("*", f"{PREFIX}/{{path:.*}}", rest.handle)
    return app


@contextlib.asynccontextmanager
async def _background(
    app: web.Application, name: str, work: Coroutine[object, object, None]
) -> AsyncIterator[None]:
    """Own a task for as long as the block runs; if it ends by itself the application is told to stop."""

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or app[FAILURE].done():
            return
        error = task.exception()
        if error is not None:
            _logger.error("The %s failed", name, exc_info=error)
        app[FAILURE].set_result(f"the {name} ended: {error or 'nothing was left to do'}")

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _allow_origins_headers() -> dict[str, str]:
    return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": _EXPOSED_HEADERS}


async def _say_what_may_be_done(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of any origin read every answer, as hosted projects do: keys protect, not origins. And nothing else."""
    if isinstance(response, web.WebSocketResponse):
        upgraded(request)
    response.headers.update(_allow_origins_headers())
    for name, value in _SECURE_HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def _cors_and_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer preflights on every path, and say in JSON when a path or method does not exist."""
    if request.method == "OPTIONS":
        wanted = request.headers.get("Access-Control-Request-Headers", _REQUEST_HEADERS)
        return web.Response(
            headers={
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": wanted,
                "Access-Control-Max-Age": _PREFLIGHT_AGE_SECONDS,
            }
        )
    try:
        return await handler(request)
    except web.HTTPNotFound:
        served = "/rest/v1/, /auth/v1/, /realtime/v1/ and /health"
        message = f"no route matched {request.path}; the embedded server has {served}"
        return web.json_response({"message": message}, status=404)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.path} does not take {request.method}, only {allowed}"
        return web.json_response({"message": message}, status=405, headers={"Allow": allowed})


# -- the process ------------------------------------------------------------------------------------------


async def serve(options: GatewayOptions, *, on_ready: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT; `on_ready` is called with one line once requests are answered.

    Raises `GatewayError` when it cannot start, or when a part of it fails later.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _refuse_public_secret(options)
    with _bound_socket(options.host, options.port) as listener:
        await _wait_for_database(options, stop)
        if stop.is_set():
            return
        app = create_app(options)
        runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            await runner.setup()
            async with _accepting(listener, runner):
                host, port = listener.getsockname()[:2]
                on_ready(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}")
                await _until(stop, app[FAILURE])
        finally:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def _accepting(listener: socket.socket, runner: web.AppRunner) -> AsyncIterator[None]:
    """Take connections for an application, with our bounds on them, where a site of aiohttp's has none."""
    loop, crowd = asyncio.get_running_loop(), Crowd()
    sizes = {"max_line_size": _MAX_LINE_BYTES, "max_field_size": _MAX_LINE_BYTES}
    assert runner.server is not None  # noqa: S101 - it is set up
    handler = partial(PatientHandler, runner.server, crowd, loop=loop, **sizes)
    server = await loop.create_server(handler, sock=listener, backlog=_BACKLOG)
    try:
        yield
    finally:
        server.close()


async def _until(stop: asyncio.Event, failure: asyncio.Future[str]) -> None:
    """Return when `stop` is set; raise when `failure` comes first."""
    failure.add_done_callback(lambda _: stop.set())
    await stop.wait()
    if failure.done():
        raise GatewayError(f"The gateway stops because {failure.result()}.", EXIT_FAILED)


def _refuse_public_secret(options: GatewayOptions) -> None:
    if options.keys.jwt_secret in _PUBLIC_SECRETS and not _is_loopback(options.host):
        raise GatewayError(
            f"Refusing to listen on {options.host}: the JWT secret is one that everybody knows."
            " Use generated keys, or --host 127.0.0.1.",
            EXIT_USAGE,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "another program listens there" if taken else (error.strerror or str(error))
        raise GatewayError(
            f"Cannot listen on {host}:{port}: {reason}. Stop it or choose another port with --port."
            if taken
            else f"Cannot listen on {host}:{port}: {reason}. Choose another address with --host and --port.",
            EXIT_PORT_TAKEN if taken else EXIT_USAGE,
        ) from error


async def _wait_for_database(options: GatewayOptions, stop: asyncio.Event) -> None:
    """Return once PostgreSQL takes a connection, or when `stop` is set."""
    deadline = time.monotonic() + options.wait_for_database_seconds
    arguments = options.database_options().connect_arguments()
    while not stop.is_set():
        try:
            connection = await asyncpg.connect(**arguments)
        except (*AWAY, asyncpg.PostgresError) as error:
            if time.monotonic() >= deadline:
                where = f"{options.pg_socket_dir}/.s.PGSQL.{options.pg_port}"
                reason = " ".join(str(error).split()) or type(error).__name__
                raise GatewayError(
                    f"PostgreSQL does not answer at {where}: {reason}. Start it, or correct --pg-socket-dir"
                    " and --pg-port.",
                    EXIT_NO_DATABASE,
                ) from error
            await asyncio.sleep(_CONNECT_RETRY_SECONDS)
        else:
            await connection.close()
            return


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m embedded.gateway",
        description="Serve Supabase Realtime, REST and auth for a local PostgreSQL.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--keys", type=Path, required=True, help="directory of keys.json, made if it is not there"
    )
    parser.add_argument(
        "--pg-socket-dir", type=Path, required=True, help="directory of PostgreSQL's unix socket"
    )
    parser.add_argument("--pg-port", type=int, default=54322, help="PostgreSQL's port (default: %(default)s)")
    parser.add_argument("--database", default="postgres", help="database to serve (default: %(default)s)")
    parser.add_argument(
        "--schema",
        action="append",
        dest="schemas",
        help="schema to expose; repeat for more (default: public)",
    )
    parser.add_argument(
        "--max-rows",
        type=int,
        default=DEFAULT_MAX_ROWS,
        help="rows in one answer; 0 is no limit (default: %(default)s)",
    )
    parser.add_argument(
        "--wait-seconds",
        type=float,
        default=_WAIT_FOR_DATABASE_SECONDS,
        help="how long to wait for PostgreSQL at the start (default: %(default)s)",
    )
    parser.add_argument(
        "--enable-signup",
        action="store_true",
        help="let anybody with the anon key sign up (default: only administrators create users)",
    )
    parser.add_argument(
        "--habit",
        action="append",
        default=[],
        dest="habits",
        metavar="NAME",
        help="imitate what the real server does worse, for tests; repeat for more: "
        + "; ".join(f"{name}: {effect}" for name, effect in HABITS.items()),
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve as the command line says, and return the exit code; what goes wrong is one line on stderr."""
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        options = GatewayOptions(
            keys=load_or_create(arguments.keys),
            pg_socket_dir=arguments.pg_socket_dir,
            pg_port=arguments.pg_port,
            database=arguments.database,
            host=arguments.host,
            port=arguments.port,
            schemas=tuple(arguments.schemas or ("public",)),
            max_rows=arguments.max_rows or None,
            wait_for_database_seconds=arguments.wait_seconds,
            signup_enabled=arguments.enable_signup,
            habits=habits(arguments.habits),
        )
        # what is loaded now stays; looking through it again and again costs more than garbage does
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        uvloop.run(serve(options, on_ready=lambda line: print(line, flush=True)))  # noqa: T201 - for whoever started us
    except GatewayError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
