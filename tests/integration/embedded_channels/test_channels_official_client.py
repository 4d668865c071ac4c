"""Two official Python clients, unmodified, in one room."""

import asyncio

from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

PRESENCE = {"config": {"broadcast": {"ack": True, "self": False}, "presence": {"key": "", "enabled": True}, "private": False}}  # fmt: skip


async def until(condition, what):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


async def subscribed(channel):
    state = asyncio.get_running_loop().create_future()

    def told(status, error):
        if not state.done():
            state.set_result((status, error))

    await channel.subscribe(told)
    status, error = await asyncio.wait_for(state, 10)
    assert status == RealtimeSubscribeStates.SUBSCRIBED, (status, error)


def client(rooms):
    return AsyncRealtimeClient(rooms.url().partition("/websocket")[0], rooms.keys.anon_key)


def keyed(key):
    return {"config": {**PRESENCE["config"], "presence": {"key": key, "enabled": True}}}


async def test_broadcast_between_two(rooms):
    first, second = client(rooms), client(rooms)
    here, there = first.channel("room"), second.channel("room", PRESENCE)
    received = []
    here.on_broadcast("greeting", received.append)
    await subscribed(here)
    await subscribed(there)
    for number in range(20):
        await there.send_broadcast("greeting", {"n": number, "pi": 3.5, "text": "grüße"})
        await there.send_broadcast("other", {})
    await until(lambda: len(received) == 20, "twenty messages")
    assert [message["payload"] for message in received] == [
        {"n": number, "pi": 3.5, "text": "grüße"} for number in range(20)
    ]
    for each in (first, second):
        await each.close()


async def test_the_sender_too_if_it_wants(rooms):
    only = client(rooms)
    channel = only.channel("room", {"config": {"broadcast": {"self": True, "ack": False}, "private": False}})
    received = []
    channel.on_broadcast("greeting", received.append)
    await subscribed(channel)
    await channel.send_broadcast("greeting", {"n": 1})
    await until(lambda: received, "its own message")
    await only.close()


async def test_presence_of_two(rooms):
    first, second = client(rooms), client(rooms)
    here, there = first.channel("room", keyed("alice")), second.channel("room", keyed("bob"))
    joined, left, synced = [], [], []
    here.on_presence_sync(lambda: synced.append(dict(here.presence_state())))
    here.on_presence_join(lambda key, _, new: joined.append((key, [meta["status"] for meta in new])))
    here.on_presence_leave(lambda key, _, old: left.append((key, [meta["status"] for meta in old])))
    there.on_presence_sync(lambda: None)
    await subscribed(here)
    await here.track({"status": "online"})
    await until(lambda: "alice" in here.presence_state(), "my own presence")
    await subscribed(there)
    await until(lambda: "alice" in there.presence_state(), "the state of who was there before")
    await there.track({"status": "busy"})
    await until(lambda: ("bob", ["busy"]) in joined, "bob's coming")
    await there.track({"status": "free"})
    await until(lambda: ("bob", ["free"]) in joined, "bob's change")
    assert [meta["status"] for meta in here.presence_state()["bob"]] == ["free"]
    await there.untrack()
    await until(lambda: ("bob", ["free"]) in left, "bob's going")
    assert set(here.presence_state()) == {"alice"}
    await there.track({"status": "again"})
    await until(lambda: "bob" in here.presence_state(), "bob's coming back")
    await second.close()
    await until(lambda: set(here.presence_state()) == {"alice"}, "bob's disconnection")
    assert synced
    await first.close()
