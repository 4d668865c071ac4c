"""A service: an ASGI application with its database, its errors as problems, bounded bodies and health.

Every service is made here, so that all of them answer alike. Its own routes are routers; who it is given what by is
`services.provided`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from services import health, problems
from services.bodies import BoundedBodies
from services.components import Component, Components
from services.headers import SecureHeaders
from services.provided import Shared
from services.rates import Rate, RateLimited
from services.unknown import refuse_unknown
from services.vitals import Measured, Vitals


def make(
    name: str,
    description: str,
    provided: Shared,
    routers: Sequence[APIRouter],
    *,
    cors_origins: Sequence[str] = (),
    rate: Rate | None = None,
) -> FastAPI:
    """Return the application of a service; it opens and closes the database it is given.

    ``cors_origins`` are the origins whose pages may call it; a token is needed all the same. ``rate`` is how many requests
    one token may make; None for any.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with provided.database:
            yield

    app = FastAPI(
        title=f"Crossfade {name} service",
        version=provided.version,
        description=description,
        lifespan=lifespan,
        dependencies=[Depends(refuse_unknown)],
    )
    app.state.provided = provided
    problems.install(app)
    for router in (*routers, health.router):
        app.include_router(router)
    app.state.vitals = vitals = Vitals(name)
    app.state.components = Components(
        [Component("database", partial(_answers, provided)), *provided.components]
    )
    app.add_middleware(BoundedBodies)
    if rate is not None:
        app.add_middleware(RateLimited, rate=rate)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-None-Match",
                "X-Request-ID",
                "traceparent",
            ],
            expose_headers=["ETag", "Retry-After", "X-Request-ID"],
            max_age=600,
        )
    app.add_middleware(SecureHeaders)  # around all that can refuse
    app.add_middleware(Measured, vitals=vitals)  # the last one added is the outermost
    return app


async def _answers(provided: Shared) -> str:
    await provided.database.check()
    return "answers, has the tables"
