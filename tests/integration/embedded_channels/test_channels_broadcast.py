"""Broadcast between clients of both versions, over real sockets."""

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest
import websockets
from yarl import URL

from embedded.phoenix.broadcast import Room, UserBroadcast
from embedded.phoenix.channel import Permissions
from embedded.phoenix.limits import Limits
from embedded.realtime_broadcast import ChannelPolicies, History, Replayed

TOPIC = "realtime:room"
BODY = {"event": "msg", "payload": {"hello": "world", "n": 1}, "type": "broadcast"}
OK = {"status": "ok", "response": {}}


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("ack", [True, False])
async def test_self_and_ack(rooms, vsn, itself, ack):
    first, second, sender = await rooms.peer("1.0.0"), await rooms.peer("2.0.0"), await rooms.peer(vsn)
    await first.join()
    await second.join()
    await sender.join(self=itself, ack=ack)
    await sender.broadcast(TOPIC, "msg", {"n": 1, "hello": "world"})
    assert await first.receive() == (TOPIC, "broadcast", BODY)
    assert await second.raw() == json.dumps([None, None, TOPIC, "broadcast", BODY], separators=(",", ":"))
    expected = [(TOPIC, "broadcast", BODY)] * itself + [(TOPIC, "phx_reply", OK)] * ack
    assert [await sender.receive() for _ in expected] == expected
    for peer in (first, second, sender):
        await peer.silent()


async def test_binary_messages_reach_who_can_read_them(rooms):
    first, second, sender = await rooms.peer("1.0.0"), await rooms.peer(), await rooms.peer()
    await first.join()
    await second.join()
    await sender.join(ack=True)
    await sender.push(TOPIC, "evj", b'{"a":1}')
    assert await first.receive() == (
        TOPIC,
        "broadcast",
        {"event": "evj", "payload": {"a": 1}, "type": "broadcast"},
    )
    assert await second.raw() == b"\x04\x0d\x03\x00\x01realtime:roomevj" + b'{"a":1}'
    assert await sender.raw() == '["1","9","realtime:room","phx_reply",{"status":"ok","response":{}}]'
    await sender.push(TOPIC, "evb", b"\0\xff", is_json=False)
    assert await second.raw() == b"\x04\x0d\x03\x00\x00realtime:roomevb\0\xff"
    await sender.push(TOPIC, "bad", b"not json", ref="")
    assert await second.raw() == b"\x04\x0d\x03\x00\x01realtime:roombadnot json"
    assert [await sender.receive() for _ in range(2)] == [(TOPIC, "phx_reply", OK)] * 2
    await first.silent()


async def test_binary_on_a_topic_not_joined(rooms):
    peer = await rooms.peer()
    await peer.push("realtime:x", "test", b"{}", ref="1")
    assert await peer.raw() == (
        '[null,"1","realtime:x","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]'
    )


@pytest.mark.parametrize("payload", [[], [1], "text", 5, None])
async def test_what_is_no_map_crashes_the_channel(rooms, payload):
    peer = await rooms.peer()
    await peer.join(ack=True)
    await peer.send(TOPIC, "broadcast", payload, join_ref="1")
    assert await peer.raw() == '["1","1","realtime:room","phx_error",{"reason":"channel_crash"}]'
    await peer.broadcast(TOPIC, "msg", {})
    assert (await peer.receive())[2] == {"status": "error", "response": {"reason": "unmatched topic"}}
    assert (await peer.join())["status"] == "ok"


async def test_sizes(rooms):
    receiver, acked, silent = await rooms.peer(), await rooms.peer(), await rooms.peer()
    await receiver.join()
    await acked.join(ack=True)
    await silent.join()
    await acked.broadcast(TOPIC, "e", {"x": "y" * 2_900_000})
    assert len(await receiver.raw()) > 2_900_000
    assert (await acked.receive())[2] == OK
    assert len(await silent.raw()) > 2_900_000
    await silent.broadcast(TOPIC, "e", {"x": "y" * 3_200_000})
    await silent.silent()
    await acked.broadcast(TOPIC, "e", {"x": "y" * 3_200_000})
    assert (await acked.receive())[2] == {"status": "error", "response": "payload_size_exceeded"}
    await receiver.silent()
    with contextlib.suppress(websockets.ConnectionClosed):
        await acked.broadcast(TOPIC, "e", {"x": "y" * 5_100_000})
    with pytest.raises(websockets.ConnectionClosed):
        await acked.raw()
    assert acked.socket.close_code == 1009
    await receiver.silent()


async def test_numbers_pass_through_as_on_the_real_server(rooms):
    receiver, sender = await rooms.peer(), await rooms.peer()
    await receiver.join()
    await sender.join()
    await sender.socket.send(
        '["1","2","realtime:room","broadcast",{"type":"broadcast","event":"e","payload":{"b":1e5,"a":12345678901234567890}}]'
    )
    assert await receiver.raw() == (
        '[null,null,"realtime:room","broadcast",{"event":"e","payload":{"a":12345678901234567890,"b":1.0e5},'
        '"type":"broadcast"}]'
    )


async def test_rooms_of_other_topics_hear_nothing(rooms):
    here, there = await rooms.peer(), await rooms.peer()
    await here.join()
    await there.join("realtime:other")
    await here.broadcast(TOPIC, "msg", {})
    await there.silent()


async def test_who_left_hears_nothing(rooms):
    sender, gone = await rooms.peer(), await rooms.peer()
    await sender.join()
    await gone.join()
    await gone.send(TOPIC, "phx_leave", {}, join_ref="1")
    assert [(await gone.receive())[1] for _ in range(2)] == ["phx_reply", "phx_close"]
    await sender.broadcast(TOPIC, "msg", {})
    await sender.silent()
    await gone.silent()
    await sender.socket.close()
    async with asyncio.timeout(10):
        while rooms.server.health()["rooms"]:
            await asyncio.sleep(0.01)


async def test_a_client_that_does_not_read_is_dropped_and_the_others_are_not(serve):
    async with serve(buffer_limit_bytes=1_000_000) as rooms:
        sender, reader = await rooms.peer(), await rooms.peer()
        async with aiohttp.ClientSession() as http:
            stuck = await http.ws_connect(URL(rooms.url()))
            await stuck.send_json(["1", "1", TOPIC, "phx_join", {"config": {}}])
            await stuck.receive()
            stuck.get_extra_info("socket").setsockopt(1, 8, 4096)  # SO_RCVBUF
            stuck._response.connection.protocol.pause_reading()
            await reader.join()
            await sender.join(ack=True)
            for _ in range(200):
                await sender.broadcast(TOPIC, "e", {"x": "y" * 100_000})
                await sender.receive()
                await reader.raw()
                if rooms.server.health()["slow_clients_dropped"]:
                    break
            assert rooms.server.health()["slow_clients_dropped"] == 1
            await stuck.close()
        await sender.broadcast(TOPIC, "last", {})
        assert (await reader.receive())[2]["event"] == "last"


# -- private rooms


class Table(ChannelPolicies):
    """Policies by topic: what may be read, what may be written."""

    def __init__(self, table):
        self.table = table
        self.asked = []

    async def read(self, token, topic):
        self.asked.append((token.role, topic))
        return Permissions(*self.table.get(topic, ((False, False),))[0])

    async def write(self, token, topic):
        return Permissions(*self.table[topic][1])


OPEN = ((True, True), (True, True))


async def test_public_and_private_are_apart(serve):
    async with serve(policies=Table({"room": OPEN})) as rooms:
        public, one, two = await rooms.peer(), await rooms.peer(), await rooms.peer("1.0.0")
        await public.join()
        await one.join(private=True)
        await two.join(private=True)
        await one.broadcast(TOPIC, "private", {})
        assert (await two.receive())[2]["event"] == "private"
        await public.broadcast(TOPIC, "public", {})
        for peer in (public, one, two):
            await peer.silent()


async def test_without_policies_only_the_service_role_enters(rooms):
    peer = await rooms.peer()
    assert await peer.join(private=True) == {
        "status": "error",
        "response": {
            "reason": "Unauthorized: You do not have permissions to read from this Channel topic: room"
        },
    }
    assert (await peer.join(private=True, token=rooms.token("service_role")))["status"] == "ok"


async def test_rights_are_kept(serve):
    policies = Table(
        {
            "ro": ((True, True), (False, False)),
            "bonly": ((True, False), (True, False)),
            "deaf": ((False, True), (True, True)),
        }
    )
    async with serve(policies=policies) as rooms:
        one, two = await rooms.peer(), await rooms.peer()
        for peer in (one, two):
            assert (await peer.join("realtime:ro", private=True, ack=True))["status"] == "ok"
        await one.broadcast("realtime:ro", "e", {})
        await one.silent()  # no answer, even to who wants one
        await two.silent()
        await one.track({"a": 1}, "realtime:ro")
        assert (await one.receive())[2] == {"status": "error", "response": {}}
        await two.silent()
        assert (await two.join("realtime:bonly", private=True, key="k"))["status"] == "ok"
        await two.silent()  # no presence_state
        for peer in (one, two):
            await peer.join("realtime:deaf", private=True)
        await one.broadcast("realtime:deaf", "e", {})
        await one.track({"a": 1}, "realtime:deaf")
        assert (await two.receive())[1] == "presence_diff"
        await two.silent()


async def test_a_new_token_without_the_right_ends_the_channel(serve):
    class ByRole(Table):
        async def read(self, token, topic):
            return Permissions(token.role == "authenticated", False)

    async with serve(policies=ByRole({"room": OPEN})) as rooms:
        peer = await rooms.peer()
        await peer.join(private=True, token=rooms.token())
        await peer.send(TOPIC, "access_token", {"access_token": rooms.token(sub="2")})
        await peer.silent()
        await peer.send(TOPIC, "access_token", {"access_token": rooms.token("anon")})
        _, event, payload = await peer.receive()
        assert (event, payload["message"]) == (
            "system",
            "You do not have permissions to read from this Channel topic: room",
        )
        assert (await peer.receive())[1] == "phx_close"


class Slow(History):
    """A history whose answer comes when the test wants it."""

    def __init__(self, *messages):
        self.messages = messages
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def replay(self, topic, since_ms, limit):
        self.asked.set()
        await self.answer.wait()
        return [Replayed(id_, "rp", b'{"id": "%s"}' % id_.encode()) for id_ in self.messages][-limit:]


async def test_replay_loses_and_repeats_nothing(serve):
    history = Slow("a", "b")
    async with serve(policies=Table({"room": OPEN}), history=history) as rooms:
        peer = await rooms.peer()
        joining = asyncio.create_task(peer.join(private=True, replay={"since": 0, "limit": 30}))
        await history.asked.wait()
        room = Room("room", private=True)
        for id_ in ("b", "c"):
            message = UserBroadcast("rp", b'{"id":"%s"}' % id_.encode(), trusted=True)
            rooms.server.hub.publish(room, message, message_id=id_)
        history.answer.set()
        assert (await joining)["status"] == "ok"
        replayed = [json.loads(await peer.raw())[4] for _ in range(2)]
        assert [message["meta"] for message in replayed] == [
            {"id": "a", "replayed": True},
            {"id": "b", "replayed": True},
        ]
        assert (await peer.raw()).endswith(b'rp{"id":"c"}')
        await peer.silent()


@pytest.mark.parametrize(
    ("private", "replay", "reason"),
    [
        (True, {"since": "x"}, "Replay params are not valid"),
        (True, {}, "Replay params are not valid"),
        (False, {"since": 1}, "Replay is not allowed for public channels"),
    ],
)
async def test_replay_that_cannot_be(serve, private, replay, reason):
    async with serve(policies=Table({"room": OPEN})) as rooms:
        peer = await rooms.peer()
        reply = await peer.join(private=private, replay=replay)
        assert reply["response"] == {"reason": f"UnableToReplayMessages: {reason}"}


# -- limits


async def test_channels_and_clients_are_limited_if_so_wanted(serve):
    async with serve(limits=Limits(channels_per_client=2, clients=1)) as rooms:
        peer = await rooms.peer()
        assert [(await peer.join(f"realtime:{n}"))["status"] for n in range(2)] == ["ok", "ok"]
        reply = await peer.join("realtime:more")
        assert reply["response"] == {"reason": "ChannelRateLimitReached: Too many channels"}
        with pytest.raises(websockets.InvalidStatus) as refused:
            await rooms.peer()
        assert refused.value.response.status_code == 429
        assert json.loads(refused.value.response.body) == {"error": "Too many connected users"}


async def test_one_websocket_more_than_may_be_is_refused_and_told_so_and_a_place_is_free_again(serve, caplog):
    async with serve(most_connections=3) as rooms:
        peers = [await rooms.peer() for _ in range(3)]
        for _ in range(5):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await rooms.peer()
            assert refused.value.response.status_code == 429
            assert json.loads(refused.value.response.body) == {"error": "Too many connected users"}
        health = rooms.server.health()
        assert (health["connections"], health["connections_limit"], health["connections_refused"]) == (
            3,
            3,
            5,
        )
        assert [line for line in caplog.messages if "no more may be" in line] == [
            "3 WebSockets are open, and no more may be: 1 were refused since this was said last."
        ]
        assert (await peers[1].join())["status"] == "ok"  # who is there is not disturbed
        await peers[0].socket.close()
        async with asyncio.timeout(10):
            while rooms.server.health()["connections"] > 2:
                await asyncio.sleep(0.01)
        assert (await (await rooms.peer()).join())["status"] == "ok"


async def test_handshakes_at_the_same_time_take_no_more_places_than_there_are(serve):
    async with serve(most_connections=4) as rooms:
        outcomes = await asyncio.gather(*(rooms.peer() for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(outcome, websockets.InvalidStatus) for outcome in outcomes) == 16
        assert rooms.server.health()["connections"] == 4


async def test_joins_are_limited_if_so_wanted(serve):
    async with serve(limits=Limits(joins_per_second=1)) as rooms:
        peer = await rooms.peer()
        await peer.join()
        rooms.server._joins.add(100, time.time())
        assert rooms.server._joins.exceeded(time.time() + 5)  # the next tick
        reply = await peer.join("realtime:more")
        assert reply["response"] == {"reason": "ClientJoinRateLimitReached: Too many joins per second"}
        with pytest.raises(websockets.ConnectionClosed):
            await peer.raw()
        assert peer.socket.close_code == 1001
        with pytest.raises(websockets.InvalidStatus) as refused:
            await rooms.peer()
        assert json.loads(refused.value.response.body) == {"error": "Too many joins per second"}


async def test_receivers_of_too_much_are_closed(serve):
    async with serve(limits=Limits(events_per_second=1)) as rooms:
        sender, receiver = await rooms.peer(), await rooms.peer()
        await sender.join(ack=True)
        await receiver.join()
        rooms.server.hub.events.add(1000, time.monotonic() - 6)
        await sender.broadcast(TOPIC, "e", {})
        assert (await sender.receive())[2] == OK
        _, event, payload = await receiver.receive()
        assert (event, payload["message"]) == ("system", "Too many messages per second")
        assert (await receiver.receive())[1] == "phx_close"
        await sender.silent()
