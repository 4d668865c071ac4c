"""The addresses that a client elsewhere is told, and which pages may ask."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import jwt
import pytest

from monitoring.flags.model import Flags
from services.access import Tokens
from services.connection import at_host
from services.database import Database
from services.provided import Backends, Provided
from services.query import create_app
from tests.fakes.intake import MemoryIntake

SECRET = "a secret of at least thirty-two bytes"


class NoReports:
    def keep(self, owner: str, process: str, clients: object, sees: object) -> bool:
        return True


class NoChanges:
    def current(self) -> Flags:
        return Flags()

    def problem(self) -> str | None:
        return None


BACKENDS = Backends("http://127.0.0.1:54321", "anon", "ws://127.0.0.1:8001/ws", everywhere=True)


@asynccontextmanager
async def client(
    backends: Backends, base_url: str, origins: tuple[str, ...] = ()
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application in this process, whose database is nowhere."""
    claims = {"role": "service_role", "exp": time.time() + 60}
    headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET)}"}
    async with Database("postgresql://127.0.0.1:9/nowhere") as database:
        made = create_app(
            Provided(
                database=database,
                tokens=Tokens(SECRET),
                version="1.2.3",
                flags=NoChanges(),
                backends=backends,
                intake=MemoryIntake(),
                client_reports=NoReports(),
            ),
            cors_origins=origins,
        )
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers) as http:
            yield http


async def urls(backends: Backends, base_url: str) -> tuple[str, str, str]:
    async with client(backends, base_url) as http:
        answer = (await http.get("/api/connection")).json()
    assert answer["supabase"]["mode"] is None, "the database is away"
    return answer["supabase"]["url"], answer["legacy"]["url"], answer["polling"]["url"]


async def test_where_all_addresses_are_listened_on_the_clients_own_way_here_is_told() -> None:
    assert await urls(BACKENDS, "http://mon.example:9000") == (
        "http://mon.example:54321",
        "ws://mon.example:8001/ws",
        "http://mon.example:9000",
    )
    assert (await urls(BACKENDS, "http://[fd00::1]:8000"))[1] == "ws://[fd00::1]:8001/ws"


async def test_a_hosted_supabase_and_one_listening_address_are_told_as_they_are() -> None:
    hosted = replace(BACKENDS, supabase_url="https://x.supabase.co", supabase_ours=False)
    assert (await urls(hosted, "http://mon.example:9000"))[0] == "https://x.supabase.co"
    assert await urls(replace(BACKENDS, everywhere=False), "http://mon.example:9000") == (
        "http://127.0.0.1:54321",
        "ws://127.0.0.1:8001/ws",
        "http://mon.example:9000",
    )


def test_a_url_keeps_its_port_and_path() -> None:
    assert at_host("ws://127.0.0.1:8001/ws", "h") == "ws://h:8001/ws"
    assert at_host("https://a/b", "h") == "https://h/b"
    assert at_host("https://a/b", None) == "https://a/b"


@pytest.mark.parametrize(
    ("origins", "allowed"), [((), None), (("https://me.example",), "https://me.example")]
)
async def test_only_pages_of_the_origins_that_were_named_may_ask(
    origins: tuple[str, ...], allowed: str | None
) -> None:
    async with client(BACKENDS, "http://x", origins) as http:
        for origin, expected in (("https://me.example", allowed), ("https://evil.example", None)):
            answer = await http.get("/health", headers={"Origin": origin})
            assert answer.headers.get("access-control-allow-origin") == expected
        asked = {"Origin": "https://me.example", "Access-Control-Request-Method": "POST"}
        preflight = await http.options("/api/routes", headers=asked)
        assert (preflight.status_code == 200) is bool(origins)
