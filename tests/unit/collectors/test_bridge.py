"""What the bridge makes of events, of an owner that cannot take them, and of what nobody knows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from collectors.bridge import Bridge, NotNow
from monitoring.errors import InvalidEvent, Refused
from monitoring.events import Draft, Kind
from monitoring.service import Backend, Capabilities, Gap
from monitoring.subscription import Subscription
from tests.fakes.event_factory import event

WEB, DB = "web-1/system", "db-1/system"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Server:
    """A service whose feed a test writes by hand."""

    def __init__(self):
        self.failure = None
        self.end = asyncio.Event()
        self.subscription = None

    capabilities = Capabilities(identity=False, resume=False)

    def subscribe(self, topics, since=None):
        async def feed(out):
            await self.end.wait()
            if self.failure:
                raise self.failure

        self.subscription = Subscription(feed)
        return self.subscription


class Owner:
    def __init__(self):
        self.kept, self.closed, self.lost = [], set(), set()
        self.full = False
        self.epochs, self.before = {}, []
        self.unreachable = False

    def is_open(self, stream):
        return stream not in self.closed

    def is_lost(self, stream):
        return stream in self.lost

    def epoch(self, stream):
        return self.epochs.get(stream, 1)

    async def told(self, stream, count):
        if self.unreachable:
            raise NotNow("the database is away")
        return [Draft(each.stream, each.kind, each.occurred_at, each.payload) for each in self.before]

    def append(self, drafts):
        if self.full:
            raise NotNow("the spool is full")
        if any(draft.payload.get("n") == "unfit" for draft in drafts):
            raise InvalidEvent("too large")
        self.kept += drafts

    @property
    def short(self):
        return [each.payload.get("n", each.kind) for each in self.kept]


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


class Bridged:
    def __init__(self, **settings):
        self.server, self.owner, self.stop = Server(), Owner(), asyncio.Event()
        self.bridge = Bridge(self.server, self.owner, now=lambda: NOW, **settings)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.bridge.run(self.stop))
        await asyncio.sleep(0)
        return self

    async def tell(self, *items):
        for item in items:
            self.server.subscription.push(item)
        await asyncio.sleep(0.01)

    async def taken(self, *expected):
        await until(lambda: self.owner.short == list(expected))

    async def __aexit__(self, *_):
        self.stop.set()
        async with asyncio.timeout(5):
            await self.task


async def test_events_go_to_the_owner_in_order_as_the_server_told_them():
    async with Bridged() as bridged:
        told = [event(WEB, 1, n=1), event(DB, 1, n=2), event(WEB, 2, n=3)]
        await bridged.tell(*told)
    assert sorted(bridged.owner.short) == [1, 2, 3]
    web = [each for each in bridged.owner.kept if each.stream == WEB]
    assert [(each.kind, each.occurred_at, each.payload) for each in web] == [
        (each.kind, each.occurred_at, each.payload) for each in told if each.stream == WEB
    ]
    assert bridged.bridge.counts.events == 3


async def test_what_waits_when_it_is_stopped_still_goes_to_the_owner():
    async with Bridged() as bridged:
        for n in range(1200):
            bridged.server.subscription.push(event(WEB, n, n=n))
    assert bridged.owner.short == list(range(1200))


async def test_what_the_service_does_not_know_stands_where_it_belongs_in_the_stream():
    async with Bridged() as bridged:
        await bridged.tell(event(WEB, 1, n=1), Gap(WEB, 0, 2, None, "it was away"), event(WEB, 2, n=2))
    assert bridged.owner.short == [1, Kind.BRIDGE_GAP, 2]
    gap = bridged.owner.kept[1]
    assert (gap.stream, gap.occurred_at) == (WEB, NOW)
    assert gap.payload == {"reason": "it was away", "lost": None, "since": "2026-11-22T08:00:02.000000Z"}
    assert bridged.bridge.counts.gaps == 1


async def test_a_stream_that_is_not_open_waits_and_holds_up_no_other():
    async with Bridged() as bridged:
        bridged.owner.closed.add(WEB)
        await bridged.tell(event(WEB, 1, n=1), event(DB, 1, n=2), event(WEB, 2, n=3))
        assert bridged.owner.short == [2]
        assert bridged.bridge.waiting == 2
        assert "web-1/system is not open" in bridged.bridge.counts.problem
        bridged.owner.closed.clear()
        await bridged.taken(2, 1, 3)
    assert bridged.bridge.counts.problem is None


async def test_what_there_is_no_room_for_is_counted_and_said_in_its_place():
    async with Bridged(room=3) as bridged:
        bridged.owner.full = True
        await bridged.tell(*(event(WEB, n, n=n) for n in range(1, 11)))
        assert bridged.bridge.counts.problem == "the spool is full"
        bridged.owner.full = False
        await bridged.taken(1, 2, 3, Kind.BRIDGE_GAP)
        await bridged.tell(event(WEB, 11, n=11))
    assert bridged.owner.short == [1, 2, 3, Kind.BRIDGE_GAP, 11]
    assert bridged.owner.kept[3].payload["lost"] == 7
    assert bridged.bridge.counts.refused == 7
    assert bridged.bridge.waiting == 0


async def test_an_event_that_can_never_be_taken_harms_no_other_and_is_said():
    async with Bridged() as bridged:
        await bridged.tell(*(event(WEB, n, n="unfit" if n == 3 else n) for n in range(1, 6)))
    assert bridged.owner.short == [1, 2, Kind.BRIDGE_GAP, 4, 5]
    assert bridged.owner.kept[2].payload["lost"] == 1
    assert "too large" in bridged.owner.kept[2].payload["reason"]
    assert (bridged.bridge.counts.refused, bridged.bridge.waiting) == (1, 0)


async def test_streams_of_another_owner_are_left_to_it():
    async with Bridged() as bridged:
        bridged.owner.lost.add(WEB)
        await bridged.tell(event(WEB, 1, n=1), event(DB, 1, n=2))
    assert bridged.owner.short == [2]
    assert (bridged.bridge.counts.not_ours, bridged.bridge.waiting) == (1, 0)


async def taken_over(bridged, before, *then):
    """Have the stream become ours after others told events 1 to ``before``."""
    bridged.owner.before = [event(WEB, n, n=n) for n in range(1, before + 1)]
    bridged.owner.epochs[WEB] = 2
    bridged.owner.lost.clear()
    await bridged.tell(*then)


async def test_what_another_owner_did_not_tell_before_it_ended_is_told_once_the_stream_is_ours():
    async with Bridged() as bridged:
        bridged.owner.lost.add(WEB)
        await bridged.tell(*(event(WEB, n, n=n) for n in range(1, 8)))
        await taken_over(bridged, 4, event(WEB, 8, n=8))
        await bridged.taken(5, 6, 7, 8)
        await bridged.tell(event(WEB, 9, n=9))
    assert bridged.owner.short == [5, 6, 7, 8, 9]
    assert (bridged.bridge.counts.not_ours, bridged.bridge.counts.taken_over) == (7, 3)
    assert bridged.bridge.waiting == 0


async def test_a_stream_that_becomes_ours_while_nothing_happens_is_made_good_too():
    async with Bridged() as bridged:
        bridged.owner.lost.add(WEB)
        await bridged.tell(*(event(WEB, n, n=n) for n in range(1, 4)))
        await taken_over(bridged, 1)
        await bridged.taken(2, 3)


async def test_when_it_is_not_known_where_the_other_ended_the_stream_says_so():
    async with Bridged() as bridged:
        bridged.owner.lost.add(WEB)
        await bridged.tell(event(WEB, 7, n=7))  # 5 and 6 nobody heard
        await taken_over(bridged, 4, event(WEB, 8, n=8))
        await bridged.taken(Kind.BRIDGE_GAP, 7, 8)
    gap = bridged.owner.kept[0]
    assert "another owner told this stream" in gap.payload["reason"]
    assert (gap.payload["lost"], gap.payload["since"]) == (None, "2026-11-22T08:00:08.000000Z")
    assert bridged.bridge.waiting == 0


async def test_what_there_was_no_room_for_is_not_taken_for_complete():
    async with Bridged(room=2) as bridged:
        bridged.owner.full = True
        await bridged.tell(*(event(WEB, n, n=n) for n in range(1, 6)))
        bridged.owner.full = False
        bridged.owner.lost.add(WEB)
        await until(lambda: not bridged.bridge.waiting)
        await bridged.tell(event(WEB, 6, n=6))
        await taken_over(bridged, 2, event(WEB, 7, n=7))
        await bridged.taken(Kind.BRIDGE_GAP, 6, 7)


async def test_until_the_database_tells_what_was_told_before_the_stream_waits():
    async with Bridged() as bridged:
        bridged.owner.unreachable = True
        bridged.owner.lost.add(WEB)
        await bridged.tell(event(WEB, 1, n=1), event(WEB, 2, n=2))
        await taken_over(bridged, 1, event(WEB, 3, n=3), event(DB, 1, n="other"))
        await bridged.taken("other")
        assert "has become ours" in bridged.bridge.counts.problem
        bridged.owner.unreachable = False
        await bridged.taken("other", 2, 3)


async def test_a_stream_that_no_topic_can_address_is_refused():
    async with Bridged() as bridged:
        await bridged.tell(replace(event(WEB, 1, n=1), stream="no slash"), event(WEB, 1, n=2))
    assert bridged.owner.short == [2]
    assert bridged.bridge.counts.refused == 1


async def test_a_server_that_refuses_ends_the_bridge_with_its_reason():
    bridged = Bridged()
    task = asyncio.create_task(bridged.bridge.run(bridged.stop))
    await asyncio.sleep(0)
    bridged.server.subscription.push(event(WEB, 1, n=1))
    bridged.server.failure = Refused(Backend.LEGACY, "wrong path")
    bridged.server.end.set()
    with pytest.raises(Refused, match="wrong path"):
        await asyncio.wait_for(task, 5)
    assert bridged.owner.short == [1]
