"""PostgreSQL killed and started again: connected clients lose nothing, new joins wait."""

import asyncio
import contextlib
import os
import signal

import asyncpg
import pytest
import websockets

from embedded import keys as key_store
from embedded.postgres import Postgres
from tests.integration.embedded_realtime.conftest import TABLES, serving, until

TODOS = {"event": "*", "schema": "public", "table": "todos"}

TERMINATE = """
select count(*) from (select pg_terminate_backend(active_pid) from pg_replication_slots where active) ended
"""


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


async def test_a_large_transaction_interrupted_arrives_once(own_stack):
    """The walsender is ended while a transaction is under way, once and again; a client notices nothing."""
    stack = own_stack
    rows = 20_000
    client = await stack.client()
    await client.subscribe("realtime:x", TODOS)
    sql = await stack.sql()
    await sql.execute(
        "insert into todos (id, details) select n, repeat('x', 900) from generate_series(1, $1::int) n", rows
    )
    await sql.execute("insert into todos (id) values (0)")
    got, broken = [], 0
    while not got or got[-1] != 0:
        got.append((await client.change(30))[1]["record"]["id"])
        if len(got) in {500, 4000, 8000}:
            while not await sql.fetchval(TERMINATE):  # the one before may still be on its way back
                await asyncio.sleep(0.01)
            broken += 1
    assert got == [*range(1, rows + 1), 0]
    assert broken == 3
    health = stack.server.health()
    assert (health["failed_transactions"], health["slow_clients_dropped"]) == (0, 0)
    await until(lambda: stack.server.health()["commit_lsn"] > 0, what="the end of the transaction")


async def test_nobody_gets_the_start_of_a_transaction_twice_when_the_feed_starts_anew(own_stack):
    """Without its publication the feed cannot go on where it was; who had a part of a transaction is sent away."""
    stack = own_stack
    client = await stack.client()
    await client.subscribe("realtime:x", TODOS)
    sql = await stack.sql()
    await sql.execute(
        "insert into todos (id, details) select n, repeat('x', 900) from generate_series(1, 20000) n"
    )
    got = [(await client.change(30))[1]["record"]["id"] for _ in range(500)]
    await sql.execute("drop publication supabase_realtime")
    assert await sql.fetchval(TERMINATE) == 1
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            got.append((await client.change(30))[1]["record"]["id"])
    assert client.socket.close_code == 1012
    assert got == list(range(1, len(got) + 1))


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


async def test_a_slot_that_keeps_too_much_is_given_up_and_that_is_said(own_stack, caplog):
    """A transaction stays open, so the slot keeps all WAL since; more than max_slot_wal_keep_size it may not."""
    stack = own_stack
    admin, holder = await stack.sql(), await stack.sql()
    await admin.execute("alter system set max_slot_wal_keep_size = '1MB'")
    await admin.execute("select pg_reload_conf()")
    client = await stack.client()
    await client.subscribe("realtime:x", TODOS)
    before = stack.server.health()
    assert (before["slots_lost"], before["last_slot_lost"]) == (0, None)
    await holder.execute("begin")
    await holder.execute("insert into todos (id) values (1)")
    for number in range(4):  # each switch leaves a segment of 16 MB behind
        await admin.execute("insert into nopk values ($1, 'x')", number)
        await admin.execute("select pg_switch_wal()")
    await admin.execute("checkpoint")  # it is then that PostgreSQL counts
    # told although there can be no new slot before the transaction ends
    await asyncio.wait_for(client.socket.wait_closed(), 20)
    assert client.socket.close_code == 1012
    await holder.execute("rollback")
    await until(lambda: stack.server.health()["live"], what="the feed on a new slot")
    health = stack.server.health()
    assert health["slots_lost"] == 1
    assert health["fault"] is None
    assert "realtime_outage was lost (wal_removed)" in health["last_slot_lost"]
    said = [record for record in caplog.records if record.getMessage() == health["last_slot_lost"]]
    assert [record.levelname for record in said] == ["ERROR"]
    kept = await admin.fetchval(
        "select pg_current_wal_lsn() - restart_lsn from pg_replication_slots where slot_name = 'realtime_outage'"
    )
    assert kept < 16 << 20
    again = await stack.client()
    await again.subscribe("realtime:x", TODOS)
    await insert(stack, [2])
    assert (await again.change())[1]["record"]["id"] == 2


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
