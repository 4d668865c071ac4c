"""The official Python client, unmodified: private channels, database broadcast, replay, http_send."""

import asyncio
import time

import pytest
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

from tests.integration.embedded_messages.conftest import USER_1, until


async def subscribed(channel):
    """Subscribe and return the state that the client ends in, and its error."""
    state = asyncio.get_running_loop().create_future()

    def told(status, error):
        if not state.done():
            state.set_result((status, error))

    await channel.subscribe(told)
    return await asyncio.wait_for(state, 10)


@pytest.fixture
async def official(project):
    client = AsyncRealtimeClient(f"{project.url}/realtime/v1", project.keys.anon_key)
    await client.set_auth(project.token(sub=USER_1))
    yield client
    await client.close()


def private(**broadcast):
    return {"config": {"private": True, "broadcast": {"ack": False, "self": False, **broadcast}}}


async def test_a_private_channel_hears_the_database_and_http_send(project, official):
    channel = official.channel("room-1", private())
    received = []
    channel.on_broadcast("ev", received.append)
    assert await subscribed(channel) == (RealtimeSubscribeStates.SUBSCRIBED, None)
    sql = await project.sql()
    await sql.execute("select realtime.send('{\"n\":1}', 'ev', 'room-1')")
    await until(lambda: len(received) == 1, what="the database's message")
    await channel.http_send("ev", {"n": 2})
    await until(lambda: len(received) == 2, what="the message sent by HTTP")
    assert [message["payload"]["n"] for message in received] == [1, 2]
    assert received[0]["meta"]["id"] == received[0]["payload"]["id"]


async def test_a_private_channel_without_permission_fails(official):
    state, error = await subscribed(official.channel("nowhere", private()))
    assert state == RealtimeSubscribeStates.CHANNEL_ERROR
    assert "You do not have permissions to read from this Channel topic: nowhere" in str(error)


async def test_replay(project, official):
    sql = await project.sql()
    for number in range(3):
        await sql.execute("select realtime.send(jsonb_build_object('n', $1::int), 'ev', 'room-1')", number)
    since = int(time.time() * 1000) - 60_000
    channel = official.channel("room-1", private(replay={"since": since, "limit": 2}))
    received = []
    channel.on_broadcast("ev", received.append)
    assert (await subscribed(channel))[0] == RealtimeSubscribeStates.SUBSCRIBED
    await until(lambda: len(received) == 2, what="the replayed messages")
    assert [(message["payload"]["n"], message["meta"]["replayed"]) for message in received] == [
        (1, True),
        (2, True),
    ]
    await sql.execute("select realtime.send('{\"n\":3}', 'ev', 'room-1')")
    await until(lambda: len(received) == 3, what="the live message")
    assert "replayed" not in received[2]["meta"]


async def test_changes_of_a_table_through_a_trigger(project, official):
    channel = official.channel("room-changes", private())
    received = []
    channel.on_broadcast("INSERT", received.append)
    assert (await subscribed(channel))[0] == RealtimeSubscribeStates.SUBSCRIBED
    sql = await project.sql()
    await sql.execute("insert into public.bc_todos values (1, 'one')")
    await until(lambda: received, what="the trigger's message")
    assert received[0]["payload"]["record"] == {"id": 1, "details": "one"}
