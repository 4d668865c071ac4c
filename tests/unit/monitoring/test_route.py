"""Routes: what they consist of, and where a client may go."""

from __future__ import annotations

from monitoring.events import StreamId
from monitoring.route import Route
from monitoring.service import Backend
from monitoring.topics import GLOBAL, parse_topics

LEGACY, SUPABASE, POLLING = Backend.LEGACY, Backend.SUPABASE, Backend.POLLING
SPLIT = Route(SUPABASE, frozenset({"containers"}))


def test_a_route_is_ranked_before_its_fallbacks_and_names_no_backend_twice() -> None:
    assert [route.backend for route in Route(SUPABASE).ranked()] == [SUPABASE, LEGACY, POLLING]
    assert list(Route(LEGACY, fallbacks=()).ranked()) == [Route(LEGACY)]


def test_the_fallbacks_do_not_make_another_route() -> None:
    assert Route(LEGACY, fallbacks=()) == Route(LEGACY)
    assert Route(SUPABASE) != SPLIT


def test_a_route_keeps_to_the_backends_there_are() -> None:
    assert SPLIT.within({LEGACY, POLLING}) == SPLIT.over(LEGACY)
    assert SPLIT.within({SUPABASE}) == Route(SUPABASE)
    assert Route(SUPABASE, fallbacks=()).within({LEGACY}) is None


def test_on_polling_nothing_is_polled_apart() -> None:
    assert SPLIT.over(POLLING) == Route(POLLING)


def test_each_stream_comes_by_exactly_one_part() -> None:
    parts = list(SPLIT.parts({GLOBAL}))
    for name in ("web-1/containers", "web-1/system"):
        assert [part.backend for part in parts if part.brings(StreamId(name))] == [
            POLLING if name.endswith("containers") else SUPABASE
        ]
    assert parts[1].topics == parse_topics(["categories.containers"])


def test_narrow_topics_are_polled_as_they_are() -> None:
    topics = parse_topics(["devices.web-1"])
    assert [part.topics for part in SPLIT.parts(topics)] == [topics, topics]


def test_a_route_says_what_is_polled() -> None:
    assert str(SPLIT) == "supabase, containers polled"
    assert str(Route(LEGACY)) == "legacy"
