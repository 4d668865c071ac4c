"""Callers of the database with a role each, and agents that are there for one test."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from crossfade.wiring import Role, access_token
from tests.conftest import EmbeddedSupabase
from tests.control_process import ControlProcess

Call = Callable[..., Awaitable[Any]]
TokenOf = Callable[..., str]
HttpAs = Callable[..., httpx.AsyncClient]

OFFERS = {
    "echo": {
        "description": "say it",
        "timeout_seconds": 30.0,
        "parameters": {"text": {"pattern": "[a-z ]*", "max_characters": 100, "default": "hello"}},
    }
}


@pytest.fixture
def agent_name() -> str:
    return f"agent-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def owner(embedded_supabase: EmbeddedSupabase) -> AsyncIterator[asyncpg.Connection]:
    """The database's owner."""
    made = await asyncpg.connect(embedded_supabase.postgres.dsn())
    yield made
    await made.close()


@pytest.fixture
async def call(embedded_supabase: EmbeddedSupabase) -> AsyncIterator[Call]:
    """Return the one value of a statement, run as the services run it: as a caller with claims."""
    connection = await asyncpg.connect(embedded_supabase.postgres.dsn("authenticator"))

    async def run(role: str | None, sql: str, *arguments: object, name: str = "ann") -> Any:
        claims: dict[str, Any] = {"role": "authenticated", "sub": str(uuid.UUID(int=1))}
        if role is not None:
            claims["app_metadata"] = {"crossfade_role": role, "crossfade_name": name}
        async with connection.transaction():
            await connection.execute(
                "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)",
                json.dumps(claims),
            )
            found = await connection.fetchval(sql, *arguments)
        return json.loads(found) if isinstance(found, str) and found.startswith(("{", "[")) else found

    yield run
    await connection.close()


@asynccontextmanager
async def refusing(code: str, part: str = "") -> AsyncIterator[None]:
    with pytest.raises(asyncpg.PostgresError) as raised:
        yield
    assert raised.value.sqlstate == code, raised.value
    assert part in str(raised.value)


@pytest.fixture
def token_of(embedded_supabase: EmbeddedSupabase) -> TokenOf:
    """Sign a token of a role and a name."""
    secret = embedded_supabase.keys.jwt_secret

    def make(role: str, name: str = "ann") -> str:
        return access_token(secret, name, Role(role), now=time.time(), seconds=600)

    return make


@pytest.fixture
async def http(control_process: ControlProcess, token_of: TokenOf) -> AsyncIterator[HttpAs]:
    """Return a client of a role."""
    clients: list[httpx.AsyncClient] = []

    def make(role: str | None = "operator", name: str = "ann") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token_of(role, name)}"} if role else {}
        clients.append(httpx.AsyncClient(base_url=control_process.url, headers=headers, timeout=30))
        return clients[-1]

    yield make
    for each in clients:
        await each.aclose()
