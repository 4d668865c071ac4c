"""The official Python clients, unmodified, as they would talk to hosted Supabase."""

import asyncio

from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

from supabase import acreate_client
from tests.integration.embedded_realtime.conftest import until


async def subscribed(channel):
    """Subscribe and return the error, if any, once the client says SUBSCRIBED or fails."""
    state = asyncio.get_running_loop().create_future()

    def told(status, error):
        if not state.done():
            state.set_result((status, error))

    await channel.subscribe(told)
    status, error = await asyncio.wait_for(state, 10)
    assert status == RealtimeSubscribeStates.SUBSCRIBED, (status, error)


async def test_inserts_updates_and_deletes_with_filters(stack):
    client = AsyncRealtimeClient(stack.url.removesuffix("/websocket"), stack.keys.anon_key)
    inserts, updates, deletes, told = [], [], [], []
    channel = client.channel("todos")
    channel.on_postgres_changes(
        "INSERT", schema="public", table="todos", filter="id=gte.10", callback=inserts.append
    )
    channel.on_postgres_changes("UPDATE", schema="public", table="todos", callback=updates.append)
    channel.on_postgres_changes("DELETE", schema="public", table="todos", callback=deletes.append)
    channel.on_system(told.append)
    await subscribed(channel)
    sql = await stack.sql()
    await sql.execute("insert into public.todos(id, details) values (1, 'no'), (10, 'yes')")
    await sql.execute("update public.todos set details = 'changed' where id = 10")
    await sql.execute("delete from public.todos where id = 10")
    await until(lambda: deletes, what="the deletion")
    assert [message["data"]["record"]["id"] for message in inserts] == [10]
    assert [message["data"]["record"]["details"] for message in updates] == ["changed"]
    assert [message["data"]["old_record"] for message in deletes] == [{"id": 10}]
    assert told[0].message == "Subscribed to PostgreSQL"
    await client.remove_channel(channel)
    await client.close()


async def test_supabase_with_the_publishable_key(stack):
    client = await acreate_client(f"http://127.0.0.1:{stack.port}", stack.keys.publishable_key)
    received = []
    channel = client.channel("room")
    channel.on_postgres_changes("*", schema="public", table="todos", callback=received.append)
    await subscribed(channel)
    sql = await stack.sql()
    for number in range(100):
        await sql.execute("insert into public.todos(id) values ($1)", number)
    await until(lambda: len(received) == 100, what="the hundredth insert")
    assert [message["data"]["record"]["id"] for message in received] == list(range(100))
    await client.remove_all_channels()
    await client.realtime.close()


async def test_a_refreshed_token(stack):
    client = AsyncRealtimeClient(stack.url.removesuffix("/websocket"), stack.keys.anon_key)
    received = []
    channel = client.channel("mine")
    channel.on_postgres_changes("INSERT", schema="public", table="rls_todos", callback=received.append)
    told = []
    channel.on_system(told.append)
    await subscribed(channel)
    user = "11111111-1111-1111-1111-111111111111"
    await client.set_auth(stack.token(sub=user))
    await until(lambda: len(told) == 2, what="the second subscription")
    sql = await stack.sql()
    await sql.execute("insert into public.rls_todos values (1, 'mine', $1), (2, 'not mine', null)", user)
    await until(lambda: received, what="the row")
    assert [message["data"]["record"]["id"] for message in received] == [1]
    await client.close()
