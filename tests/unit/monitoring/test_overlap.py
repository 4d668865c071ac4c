"""Two feeds of one truth, of which one or both have no identity: nothing lost, nothing twice, doubt said."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.cursor import Cursor
from monitoring.events import Event, Kind, Position
from monitoring.fingerprint import Likeness
from monitoring.overlap import Overlap, OverlapLimits
from monitoring.service import Capabilities, Gap, Item
from tests.fakes.event_factory import START, event, opened

IDENTIFIED = Capabilities()
NAMELESS = Capabilities(identity=False, resume=False)
LAG = 2.0
TIMELESS = Likeness(resolution=None)


def nameless(one: Event, seq: int = 1) -> Event:
    """Return what a server without ids says of an event."""
    return replace(one, epoch=0, seq=seq)


def says(items: Iterable[Item]) -> list[object]:
    """Return what the events say, and the gaps."""
    return [item.payload["n"] if isinstance(item, Event) else item for item in items]


def moving(*, since: Cursor | None = None, active: Capabilities = NAMELESS, **settings: object) -> Overlap:
    """Return an overlap with an old leg that is live at 0."""
    overlap = Overlap(**settings)  # type: ignore[arg-type]
    overlap.open("old", active, since)
    overlap.live("old", 0.0)
    return overlap


def one(n: int) -> Event:
    return event(seq=n)


def test_while_the_candidate_is_compared_the_active_leg_delivers_and_the_cursor_follows() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 10.0)
    assert says(overlap.offer("old", nameless(one(5)), 20.0)) == [5]
    assert overlap.cursor == {}
    assert overlap.offer("new", one(5), 20.5) == []
    assert overlap.cursor == {"web-1/system": (1, 5)}
    assert overlap.offer("new", one(6), 21.0) == []  # the candidate is ahead
    assert overlap.cursor == {"web-1/system": (1, 5)}
    assert overlap.held == 1
    assert says(overlap.offer("old", nameless(one(6)), 21.5)) == [6]
    assert overlap.cursor == {"web-1/system": (1, 6)}
    assert (overlap.held, overlap.duplicates) == (0, 2)


def test_the_cursor_does_not_pass_what_is_held() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 10.0)
    overlap.offer("new", one(5), 20.0)
    overlap.offer("new", one(6), 20.0)
    assert says(overlap.offer("old", nameless(one(6)), 20.1)) == [6]
    assert overlap.cursor == {}
    assert says(overlap.switch(20.2)) == [5]
    assert overlap.cursor == {"web-1/system": (1, 6)}


def test_after_the_switch_copies_are_dropped_and_news_delivered() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 10.0)
    overlap.offer("old", nameless(one(5)), 20.0)
    overlap.offer("new", one(5), 20.1)
    overlap.offer("old", nameless(one(6)), 20.2)
    assert overlap.alignment(20.3).certain
    assert overlap.switch(20.3) == []
    assert overlap.offer("new", one(6), 20.4) == []
    assert overlap.offer("new", one(7), 20.5) == [one(7)]
    assert overlap.cursor == {"web-1/system": (1, 7)}


def test_equal_events_are_counted() -> None:
    overlap = moving(likeness=TIMELESS)
    overlap.open("new", NAMELESS)
    overlap.live("new", 0.0)
    same = nameless(one(1))
    assert len([*overlap.offer("old", same, 10.0), *overlap.offer("old", same, 10.1)]) == 2
    for _ in range(3):
        overlap.offer("new", same, 10.2)
    assert overlap.held == 1
    assert len(overlap.switch(10.3)) == 1
    assert overlap.offer("new", same, 10.4) != []


def test_seq_without_identity_counts_over_the_legs() -> None:
    overlap = moving()
    overlap.offer("old", nameless(one(1), 1), 1.0)
    overlap.offer("old", nameless(one(2), 2), 2.0)
    overlap.open("new", NAMELESS)
    overlap.live("new", 2.0)
    overlap.offer("new", nameless(one(3), 1), 3.0)
    (given_,) = overlap.switch(10.0)
    assert isinstance(given_, Event)
    assert (given_.epoch, given_.seq) == (0, 3)


@pytest.mark.parametrize(
    ("brought", "at", "reason"),
    [
        ([], 15.9, "not been live for long enough"),
        ([], 19.9, "nothing to match yet"),
        ([], 20.1, "doubles are possible"),
        ([("old", 5, 15.0)], 20.0, "1 events did not come from the candidate"),
        ([("new", 5, 15.0)], 20.0, "1 events did not come from the active feed"),
        ([("old", 5, 15.0), ("new", 5, 15.0)], 20.0, "1 events matched"),
    ],
)
def test_alignment_says_what_is_uncertain(
    brought: list[tuple[str, int, float]], at: float, reason: str
) -> None:
    overlap = moving()
    overlap.open("new", NAMELESS)
    overlap.live("new", 10.0)
    for leg, n, when in brought:
        overlap.offer(leg, nameless(one(n)), when)
    alignment = overlap.alignment(at)
    assert reason in alignment.reason
    assert alignment.ready == (at == 20.1 or "matched" in reason)
    assert alignment.certain == ("matched" in reason)
    assert (overlap.obstacle(at) is None) == alignment.ready


def test_a_leg_that_lags_is_waited_for_and_costs_nothing() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 0.0)
    overlap.offer("old", nameless(one(5)), 10.0)
    assert overlap.obstacle(13.0)
    overlap.offer("new", one(5), 14.0)
    assert not overlap.obstacle(14.0)
    overlap.offer("old", nameless(one(6)), 15.0)
    overlap.switch(15.0)
    assert overlap.offer("new", one(6), 40.0) == []


def test_a_candidate_that_is_down_is_not_ready_and_begins_anew_when_it_cannot_resume() -> None:
    overlap = moving()
    overlap.open("new", NAMELESS)
    overlap.live("new", 0.0)
    overlap.offer("old", nameless(one(5)), 10.0)
    overlap.offer("new", nameless(one(5)), 10.0)
    assert not overlap.obstacle(11.0)
    overlap.down("new", 11.0)
    assert "not live" in overlap.alignment(11.0).reason
    overlap.live("new", 12.0)
    assert "long enough" in overlap.alignment(17.9).reason
    overlap.gap("new", Gap("web-1/system", 0, 2, None), 20.0)
    assert "long enough" in overlap.alignment(25.9).reason


def test_a_candidate_from_the_clients_cursor_covers_what_was_delivered_before_it() -> None:
    overlap = moving()
    overlap.open("first", IDENTIFIED)
    overlap.live("first", 0.0)
    overlap.offer("old", nameless(one(5)), 8.0)
    overlap.offer("first", one(5), 8.0)
    overlap.drop()
    for n in range(6, 100):
        overlap.offer("old", nameless(one(n)), float(n))
    since = overlap.cursor
    assert since == {"web-1/system": (1, 5)}
    overlap.open("new", IDENTIFIED, since)
    overlap.live("new", 100.0)
    for n in range(6, 60):  # far behind; of some the delivery has been forgotten long ago
        assert overlap.offer("new", one(n), 100.0 + n / 100) == []
    assert "did not come from the candidate" in overlap.alignment(103.0).reason
    for n in range(60, 100):
        assert overlap.offer("new", one(n), 103.0) == []
    assert says(overlap.offer("old", nameless(one(100)), 103.1)) == [100]
    overlap.offer("new", one(100), 103.2)
    assert not overlap.obstacle(103.2)
    assert overlap.switch(103.2) == []
    assert overlap.cursor == {"web-1/system": (1, 100)}


def test_a_failure_after_the_candidate_covered_loses_nothing_and_before_is_told() -> None:
    for opened_at, told in ((5.0, False), (9.0, True)):
        overlap = moving()
        overlap.offer("old", nameless(one(1)), 1.0)
        overlap.open("new", IDENTIFIED)
        overlap.live("new", opened_at)
        overlap.offer("old", nameless(one(2)), 11.5)
        overlap.offer("new", one(2), 11.5)
        overlap.offer("new", one(3), 11.6)
        overlap.down("old", 12.0)
        items = overlap.switch(12.0)
        gaps = [item for item in items if isinstance(item, Gap)]
        assert [(gap.stream, gap.epoch, gap.from_seq, gap.to_seq) for gap in gaps] == (
            [("web-1/system", 0, 3, None)] if told else []
        )
        assert says(items[len(gaps) :]) == [3]


def test_a_failure_of_the_identified_leg_tells_the_gap_in_its_positions() -> None:
    overlap = moving(active=IDENTIFIED)
    overlap.offer("old", one(4), 1.0)
    overlap.down("old", 2.0)
    overlap.open("new", NAMELESS)
    overlap.live("new", 4.0)
    (gap,) = overlap.switch(5.0)
    assert isinstance(gap, Gap)
    assert (gap.epoch, gap.from_seq, gap.to_seq) == (1, 5, None)
    assert "not known" in gap.reason


def test_gaps_of_the_active_leg_are_told_at_once_and_the_candidates_when_it_takes_over() -> None:
    overlap = moving(since={"web-1/system": Position(1, 3)}, active=IDENTIFIED)
    known = Gap("web-1/system", 1, 4, 6)
    assert overlap.gap("old", known, 1.0) == [known]
    assert overlap.gap("old", known, 1.0) == []
    assert overlap.cursor == {"web-1/system": (1, 6)}
    overlap.open("new", IDENTIFIED, overlap.cursor)
    overlap.live("new", 1.0)
    other = Gap("web-1/system", 1, 7, 9)
    assert overlap.gap("new", other, 2.0) == []
    assert "no history" in overlap.alignment(30.0).reason
    assert overlap.switch(30.0) == [other]


def test_what_the_candidate_lost_and_the_active_leg_brought_is_no_loss() -> None:
    overlap = moving(since={"web-1/system": Position(1, 3)}, active=IDENTIFIED)
    overlap.open("new", IDENTIFIED, overlap.cursor)
    overlap.live("new", 1.0)
    overlap.gap("new", Gap("web-1/system", 1, 4, 5), 1.0)
    assert overlap.loss() == "it has no history of web-1/system"
    for seq in (4, 5):
        overlap.offer("old", event(seq=seq), 1.0)
    assert overlap.loss() is None
    assert overlap.switch(30.0) == []


def test_what_the_active_leg_told_as_a_gap_does_not_hold_up_a_move_and_is_still_delivered() -> None:
    overlap = moving()
    overlap.open("new", IDENTIFIED)
    overlap.live("new", 0.0)
    overlap.offer("old", nameless(one(4)), 10.0)
    overlap.offer("new", one(4), 10.0)
    overlap.offer("new", one(5), 11.0)
    gap = Gap("web-1/system", 0, 2, None)
    assert overlap.gap("old", gap, 12.0) == [gap]
    assert not overlap.obstacle(20.0)
    assert says(overlap.switch(20.0)) == [5]


def test_memory_is_bounded_and_what_that_costs_is_said() -> None:
    overlap = moving(limits=OverlapLimits(max_delivered=10, max_held=5))
    for n in range(1, 101):
        overlap.offer("old", nameless(one(n)), n / 10)
    assert overlap.forgotten == 89
    assert len(overlap._delivered) <= 11
    overlap.open("new", NAMELESS)
    overlap.live("new", 11.0)
    for n in range(101, 111):
        overlap.offer("new", nameless(one(n)), 30.0)
    assert overlap.held == 5
    assert "more than 5 events behind" in overlap.alignment(30.1).reason
    gap, *rest = overlap.switch(30.1)
    assert isinstance(gap, Gap)
    assert gap.to_seq is None
    assert says(rest) == [101, 102, 103, 104, 105]


def test_misuse_is_said() -> None:
    overlap = moving()
    with pytest.raises(ValueError, match="no candidate"):
        overlap.switch(1.0)
    assert overlap.obstacle(1.0)
    overlap.open("new", NAMELESS)
    with pytest.raises(ValueError, match="one candidate"):
        overlap.open("third", NAMELESS)
    with pytest.raises(ValueError, match="neither"):
        overlap.offer("third", one(1), 1.0)


# Random interleavings of one truth

STEP = 0.125
STEPS_OF_LAG = int(LAG / STEP)


@dataclass(frozen=True)
class Happened:
    """An event of the truth, and when each kind of feed brings it: at most LAG later."""

    number: int
    shown: Event
    nameless_at: float
    identified_at: float


@dataclass(frozen=True)
class Move:
    """A candidate is opened so many steps after the last move; ``fails_after`` is when the active leg fails, if so."""

    opened_after: int
    identified: bool
    fails_after: int | None
    forced_after: int


steps_of_lag = st.integers(0, STEPS_OF_LAG)
happenings = st.lists(
    st.tuples(st.integers(0, 10), steps_of_lag, steps_of_lag, st.booleans(), st.integers(0, 2)),
    min_size=20,
    max_size=80,
)
steps = st.integers(0, 120)
planned = st.lists(st.builds(Move, steps, st.booleans(), st.none(), steps), min_size=1, max_size=6)
failing = st.lists(
    st.builds(Move, steps, st.booleans(), st.none() | st.integers(2, 120), st.integers(0, 30)),
    min_size=1,
    max_size=6,
)


def truth(drawn: list[tuple[int, int, int, bool, int]], *, alike: bool) -> list[Happened]:
    """Return what happens on two streams; with ``alike`` many events say the same.

    Both streams have an event at once: what the client has never heard of, no gap could name.
    """
    drawn = [(0, 0, 0, False, 0), (0, 0, 0, True, 1), *drawn]
    at, out = 0.0, []
    latest: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for number, (pause, late, later, other, words) in enumerate(drawn):
        at += pause * STEP
        stream = "db-1/system" if other else "web-1/system"
        counts[stream] += 1
        shown = replace(
            event(stream, counts[stream], n=words if alike else number),
            occurred_at=START + timedelta(seconds=at),
        )
        # a feed with identity keeps the order of each stream, one without may not
        latest[stream] = max(latest.get(stream, 0.0), at + later * STEP)
        out.append(Happened(number, shown, at + late * STEP, latest[stream]))
    return out


class Feed:
    """What one connection brings: all that its backend sends on after it was opened."""

    def __init__(self, number: int, happened: list[Happened], *, identified: bool, opened: float) -> None:
        self.key = f"leg {number}"
        self.capabilities = IDENTIFIED if identified else NAMELESS
        self.queue = deque(
            sorted(
                (each.identified_at if identified else each.nameless_at, each.number, each)
                for each in happened
                if (each.identified_at if identified else each.nameless_at) > opened
            )
        )

    def upto(self, now: float) -> Iterable[tuple[float, Feed, Event]]:
        while self.queue and self.queue[0][0] <= now:
            at, _, each = self.queue.popleft()
            yield at, self, each.shown if self.capabilities.identity else nameless(each.shown)


def play(happened: list[Happened], moves: list[Move], overlap: Overlap, *, identified: bool) -> list[Item]:
    """Move a client as often as two legs are aligned, or one fails; return what it got."""
    active = Feed(0, happened, identified=identified, opened=-1.0)
    overlap.open(active.key, active.capabilities)
    overlap.live(active.key, -1.0)
    candidate: Feed | None = None
    got: list[Item] = []
    left = list(moves)
    switched = tick = since = 0
    failed = False
    end = int((happened[-1].identified_at + 4 * LAG) / STEP)
    while tick < end:
        tick += 1
        now = tick * STEP
        move = left[0] if left else None
        failed = move is not None and move.fails_after is not None and tick - since >= move.fails_after
        feeds = [feed for feed in (active, candidate) if feed is not None and not (feed is active and failed)]
        brought = [each for feed in feeds for each in feed.upto(now)]
        for at, feed, shown in sorted(brought, key=lambda each: each[0]):
            got += overlap.offer(feed.key, shown, at)
        if move is None:
            continue
        if failed:
            overlap.down(active.key, now)
        if candidate is None and tick - since >= move.opened_after:
            candidate = Feed(len(moves) - len(left) + 1, happened, identified=move.identified, opened=now)
            overlap.open(candidate.key, candidate.capabilities)
            overlap.live(candidate.key, now)
        elif candidate is not None and (
            not overlap.obstacle(now)
            or (failed and tick - since >= move.opened_after + (move.fails_after or 0) + move.forced_after)
        ):
            got += overlap.switch(now)
            active, candidate, since = candidate, None, tick
            left.pop(0)
            switched += 1
    if failed:  # nobody leaves a client on a dead leg
        if candidate is None:
            overlap.open("the last", NAMELESS)
        got += overlap.switch(end * STEP)
    note(f"switched {switched} times")
    return got


@settings(max_examples=300, deadline=None)
@given(happenings, planned, st.booleans())
def test_of_feeds_that_keep_to_the_lag_every_event_is_delivered_exactly_once(
    drawn: list[tuple[int, int, int, bool, int]],
    moves: list[Move],
    identified: bool,  # noqa: FBT001
) -> None:
    happened = truth(drawn, alike=False)
    got = play(happened, moves, Overlap(), identified=identified)
    assert Counter(says(got)) == Counter(each.number for each in happened)


@settings(max_examples=300, deadline=None)
@given(happenings, planned, st.booleans())
def test_equal_events_are_never_lost(
    drawn: list[tuple[int, int, int, bool, int]],
    moves: list[Move],
    identified: bool,  # noqa: FBT001
) -> None:
    happened = truth(drawn, alike=True)
    got = play(happened, moves, Overlap(likeness=TIMELESS), identified=identified)
    delivered = Counter((item.stream, item.payload["n"]) for item in got if isinstance(item, Event))
    wanted = Counter((each.shown.stream, each.shown.payload["n"]) for each in happened)
    assert not wanted - delivered


@settings(max_examples=300, deadline=None)
@given(happenings, failing, st.booleans())
def test_when_legs_fail_nothing_is_lost_unsaid_and_nothing_comes_twice(
    drawn: list[tuple[int, int, int, bool, int]],
    moves: list[Move],
    identified: bool,  # noqa: FBT001
) -> None:
    happened = truth(drawn, alike=False)
    got = play(happened, moves, Overlap(limits=OverlapLimits(silence=STEP)), identified=identified)
    counts = Counter(says(item for item in got if isinstance(item, Event)))
    told = {item.stream for item in got if isinstance(item, Gap)}
    assert all(count == 1 for count in counts.values())
    assert {each.shown.stream for each in happened if not counts[each.number]} <= told


def test_a_client_that_comes_back_to_a_feed_with_identities_does_not_wait_for_what_stands_before_its_cursor() -> (
    None
):
    overlap = moving()
    overlap.open("there", IDENTIFIED)
    overlap.live("there", 0.0)
    for n in (5, 6):
        overlap.offer("old", nameless(one(n)), 10.0 + n)
        overlap.offer("there", one(n), 10.0 + n)
    overlap.switch(17.0)
    overlap.offer("there", one(7), 18.0)
    overlap.open("back", NAMELESS)
    overlap.live("back", 18.0)
    overlap.offer("there", one(8), 27.0)
    overlap.offer("back", nameless(one(8)), 27.0)
    assert not overlap.obstacle(28.0)
    overlap.switch(28.0)
    assert says(overlap.offer("back", nameless(one(9)), 29.0)) == [9]
    overlap.open("there again", IDENTIFIED, overlap.cursor)
    overlap.live("there again", 30.0)
    assert overlap.offer("there again", one(9), 30.0) == []
    assert overlap.alignment(33.0).reason == "1 events matched"
    assert not overlap.obstacle(33.0)


def test_what_only_our_own_servers_tell_of_a_stream_keeps_nobody_from_moving() -> None:
    overlap = moving()
    overlap.open("there", IDENTIFIED)
    overlap.live("there", 0.0)
    gap = replace(one(6), kind=Kind.BRIDGE_GAP)
    assert overlap.offer("there", opened(), 10.0) == []
    assert overlap.offer("there", gap, 10.0) == []
    assert overlap.offer("old", nameless(one(7)), 11.0)
    assert overlap.offer("there", one(7), 11.0) == []
    assert not overlap.obstacle(14.0)
    assert [item.kind for item in overlap.switch(14.0) if isinstance(item, Event)] == [
        Kind.STREAM_OPENED,
        Kind.BRIDGE_GAP,
    ]
    overlap.open("back", NAMELESS)
    overlap.live("back", 14.0)
    assert overlap.offer("there", replace(one(8), kind=Kind.BRIDGE_GAP), 24.0)
    overlap.offer("there", one(9), 25.0)
    overlap.offer("back", nameless(one(9)), 25.0)
    assert not overlap.obstacle(28.0)
