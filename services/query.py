"""The query service: what Crossfade knows, by HTTP, whatever state the pushing backends are in.

It needs PostgreSQL alone, and routes (`services.routes`) not even that.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI

from services import (
    alerts,
    analytics,
    application,
    client_reports,
    connection,
    events,
    exports,
    feed,
    inventory,
    keys,
    ofrep,
    overview,
    projects,
    push,
    series,
)
from services.provided import Provided
from services.rates import Rate


def create_app(
    provided: Provided,
    *,
    mounted: Sequence[APIRouter] = (analytics.router,),
    cors_origins: Sequence[str] = (),
    rate: Rate | None = None,
) -> FastAPI:
    """Return the application; ``mounted`` are the routes of services that are no process of their own."""
    own = (
        feed,
        series,
        alerts,
        push,
        keys,
        ofrep,
        client_reports,
        connection,
        events,
        inventory,
        projects,
        overview,
        exports,
    )
    description = (__doc__ or "").partition("\n")[0]
    routers = [*(part.router for part in own), *mounted]
    return application.make("query", description, provided, routers, cors_origins=cors_origins, rate=rate)
