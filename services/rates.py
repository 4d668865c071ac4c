"""How many requests one caller may make: a burst, and so many a second after that; the rest is told when to come again.

Counted by whom a request says it comes from (its Authorization header, unread: a wrong one is counted as well) and by its
address, which may ten times as much, since one machine can be many users. By hand: the in-memory stores of the well-kept
library (limits) start a thread or a task with each request.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from services.problems import Kind, Problem

ADDRESS_TIMES = 10
"""What an address may, in what one token may."""
MOST_CALLERS = 20_000
"""Callers that are remembered; who has been quiet longest is forgotten first."""
_EXEMPT = frozenset({"/health", "/ready", "/metrics"})
"""What supervisors and Prometheus ask, which must not be starved by others behind the same address."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests a second for long, and so many at once."""

    per_second: float
    burst: int


class Rates:
    """The generic cell rate algorithm (ITU-T I.371): one number a caller, the time until which its share is used up."""

    def __init__(self, rate: Rate, *, most: int = MOST_CALLERS) -> None:
        self._interval = 1.0 / rate.per_second
        self._tolerance = self._interval * (rate.burst - 1)
        self._most = most
        self._used_until: OrderedDict[str, float] = OrderedDict()

    def wait(self, caller: str, now: float) -> float:
        """Count a request at a time in seconds; return 0 when it may be, else after how many seconds it may."""
        used_until = max(self._used_until.get(caller, now), now)
        wait = used_until - self._tolerance - now
        if wait > 1e-9:  # noqa: PLR2004 - rounding
            return wait
        self._used_until[caller] = used_until + self._interval
        self._used_until.move_to_end(caller)
        if len(self._used_until) > self._most:
            self._used_until.popitem(last=False)
        return 0.0


class RateLimited:
    """ASGI middleware that refuses requests beyond a rate with 429 and Retry-After."""

    def __init__(self, app: ASGIApp, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._of_tokens = Rates(rate)
        self._of_addresses = Rates(Rate(rate.per_second * ADDRESS_TIMES, rate.burst * ADDRESS_TIMES))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http" or scope["path"] in _EXEMPT:
            await self._app(scope, receive, send)
            return
        now = self._clock()
        address = str((scope.get("client") or ("",))[0])
        wait = self._of_addresses.wait(address, now)
        if not wait:
            token = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            wait = self._of_tokens.wait(_digest(token) if token else address, now)
        if not wait:
            await self._app(scope, receive, send)
            return
        seconds = math.ceil(wait)
        problem = Problem(
            Kind.TOO_MANY,
            f"too many requests: try again in {seconds} s, and ask less often",
            headers={"Retry-After": str(seconds)},
        )
        await problem.response()(scope, receive, send)


def _digest(token: bytes) -> str:
    """Return what stands for a token here: the token itself has no business in a table."""
    return hashlib.blake2b(token, digest_size=16).hexdigest()
