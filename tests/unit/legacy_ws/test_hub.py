"""Who gets what, without a socket."""

from __future__ import annotations

import asyncio
import json
import zlib
from datetime import timedelta

from legacy_ws.frames import WINDOW_BITS
from legacy_ws.hub import Hub
from legacy_ws.protocol.catalogue import catalogue
from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId
from tests.fakes.event_factory import START, event, opened, run
from tests.unit.legacy_ws.test_container_states import entry, listed

WEB = StreamId("web-1/system")


class Pipe:
    """A transport that takes everything, or nothing."""

    descriptor, clear = -1, False  # what has no socket is never written to directly

    def __init__(self, *, deflates=False):
        self.open, self.blocked, self.deflates = True, False, deflates
        self.written = b""
        self.writes = []

    def write(self, frames):
        self.writes.append(frames)
        self.written += frames

    def listen(self, touched):
        pass

    def frames(self):
        """Return the payloads that were written since the last time."""
        data, self.written = self.written, b""
        payloads = []
        while data:
            size, start = data[1], 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start], "big")
            payload = data[start : start + size]
            if data[0] == 0xC1:
                assert self.deflates
                payload = zlib.decompressobj(-WINDOW_BITS).decompress(payload + b"\0\0\xff\xff")
            else:
                assert data[0] == 0x81
            payloads.append(payload)
            data = data[start + size :]
        return payloads


class OneHub(Hub):
    """A hub whose clients are dashboards unless told otherwise; each has a pipe."""

    def __init__(self, **settings):
        dialects = [make() for make in catalogue().values()]
        super().__init__(dialects, now=lambda: START + timedelta(hours=1), clock_started=START, **settings)

    def attach(self, dialect="dashboard", pipe=None):
        pipe = pipe or Pipe()
        client = super().attach(dialect, pipe)
        client.pipe = pipe
        client.hub = self
        return client

    def ask(self, client, **message):
        self.received(client, json.dumps(message))


hub = OneHub


async def sent(client):
    """Return everything that was sent to a client since the last time, parsed."""
    client.hub.flusher.flush()
    return [json.loads(payload) for payload in client.pipe.frames()]


def seqs(messages):
    return [one["metadata"]["event"]["seq"] for one in messages if one["type"] == "event"]


async def test_a_new_client_gets_every_section_of_the_seed_first():
    one = hub()
    one.take(run(WEB, 2))
    first, *rest = await sent(one.attach())
    assert rest == []
    assert first["type"] == "initial_stats"
    assert set(first["stats"]) == {"websocket", "redis", "supabase", "kimi", "glm", "system"}
    assert first["stats"]["kimi"] == {}
    assert first["stats"]["websocket"]["events_taken"] == 2
    assert first["stats"]["system"]["events"] == 2
    assert [item["metadata"]["event"]["seq"] for item in first["recent_events"]] == [1, 2]
    assert first["websocket_health"]["clients"] == 1


async def test_a_plain_client_gets_every_new_event_and_no_history():
    one = hub()
    client = one.attach()
    one.take(run(WEB, 2), history=True)
    one.take([event(WEB, 3)])
    assert seqs(await sent(client)) == [3]


async def test_a_subscriber_gets_the_replay_then_live_events_of_its_topics():
    one = hub()
    one.filled()
    one.take([*run(WEB, 3), *run("db-1/system", 2)])
    client = one.attach()
    one.ask(client, type="subscribe", topics=["devices.web-1"], cursor={WEB: [1, 1]})
    one.take([event("db-1/system", 3), event(WEB, 4)])
    _, answer, *rest = await sent(client)
    assert answer == {"type": "subscribed", "heads": {WEB: [1, 3]}, "gaps": []}
    assert seqs(rest) == [2, 3, 4]


async def test_subscribing_again_puts_the_replay_in_place_of_what_was_queued():
    one = hub()
    one.filled()
    client = one.attach()
    one.ask(client, type="subscribe", cursor={})
    one.take(run(WEB, 3))
    one.ask(client, type="subscribe", cursor={WEB: [1, 2]})
    assert seqs(await sent(client)) == [3]


async def test_every_client_is_sent_the_same_bytes():
    one = hub()
    clients = [one.attach() for _ in range(3)]
    for client in clients:
        await sent(client)
    one.take([opened(WEB)])
    one.flusher.flush()
    messages = [client.pipe.writes[-1] for client in clients]
    assert messages[0] is messages[1] is messages[2]


async def test_a_client_that_does_not_read_is_given_up_and_the_others_go_on():
    one = hub(max_queue=10)
    slow, quick = one.attach(), one.attach()
    await sent(slow)
    slow.pipe.blocked = True
    got = []
    for batch in range(5):
        one.take([event(WEB, 5 * batch + step) for step in range(1, 6)])
        got += seqs(await sent(quick))
    assert slow.outbox.too_slow.is_set()
    assert slow.outbox.waiting == 10
    assert one.measured.traffic.slow_clients_closed == 1
    assert got == list(range(1, 26))


async def test_a_replay_longer_than_the_queue_makes_nobody_slow():
    one = hub(max_queue=10)
    one.filled()
    one.take(run(WEB, 100))
    client = one.attach()
    one.ask(client, type="subscribe", cursor={})
    assert not client.outbox.too_slow.is_set()
    assert seqs(await sent(client)) == list(range(1, 101))


async def test_before_the_history_is_there_subscribers_wait_and_are_told():
    one = hub(await_history=True)
    client = one.attach()
    one.ask(client, type="subscribe")
    one.ask(client, type="snapshot")
    _, waiting, again = await sent(client)
    assert waiting["type"] == again["type"] == "waiting"
    one.take(run(WEB, 4), history=True)
    one.filled(Cursor({WEB: Position(1, 4), StreamId("db-1/system"): Position(1, 1)}))
    one.take([event(WEB, 5)])
    messages = await sent(client)
    assert [message["type"] for message in messages] == ["subscribed", "snapshot", "event"]
    assert messages[0]["heads"] == {WEB: [1, 4], "db-1/system": [1, 1]}
    assert seqs(messages) == [5]


async def test_a_client_that_left_while_waiting_is_not_answered():
    one = hub(await_history=True)
    client = one.attach()
    one.ask(client, type="subscribe")
    one.detach(client)
    await sent(client)
    one.filled()
    assert await sent(client) == []


async def test_requests_stop_being_read_while_answers_wait():
    one = hub()
    client = one.attach()
    client.pipe.blocked = True
    for _ in range(20):
        one.ask(client, type="stats")
    room = asyncio.ensure_future(client.outbox.room())
    await asyncio.sleep(0)
    assert not room.done()
    client.pipe.blocked = False
    client.outbox.resume()
    await room


async def test_duplicates_and_stale_events_are_counted_and_not_sent():
    one = hub()
    one.take([opened(WEB, 2)])
    assert one.take([opened(WEB, 2), event(WEB, 9, 1)]) == 0
    assert one.measured.traffic.duplicate_events == 1
    assert one.measured.traffic.stale_events == 1


async def test_stats_and_ping_are_answered():
    one = hub()
    client = one.attach()
    await sent(client)
    one.ask(client, type="stats")
    one.ask(client, type="ping")
    one.ask(client, type="what?")
    stats, pong, error = await sent(client)
    assert stats["type"] == "stats"
    assert set(stats) == {
        "type",
        "stats",
        "session_metrics",
        "semaphore_metrics",
        "websocket_health",
        "recent_events",
        "timestamp",
    }
    assert pong == {"type": "pong"}
    assert "unknown message type" in error["error"]


async def test_draining_waits_for_what_is_queued():
    one = hub()
    client = one.attach()
    client.pipe.blocked = True
    draining = asyncio.ensure_future(one.drained())
    await asyncio.sleep(0)
    assert not draining.done()
    client.pipe.blocked = False
    client.outbox.resume()
    await asyncio.wait_for(draining, 1)


async def test_an_event_nested_too_deeply_for_a_message_is_rejected_and_later_ones_go_on():
    one = hub()
    client = one.attach()
    for seq, depth in enumerate(range(240, 260), 1):
        nested = {}
        for _ in range(depth):
            nested = {"in": nested}
        one.take([event(WEB, seq, deep=nested)])
    one.take([event(WEB, 21)])
    one.ask(client, type="snapshot")
    assert 0 < one.measured.traffic.rejected_events < 20
    messages = await sent(client)
    assert seqs(messages)[-1] == 21
    assert any(message["type"] == "snapshot" for message in messages)


async def test_what_nobody_asked_for_is_not_written():
    one = hub()
    stream, containers = one.attach("stream"), one.attach("containers")
    await sent(containers)
    one.take(run(WEB, 3))
    assert [kept.message._messages for kept in one.ring.recent(3)] == [{}, {}, {}]
    one.ask(stream, type="subscription", action="subscribe", topics=["devices.db-1"])
    one.take([event(WEB, 4)])
    assert one.ring.recent(1)[0].message._messages == {}
    one.attach()
    one.take([event(WEB, 5)])
    assert [writer.__module__ for writer in one.ring.recent(1)[0].message._messages] == [
        "legacy_ws.protocol.dashboard"
    ]
    assert await sent(containers) == []


async def test_equal_subscriptions_of_a_dialect_share_a_frame_and_are_counted():
    one = hub()
    clients = [one.attach("stream") for _ in range(4)]
    for client, topic in zip(clients, ["global", "global", "devices.web-1", "devices.db-1"], strict=True):
        one.ask(client, type="subscription", action="subscribe", topics=[topic])
        await sent(client)
    one.take([event(WEB, 1)])
    one.flusher.flush()
    frames = [client.pipe.writes[-1] for client in clients[:2]]
    assert frames[0] is frames[1]
    assert [len(await sent(client)) for client in clients] == [1, 1, 1, 0]
    health = one.health()
    assert health["subscriptions"] == {"stream": {"global": 2, "devices.web-1": 1, "devices.db-1": 1}}
    assert health["clients_by_dialect"]["stream"] == 4
    one.detach(clients[0])
    one.detach(clients[0])
    assert one.clients == 3


async def test_a_client_that_subscribes_anew_is_told_by_its_new_subscription_only():
    one = hub()
    client = one.attach("metrics")
    one.ask(client, type="subscribe", page="alerts")
    await sent(client)
    one.tick(one.rooms["metrics"])
    assert [message["type"] for message in await sent(client)] == ["heartbeat"]


async def test_a_state_that_was_restored_is_told_to_who_came_before_it():
    one = hub(await_history=True)
    client = one.attach("containers")
    one.take([listed(entry("a"))], history=True)
    one.filled()
    one.filled()
    empty, state = await sent(client)
    assert (empty["containers"], [item["name"] for item in state["containers"]]) == ([], ["a"])


async def test_a_closed_connection_is_written_no_more():
    one = hub()
    client = one.attach()
    client.pipe.open = False
    one.take(run(WEB, 3))
    assert await sent(client) == []
    assert client.outbox.waiting == 0


async def test_a_message_is_compressed_once_for_all_who_read_that_and_goes_as_it_is_to_the_others():
    one = hub()
    clients = [one.attach("dashboard", Pipe(deflates=deflates)) for deflates in (True, False, True)]
    for client in clients:
        one.ask(client, type="snapshot", topics=["global"])
        await sent(client)
    one.take([event(WEB, 1, note="the same again and again; " * 20)])
    one.flusher.flush()
    packed, plain, packed_too = (client.pipe.writes[-1] for client in clients)
    assert packed is packed_too
    assert len(packed) < len(plain) / 2
    assert await sent(clients[0]) == await sent(clients[1]) == await sent(clients[2])
    one.detach(clients[1])
    one.take([event(WEB, 2)])
    assert len(await sent(clients[0])) == 1


async def test_a_short_message_is_never_compressed():
    one = hub()
    client = one.attach("dashboard", Pipe(deflates=True))
    await sent(client)
    one.ask(client, type="ping")
    await sent(client)
    assert client.pipe.writes[-1] == b'\x81\x0f{"type":"pong"}'
