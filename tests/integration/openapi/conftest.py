"""Our applications, each served over a real, empty database with real sockets, for tests that know their OpenAPI documents alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Self

import pytest
import uvicorn
from fastapi import FastAPI

from adapters.client_reports import ReportStore
from adapters.database_url import as_role
from adapters.event_intake import EventIntake
from crossfade.paths import DataDir
from crossfade.wiring import open_flags
from embedded.keys import Keys, load_or_create
from services import analytics, control, query
from services.access import Tokens
from services.controlling import Controlling
from services.database import Database
from services.provided import Backends, Provided, Shared
from tests.migrated_postgres import migrated_postgres

ROOT = Path(__file__).parents[3]

Maker = Callable[[Provided], FastAPI]


def _control(given: Provided) -> FastAPI:
    """Return the control service, on a machine without containers."""
    common = {each.name: getattr(given, each.name) for each in fields(Shared)}

    async def nothing(_device: str) -> None:
        return None

    return control.create_app(Controlling(**common, device="here", reach=nothing))


APPS: dict[str, Maker] = {
    "query": partial(query.create_app, mounted=()),
    "analytics": analytics.create_app,
    "control": _control,
}
"""Every application of ours with an OpenAPI document; add one, and all of these tests are made of it, too."""


def provided(dsn: str, secret: str, folder: Path) -> Provided:
    """Return what applications are given; nothing of it is opened yet."""
    return Provided(
        database=Database(dsn),
        tokens=Tokens(secret),
        flags=open_flags(DataDir.of(folder), ROOT / "flags.yaml", {}),
        backends=Backends("http://127.0.0.1:54321", "anon", "ws://127.0.0.1:8001/ws"),
        version="0",
        intake=EventIntake(folder / "spool.db", database_url=as_role(dsn, "service_role")),
        client_reports=ReportStore(DataDir.of(folder).client_reports),
    )


class Served:
    """The applications, listening; ``urls`` are by name."""

    def __init__(self, dsn: str, keys: Keys, folder: Path) -> None:
        self.keys = keys
        self.urls: dict[str, str] = {}
        self._dsn, self._folder = dsn, folder
        self._servers: list[uvicorn.Server] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="served")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60), "the applications do not listen"
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.should_exit = True
        self._thread.join(30)

    async def _serve(self) -> None:
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for name, make in APPS.items():
                folder = self._folder / name
                folder.mkdir()
                given = provided(self._dsn, self.keys.jwt_secret, folder)
                await stack.enter_async_context(given.intake)
                server = uvicorn.Server(
                    uvicorn.Config(make(given), port=0, log_config=None, access_log=False, lifespan="on")
                )
                server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
                self._servers.append(server)
                group.create_task(server.serve())
                while not server.started:
                    await asyncio.sleep(0.01)
                port = server.servers[0].sockets[0].getsockname()[1]
                self.urls[name] = f"http://127.0.0.1:{port}"
            self._ready.set()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Every application over a database of its own: what these tests leave behind is nobody else's."""
    with migrated_postgres(tmp_path_factory.mktemp("openapi")) as postgres:
        keys = load_or_create(postgres.data_dir / "supabase")
        with Served(postgres.dsn("authenticator"), keys, tmp_path_factory.mktemp("applications")) as running:
            yield running
