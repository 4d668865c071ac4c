"""The view model: items in, a frozen state out."""

from __future__ import annotations

import gc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.model import (
    FEED_LENGTH,
    MOVES_LENGTH,
    RATE_SECONDS,
    WINDOW,
    Connection,
    Phase,
    State,
    applied,
    data_age,
    event_rate,
    lost_events,
    phase,
    rewound,
    seeded,
)
from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId
from monitoring.service import Backend, Gap, MoveAbandoned, Moved, Snapshot
from tests.fakes import dashboard_service

T0 = datetime(2026, 11, 21, 8, tzinfo=UTC)
SYSTEM = StreamId("web-1/system")
CONTAINERS = StreamId("web-1/containers")


def event(
    seq: int,
    kind: str = "metric_collected",
    payload: dict[str, Any] | None = None,
    *,
    stream: StreamId = SYSTEM,
    at: datetime | None = None,
    epoch: int = 1,
) -> Event:
    occurred = at or T0 + timedelta(seconds=2 * seq)
    return Event(UUID(int=seq), stream, epoch, seq, kind, occurred, payload or {"cpu_usage": float(seq)})


def run(*items: Any, state: State | None = None) -> State:
    state = state or State()
    for item in items:
        state = applied(state, item, T0)
    return state


def test_a_reading_becomes_host_and_sample() -> None:
    state = run(
        event(3, payload={"hostname": "Web One", "cpu_usage": 12.5, "cores": 4, "load": [2.0, 1.0, 1.0]})
    )
    host = state.hosts["web-1"]
    assert host.newest is not None
    assert host.newest.name == "web-1"  # as its events call it, whatever it calls itself
    assert host.samples == (host.newest.sample,)
    assert host.newest.sample.cpu_percent == 12.5
    assert host.newest.sample.load_per_core == 0.5


def test_history_after_a_snapshot_fills_in_before_it_and_keeps_the_newest_host() -> None:
    state = seeded(State(), Snapshot((event(9),), Cursor({SYSTEM: Position(1, 9)})), T0)
    state = run(event(7), event(8), event(9), state=state)
    host = state.hosts["web-1"]
    assert [sample.cpu_percent for sample in host.samples] == [7.0, 8.0, 9.0]
    assert host.newest is not None
    assert host.newest.sample.cpu_percent == 9.0


@given(st.lists(st.integers(1, 400), max_size=60))
def test_samples_are_in_order_once_and_within_the_window_whatever_the_order(seqs: list[int]) -> None:
    state = run(*(event(seq) for seq in seqs))
    times = [sample.at for host in state.hosts.values() for sample in host.samples]
    assert times == sorted(set(times))
    if times:
        assert times[-1] == max(event(seq).occurred_at for seq in seqs)
        assert times[-1] - times[0] <= WINDOW


def test_hosts_are_kept_apart_and_in_order_of_name() -> None:
    state = run(
        event(5, stream=StreamId("web-2/system")), event(1), event(6, stream=StreamId("web-2/system"))
    )
    assert list(state.hosts) == ["web-1", "web-2"]
    assert [len(host.samples) for host in state.hosts.values()] == [1, 2]
    assert state.newest is state.hosts["web-2"]
    assert [each.stream for each in state.feed] == [SYSTEM, "web-2/system", "web-2/system"]


@given(st.lists(st.integers(1, FEED_LENGTH + 50), min_size=1, max_size=60))
def test_the_feed_is_in_order_of_time_lists_an_event_once_and_keeps_the_newest(seqs: list[int]) -> None:
    state = run(*(event(seq) for seq in seqs))
    assert [each.seq for each in state.feed] == sorted(set(seqs))[-FEED_LENGTH:]


def test_the_feed_is_bounded() -> None:
    state = run(*(event(seq) for seq in range(1, FEED_LENGTH + 40)))
    assert [each.seq for each in state.feed] == list(range(40, FEED_LENGTH + 40))


def test_the_rate_counts_what_came_since_this_viewer_began() -> None:
    state = seeded(State(), Snapshot((event(9),), Cursor({SYSTEM: Position(1, 9)})), T0)
    state = run(event(8), event(9), state=state)  # history for the charts
    assert event_rate(state, T0) == 0
    for second in range(60):
        for number in range(3):
            state = applied(state, event(10 + 3 * second + number), T0 + timedelta(seconds=second))
    assert event_rate(state, T0 + timedelta(seconds=59.9)) == pytest.approx(3, abs=0.11)
    assert event_rate(state, T0 + timedelta(seconds=600)) == 0
    assert len(state.arrivals) <= RATE_SECONDS + 1


def containers(seq: int, *names: str, available: bool = True) -> Event:
    rows = [
        {"id": name, "name": name, "image": "i", "status": "running", "cpu_percent": 1.5} for name in names
    ]
    return event(seq, "containers_collected", {"available": available, "containers": rows}, stream=CONTAINERS)


def status_change(seq: int, name: str, current: dict[str, Any] | None) -> Event:
    payload = {"container": {"id": name, "name": name, "image": "i"}, "current": current}
    return event(seq, "container_status_changed", payload, stream=CONTAINERS)


def test_containers_are_replaced_by_newer_readings_and_sorted() -> None:
    state = run(containers(2, "b", "a"), containers(1, "old"))
    assert [each.name for each in state.hosts["web-1"].containers] == ["a", "b"]
    assert state.hosts["web-1"].docker_available is True
    assert run(containers(3, available=False), state=state).hosts["web-1"].docker_available is False


def test_a_status_change_changes_one_container_and_forgets_the_figures_of_a_stopped_one() -> None:
    state = run(containers(1, "a", "b"), status_change(2, "a", {"status": "exited", "health": None}))
    a, b = state.hosts["web-1"].containers
    assert (a.status, a.cpu_percent) == ("exited", None)
    assert (b.status, b.cpu_percent) == ("running", 1.5)
    kept = (
        run(status_change(3, "b", {"status": "running", "health": "unhealthy"}), state=state)
        .hosts["web-1"]
        .containers[1]
    )
    assert (kept.health, kept.cpu_percent) == ("unhealthy", 1.5)


def test_containers_appear_and_disappear_by_status_changes() -> None:
    state = run(status_change(1, "new", {"status": "running", "health": None}))
    assert [each.name for each in state.hosts["web-1"].containers] == ["new"]
    assert run(status_change(2, "new", None), state=state).hosts["web-1"].containers == ()


def test_device_status_is_kept() -> None:
    state = run(event(1, "device_status_changed", {"old_status": "up", "new_status": "down"}))
    assert state.hosts["web-1"].status == "down"
    assert run(event(2, "device_status_changed", {"new_status": 7})).hosts["web-1"].status is None


def test_a_move_says_what_was_lost_during_it() -> None:
    early = applied(State(), Gap(SYSTEM, 1, 1, 4), T0)
    during = applied(early, Gap(SYSTEM, 1, 9, 10), T0 + timedelta(seconds=60))
    moved = Moved(Backend.LEGACY, Backend.SUPABASE, "the flags", T0 + timedelta(seconds=61), 2.0, 7)
    move = run(moved, state=during).moves[-1]
    assert (move.done, move.lost, move.duplicates_dropped) == (True, 2, 7)
    assert lost_events(during) == 6


def test_an_abandoned_move_is_kept_and_moves_are_bounded() -> None:
    abandoned = MoveAbandoned(Backend.LEGACY, Backend.SUPABASE, "not ready", T0)
    state = run(*[abandoned] * (MOVES_LENGTH + 3))
    assert len(state.moves) == MOVES_LENGTH
    assert not state.moves[0].done


@pytest.mark.parametrize(
    ("gap", "lost"),
    [
        (Gap(SYSTEM, 1, 1, 100), 0),  # before this viewer began
        (Gap(SYSTEM, 1, 90, 103), 3),  # the part since it began
        (Gap(SYSTEM, 2, 1, None), 1),  # an unknown end counts as one
        (Gap(CONTAINERS, 1, 1, 5), 5),  # a stream that was not there when it began
    ],
)
def test_only_gaps_after_the_viewer_began_are_losses(gap: Gap, lost: int) -> None:
    began = State(seen_from=Cursor({SYSTEM: Position(1, 100)}))
    assert lost_events(run(gap, state=began)) == lost


def test_rewinding_stays_within_the_epoch() -> None:
    cursor = Cursor({SYSTEM: Position(4, 1000), CONTAINERS: Position(2, 5)})
    assert rewound(cursor) == {SYSTEM: Position(4, 700), CONTAINERS: Position(2, 0)}
    many = Cursor({StreamId(f"web-{number}/system"): Position(1, 1000) for number in range(1000)})
    assert sum(1000 - at.seq for at in rewound(many).values()) <= 20_000


LIVE = Connection(backend=Backend.LEGACY, ever_live=True)


@pytest.mark.parametrize(
    ("connection", "age_seconds", "expected"),
    [
        (Connection(), 1, Phase.CONNECTING),
        (LIVE, 1, Phase.LIVE),
        (LIVE, 30, Phase.STALE),
        (replace(LIVE, down_since=T0), 1, Phase.RECONNECTING),
        (replace(LIVE, refused=True), 1, Phase.REFUSED),
    ],
)
def test_phases(connection: Connection, age_seconds: int, expected: Phase) -> None:
    state = run(event(1, payload={"interval_seconds": 2}, at=T0))
    assert phase(connection, state, T0 + timedelta(seconds=age_seconds)) is expected


def test_a_slow_collector_is_not_stale_within_its_own_interval() -> None:
    state = run(event(1, payload={"interval_seconds": 30}, at=T0))
    assert phase(LIVE, state, T0 + timedelta(seconds=60)) is Phase.LIVE
    assert phase(LIVE, state, T0 + timedelta(seconds=120)) is Phase.STALE


def test_a_live_feed_without_any_reading_is_live() -> None:
    assert phase(LIVE, State(), T0) is Phase.LIVE
    assert data_age(State(), T0) is None


def test_a_clock_that_is_ahead_gives_no_negative_age() -> None:
    state = run(event(1, at=T0 + timedelta(seconds=9)))
    assert data_age(state, T0) == timedelta(0)


def test_streams_that_the_page_does_not_know_are_only_listed() -> None:
    state = run(
        event(1, "stream_opened", {"owner": "x", "previous": None}),
        event(2, "metric_collected", stream=StreamId("web-1/drives")),
    )
    assert not state.hosts
    assert len(state.feed) == 2


def test_eight_hours_of_updates_leave_nothing_behind() -> None:
    """Every object that the garbage collector knows is counted: what stays of an hour would be thousands."""
    state, known = State(), []
    gc.collect()
    gc.freeze()  # what other tests left is not counted, and may go meanwhile
    for hour in range(8):
        for place in range(1800):
            number = 1800 * hour + place + 1
            at = T0 + timedelta(seconds=2 * number)
            for each in (dashboard_service.reading(number, at), dashboard_service.containers(number, at)):
                state = applied(state, each, at)
        gc.collect()
        known.append(len(gc.get_objects()))
    gc.unfreeze()
    assert max(known[1:]) - min(known[1:]) < 100, known
