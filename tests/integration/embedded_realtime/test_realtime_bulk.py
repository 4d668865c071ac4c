"""Much at once: it arrives whole, in order, as fast as it is read."""

import asyncio

import pytest

ROWS = 20_000


@pytest.mark.parametrize("stack", [{"buffer_limit_bytes": 8 << 20}], indirect=True)
async def test_a_transaction_larger_than_a_clients_buffer_arrives_whole(stack):
    readers = [await stack.client() for _ in range(2)]
    silent = await stack.client()
    for number, client in enumerate((*readers, silent)):
        await client.subscribe(
            f"realtime:bulk-{number}", {"event": "INSERT", "schema": "public", "table": "big"}
        )
    sql = await stack.sql()

    async def read(client):
        return [(await client.change(30))[1]["record"]["id"] for _ in range(ROWS)]

    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(read(client)) for client in readers]
        tasks.create_task(
            sql.execute(
                "insert into big select n, 'small', repeat('x', 500) from generate_series(1, $1::int) n", ROWS
            )
        )
    for task in reading:
        assert task.result() == list(range(1, ROWS + 1))
    assert stack.server.health()["slow_clients_dropped"] <= 1  # at most the one that never read
    silent.socket.transport.abort()


async def test_two_tables_of_one_transaction_keep_their_order(stack):
    client = await stack.client()
    await client.subscribe(
        "realtime:both",
        {"event": "*", "schema": "public", "table": "todos"},
        {"event": "*", "schema": "public", "table": "todos_full", "select": ["id", "details"]},
    )
    await client.subscribe("realtime:one", {"event": "*", "schema": "public", "table": "todos"})
    sql = await stack.sql()
    async with sql.transaction():
        for number in range(1, 6):
            await sql.execute("insert into todos (id, details) values ($1, 'a')", number)
            await sql.execute("insert into todos_full (id, details) values ($1, 'b')", number)
    got = {"realtime:both": [], "realtime:one": []}
    for _ in range(15):
        topic, data, _ = await client.change()
        got[topic].append((data["table"], data["record"]["id"]))
    assert got["realtime:both"] == [
        (table, number) for number in range(1, 6) for table in ("todos", "todos_full")
    ]
    assert got["realtime:one"] == [("todos", number) for number in range(1, 6)]
