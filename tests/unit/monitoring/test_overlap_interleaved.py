"""Random interleavings of one truth over feeds with and without identity: nothing lost unsaid, nothing twice."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.events import Event
from monitoring.overlap import Overlap, OverlapLimits
from monitoring.service import Gap, Item
from tests.fakes.event_factory import START, event
from tests.unit.monitoring.legs import IDENTIFIED, NAMELESS, TIMELESS, nameless, says

LAG = 2.0
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
