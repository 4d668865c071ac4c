"""A client on another machine: addresses and route come from the query service there, the edge.

The route is asked for each second; while the edge is away the last answer stays in force, and before the first one the
client is served by the legacy server. Failover keeps to what the route allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from adapters.edge_routes import EdgeRoutes
from adapters.http_polling import HttpPolling
from adapters.legacy_websocket import LegacyWebSocket
from adapters.query_client import BACKEND, QueryClient
from adapters.remote_reports import RemoteReports
from adapters.supabase_realtime import SupabaseRealtime
from crossfade.errors import UsageError
from crossfade.wiring import Pinned
from monitoring.errors import Refused
from monitoring.handover import Limits
from monitoring.router import Router
from monitoring.service import Backend, MonitoringService, MoveAbandoned, Moved

FIRST_ANSWER_SECONDS = 3.0
"""How long the first route is waited for before the default holds."""
SPREAD_SECONDS = 5.0
"""Clients elsewhere cannot see each other: each begins its planned move at a random moment within this long."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A query service by its address (``http://HOST:8000``), and the token it is asked with, or what returns one."""

    url: str
    token: str | Callable[[], str]

    @contextlib.asynccontextmanager
    async def connect_router(
        self, client_id: str | None = None, *, backend: Backend | None = None
    ) -> AsyncIterator[Router]:
        """Serve one client, for the length of the block.

        Raises Unreachable or Refused when the query service does not say where the backends are, and UsageError when
        ``backend`` is one that it does not have.
        """
        client = client_id or _who()
        query = QueryClient(self.url, self._access_token)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(query.close)
            services = self._services(await query.connection())
            if backend is not None and backend not in services:
                raise UsageError(f"{self.url} has no {backend}; it has {', '.join(services)}")
            routes, reports = EdgeRoutes(query), RemoteReports(query)
            # A client that is kept to one backend is no evidence of what the flags do.
            witness = reports.witness(client) if backend is None else None
            if backend is None:
                asking = asyncio.ensure_future(routes.run())  # owned: ended with the block
                stack.push_async_callback(_ended, asking)
                answer = await routes.answered(client, FIRST_ANSWER_SECONDS)
                reporting = asyncio.ensure_future(reports.run())  # owned, as above
                stack.push_async_callback(_ended, reporting)
                log.info("route", client=client, route=str(answer.route), detail=answer.detail)
            router = Router(
                services if backend is None else {backend: services[backend]},
                routes if backend is None else Pinned(backend),
                client,
                now=lambda: datetime.now(UTC),
                limits=Limits(spread=SPREAD_SECONDS),
                record=_record,
                witness=witness,
            )
            stack.push_async_callback(router.close)
            yield router

    def _access_token(self) -> str:
        return self.token if isinstance(self.token, str) else self.token()

    def _services(self, document: Mapping[str, Any]) -> dict[Backend, MonitoringService]:
        """Return a service for each backend that the document names; raises Refused when it cannot be read."""
        try:
            supabase, legacy = document["supabase"], document["legacy"]
            services: dict[Backend, MonitoringService] = {
                Backend.SUPABASE: SupabaseRealtime(supabase["url"], supabase["key"], self._access_token),
                Backend.POLLING: HttpPolling(self.url, self._access_token),
            }
            if legacy is not None:
                services[Backend.LEGACY] = LegacyWebSocket(legacy["url"])
        except (KeyError, TypeError) as error:
            reason = f"{self.url}: unreadable addresses: {error!r}"
            raise Refused(BACKEND, reason, "it may be of another version") from error
        return services


def _record(client: str, item: Moved | MoveAbandoned) -> None:
    log.info(
        "moved" if isinstance(item, Moved) else "move_abandoned",
        client=client,
        from_backend=str(item.from_backend),
        to_backend=str(item.to_backend),
        reason=item.reason,
    )


def _who() -> str:
    """Return an id that stays the same for this user on this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an id without a name, in a container
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
