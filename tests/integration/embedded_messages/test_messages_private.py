"""Private channels: who may read, who may write, and what a new token changes."""

import asyncio

import pytest

from tests.integration.embedded_messages.conftest import USER_1, USER_2

READ = "You do not have permissions to read from this Channel topic: "


async def test_who_may_not_read_is_refused(project):
    client = await project.client()
    for topic, token in (
        ("room-1", None),
        ("nowhere", project.token(sub=USER_1)),
        (f"user:{USER_2}", project.token(sub=USER_1)),
    ):
        reply = await client.join(topic, token)
        assert reply == {"status": "error", "response": {"reason": f"Unauthorized: {READ}{topic}"}}


async def test_claims_decide(project):
    client = await project.client()
    await client.joined(f"user:{USER_1}", project.token(sub=USER_1))


async def test_who_may_write_is_heard_by_the_private_room_only(project):
    token = project.token(sub=USER_1)
    sender, receiver, public = [await project.client() for _ in range(3)]
    await sender.joined("room-1", token, ack=True)
    await receiver.joined("room-1", token)
    await public.joined("room-1", private=False, ack=True)
    topic = "realtime:room-1"
    ref = await sender.send(topic, "broadcast", {"type": "broadcast", "event": "e", "payload": {"n": 1}})
    assert (await receiver.message())[1:] == ("e", None, {"n": 1})
    assert (await sender.receive())[1] == ref
    await public.send(topic, "broadcast", {"type": "broadcast", "event": "p", "payload": {}})
    assert (await public.receive())[3] == "phx_reply"
    await receiver.silent()


async def test_writing_without_permission_is_silent_for_broadcast_and_an_error_for_presence(project):
    token = project.token(sub=USER_1)
    sender, receiver = await project.client(), await project.client()
    await sender.joined("read-only-1", token, ack=True)
    await receiver.joined("read-only-1", token)
    topic = "realtime:read-only-1"
    await sender.send(topic, "broadcast", {"type": "broadcast", "event": "e", "payload": {}})
    await sender.silent()
    await sender.send(topic, "presence", {"type": "presence", "event": "track", "payload": {"a": 1}})
    assert (await sender.receive())[3:] == ["phx_reply", {"status": "error", "response": {}}]
    await receiver.silent()


async def test_permission_for_broadcast_alone(project):
    client = await project.client()
    await client.joined("talk-1", project.token(sub=USER_1), presence=True, ack=True)
    await client.silent()  # no presence_state
    topic = "realtime:talk-1"
    await client.send(topic, "broadcast", {"type": "broadcast", "event": "e", "payload": {}})
    assert (await client.receive())[4] == {"status": "ok", "response": {}}
    await client.send(topic, "presence", {"type": "presence", "event": "track", "payload": {}})
    assert (await client.receive())[4] == {"status": "error", "response": {}}


async def test_permission_for_presence_alone_hears_no_broadcast(project):
    client = await project.client()
    await client.joined("show-1", project.token(sub=USER_1), presence=True)
    assert (await client.receive())[3:] == ["presence_state", {}]
    sql = await project.sql()
    other = await project.client()
    await other.joined("show-1", project.keys.service_role_key)
    await sql.execute("select realtime.send('{}', 'e', 'show-1')")
    assert (await other.message())[1] == "e"
    await client.silent()


async def test_service_role_passes_everywhere(project):
    client = await project.client()
    await client.joined("nowhere", project.keys.service_role_key, ack=True)
    await client.send("realtime:nowhere", "broadcast", {"type": "broadcast", "event": "e", "payload": {}})
    assert (await client.receive())[4] == {"status": "ok", "response": {}}


async def test_a_token_that_may_not_read_ends_the_channel(project):
    client = await project.client()
    await client.joined("room-1", project.token(sub=USER_1))
    await client.send("realtime:room-1", "access_token", {"access_token": project.token(sub=USER_2)})
    await client.silent()
    await client.send("realtime:room-1", "access_token", {"access_token": project.keys.anon_key})
    told = await client.receive()
    assert told[3:] == [
        "system",
        {"message": f"{READ}room-1", "status": "error", "extension": "system", "channel": "room-1"},
    ]
    assert (await client.receive())[3] == "phx_close"


async def test_permissions_hold_until_the_next_token(project):
    client = await project.client()
    await client.joined("room-1", project.token(sub=USER_1), ack=True)
    sql = await project.sql()
    await sql.execute("drop policy rooms_write on realtime.messages")
    broadcast = ("realtime:room-1", "broadcast", {"type": "broadcast", "event": "e", "payload": {}})
    await client.send(*broadcast)
    assert (await client.receive())[3] == "phx_reply"
    await client.send("realtime:room-1", "access_token", {"access_token": project.token(sub=USER_2)})
    async with asyncio.timeout(10):
        while await client.answered(*broadcast):
            pass  # the question to the database is on its way


@pytest.mark.parametrize(
    ("topic", "role", "reason"),
    [
        ("broken", "authenticated", "Realtime was unable to connect to the project database"),
        ("room-1", "no_such_role", "Realtime was unable to connect to the project database"),
    ],
)
async def test_questions_that_cannot_be_answered_refuse(project, topic, role, reason):
    client = await project.client()
    reply = await client.join(topic, project.token(role, sub=USER_1))
    assert reply == {"status": "error", "response": {"reason": reason}}


async def test_asking_leaves_nothing_behind(project):
    client = await project.client()
    await client.joined("room-1", project.token(sub=USER_1))
    sql = await project.sql()
    assert await sql.fetchval("select count(*) from realtime.messages") == 0
    await client.silent()
