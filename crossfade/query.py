"""The query service as a part: ``python -m crossfade.query``.

The addresses that it tells clients come by options, what is secret by the data directory and the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.client_reports import ReportStore
from adapters.database_url import as_role
from adapters.event_intake import EventIntake
from adapters.key_source import KeySource
from crossfade import hosting
from crossfade.addresses import is_everywhere
from crossfade.errors import UsageError
from crossfade.wiring import open_flags
from legacy_ws.token_file import read_token
from services import analytics
from services.components import Component
from services.key_ring import Key
from services.provided import Backends, Provided, Shared
from services.query import create_app

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Sequence

    from adapters.flag_file import FlagFile
    from crossfade.paths import DataDir
    from crossfade.settings import Settings
    from services.key_ring import KeyRing

MOUNTABLE = {"analytics": analytics.router}
"""Services that can be part of this one instead of a process of their own."""


def provide(
    given: argparse.Namespace, settings: Settings, data: DataDir, flags: FlagFile, intake: EventIntake
) -> Provided:
    """Return what the service needs; raises CrossfadeError or AdapterError."""
    _, supabase_key = hosting.project_keys(settings, data)
    common = hosting.shared("query", settings, data)

    async def flag_file() -> str:
        if (problem := flags.problem()) is not None:
            raise UsageError(problem)
        return "good"

    async def kept() -> str:
        if (problem := intake.problem) is not None:
            raise UsageError(problem)
        return "takes events"

    own = {
        "components": (
            Component("flags", flag_file, required=False),
            Component("intake", kept, required=False),
        ),
        "queues": intake.waiting,
        "installation": True,
    }
    return Provided(
        **({each.name: getattr(common, each.name) for each in fields(Shared)} | own),
        flags=flags,
        backends=Backends(
            supabase_url=given.supabase_url,
            supabase_key=supabase_key,
            legacy_url=given.legacy_url,
            supabase_ours=settings.supabase_url is None,
            everywhere=is_everywhere(given.host),
        ),
        intake=intake,
        client_reports=ReportStore(data.client_reports),
        container_prefix=settings.legacy_container_prefix,
    )


def take_events(given: argparse.Namespace, settings: Settings, data: DataDir) -> EventIntake:
    """Return what keeps the events that applications push; raises CrossfadeError or AdapterError."""
    dsn = hosting.database_url()
    return EventIntake(
        data.query_spool,
        # The role of the embedded project may do nothing but become another; a hosted one's is the owner.
        database_url=dsn if settings.hosted else as_role(dsn, "service_role"),
        legacy_url=given.legacy_link,
        legacy_token=lambda: read_token(data.link_token),
    )


def take_keys(settings: Settings, ring: KeyRing) -> KeySource:
    """Return what keeps the keys of applications that push as the database has them."""
    dsn = hosting.database_url()
    return KeySource(
        dsn if settings.hosted else as_role(dsn, "service_role"),
        lambda rows: ring.replace(Key(*row) for row in rows),
        ring.take_used,
    )


@contextlib.asynccontextmanager
async def _running(source: KeySource) -> AsyncIterator[None]:
    """Keep the keys up to date."""
    reading = asyncio.ensure_future(source.run())  # owned: ended with the server
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.wait({reading})


@contextlib.asynccontextmanager
async def _watched(flags: FlagFile) -> AsyncIterator[None]:
    """Keep the flags up to date."""
    await asyncio.to_thread(flags.refresh)
    watching = asyncio.ensure_future(flags.run())  # owned: ended with the server
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = hosting.parser("query", 8000, __doc__)
    parser.add_argument("--flags", type=Path, required=True, metavar="PATH")
    parser.add_argument("--supabase-url", required=True, metavar="URL")
    parser.add_argument("--legacy-url", metavar="URL")
    parser.add_argument("--legacy-link", metavar="URL", help="where pushed events go, ws://HOST:PORT/link")
    parser.add_argument("--mount", action="append", choices=sorted(MOUNTABLE), default=[])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part until it is told to stop; return 0, or 1 with one line about what is wrong."""
    given = _arguments(arguments)

    def make(settings: Settings, data: DataDir) -> hosting.Hosted:
        flags = open_flags(data, given.flags, settings.switches)
        intake = take_events(given, settings, data)
        provided = provide(given, settings, data, flags, intake)
        app = create_app(
            provided,
            mounted=[MOUNTABLE[name] for name in given.mount],
            cors_origins=settings.origins,
            rate=hosting.rate(settings.rate_limit),
        )
        return app, (_watched(flags), intake, _running(take_keys(settings, provided.keys)))

    return hosting.run("query", given, make)


if __name__ == "__main__":
    sys.exit(main())
