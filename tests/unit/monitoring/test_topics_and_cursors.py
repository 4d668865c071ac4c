"""Topics select whole streams; cursors say exactly what a client has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.cursor import Cursor
from monitoring.errors import InvalidCursor, InvalidTopic
from monitoring.events import Position, StreamId
from monitoring.topics import GLOBAL, Selection, parse_topic, parse_topics, selects

SYSTEM, CONTAINERS = StreamId("web-1.lan/system"), StreamId("db/containers")


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("global", {SYSTEM, CONTAINERS}),
        ("devices.*", {SYSTEM, CONTAINERS}),
        ("devices.web-1.lan", {SYSTEM}),
        ("categories.containers", {CONTAINERS}),
        ("metrics.container", {CONTAINERS}),
        ("metrics.system_metrics", {SYSTEM}),
        ("devices.nobody", set()),
    ],
)
def test_a_topic_selects_streams(text: str, selected: set[StreamId]) -> None:
    topic = parse_topic(text)
    assert {stream for stream in (SYSTEM, CONTAINERS) if topic.matches(stream)} == selected
    assert str(topic) == text


@pytest.mark.parametrize("text", ["", "devices", "devices.", "global.x", "hosts.web-1"])
def test_a_topic_nobody_could_have_meant_says_what_is_possible(text: str) -> None:
    with pytest.raises(InvalidTopic, match=r"use global, devices\.NAME"):
        parse_topic(text)


def test_no_topic_at_all_is_everything() -> None:
    assert parse_topics([]) == {GLOBAL}
    assert selects(parse_topics(["devices.db", "categories.drives"]), CONTAINERS)


positions = st.builds(Position, st.integers(0, 9), st.integers(0, 9))
cursors = st.builds(Cursor, st.dictionaries(st.sampled_from([SYSTEM, CONTAINERS]), positions))


@given(cursors)
def test_a_cursor_survives_json(cursor: Cursor) -> None:
    assert Cursor.from_json(cursor.to_json()) == cursor
    assert hash(Cursor.from_json(cursor.to_json())) == hash(cursor)


@given(cursors, cursors)
def test_a_merged_cursor_covers_both(one: Cursor, other: Cursor) -> None:
    merged = one.merged(other)
    assert merged.covers(one)
    assert merged.covers(other)


@pytest.mark.parametrize(
    "value", [None, [], {"a/b": 1}, {"a/b": [1]}, {"a/b": [1, -1]}, {"a/b": [True, 1]}, {"a/b": ["1", 1]}]
)
def test_what_is_not_a_cursor_is_refused(value: object) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.from_json(value)


def test_a_selection_answers_as_its_topics_do_also_the_second_time_and_when_it_forgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Selection, "_MOST", 3)
    selection = Selection(parse_topics(["devices.web-1", "categories.drives"]))
    streams = [
        StreamId(f"{device}/{category}") for device in ("web-1", "db-1") for category in ("system", "drives")
    ]
    for _ in range(2):
        assert [stream in selection for stream in streams] == [True, True, False, True]
    assert StreamId("any/thing") in Selection([])
