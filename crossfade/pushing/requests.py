"""Counting HTTP requests: by method, route and class of status, with latency buckets; and the ASGI middleware that does it."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Count = Callable[[str, str, int, float], None]
"""Takes method, route, status and milliseconds."""

BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)
"""Upper bounds; the last count of ``buckets`` is of what took longer."""
MAX_ROUTES = 200
UNMATCHED = "unmatched"
"""The route of requests that no route answers: a scanner must not make up routes."""
_OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_SERVER_ERROR = 500


@dataclass(slots=True)
class _Row:
    count: int = 0
    duration_ms: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))


class RequestCounts:
    """Counts since the last reading. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: dict[tuple[str, str, str], _Row] = {}
        self._lock = threading.Lock()
        self._since = clock()
        self._told_any = False

    def count(self, method: str, route: str, status: int, duration_ms: float) -> None:
        """Count a request."""
        key = (method if method in _METHODS else _OTHER, route, f"{status // 100}xx")
        with self._lock:
            if key not in self._rows and len(self._rows) >= MAX_ROUTES:
                key = (key[0], _OTHER, key[2])
            row = self._rows.setdefault(key, _Row())
            row.count += 1
            row.duration_ms += duration_ms
            row.buckets[bisect_left(BUCKETS_MS, duration_ms)] += 1

    def read(self) -> dict[str, Any] | None:
        """Return the payload of ``http_requests`` and begin anew; None when nothing happened, twice in a row."""
        with self._lock:
            rows, self._rows = self._rows, {}
            now = self._clock()
            seconds, self._since = now - self._since, now
            # One empty interval is told, so that the rate falls to nothing; after that silence says the same.
            if not rows and not self._told_any:
                return None
            self._told_any = bool(rows)
        return {
            "count": sum(row.count for row in rows.values()),
            "errors": sum(row.count for (_, _, status), row in rows.items() if status == "5xx"),
            "duration_ms_total": round(sum(row.duration_ms for row in rows.values()), 3),
            "interval_seconds": round(seconds, 3),
            "bucket_bounds_ms": list(BUCKETS_MS),
            "routes": [
                {
                    "method": method,
                    "route": route,
                    "status": status,
                    "count": row.count,
                    "duration_ms_total": round(row.duration_ms, 3),
                    "buckets": row.buckets,
                }
                for (method, route, status), row in sorted(rows.items())
            ],
        }


class CountingMiddleware:
    """Counts the HTTP requests of an ASGI application; WebSockets and the lifespan pass through."""

    def __init__(self, app: ASGIApp, count: Count, route_of: Callable[[Scope], str] | None = None) -> None:
        self._app = app
        self._count = count
        self._route_of = route_of or route_of_scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when it has been answered, or has failed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _SERVER_ERROR  # what the server answers when the application raises
        began = time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            elapsed_ms = (time.perf_counter() - began) * 1000
            self._count(scope["method"], self._route(scope), status, elapsed_ms)

    def _route(self, scope: Scope) -> str:
        try:
            return str(self._route_of(scope))[:200]
        except Exception:  # noqa: BLE001 - the application's function, and its request must not suffer from it
            return _OTHER


def route_of_scope(scope: Scope) -> str:
    """Return the route that answered a request, as Starlette and FastAPI note it in the scope.

    Of what is mounted, and in older versions of the whole route, they note only the path: the values of its parameters
    are put back as names, ``/users/42`` as ``/users/{id}``.
    """
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        mounted = str(scope.get("root_path", "")).removeprefix(str(scope.get("app_root_path", "")))
        return _named(mounted, scope) + path
    return _named(str(scope["path"]), scope) if "endpoint" in scope else UNMATCHED


def _named(path: str, scope: Scope) -> str:
    names = {str(value): name for name, value in scope.get("path_params", {}).items()}
    return "/".join(f"{{{names[step]}}}" if step in names else step for step in path.split("/"))
