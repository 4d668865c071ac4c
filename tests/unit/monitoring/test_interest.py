"""Interest in devices: only a name is some, and only the first watcher and the last one make a difference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitoring.interest import Interest, Watchers, devices_named
from monitoring.topics import parse_topics


def test_only_a_topic_that_names_a_device_is_interest_in_one() -> None:
    assert devices_named(parse_topics(["devices.web-1", "devices.*", "global", "metrics.system"])) == {
        "web-1"
    }
    assert devices_named(()) == frozenset()


@given(st.lists(st.tuples(st.booleans(), st.frozensets(st.sampled_from("abc"))), max_size=30))
def test_watchers_are_counted_and_only_changes_told(steps: list[tuple[bool, frozenset[str]]]) -> None:
    told: list[frozenset[str]] = []
    watchers = Watchers()
    watchers.changed = lambda: told.append(watchers.devices)
    here: list[frozenset[str]] = []
    expected: list[frozenset[str]] = [frozenset()]
    for comes, devices in steps:
        if comes:
            here.append(devices)
            watchers.came(devices)
        elif here:
            watchers.went(here.pop(0))
        now = frozenset().union(*here)
        if now != expected[-1]:
            expected.append(now)
        assert watchers.devices == now
    assert told == expected[1:]


def test_several_paths_say_each_their_own() -> None:
    changes: list[frozenset[str]] = []
    interest = Interest(lambda: changes.append(interest.devices))
    interest.said("legacy", frozenset({"a"}))
    interest.said("supabase", frozenset({"a", "b"}))
    interest.said("legacy", frozenset())
    interest.said("supabase", frozenset({"b"}))
    interest.said("supabase", frozenset())
    assert changes == [{"a"}, {"a", "b"}, {"b"}, frozenset()]
