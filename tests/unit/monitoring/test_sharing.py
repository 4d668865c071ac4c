"""One feed for many: each subscriber gets what the backend alone would have brought it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import sharing
from monitoring.cursor import Cursor
from monitoring.errors import Refused, Unreachable
from monitoring.events import Position, StreamId
from monitoring.service import Backend
from monitoring.sharing import SharedService
from monitoring.topics import GLOBAL, parse_topics
from tests.fakes.event_factory import event, opened, run
from tests.fakes.memory_service import MemoryService

WEB, DB = "web-1/system", "db-1/system"


class Counting(MemoryService):
    """Counts the feeds that were opened."""

    feeds = 0

    def subscribe(self, topics, since=None):
        self.feeds += 1
        return super().subscribe(topics, since)


@asynccontextmanager
async def sharing_one(*events):
    backend = Counting(Backend.LEGACY)
    await backend.publish(*events)
    shared = SharedService(backend)
    try:
        yield backend, shared
    finally:
        async with asyncio.timeout(10):
            await shared.close()


async def seqs(subscription, count):
    async with asyncio.timeout(10):
        return [(await anext(subscription)).seq for _ in range(count)]


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


class Placing(Counting):
    """Knows where its streams stood, or is away."""

    away = False

    async def placed(self, topics, since):
        if self.away:
            raise Unreachable(self.backend, "away")
        return Cursor({StreamId(WEB): Position(1, 2), **since})


@pytest.mark.parametrize("away", [False, True])
async def test_who_has_no_cursor_begins_where_the_streams_stood(away):
    backend = Placing(Backend.LEGACY)
    backend.away = away
    await backend.publish(*run(WEB, 3))
    shared = SharedService(backend)
    async with asyncio.timeout(10):
        one = shared.subscribe([GLOBAL], Cursor(back_seconds=60))
        assert await seqs(one, 1) == [1 if away else 3]
        await shared.close()


async def test_many_subscribers_have_one_feed_and_all_get_everything():
    async with sharing_one(*run(WEB, 3)) as (backend, shared):
        cursor = (await shared.snapshot([GLOBAL])).cursor
        each = [shared.subscribe([GLOBAL], cursor) for _ in range(20)]
        for one in each:
            await one.wait_live()
        await backend.publish(event(WEB, 4), opened(DB), event(WEB, 5))
        for one in each:
            assert sorted(await seqs(one, 3)) == [1, 4, 5]
        assert backend.feeds == 1
        assert (await shared.health()).counters["shared_subscriptions"] == 20


async def test_one_with_an_older_cursor_catches_up_by_itself_and_then_shares():
    async with sharing_one(*run(WEB, 3)) as (backend, shared):
        first = shared.subscribe([GLOBAL], Cursor({WEB: Position(1, 3)}))
        await first.wait_live()
        late = shared.subscribe([GLOBAL], Cursor({WEB: Position(1, 1)}))
        assert await seqs(late, 2) == [2, 3]
        await backend.publish(event(WEB, 4))
        assert await seqs(late, 1) == [4]
        await until(lambda: backend.feeds == 2)
        await backend.publish(*(event(WEB, seq) for seq in range(5, 9)))
        assert await seqs(late, 4) == [5, 6, 7, 8]
        assert await seqs(first, 5) == [4, 5, 6, 7, 8]
        health = await shared.health()
        assert (health.counters["shared_subscriptions"], health.counters["own_feeds"]) == (2, 0)


async def test_one_that_is_ahead_is_live_once_the_backend_has_what_it_has_and_gets_nothing_twice():
    async with sharing_one(*run(WEB, 3)) as (backend, shared):
        first = shared.subscribe([GLOBAL], Cursor({WEB: Position(1, 3)}))
        await first.wait_live()
        ahead = shared.subscribe([GLOBAL], Cursor({WEB: Position(1, 5)}))
        await until(lambda: len(shared._trunk.attached) == 2)
        assert not ahead.live
        await backend.publish(event(WEB, 4), event(WEB, 5), event(WEB, 6))
        assert await seqs(ahead, 1) == [6]
        assert ahead.live
        assert await seqs(first, 3) == [4, 5, 6]


@pytest.mark.parametrize("knows", [True, False])
async def test_what_is_gone_of_a_stream_that_was_new_to_the_feed_is_a_gap_to_who_had_its_beginning(knows):
    async with sharing_one(*run(DB, 1)) as (backend, shared):
        heads = {DB: Position(1, 1)}
        new = shared.subscribe([GLOBAL], Cursor(heads))
        old = shared.subscribe([GLOBAL], Cursor({**heads, WEB: Position(1, 2)}))
        await new.wait_live()
        await until(lambda: len(shared._trunk.attached) == 2)
        await backend.publish(*(event(WEB, seq) for seq in range(5, 8)))
        if not knows:
            old = shared.subscribe([GLOBAL], Cursor({**heads, WEB: Position(1, 2)}))
        assert await seqs(new, 3) == [5, 6, 7]
        async with asyncio.timeout(10):
            gap = await anext(old)
        assert (gap.from_seq, gap.to_seq) == (3, 4)
        assert await seqs(old, 3) == [5, 6, 7]
        follows = shared.subscribe([GLOBAL], Cursor({**heads, WEB: Position(1, 4)}))
        assert await seqs(follows, 3) == [5, 6, 7]
        assert backend.feeds == (2 if knows else 3)


async def test_topics_select():
    async with sharing_one(*run(WEB, 2), *run(DB, 2)) as (backend, shared):
        cursor = (await shared.snapshot([GLOBAL])).cursor
        one = shared.subscribe(parse_topics(["devices.db-1"]), cursor)
        await one.wait_live()
        await backend.publish(event(WEB, 3), event(DB, 3))
        assert await seqs(one, 1) == [3]
        assert one.waiting == 0


async def test_one_that_does_not_read_holds_nobody_up_and_misses_nothing(monkeypatch):
    monkeypatch.setattr(sharing, "_KEPT", 50)
    async with sharing_one(*run(WEB, 1)) as (backend, shared):
        since = Cursor({WEB: Position(1, 1)})
        slow, quick = shared.subscribe([GLOBAL], since), shared.subscribe([GLOBAL], since)
        for each in (slow, quick):
            await each.wait_live()
        last = 5_000
        for start in range(2, last + 1, 100):
            events = [event(WEB, seq) for seq in range(start, min(start + 100, last + 1))]
            await backend.publish(*events)
            assert await seqs(quick, len(events)) == [each.seq for each in events]
        assert await seqs(slow, last - 1) == list(range(2, last + 1))


async def test_a_feed_that_is_refused_ends_everybodys_as_their_own_would():
    async with sharing_one(*run(WEB, 1)) as (backend, shared):
        since = Cursor({WEB: Position(1, 1)})
        each = [shared.subscribe([GLOBAL], since) for _ in range(2)]
        for one in each:
            await one.wait_live()
        await backend.refuse("no more")
        for one in each:
            with pytest.raises(Refused):
                async with asyncio.timeout(10):
                    await anext(one)


async def test_an_outage_is_seen_by_all_and_so_is_its_end():
    async with sharing_one(*run(WEB, 1)) as (backend, shared):
        one = shared.subscribe([GLOBAL], Cursor({WEB: Position(1, 1)}))
        await one.wait_live()
        await backend.set_up(False)
        await until(lambda: not one.live)
        await backend.publish(event(WEB, 2))
        await backend.set_up(True)
        assert await seqs(one, 1) == [2]
        await until(lambda: one.live)


async def test_the_feed_is_closed_when_nobody_has_needed_it_for_a_while_and_opened_again(monkeypatch):
    monkeypatch.setattr(sharing, "_LINGER_SECONDS", 0.01)
    async with sharing_one(*run(WEB, 1)) as (backend, shared):
        for round_ in (1, 2):
            async with shared.subscribe([GLOBAL], Cursor({WEB: Position(1, 1)})) as one:
                await one.wait_live()
                assert backend.feeds == round_
            await until(lambda: shared._keeping is None)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from([WEB, DB]), st.integers(1, 30)),
        st.tuples(st.just("join"), st.integers(0, 40), st.integers(0, 40)),
        st.tuples(st.just("read"), st.integers(0, 5), st.integers(1, 40)),
        st.tuples(st.just("down"), st.just(""), st.integers(0, 1)),
        st.tuples(st.just("leave"), st.integers(0, 5), st.just(0)),
    ),
    max_size=25,
)


@given(steps)
@settings(max_examples=40, deadline=None)
def test_whatever_happens_each_gets_what_comes_after_its_cursor_once_and_in_order(plan):
    asyncio.run(carried_out(plan))


async def carried_out(plan):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "_KEPT", 16)
        patch.setattr(sharing, "_AGAIN_SECONDS", 0.001)
        patch.setattr(sharing, "_START_SECONDS", 0.001)
        async with sharing_one(opened(WEB), opened(DB)) as (backend, shared):
            heads, readers = {WEB: 1, DB: 1}, []
            for what, who, count in plan:
                if what == "publish":
                    events = [event(who, heads[who] + n) for n in range(1, count + 1)]
                    heads[who] += count
                    await backend.publish(*events)
                elif what == "join":
                    at = {WEB: max(1, heads[WEB] - who), DB: max(1, heads[DB] - count)}
                    since = Cursor({name: Position(1, seq) for name, seq in at.items()})
                    readers.append((shared.subscribe([GLOBAL], since), at))
                elif what == "read" and who < len(readers):
                    subscription, at = readers[who]
                    for item in subscription.take(count):
                        at[item.stream] += 1
                        assert item.seq == at[item.stream]
                elif what == "leave" and who < len(readers):
                    await readers.pop(who)[0].close()
                elif what == "down":
                    await backend.set_up(bool(count))
                await asyncio.sleep(0)
            await backend.set_up(True)
            for subscription, at in readers:
                async with asyncio.timeout(20):
                    while at != heads:
                        item = await anext(subscription)
                        at[item.stream] += 1
                        assert item.seq == at[item.stream]
                assert subscription.waiting == 0
