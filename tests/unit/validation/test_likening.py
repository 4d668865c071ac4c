from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from monitoring.events import Event, Position, StreamId
from monitoring.service import Backend
from validation.alignment import Alignment
from validation.likening import Likening
from validation.limits import Limits
from validation.observation import Outcome
from validation.tally import Tally

STREAM = StreamId("app-1/sessions")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def published(seq: int, number: int | None = None) -> Event:
    kind = "stream_opened" if seq == 1 else "k"
    return Event(UUID(int=seq), STREAM, 1, seq, kind, AT, {"n": seq if number is None else number})


def told(seq: int, number: int | None = None) -> Event:
    """The same, as a server without ids tells it: at a place that means nothing."""
    return replace(published(seq, number), id=UUID(int=0), epoch=0, seq=77)


class Bench:
    """A legacy server without ids with some taps, beside Supabase with ids."""

    def __init__(self, taps: int = 1) -> None:
        self.core = Alignment({STREAM: Position(1, 1)}, Limits())
        self.likening = Likening(taps=taps)
        self.tally = Tally()
        self.now = 0.0

    def publish(self, *events: Event) -> None:
        for event in events:
            self.core.publish(event, self.now)
            self.take(self.likening.published(event, self.now))

    def tell(self, *events: Event, tap: int = 0) -> None:
        for event in events:
            self.take(self.likening.delivered(event, self.now, tap))

    def supabase(self, *events: Event) -> None:
        for event in events:
            self.core.observe(Backend.SUPABASE, event, self.now)

    def take(self, found) -> None:
        for each in found:
            self.core.observe_content(0, *each.key, each.content, self.now)

    def found(self) -> dict[Outcome, int]:
        for _ in range(50):
            self.now += 1
            self.take(self.likening.expire(self.now))
            self.tally.add(self.core.decide(self.now))
        return {outcome: count for outcome, count in self.tally.counts.items() if count}


def test_events_are_recognised_by_what_they_say_whoever_is_first():
    bench = Bench()
    bench.tell(told(2))
    bench.publish(published(2), published(3), published(4))
    bench.tell(told(4), told(3))
    bench.supabase(published(2), published(3), published(4))
    found = bench.found()
    assert found.pop(Outcome.REORDERED) == 1
    assert found == {Outcome.MATCHED: 2}


def test_equal_events_are_counted():
    bench = Bench()
    bench.publish(published(2, 7), published(3, 7), published(4, 7))
    bench.tell(told(2, 7), told(3, 7))
    bench.supabase(published(2, 7), published(3, 7), published(4, 7))
    assert bench.found() == {Outcome.MATCHED: 2, Outcome.MISSING_LEGACY: 1}


def test_a_delivery_too_many_is_a_duplicate_and_one_of_nothing_is_extra():
    bench = Bench()
    bench.publish(published(2))
    bench.tell(told(2), told(2), told(9))
    bench.supabase(published(2))
    assert bench.found() == {Outcome.DUPLICATE: 1, Outcome.EXTRA: 1}


def test_what_no_other_server_tells_is_not_missed_there():
    bench = Bench()
    opened = replace(published(1), epoch=2)
    bench.publish(opened)
    bench.supabase(opened)
    assert bench.found() == {Outcome.MATCHED: 1}


def test_what_two_taps_of_the_old_server_disagree_on_is_noise_and_no_finding():
    bench = Bench(taps=2)
    bench.publish(published(2), published(3), published(4))
    bench.tell(told(2), told(3))
    bench.tell(told(3), told(4), tap=1)
    bench.supabase(published(2), published(3), published(4))
    assert bench.found() == {Outcome.MATCHED: 3}
    assert (bench.likening.noise.agreed, bench.likening.noise.disagreed) == (1, 2)
    assert bench.likening.noise_share() == 2 / 3


def test_taps_that_are_told_different_things_disagree_about_all_of_it():
    """What nothing was published for was left out: a server that stamps each connection's copy had no noise at all."""
    likening = Likening(taps=2)
    for number in range(10):
        likening.published(published(number + 2), float(number))
        likening.delivered(told(2, 100 + number), float(number), 0)
        likening.delivered(told(2, 200 + number), float(number), 1)
    likening.expire(100.0)
    assert (likening.noise.agreed, likening.noise.disagreed) == (0, 20)
    assert likening.noise_share() == 1.0


def test_a_copy_that_came_before_the_beginning_is_no_noise():
    likening = Likening(taps=2, began_at=10.0)
    likening.published(published(2), 10.1)
    likening.delivered(told(2), 10.2, 1)  # the other tap had brought it before
    for number in range(3, 6):
        likening.published(published(number), 10.0 + number)
        for tap in (0, 1)[: 1 + (number < 5)]:
            likening.delivered(told(number), 10.0 + number, tap)
    likening.expire(100.0)
    assert (likening.noise.agreed, likening.noise.disagreed) == (2, 1)


def test_noise_is_known_before_anything_expires_but_for_what_may_be_on_its_way():
    likening = Likening(taps=2)
    for seq, at in ((2, 0.0), (3, 0.0), (4, 10.0)):
        likening.published(published(seq), at)
        likening.delivered(told(seq), at)
    assert likening.noise_share() == 1.0
    likening.delivered(told(2), 0.1, 1)
    likening.delivered(told(4), 10.0, 1)
    assert likening.noise_share() == 0.5


def test_memory_is_bounded():
    likening = Likening(max_known=100)
    for number in range(1000):
        likening.delivered(told(2, number), 0.0)
        likening.expire(0.0)
    assert len(likening._known) == 100
    assert likening.forgotten == 900


def test_times_may_be_coarser_on_one_side():
    likening = Likening()
    later = replace(told(2), occurred_at=AT + timedelta(microseconds=300))
    likening.published(published(2), 0.0)
    assert [each.key.seq for each in likening.delivered(later, 0.0)] == [2]


@given(st.data(), st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_the_order_of_arrival_does_not_matter(data, numbers):
    events = [published(seq, number) for seq, number in enumerate(numbers, 2)]
    bench = Bench()
    queues = {"publish": list(events), "tell": [told(each.seq, each.payload["n"]) for each in events]}
    while any(queues.values()):
        name = data.draw(st.sampled_from([name for name in queues if queues[name]]))
        getattr(bench, name)(queues[name].pop(0))
    bench.supabase(*events)
    assert bench.found() == {Outcome.MATCHED: len(events)}
