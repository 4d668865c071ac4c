"""PostgreSQL killed and started again: connected clients lose nothing, new joins wait."""

import asyncio
import os
import signal

import asyncpg
import pytest

from embedded import keys as key_store
from embedded.postgres import Postgres
from tests.integration.embedded_realtime.conftest import TABLES, serving, until

TODOS = {"event": "*", "schema": "public", "table": "todos"}


@pytest.fixture
async def own_stack(tmp_path):
    """A cluster that may be killed."""
    postgres = Postgres(tmp_path, port=0, durable=False)
    await asyncio.to_thread(postgres.start)
    try:
        connection = await asyncpg.connect(postgres.dsn())
        await connection.execute(TABLES)
        await connection.close()
        async with serving(postgres, "postgres", "realtime_outage", key_store.generate()) as stack:
            yield stack
    finally:
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.remove)


async def insert(stack, numbers):
    connection = await asyncpg.connect(stack.postgres.dsn())
    for number in numbers:
        await connection.execute("insert into public.todos(id) values ($1)", number)
        await connection.execute("insert into public.rls_todos values ($1, 'x', null)", number)
    await connection.close()


async def test_a_killed_database_loses_nothing(own_stack):
    stack = own_stack
    client = await stack.client()
    await client.subscribe("realtime:x", TODOS)
    service = await stack.client(apikey=stack.keys.service_role_key)
    await service.subscribe("realtime:x", TODOS | {"table": "rls_todos"})
    await insert(stack, range(5))
    os.kill(stack.postgres.pid, signal.SIGKILL)
    await until(lambda: not stack.server.health()["live"], what="the feed noticing")
    late = await stack.client()
    waiting = asyncio.create_task(late.subscribe("realtime:y", TODOS))
    await asyncio.to_thread(stack.postgres.stop)
    await asyncio.to_thread(stack.postgres.start)
    await stack.postgres.wait_ready()
    await insert(stack, range(5, 10))
    for peer in (client, service):
        assert [(await peer.change())[1]["record"]["id"] for _ in range(10)] == list(range(10))
        await peer.silent()
    await waiting
    await insert(stack, [10])
    _, data, _ = await late.change()
    while data["record"]["id"] != 10:  # it may also have been in time for some of the five
        _, data, _ = await late.change()
    assert stack.server.health()["failed_transactions"] == 0


async def test_two_servers_have_a_slot_each(own_stack):
    stack = own_stack
    client = await stack.client()
    await client.subscribe("realtime:x", TODOS)
    await insert(stack, [1])
    await client.change()
    async with serving(stack.postgres, "postgres", "realtime_other", stack.keys) as other:
        again = await other.client()
        await again.subscribe("realtime:x", TODOS)
        await insert(stack, [2])
        assert (await again.change())[1]["record"]["id"] == 2
        assert (await client.change())[1]["record"]["id"] == 2


async def test_a_lost_slot_sends_subscribers_away(own_stack):
    stack = own_stack
    client = await stack.client()
    await client.subscribe("realtime:x", TODOS)
    await insert(stack, [1])
    await client.change()
    terminate = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'realtime_outage'"
    connection = await asyncpg.connect(stack.postgres.dsn())
    async with asyncio.timeout(5):
        while True:  # the server takes the slot again as soon as it can
            try:
                await connection.execute(terminate)
                await connection.execute("select pg_drop_replication_slot('realtime_outage')")
                break
            except asyncpg.ObjectInUseError:
                await asyncio.sleep(0)
    await connection.close()
    await asyncio.wait_for(client.socket.wait_closed(), 10)
    assert client.socket.close_code == 1012


async def test_a_restarted_server_goes_on_from_its_slot(own_stack, tmp_path):
    stack = own_stack
    async with serving(stack.postgres, "postgres", "realtime_again", stack.keys) as first:
        client = await first.client()
        await client.subscribe("realtime:x", TODOS)
        await insert(stack, [1])
        await client.change()
    await insert(stack, [2])
    async with serving(stack.postgres, "postgres", "realtime_again", stack.keys) as second:
        await until(lambda: second.server.health()["transactions"] >= 2, what="the backlog")
        client = await second.client()
        await client.subscribe("realtime:x", TODOS)
        await insert(stack, [3])
        assert (await client.change())[1]["record"]["id"] == 3
