"""The handshake: which path is what, who may connect, and the plain HTTP answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

import orjson
import structlog
from prometheus_client import Metric
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from legacy_ws import health
from legacy_ws.admission import BEARER, admits, shows_token
from legacy_ws.exports import PATH as EXPORTS
from legacy_ws.exports import ExportDesk
from legacy_ws.metrics import exposed

log = structlog.get_logger("legacy_ws")

HEALTH_PATH, METRICS_PATH, LINK_PATH = "/health", "/metrics", "/link"
LINK = "the link"
"""What stands in the place of a dialect at the collector's path."""


class Host(health.Told, Protocol):
    """Who serves the clients."""

    @property
    def clients(self) -> int:
        """Clients connected now."""
        ...

    def needs_token(self, dialect: str) -> bool:
        """Tell whether a dialect's peers have to show a token."""
        ...

    async def metrics(self) -> Iterable[Metric]:
        """Return the same for ``GET /metrics``."""
        ...


class Handshake:
    """Answers the request that every connection begins with."""

    def __init__(
        self,
        host: Host,
        exports: ExportDesk,
        *,
        link_token: str | None = None,
        stream_token: str | None,
        origins: Collection[str],
        max_clients: int,
    ) -> None:
        self._host = host
        self._exports = exports
        self._link_token = link_token
        self._stream_token = stream_token
        self._origins = frozenset(origins)
        self._max_clients = max_clients

    async def answer(
        self, paths: Mapping[str, str], connection: ServerConnection, request: Request
    ) -> Response | None:
        """Return the HTTP answer, None to go on to the WebSocket. ``paths`` says what is served where."""
        path = request.path.partition("?")[0]
        if path not in paths or "Upgrade" not in request.headers:  # a dialect may be mounted at these, too
            told = await self._told(path, request)
            if told is not None:
                return told
        if path.startswith(EXPORTS):
            return await self._exported(path)
        what = paths.get(path)
        if what is None:
            there = ", ".join(f"{place} for {name}" for place, name in paths.items())
            return _line(
                HTTPStatus.NOT_FOUND, f"no {path[:100]!r} here: {there}, {HEALTH_PATH}, {METRICS_PATH}"
            )
        if what == LINK and self._link_token is not None:
            return _require(connection, request, self._link_token, LINK, "legacy/link.token")
        return self._refuse(connection, request) or self._token(connection, request, what)

    async def _told(self, path: str, request: Request) -> Response | None:
        """Return how the host is, if the path asks for it."""
        if path == HEALTH_PATH:
            return _response(HTTPStatus.OK, "application/json", orjson.dumps(self._host.health()))
        if path == METRICS_PATH:
            content_type, text = exposed(await self._host.metrics(), request.headers.get("Accept", ""))
            return _response(HTTPStatus.OK, content_type, text)
        if path in health.ANSWERS:
            status, told = await health.ANSWERS[path](self._host)
            return _response(status, "application/json", orjson.dumps(told))
        return None

    async def _exported(self, path: str) -> Response:
        data = await self._exports.read(path)
        if data is None:
            return _line(HTTPStatus.NOT_FOUND, "no such export; the newest 20 are kept")
        return _response(HTTPStatus.OK, "application/x-ndjson", data)

    def _refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        origin = request.headers.get("Origin")
        if not admits(origin, request.headers.get("Host", ""), self._origins):
            log.warning("origin_refused", peer=connection.remote_address, origin=str(origin)[:200])
            line = f"pages from {str(origin)[:100]!r} may not connect; start the server with --origin to let them"
            return _line(HTTPStatus.FORBIDDEN, line)
        if self._host.clients >= self._max_clients:
            log.warning("client_refused", peer=connection.remote_address, clients=self._max_clients)
            line = f"{self._max_clients} clients are connected; try again later"
            return _line(HTTPStatus.SERVICE_UNAVAILABLE, line)
        return None

    def _token(self, connection: ServerConnection, request: Request, dialect: str) -> Response | None:
        if not self._host.needs_token(dialect):
            return None
        if self._stream_token is None:
            line = f"{dialect} needs a token and this server has none; start it with --stream-token-file"
            return _line(HTTPStatus.SERVICE_UNAVAILABLE, line)
        return _require(connection, request, self._stream_token, dialect, "legacy/stream.token")


def select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Take up ``bearer``, the one subprotocol there is; the token beside it is no name."""
    return Subprotocol(BEARER) if BEARER in offered else None


def _require(
    connection: ServerConnection, request: Request, token: str, what: str, file: str
) -> Response | None:
    headers = request.headers
    if shows_token(headers.get_all("Authorization"), headers.get_all("Sec-WebSocket-Protocol"), token):
        return None
    log.warning("token_refused", what=what, peer=connection.remote_address, detail="missing or wrong token")
    line = f"{what} needs 'Authorization: Bearer TOKEN' with the token of {file}"
    return _line(HTTPStatus.UNAUTHORIZED, line)


def _line(status: HTTPStatus, text: str) -> Response:
    return _response(status, "text/plain; charset=utf-8", f"{text}\n".encode(errors="replace"))


def _response(status: HTTPStatus, content_type: str, body: bytes) -> Response:
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
    )
    return Response(status.value, status.phrase, headers, body)
