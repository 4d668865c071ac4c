"""The control service: what is asked of machines and containers, by operators, each action written down. Off unless asked for.

It needs PostgreSQL, without which nothing can be written down, and so nothing is done.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from services import agents, application, audit, containers
from services.controlling import Controlling
from services.rates import Rate


def create_app(
    provided: Controlling, *, cors_origins: Sequence[str] = (), rate: Rate | None = None
) -> FastAPI:
    """Return the application."""
    description = (__doc__ or "").partition("\n")[0]
    routers = [part.router for part in (agents, containers, audit)]
    return application.make("control", description, provided, routers, cors_origins=cors_origins, rate=rate)
