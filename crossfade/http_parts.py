"""Parts that are HTTP services of ours: a table of what differs, and one way to run them.

To add one: a module with ``main`` (see `crossfade.hosting`), a row here, a name in `crossfade.plan` (``PARTS``, ``LISTENING``,
``OPTIONAL`` when it is off unless asked for, ``CHECKING`` when it checks tokens), a ``port_NAME`` in ``Addresses``, in the
settings and as an option of ``crossfade up``. Supervision, health, ``status``, ``serve`` and hosted databases follow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossfade.addresses import reachable
from crossfade.secret_files import ensure_secret
from crossfade.supervisor import probes
from crossfade.supervisor.process import Command
from crossfade.supervisor.supervisor import Service
from crossfade.tls import tls_of

if TYPE_CHECKING:
    from crossfade.plan import Plan
    from embedded.postgres import Postgres


@dataclass(frozen=True, slots=True)
class HttpPart:
    """What one service has of its own. It is run as ``python -m crossfade.NAME`` and is ready when ``/ready`` says so."""

    name: str
    options: Callable[[Plan], list[str]] = lambda _: []
    """Beyond data directory, host and port."""
    role: str = "authenticator"
    """Of the embedded database: by default the role that may do nothing but become its callers."""
    after: tuple[str, ...] = ("postgres", "migrations")
    stop_seconds: float = 8.0


def _query_options(plan: Plan) -> list[str]:
    addresses = plan.addresses
    options = ["--flags", str(plan.flags), "--supabase-url", plan.settings.supabase_url or addresses.supabase]
    if plan.has("legacy"):
        options += ["--legacy-url", addresses.legacy, "--legacy-link", addresses.legacy_link]
    return options if plan.has("analytics") else [*options, "--mount", "analytics"]


def _control_options(plan: Plan) -> list[str]:
    options = ["--device", plan.device] if plan.device else []
    options += [] if plan.docker else ["--no-docker"]
    return [*options, "--legacy-link", plan.addresses.legacy_link] if plan.has("legacy") else options


def _mcp_options(plan: Plan) -> list[str]:
    return ["--control-url", plan.addresses.http("control")] if plan.has("control") else []


HTTP_PARTS = {
    part.name: part
    for part in (
        # Requests are finished first, then what was pushed goes out, and the leases are let go.
        HttpPart("query", _query_options, stop_seconds=11.0),
        HttpPart("analytics"),
        # Requests are finished first, a container may be stopping, then what happened goes out, and the lease is let go.
        HttpPart("control", _control_options, stop_seconds=20.0),
        HttpPart("mcp", _mcp_options),
    )
}


def service(part: HttpPart, plan: Plan, postgres: Postgres) -> Service:
    """Return a service as a part of a plan."""
    addresses = plan.addresses
    port = addresses.port(part.name)
    options = ["--data-dir", str(plan.data.root), "--host", addresses.host, "--port", str(port)]
    if (tls := tls_of(plan.settings)) is not None and part.name in tls.ports:
        options += ["--tls-host", tls.host, "--tls-port", str(tls.ports[part.name])]
        options += ["--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)]

    async def prepare() -> None:
        ensure_secret(plan.data.link_token)

    def command() -> Command:
        hosted = plan.settings.database_url
        url = hosted.get_secret_value() if hosted else postgres.dsn(part.role)
        return Command(
            (sys.executable, "-m", f"crossfade.{part.name}", *options, *part.options(plan)),
            environment={"DATABASE_URL": url},
        )

    return Service(
        part.name,
        command,
        probes.http(reachable(addresses.host), port, "/ready"),
        after=part.after,
        prepare=prepare,
        address=addresses.shown(part.name),
        stop_seconds=part.stop_seconds,
    )
