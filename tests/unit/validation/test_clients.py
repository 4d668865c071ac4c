"""What clients saw, compared with what was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.events import Event, Position, StreamId
from monitoring.seen import Seen, digest_of, shared_digests
from monitoring.service import Gap
from monitoring.topics import GLOBAL, parse_topics
from tests.unit.validation.conftest import STREAM, make_event
from validation.clients import EVERYBODY, Clients, Fault, Report
from validation.published import Published

START = {STREAM: Position(1, 10)}
OTHER = StreamId("web-2/system")


class Play:
    """A truth and one client that begin at the same place; every block is ten seconds."""

    def __init__(self, **given: Any) -> None:
        self.clients = Clients(START, **given)
        self.seen = Seen([GLOBAL], START)
        self.at = 0.0
        self.published: list[Event] = []
        self.report()

    def publish(self, *events: Event) -> None:
        for event in events:
            self.clients.publish(event, self.at)
            self.published.append(event)

    def took(self, *items: Event | Gap) -> None:
        for item in items:
            self.seen.took(item)

    def report(self, cohort: str = "") -> None:
        self.at += 10.0
        self.seen.close_block()
        self.clients.publish_upto({}, self.at)
        self.clients.report([Report("p#1", "dash-1", cohort, self.seen.to_json())], self.at)

    @property
    def faults(self) -> dict[str, int]:
        return dict(self.clients.result().faults)


def events(first: int, last: int, stream: StreamId = STREAM) -> list[Event]:
    return [make_event(seq, stream=stream) for seq in range(first, last + 1)]


def test_a_client_that_saw_everything_agrees() -> None:
    play = Play()
    for first in (11, 21, 31):
        play.publish(*events(first, first + 9))
        play.took(*events_of(play, first, first + 9))
        play.report()
    found = play.clients.result()
    assert (found.clients, found.blocks, found.agree, found.events) == (1, 3, 3, 30)
    assert found.finding is None
    assert found.cohorts[EVERYBODY]["any"].blocks == 3


def events_of(play: Play, first: int, last: int) -> list[Event]:
    """Return the same events in other words: keys in another order, times in another zone."""
    made = []
    for seq in range(first, last + 1):
        event = next(each for each in play.published if each.seq == seq)
        made.append(replace(event, payload=dict(reversed(event.payload.items()))))
    return made


SPOILS: dict[str, tuple[Callable[[list[Event]], list[Any]], Fault]] = {
    "dropped": (lambda made: made[:3] + made[4:], Fault.MISSING),
    "the last dropped": (lambda made: made[:-2] + made[-1:], Fault.MISSING),
    "doubled": (lambda made: [*made[:4], *made[3:]], Fault.REPEATED),
    "changed": (lambda made: [*made[:3], replace(made[3], payload={"n": 0}), *made[4:]], Fault.CHANGED),
    "another kind": (lambda made: [*made[:3], replace(made[3], kind="x"), *made[4:]], Fault.CHANGED),
    "swapped": (lambda made: [*made[:3], made[4], made[3], *made[5:]], Fault.REORDERED),
    "a gap": (lambda made: [*made[:3], Gap(STREAM, 1, made[3].seq, made[4].seq), *made[5:]], Fault.MISSING),
}


@pytest.mark.parametrize("how", SPOILS)
def test_what_is_wrong_with_a_block_is_named_and_the_next_is_clean_again(how: str) -> None:
    spoil, fault = SPOILS[how]
    play = Play()
    made = events(11, 20)
    play.publish(*made)
    play.took(*spoil(made))
    play.report("ops")
    assert play.faults == {fault: 1}
    (difference,) = play.clients.result().samples
    assert (difference.client, difference.cohort, difference.stream) == ("dash-1", "ops", STREAM)
    evidence = play.clients.result().cohorts["ops"]
    assert {name for name, each in evidence.items() if each.disturbed} == {"any", fault}
    more = events(21, 30)
    play.publish(*more)
    play.took(*more)
    play.report("ops")
    assert (play.clients.result().agree, play.clients.result().differ) == (1, 1)


@given(st.data())
def test_whatever_is_taken_away_doubled_or_changed_is_noticed(data: st.DataObject) -> None:
    play = Play()
    made = events(11, 11 + data.draw(st.integers(1, 30)))
    victims = data.draw(st.sets(st.sampled_from(range(len(made) - 1)), max_size=len(made) - 1))
    act = data.draw(st.sampled_from(["drop", "double", "change"]))
    play.publish(*made)
    for number, event in enumerate(made):
        if number not in victims:
            play.took(event)
        elif act == "double":
            play.took(event, event)
        elif act == "change":
            play.took(replace(event, occurred_at=event.occurred_at + timedelta(microseconds=1)))
    play.report()
    assert play.clients.result().differ == bool(victims)


def test_reports_that_nobody_read_are_made_up_for_by_the_next() -> None:
    play = Play()
    for first in (11, 21, 31):
        made = events(first, first + 9)
        play.publish(*made)
        play.took(*(made[1:] if first == 21 else made))
        play.at += 10.0
        play.seen.close_block()
    play.report()
    assert play.clients.result().events == 30
    assert play.faults == {Fault.MISSING: 1}


def test_a_stream_that_a_client_may_not_see_shows_as_behind() -> None:
    play = Play()
    for first in range(1, 62, 10):
        made, hidden = events(first + 10, first + 19), events(first, first + 9, OTHER)
        play.publish(*made, *hidden)
        play.took(*made)
        play.report()
    assert set(play.faults) == {Fault.BEHIND}
    assert {each.stream for each in play.clients.result().samples} == {OTHER}
    assert "nothing of it came" in play.clients.result().samples[0].words


def test_a_client_that_stands_still_is_behind_and_one_that_has_gone_is_not() -> None:
    play = Play()
    for first in range(11, 62, 10):
        play.publish(*events(first, first + 9))
        play.report()
    assert set(play.faults) == {Fault.BEHIND}
    before = play.clients.result().blocks
    for first in range(71, 122, 10):
        play.publish(*events(first, first + 9))
        play.at += 10
        play.clients.report([], play.at)
    assert play.clients.result().blocks == before


def test_a_position_that_was_never_published_is_extra_in_the_end_and_one_read_late_is_not() -> None:
    play = Play()
    made = events(11, 20)
    play.took(*made)
    play.report()
    assert play.clients.result().blocks == 0
    play.publish(*made)
    play.report()
    assert (play.clients.result().blocks, play.faults) == (1, {})
    for _ in range(6):
        play.took(*events(21, 21))
        play.report()
    assert Fault.EXTRA in play.faults


def test_a_new_epoch_is_counted_on_from_the_old_one() -> None:
    play = Play()
    made = [*events(11, 15), *(make_event(seq, epoch=2, previous=Position(1, 15)) for seq in range(1, 6))]
    play.publish(*made)
    play.took(*(each for each in made if each.seq != 13))
    play.report()
    assert play.clients.result().samples[0].words == "1 of 10 did not come"


def test_a_stream_that_began_within_the_window_counts_from_its_first_event() -> None:
    play = Play()
    made = events(1, 5, OTHER)
    play.publish(*made)
    play.took(*made[1:])
    play.report()
    assert play.faults == {Fault.MISSING: 1}


def test_what_could_not_be_read_counts_but_its_contents_are_not_compared() -> None:
    play = Play()
    made = events(11, 20)
    play.publish(*made[:4])
    play.clients.publish_upto({STREAM: Position(1, 16)}, play.at)
    play.publish(*made[6:])
    play.took(*(replace(each, kind="x") for each in made))
    play.report()
    assert (play.clients.result().events, play.faults) == (10, {})
    play.publish(*(more := events(21, 30)))
    play.took(*more[1:])
    play.report()
    assert play.faults == {Fault.MISSING: 1}


def test_rules_leave_the_counts_alone_to_be_compared() -> None:
    play = Play(by_contents=False)
    made = events(11, 20)
    play.publish(*made)
    play.took(*(replace(each, payload={}) for each in made))
    play.report()
    assert play.faults == {}
    assert any("digest knows no fields" in each for each in play.clients.result().not_compared)


def test_topics_of_the_run_and_of_the_client_are_kept_to() -> None:
    clients = Clients(START, topics=("devices.web-1",))
    seen = Seen(parse_topics(["devices.web-1"]), {})
    for at in range(0, 100, 10):
        for event in events(11 + at, 20 + at):
            clients.publish(event, float(at))
            seen.took(event)
        for event in events(1 + at, 10 + at, OTHER):
            clients.publish(event, float(at))
        seen.close_block()
        clients.report([Report("p", "c", "", seen.to_json())], float(at))
    assert clients.result().finding is None
    assert clients.result().agree >= 8


@pytest.mark.parametrize(
    "body",
    [{}, {"block": "x"}, {"block": 1, "streams": {"a/b": [1, 2]}}, {"block": 1, "streams": []}, "text"],
    ids=str,
)
def test_a_report_that_cannot_be_read_is_counted_and_nothing_more(body: Any) -> None:
    clients = Clients(START)
    clients.report([Report("p", "c", "", body)], 0.0)
    assert clients.result().blocks == 0
    assert any("cannot be read" in each for each in clients.result().not_compared)


def test_a_server_without_ids_is_not_compared_and_said() -> None:
    play = Play()
    play.took(make_event(1, epoch=0))
    play.publish(*events(11, 80))
    for _ in range(6):
        play.report()
    assert play.faults == {}
    assert any("without ids" in each for each in play.clients.result().not_compared)


def test_evidence_goes_on_in_another_life() -> None:
    play = Play()
    play.publish(*(made := events(11, 20)))
    play.took(*made[1:])
    play.report("ops")
    again = Clients(START, evidence=play.clients.evidence)
    assert again.result().cohorts == play.clients.result().cohorts
    assert again.result().cohorts["ops"]["missing"].disturbed == 1


def test_recent_counts_leave_out_what_is_long_ago() -> None:
    play = Play()
    play.publish(*(made := events(11, 20)))
    play.took(*made[1:])
    play.report()
    play.publish(*(made := events(21, 30)))
    play.took(*made)
    play.report()
    assert play.clients.recent(play.at - 5).differ == 0
    assert play.clients.recent(play.at - 15).differ == 1


def test_what_is_kept_of_the_truth_is_bounded() -> None:
    published = Published({}, keep_seconds=10.0, max_events=500)
    for seq in range(1, 5_001):
        published.add(make_event(seq), seq, seq / 100)
        if seq % 100 == 0:
            published.forget(seq / 100)
    kept = sum(published.place(STREAM, Position(1, seq)) is not None for seq in range(1, 5_001))
    assert 100 <= kept <= 700
    newest = published.place(STREAM, Position(1, 5_000))
    assert newest is not None
    assert newest.count == 5_000
    assert newest.digest == sum(range(1, 5_001))


def test_digests_are_of_what_is_said_and_not_of_how() -> None:
    event = replace(make_event(11), payload={"a": 12.0, "b": [1e2, {"d": 1, "c": 2}]})
    said = replace(
        event,
        payload={"b": [100, {"c": 2, "d": 1}], "a": 12},
        occurred_at=datetime.fromisoformat(event.occurred_at.astimezone(UTC).isoformat()),
    )
    shared = shared_digests()
    assert digest_of(event) == digest_of(said) == shared(event) == shared(event)
    for other in (
        replace(event, seq=12),
        replace(event, epoch=2),
        replace(event, stream=OTHER),
        replace(event, payload={"a": 12.5, "b": [100, {"c": 2, "d": 1}]}),
    ):
        assert digest_of(other) != digest_of(event)


@given(st.lists(st.integers(1, 900), min_size=1, max_size=900))
def test_shared_digests_hold_no_wrong_ones(seqs: list[int]) -> None:
    shared = shared_digests()
    assert all(shared(event) == digest_of(event) for event in map(make_event, seqs))
