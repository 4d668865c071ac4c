"""Who gets what, without a socket."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

from legacy_ws.hub import Hub
from legacy_ws.protocol import dashboard as ws
from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId
from monitoring.topics import GLOBAL, parse_topic
from tests.fakes.event_factory import START, event, opened, run

WEB = StreamId("web-1/system")
ALL = frozenset({GLOBAL})


def hub(**settings):
    return Hub(now=lambda: START + timedelta(hours=1), clock_started=START, **settings)


async def sent(client):
    """Return everything that waits for a client, parsed."""
    messages = []
    while client.waiting:
        messages.append(json.loads(await client.outgoing()))
    return messages


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
    one.handle(client, ws.Subscribe(frozenset({parse_topic("devices.web-1")}), Cursor({WEB: Position(1, 1)})))
    one.take([event("db-1/system", 3), event(WEB, 4)])
    _, answer, *rest = await sent(client)
    assert answer == {"type": "subscribed", "heads": {WEB: [1, 3]}, "gaps": []}
    assert seqs(rest) == [2, 3, 4]


async def test_subscribing_again_puts_the_replay_in_place_of_what_was_queued():
    one = hub()
    one.filled()
    client = one.attach()
    one.handle(client, ws.Subscribe(ALL, Cursor()))
    one.take(run(WEB, 3))
    one.handle(client, ws.Subscribe(ALL, Cursor({WEB: Position(1, 2)})))
    assert seqs(await sent(client)) == [3]


async def test_every_client_is_sent_the_same_bytes():
    one = hub()
    clients = [one.attach() for _ in range(3)]
    for client in clients:
        await client.outgoing()
    one.take([opened(WEB)])
    messages = [await client.outgoing() for client in clients]
    assert messages[0] is messages[1] is messages[2]


async def test_a_client_that_does_not_read_is_given_up_and_the_others_go_on():
    one = hub(max_queue=10)
    slow, quick = one.attach(), one.attach()
    got = []
    for batch in range(5):
        one.take([event(WEB, 5 * batch + step) for step in range(1, 6)])
        got += seqs(await sent(quick))
    assert slow.too_slow.is_set()
    assert slow.waiting == 11
    assert one.measured.traffic.slow_clients_closed == 1
    assert got == list(range(1, 26))


async def test_a_replay_longer_than_the_queue_makes_nobody_slow():
    one = hub(max_queue=10)
    one.filled()
    one.take(run(WEB, 100))
    client = one.attach()
    one.handle(client, ws.Subscribe(ALL, Cursor()))
    assert not client.too_slow.is_set()
    assert seqs(await sent(client)) == list(range(1, 101))


async def test_before_the_history_is_there_subscribers_wait_and_are_told():
    one = hub(await_history=True)
    client = one.attach()
    one.handle(client, ws.Subscribe(ALL, None))
    one.handle(client, ws.SnapshotRequest(ALL))
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
    one.handle(client, ws.Subscribe(ALL, None))
    one.detach(client)
    waiting = client.waiting
    one.filled()
    assert client.waiting == waiting


async def test_requests_stop_being_read_while_answers_wait():
    one = hub()
    client = one.attach()
    for _ in range(20):
        one.handle(client, ws.StatsRequest())
    room = asyncio.ensure_future(client.room())
    await asyncio.sleep(0)
    assert not room.done()
    await client.outgoing()
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
    await client.outgoing()
    one.handle(client, ws.StatsRequest())
    one.handle(client, ws.Ping())
    one.refuse(client, "what?")
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
    assert error["error"] == "what?"


async def test_draining_waits_for_what_is_queued():
    one = hub()
    client = one.attach()
    draining = asyncio.ensure_future(one.drained())
    await asyncio.sleep(0)
    assert not draining.done()
    await client.outgoing()
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
    one.handle(client, ws.SnapshotRequest(ALL))
    assert 0 < one.measured.traffic.rejected_events < 20
    messages = await sent(client)
    assert seqs(messages)[-1] == 21
    assert any(message["type"] == "snapshot" for message in messages)
