"""The /link codec: round trips, bounds of a frame, and events that cannot be read or sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import link
from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId, to_json
from tests.fakes.event_factory import event, run


@pytest.mark.parametrize(
    "message",
    [
        link.Heads(Cursor({StreamId("a/b"): Position(1, 2)})),
        link.Events(9, tuple(run("a/b", 3)), history=True, more=True),
        link.Events(9, heads=Cursor({StreamId("a/b"): Position(1, 2)})),
        link.Events(9, heads=Cursor(), figures=link.LinkFigures(3, 1)),
        link.Ack(7),
        link.AskWatched(),
        link.Watched(frozenset({"b", "a"})),
        link.LinkError("no"),
    ],
)
def test_frames_round_trip(message):
    assert link.decode(link.encode(message)) == message


def test_a_plain_frame_has_only_the_contracts_keys():
    frame = json.loads(link.encode(link.Events(3, (event(),))))
    assert list(frame) == ["type", "position", "events"]
    assert frame["events"] == [json.loads(json.dumps(to_json(event())))]


@given(st.one_of(st.text(), st.binary()))
def test_garbage_raises_only_malformed_message(data):
    with pytest.raises(MalformedMessage):
        link.decode(data)


def test_one_bad_event_does_not_spoil_its_frame():
    frame = json.loads(link.encode(link.Events(3, (event(seq=1), event(seq=2)))))
    del frame["events"][0]["kind"]
    message = link.decode(json.dumps(frame))
    assert isinstance(message, link.Events)
    assert [one.seq for one in message.events] == [2]
    assert message.rejected == ("not an event: kind is missing",)


@given(st.lists(st.integers(1, 300_000), max_size=30))
def test_packing_keeps_every_event_in_order_and_each_frame_within_its_bounds(sizes):
    rows = [(at, json.dumps("x" * size).encode()) for at, size in enumerate(sizes, 1)]
    frames = list(link.pack(rows))
    assert sum(frame.events for frame in frames) == len(rows)
    assert all(frame.events <= link.MAX_EVENTS and len(frame.data) < link.MAX_FRAME_BYTES for frame in frames)
    sent = [len(text) for frame in frames for text in json.loads(frame.data)["events"]]
    assert sent == sizes
    assert [frame.position for frame in frames] == sorted(frame.position for frame in frames)
    if rows:
        assert frames[-1].position == len(rows)


def test_at_most_500_events_go_into_a_frame():
    assert [frame.events for frame in link.pack([(at, b"1") for at in range(1, 1101)])] == [500, 500, 100]


def test_the_largest_event_that_can_be_sent_fits_the_servers_limit():
    overhead = len(link.encode_event(event(note="")))
    data = link.encode_event(event(note="x" * (link.MAX_EVENT_BYTES - overhead)))
    (frame,) = link.pack([(10**12, data)], history=True, more=True)
    assert len(frame.data) <= link.MAX_FRAME_BYTES


def test_an_event_that_no_frame_can_carry_is_said():
    with pytest.raises(link.Unsendable, match="web-1/system 1/1 has"):
        link.encode_event(event(note="x" * link.MAX_FRAME_BYTES))
    with pytest.raises(link.Unsendable, match="cannot carry"):
        link.encode_event(event(note=1 << 80))


@pytest.mark.parametrize("at", ["0999-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "yesterday", 5, None])
def test_an_event_whose_time_could_not_be_read_again_is_rejected(at):
    frame = {"type": "events", "position": 1, "events": [{**to_json(event()), "occurred_at": at}]}
    message = link.decode(json.dumps(frame))
    assert isinstance(message, link.Events)
    assert len(message.rejected) == 1
