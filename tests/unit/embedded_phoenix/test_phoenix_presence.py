"""Presence of a room, and the limits on how fast things happen."""

import json

from hypothesis import given
from hypothesis import strategies as st

from embedded.phoenix.limits import Rate, Recent
from embedded.phoenix.presence import Presences


def diff(found):
    return json.loads(found.payload)


def test_coming_changing_and_going_as_recorded():
    room = Presences()
    (entry,) = diff(room.track("a", "bob", b'{"status":"here"}'))["joins"]["bob"]["metas"]
    first = entry.pop("phx_ref")
    assert (entry, len(first)) == ({"status": "here"}, 16)
    assert room.track("a", "bob", b'{"status":"here"}') is None
    changed = diff(room.track("a", "bob", b'{"status":"away"}'))
    (new,) = changed["joins"]["bob"]["metas"]
    assert list(new) == ["phx_ref", "phx_ref_prev", "status"]
    assert (new["phx_ref_prev"], new["status"]) == (first, "away")
    assert changed["leaves"] == {"bob": {"metas": [{"phx_ref": first, "status": "here"}]}}
    assert json.loads(room.state()) == {"bob": {"metas": [new]}}
    assert diff(room.untrack("a")) == {"joins": {}, "leaves": {"bob": {"metas": [new]}}}
    assert room.untrack("a") is None
    assert room.state() == b"{}"


def test_a_new_entry_after_leaving_has_no_previous_one():
    room = Presences()
    room.track("a", "k", b"{}")
    room.untrack("a")
    (meta,) = diff(room.track("a", "k", b"{}"))["joins"]["k"]["metas"]
    assert list(meta) == ["phx_ref"]


def test_several_channels_share_a_key():
    room = Presences()
    room.track("a", "k", b'{"n":1}')
    room.track("b", "k", b'{"n":2}')
    room.track("c", "other", b"{}")
    state = json.loads(room.state())
    assert [meta["n"] for meta in state["k"]["metas"]] == [1, 2]
    room.untrack("a")
    assert [meta["n"] for meta in json.loads(room.state())["k"]["metas"]] == [2]
    assert len(room) == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(["x", 'y"z']),
            st.none() | st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
        )
    )
)
def test_diffs_added_up_are_the_state(steps):
    """What a client computes from the diffs is what a newcomer is sent."""
    room, mirror = Presences(), {}
    for owner, key, payload in steps:
        found = (
            room.untrack(owner) if payload is None else room.track(owner, key, json.dumps(payload).encode())
        )
        if found is None:
            continue
        change = diff(found)
        for left, entry in change["leaves"].items():
            gone = {meta["phx_ref"] for meta in entry["metas"]}
            mirror[left] = [meta for meta in mirror[left] if meta["phx_ref"] not in gone]
        for come, entry in change["joins"].items():
            mirror.setdefault(come, []).extend(entry["metas"])
    state = {key: entry["metas"] for key, entry in json.loads(room.state()).items()}

    def by_ref(metas):
        return sorted(metas, key=lambda meta: meta["phx_ref"])

    assert {key: by_ref(metas) for key, metas in mirror.items() if metas} == {
        key: by_ref(metas) for key, metas in state.items()
    }


def test_a_rate_is_an_average_over_a_minute():
    rate = Rate(100)
    rate.add(6000, 0.0)
    assert not rate.exceeded(9.0)
    rate.add(1, 9.5)
    assert rate.exceeded(10.0)
    assert rate.exceeded(59.0)
    assert rate.average(59.0) == 6001 / 60
    assert not rate.exceeded(66.0)
    assert rate.average(66.0) == 1 / 60


def test_bursts_pass():
    rate = Rate(100)
    for second in range(50):
        rate.add(119, float(second))
        assert not rate.exceeded(float(second))


def test_no_limit_is_never_exceeded():
    rate, recent = Rate(None), Recent(None, 1.0)
    rate.add(10**9, 0.0)
    assert not rate.exceeded(100.0)
    assert all(recent.one_more(0.0) for _ in range(100))


def test_so_many_within_so_many_seconds():
    recent = Recent(2, 30.0)
    assert [recent.one_more(at) for at in (0.0, 1.0, 2.0, 30.0, 31.5)] == [True, True, False, False, False]
    assert recent.one_more(70.0)
