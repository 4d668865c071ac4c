"""What a service measures of itself: its requests, counted and timed, each with an id that its log lines have too."""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter as Tally
from collections import deque
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legacy_ws.figures import process_figures
from monitoring.health import percentiles
from services.problems import Kind, Problem

WINDOW_SECONDS = 300.0
"""What percentiles are over."""
_KEPT = 20_000
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE = "0" * 32
_SERVER_ERROR = 500
_STATE = "crossfade.correlation_id"

_log = structlog.get_logger(__name__)


class Vitals:
    """The measurements of one service, in a registry of its own."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        self.started = time.monotonic()
        self.unhandled = 0
        self.in_flight = 0
        self._statuses: Tally[str] = Tally()
        self._recent: deque[tuple[float, str, float]] = deque(maxlen=_KEPT)
        labels = ["service", "method", "route", "status"]
        self._requests = Counter(
            "crossfade_http_requests", "Requests answered.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "crossfade_http_request_seconds",
            "Time until a request was answered.",
            ["service", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._now = Gauge(
            "crossfade_http_requests_in_flight",
            "Requests being answered.",
            ["service"],
            registry=self.registry,
        )
        self._now.labels(service).set_function(lambda: self.in_flight)
        self._failed = Counter(
            "crossfade_http_unhandled_errors",
            "Requests that ended in an error nobody had foreseen.",
            ["service"],
            registry=self.registry,
        )
        self._failed.labels(service)
        ProcessCollector(registry=self.registry)

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the service was made."""
        return time.monotonic() - self.started

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. ``route`` is a template, never a path: a client must not be able to make time series."""
        self._requests.labels(
            self.service, method if method in _METHODS else "other", route, str(status)
        ).inc()
        self._seconds.labels(self.service, route).observe(seconds)
        self._statuses[f"{status // 100}xx"] += 1
        self._recent.append((time.monotonic(), route, seconds))

    def failed(self) -> None:
        """Count an error nobody had foreseen."""
        self.unhandled += 1
        self._failed.labels(self.service).inc()

    def performance(self) -> dict[str, Any]:
        """Return what ``/metrics/performance`` tells of requests and the process; see docs/health.md."""
        now = time.monotonic()
        window = min(WINDOW_SECONDS, max(now - self.started, 0.001))
        recent = [each for each in self._recent if each[0] >= now - window]
        routes: dict[str, list[float]] = {}
        for _, route, seconds in recent:
            routes.setdefault(route, []).append(seconds)
        return {
            "service": self.service,
            "window_seconds": round(window, 3),
            "requests": {
                "total": self._statuses.total(),
                "per_second": round(len(recent) / window, 3),
                "in_flight": self.in_flight,
                "unhandled_errors": self.unhandled,
                "by_status": dict(self._statuses),
            },
            "latency_ms": percentiles([seconds for *_, seconds in recent]),
            "routes": {route: percentiles(each) for route, each in sorted(routes.items())},
            "process": process_figures(),
        }


def given_id(headers: Headers) -> str | None:
    """Return the id that a request came with: X-Request-ID, else the trace id of traceparent (W3C Trace Context, 3.2)."""
    named = headers.get("x-request-id", "")
    if _ID.match(named):
        return named
    trace = _TRACE.match(headers.get("traceparent", ""))
    return trace[1] if trace and trace[1] != _NO_TRACE else None


def correlation_id(scope: Scope) -> str | None:
    """Return the id that a caller gave the request; None when it gave none."""
    found: str | None = scope.get(_STATE)
    return found


class Measured:
    """ASGI middleware, the outermost: counts and times each request, and binds its id for everything that is logged."""

    def __init__(self, app: ASGIApp, vitals: Vitals) -> None:
        self._app = app
        self._vitals = vitals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = given_id(Headers(scope=scope))
        id_ = given or uuid.uuid4().hex
        scope[_STATE] = given
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = id_
            await send(message)

        vitals, began = self._vitals, time.perf_counter()
        vitals.in_flight += 1
        with structlog.contextvars.bound_contextvars(request_id=id_):
            try:
                await self._app(scope, receive, sending)
            except Exception:
                vitals.failed()
                _log.exception("request_failed", method=scope["method"], path=scope["path"][:200])
                if status:
                    raise  # it has begun to answer; the server cuts the connection
                problem = Problem(
                    Kind.INTERNAL, f"something went wrong here; the service's log says what, at request {id_}"
                )
                await problem.response()(scope, receive, sending)
            finally:
                vitals.in_flight -= 1
                route = getattr(scope.get("route"), "path", "unmatched")
                if status:  # not for a client that has gone
                    vitals.answered(scope["method"], route, status, time.perf_counter() - began)
                if status >= _SERVER_ERROR:
                    _log.warning("request_not_answered", method=scope["method"], route=route, status=status)
