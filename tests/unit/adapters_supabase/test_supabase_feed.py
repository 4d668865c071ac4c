from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from adapters.supabase_errors import Mode
from adapters.supabase_feed import Beat, Feed
from monitoring.errors import Unreachable
from monitoring.events import Event, Position, to_json
from monitoring.topics import parse_topics
from tests.fakes.event_factory import event

EVERYTHING = parse_topics([])


def row(event_: Event) -> dict[str, Any]:
    return {"data": {"type": "INSERT", "record": {**to_json(event_), "device": "web-1"}}, "ids": [1]}


def message(*events: Event, heads: Any = None) -> dict[str, Any]:
    return {
        "event": "events",
        "payload": {"events": json.dumps([to_json(e) for e in events]), "heads": heads or {}},
    }


def beat(number: int = 1, heads: Any = None, mode: str = "changes") -> dict[str, Any]:
    return {"mode": mode, "beat": number, "beat_seconds": 2, "heads": heads}


def feed(*topics: str, **limits: int) -> Feed:
    return Feed(Mode.CHANGES, parse_topics(topics), **limits)


def test_rows_and_messages_are_the_same_events() -> None:
    made = feed()
    made.row(row(event(seq=1)))
    made.message(message(event(seq=2), event(seq=3)))
    assert made.take() == [event(seq=1), event(seq=2), event(seq=3)]
    assert made.take() == []
    assert (made.heard, made.received) == (2, 3)


def test_a_row_that_the_client_passes_once_for_each_filter_is_taken_once() -> None:
    made = feed()
    passed = row(event(seq=1))
    made.row(passed)
    made.row(passed)
    assert made.take() == [event(seq=1)]


def test_what_the_topics_do_not_select_is_left_out() -> None:
    made = feed("devices.web-1")
    made.message(message(event("web-1/system"), event("web-2/system"), heads={"web-2/drives": [1, 9]}))
    assert made.take() == [event("web-1/system")]
    assert made.heads == {}


def test_what_does_not_fit_is_dropped_and_its_head_is_kept() -> None:
    made = feed(max_events=2)
    made.message(message(*(event(seq=seq) for seq in (1, 2, 3, 5, 4))))
    assert [e.seq for e in made.take()] == [1, 2]
    assert made.dropped == 3
    assert made.heads == {"web-1/system": Position(1, 5)}
    made.message(message(event(seq=6)))
    assert made.take() == [event(seq=6)]


def test_the_bytes_are_bounded_too() -> None:
    made = feed(max_bytes=1000)
    for seq in range(1, 9):
        made.row(row(event(seq=seq, text="x" * 290)))
    assert [e.seq for e in made.take()] == [1, 2, 3]
    assert made.dropped == 5
    made.row(row(event(seq=9, text="x" * 290)))
    assert [e.seq for e in made.take()] == [9]


def test_a_heartbeat_says_which_heads_moved_in_either_mode() -> None:
    made = feed()
    made.beat({"data": {"type": "UPDATE", "record": beat(7, {"web-1/system": [2, 5]})}, "ids": [2]})
    assert made.newest_beat == Beat(Mode.CHANGES, 7, 2.0)
    assert made.heads == {"web-1/system": Position(2, 5)}
    made.beat({"event": "beat", "payload": beat(8, {"web-1/system": [2, 4]}, mode="broadcast")})
    assert made.newest_beat == Beat(Mode.BROADCAST, 8, 2.0)
    assert made.heads == {"web-1/system": Position(2, 5)}
    made.beat({"event": "beat", "payload": beat(9, None)})  # more heads than a heartbeat holds
    assert made.unreadable == 0


def test_a_row_that_was_cut_short_is_known_to_be_there() -> None:
    """Realtime sends of a row beyond 1 MiB only the short values (Error 413)."""
    made = feed()
    cut = {k: v for k, v in to_json(event(seq=4)).items() if k != "payload"}
    made.row({"data": {"type": "INSERT", "record": cut, "errors": ["Error 413: Payload Too Large"]}})
    assert made.take() == []
    assert made.heads == {"web-1/system": Position(1, 4)}
    assert made.unreadable == 1


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "record", "payload", "events", "heads", "stream", "mode", "beat", "seq"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["data", "payload", "event"]), _json))
def test_no_frame_raises(payload: dict[str, Any]) -> None:
    """An error in a callback would end the client's receive loop, and the connection with it."""
    made = feed()
    made.row(payload)
    made.message(payload)
    made.beat(payload)
    assert made.received == 0
    assert made.heard == 3


async def test_waiting_ends_with_an_arrival_with_the_end_or_with_the_time() -> None:
    made = feed()
    assert not await made.wait(0.01)
    waiting = asyncio.create_task(made.wait(10))
    await asyncio.sleep(0)
    made.row(row(event()))
    assert await waiting
    made.take()
    first = Unreachable("x", "first")
    made.end(first)
    made.end(Unreachable("x", "second"))
    assert await made.wait(10)
    assert made.failure is first
