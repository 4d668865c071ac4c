from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.spool import PATHS, Spool
from adapters.spool_drafts import MAX_EVENT_BYTES
from adapters.spool_file import (
    SpoolCorrupt,
    SpoolFull,
    SpoolInUse,
    SpoolUnwritable,
    StaleEpoch,
    StreamNotOpen,
)
from adapters.spool_reader import SpoolReader
from legacy_ws.protocol import dashboard, link
from monitoring.errors import InvalidEvent
from monitoring.events import Draft, Kind, Position, StreamId, to_json

SYSTEM = StreamId("web-1/system")
CONTAINERS = StreamId("web-1/containers")
AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def draft(n: int = 0, stream: StreamId = SYSTEM) -> Draft:
    return Draft(stream, Kind.METRIC_COLLECTED, AT + timedelta(seconds=n), {"n": n})


def test_seqs_count_from_the_opening_event_per_stream(spool: Spool) -> None:
    spool.open_stream(CONTAINERS, 7, Position(6, 41), AT)
    events = spool.append([draft(1), draft(2, CONTAINERS), draft(3)])
    assert [(event.stream, event.epoch, event.seq) for event in events] == [
        (SYSTEM, 1, 2),
        (CONTAINERS, 7, 2),
        (SYSTEM, 1, 3),
    ]
    assert spool.heads() == {SYSTEM: Position(1, 3), CONTAINERS: Position(7, 2)}
    assert spool.position == 5


def test_what_is_read_is_what_was_appended(spool: Spool) -> None:
    appended = spool.append([draft(n) for n in range(5)])
    rows = spool.read(1, 100)
    assert [event for _, event in rows] == appended
    assert [position for position, _ in rows] == [2, 3, 4, 5, 6]
    assert spool.read(2, 2) == rows[1:3]


def test_the_opening_event_names_the_owner_and_the_last_position(spool: Spool) -> None:
    opened = spool.open_stream(CONTAINERS, 3, Position(2, 9), AT)
    assert opened.kind == Kind.STREAM_OPENED
    assert opened.seq == 1
    assert opened.previous == Position(2, 9)
    assert opened.payload["owner"] == str(spool.owner)


def test_a_new_epoch_names_our_own_last_position_when_it_is_the_later_one(spool: Spool) -> None:
    """The database has not seen what the spool still holds."""
    spool.append([draft(1), draft(2)])
    assert spool.open_stream(SYSTEM, 2, Position(1, 1), AT).previous == Position(1, 3)
    assert spool.open_stream(SYSTEM, 9, Position(8, 100), AT).previous == Position(8, 100)


def test_an_epoch_is_never_opened_twice(spool: Spool) -> None:
    with pytest.raises(StaleEpoch, match="epoch 1 cannot be opened"):
        spool.open_stream(SYSTEM, 1, None, AT)


def test_a_stream_that_was_not_opened_refuses_the_whole_batch(spool: Spool) -> None:
    with pytest.raises(StreamNotOpen, match="never opened"):
        spool.append([draft(1), draft(1, CONTAINERS)])
    assert spool.position == 1
    assert spool.refused["StreamNotOpen"] == 2


def test_a_closed_stream_refuses_until_it_is_resumed_or_opened(spool: Spool) -> None:
    spool.close_stream(SYSTEM)
    with pytest.raises(StreamNotOpen, match="another owner"):
        spool.append([draft()])
    spool.resume_stream(SYSTEM)
    assert spool.append([draft()])[0].position == Position(1, 2)
    spool.close_stream(SYSTEM)
    spool.open_stream(SYSTEM, 2, None, AT)
    assert spool.append([draft()])[0].position == Position(2, 2)


def nested(depth: int) -> dict[str, object]:
    inner: dict[str, object] = {}
    for _ in range(depth):
        inner = {"n": inner}
    return inner


FAR = timezone(timedelta(hours=14))


@pytest.mark.parametrize(
    "bad",
    [
        Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, {"n": object()}),
        Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, {"n": 2**70}),
        Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, {"n": "\ud800"}),
        Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, {"\udfff": 1}),
        Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, nested(300)),
        Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, {"text": "x" * MAX_EVENT_BYTES}),
        Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, {1: "a key that is no text"}),  # type: ignore[dict-item]
        Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, ["no object"]),  # type: ignore[arg-type]
        Draft(SYSTEM, Kind.METRIC_COLLECTED, AT.replace(tzinfo=None), {}),
        Draft(SYSTEM, Kind.METRIC_COLLECTED, datetime(1, 1, 1, tzinfo=FAR), {}),
        Draft(SYSTEM, "", AT, {}),
        Draft(SYSTEM, "k" * 129, AT, {}),
        Draft(SYSTEM, Kind.STREAM_OPENED, AT, {}),
        Draft(SYSTEM, Kind.TOMBSTONE, AT, {}),
    ],
)
def test_what_could_not_be_read_again_is_refused_without_taking_a_seq(spool: Spool, bad: Draft) -> None:
    with pytest.raises(InvalidEvent):
        spool.append([draft(1), bad])
    assert spool.append([draft(2)])[0].seq == 2
    assert spool.refused["InvalidEvent"] == 2


def test_what_is_nested_as_deeply_as_is_taken_still_fits_into_the_messages_of_the_legacy_server(
    spool: Spool,
) -> None:
    for depth in range(260, 200, -1):
        with contextlib.suppress(InvalidEvent):
            event = spool.append([Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, nested(depth))])[0]
            break
    assert depth > 230
    assert list(link.pack([(1, link.encode_event(event))]))
    assert dashboard.encode(dashboard.event_message(event, AT))
    with pytest.raises(TypeError):  # one of a few levels more would not have
        dashboard.encode(dashboard.event_message(replace(event, payload=nested(depth + 8)), AT))


def test_a_full_spool_refuses_and_takes_events_again_after_acknowledgement(spool_path: Path) -> None:
    with Spool.open(spool_path, max_events=3, retain_events=0) as spool:
        spool.open_stream(SYSTEM, 1, None, AT)
        spool.append([draft(1)])
        with pytest.raises(SpoolFull, match="2 events wait"):
            spool.append([draft(2), draft(3)])
        spool.acknowledge("supabase", 2)
        with pytest.raises(SpoolFull):  # the other path still needs them
            spool.append([draft(2), draft(3)])
        spool.acknowledge("legacy", 2)
        assert [event.seq for event in spool.append([draft(2), draft(3)])] == [3, 4]
        assert spool.refused["SpoolFull"] == 4


def test_a_full_spool_still_opens_a_stream(spool_path: Path) -> None:
    """Whoever could not open one would never get to empty the spool."""
    with Spool.open(spool_path, max_events=3, retain_events=0) as spool:
        spool.open_stream(SYSTEM, 1, None, AT)
        spool.append([draft(1), draft(2)])
        assert spool.open_stream(CONTAINERS, 1, None, AT).seq == 1
        assert spool.open_stream(SYSTEM, 2, None, AT).previous == Position(1, 3)
        with pytest.raises(SpoolFull, match="5 events wait"):
            spool.append([draft(3)])
        assert spool.state().limit == 3


def test_a_spool_is_bounded_in_bytes_and_first_lets_go_of_what_is_only_retained(spool_path: Path) -> None:
    with Spool.open(spool_path, max_bytes=2_000_000, retain_events=1000) as spool:
        spool.open_stream(SYSTEM, 1, None, AT)
        large = Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, {"text": "x" * 100_000})
        for _ in range(40):  # twice what fits, but all of it acknowledged
            spool.append([large])
            for path in PATHS:
                spool.acknowledge(path, spool.position)
        assert spool.state().used_bytes < 2_200_000
        before = spool.position
        with pytest.raises(SpoolFull, match="the limit is 2000000 bytes"):
            all(spool.append([large]) for _ in range(100))
        assert 10 < spool.position - before < 25
        head = spool.heads()[SYSTEM]
        spool.acknowledge("supabase", spool.position)
        with pytest.raises(SpoolFull):  # the other path still needs them
            spool.append([large])
        spool.acknowledge("legacy", spool.position)
        assert spool.append([large])[0].seq == head.seq + 1


def test_a_released_stream_stays_closed_over_a_restart_until_its_lease_is_ours(spool_path: Path) -> None:
    """Another owner may have begun an epoch that says that ours is complete."""
    with Spool.open(spool_path) as spool:
        for stream in (SYSTEM, CONTAINERS):
            spool.open_stream(stream, 1, None, AT)
            spool.release_stream(stream)
        with pytest.raises(StreamNotOpen, match="its lease was let go"):
            spool.append([draft()])
    with Spool.open(spool_path) as spool:
        assert spool.epoch_of(SYSTEM) == 1
        assert not spool.is_open(SYSTEM)
        spool.resume_stream(SYSTEM)
        spool.open_stream(CONTAINERS, 3, Position(2, 5), AT)
        assert [event.position for event in spool.append([draft(), draft(0, CONTAINERS)])] == [(1, 2), (3, 2)]
    with Spool.open(spool_path) as spool:
        assert spool.is_open(SYSTEM)
        assert spool.is_open(CONTAINERS)


def test_a_stream_is_drained_when_every_enabled_path_has_it(spool_path: Path) -> None:
    with Spool.open(spool_path) as spool:
        spool.open_stream(SYSTEM, 1, None, AT)
        spool.open_stream(CONTAINERS, 1, None, AT)
        assert not spool.drained(SYSTEM)
        spool.acknowledge("supabase", 2)
        spool.acknowledge("legacy", 1)
        assert spool.drained(SYSTEM)
        assert not spool.drained(CONTAINERS)
        spool.set_enabled("legacy", enabled=False)
        assert spool.drained(CONTAINERS)
        spool.set_enabled("legacy", enabled=True)
        assert spool.drained(StreamId("never/opened"))
    with Spool.open(
        spool_path
    ) as again:  # only the file's last position is known, so it is said later, never too early
        assert not again.drained(SYSTEM)
        again.acknowledge("legacy", 2)
        assert again.drained(SYSTEM)


def test_a_new_epoch_says_whether_the_one_before_was_drained(spool: Spool) -> None:
    assert spool.open_stream(CONTAINERS, 4, Position(3, 9), AT, drained=True).follows_drained
    assert not spool.open_stream(StreamId("b/system"), 4, Position(3, 9), AT, drained=False).follows_drained
    # our own epoch goes out of this spool first, so it needs no word from the database
    assert spool.open_stream(SYSTEM, 2, Position(1, 1), AT, drained=False).follows_drained
    # but another owner was between these two
    assert not spool.open_stream(SYSTEM, 4, Position(1, 1), AT, drained=False).follows_drained


def test_a_disabled_path_holds_nothing_back(spool_path: Path) -> None:
    with Spool.open(spool_path, max_events=3, retain_events=0) as spool:
        spool.set_enabled("legacy", enabled=False)
        spool.open_stream(SYSTEM, 1, None, AT)
        for n in range(20):
            spool.append([draft(n)])
            spool.acknowledge("supabase", spool.position)
        assert spool.state().retained <= 1
    with Spool.open(spool_path) as again:
        assert not again.enabled("legacy")
        assert again.enabled("supabase")


def test_the_newest_events_stay_after_both_paths_have_them(spool: Spool) -> None:
    for n in range(100):
        spool.append([draft(n)])
        spool.acknowledge("supabase", spool.position)
    assert len(spool.read(0, 1000)) == 101
    spool.acknowledge("legacy", spool.position)
    retained = [position for position, _ in spool.read(0, 1000)]
    assert 20 <= len(retained) <= 22
    assert retained[-1] == 101


def test_acknowledgements_never_move_backwards_nor_beyond_the_end(spool: Spool) -> None:
    spool.append([draft(1)])
    spool.acknowledge("legacy", 2)
    spool.acknowledge("legacy", 1)
    assert spool.acknowledged("legacy") == 2
    spool.acknowledge("legacy", 99)
    assert spool.acknowledged("legacy") == 2


def test_everything_is_there_after_opening_again(spool_path: Path) -> None:
    with Spool.open(spool_path, retain_events=0) as first:
        owner = first.owner
        first.open_stream(SYSTEM, 4, None, AT)
        last = first.append([draft(n) for n in range(10)])[-1]
        first.acknowledge("supabase", 5)
        first.acknowledge("legacy", first.position)
    with Spool.open(spool_path, retain_events=0) as second:
        assert second.owner == owner
        assert second.epoch_of(SYSTEM) == 4
        assert second.heads() == {SYSTEM: last.position}
        assert second.acknowledged("supabase") == 5
        assert second.append([draft()])[0].seq == last.seq + 1
        second.acknowledge("supabase", second.position)
        second.acknowledge("legacy", second.position)
    with Spool.open(
        spool_path, retain_events=0
    ) as third:  # every event is deleted: no position is given again
        assert third.position == 12
        third.append([draft()])
        assert third.read(0, 10)[-1][0] == 13


def test_identities_are_version_7_and_unique(spool: Spool) -> None:
    events = spool.append([draft() for _ in range(200)])
    assert {event.id.version for event in events} == {7}
    assert len({event.id for event in events}) == 200
    assert events[0].id.int >> 80 == int(AT.timestamp() * 1000)


def test_a_second_writer_is_told_who_the_first_is(spool: Spool, spool_path: Path) -> None:
    with pytest.raises(SpoolInUse, match=f"process {os.getpid()}") as caught:
        Spool.open(spool_path)
    assert caught.value.pid == os.getpid()


@pytest.mark.parametrize("content", [b"", b"not a database, however long it may be" * 100])
def test_a_damaged_file_is_named_and_left_alone(spool_path: Path, content: bytes) -> None:
    spool_path.write_bytes(content)
    with pytest.raises(SpoolCorrupt, match="mkdir"):
        Spool.open(spool_path)
    assert spool_path.read_bytes() == content


def test_a_page_that_was_overwritten_is_found(spool_path: Path) -> None:
    with Spool.open(spool_path) as spool:
        spool.open_stream(SYSTEM, 1, None, AT)
        spool.append([draft(n) for n in range(500)])
    content = bytearray(spool_path.read_bytes())
    content[4096 * 6 : 4096 * 9] = b"\xff" * 4096 * 3
    spool_path.write_bytes(content)
    with pytest.raises(SpoolCorrupt):
        Spool.open(spool_path)


def test_a_database_of_another_program_is_not_taken_for_a_spool(spool_path: Path) -> None:
    other = sqlite3.connect(spool_path)
    other.execute("create table t (a)")
    other.close()
    with pytest.raises(SpoolCorrupt, match="not a spool"):
        Spool.open(spool_path)


def test_a_log_without_its_file_is_damage(spool_path: Path) -> None:
    spool_path.with_name("spool.db-wal").write_bytes(b"x" * 100)
    with pytest.raises(SpoolCorrupt, match="write-ahead log"):
        Spool.open(spool_path)


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpoolUnwritable, match="No such file or directory"):
        Spool.open(tmp_path / "missing" / "spool.db")


async def test_appended_wakes_every_waiter(spool: Spool) -> None:
    await spool.appended(0)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiters = [group.create_task(spool.appended(1)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiters)
        spool.append([draft()])


async def test_a_cancelled_waiter_leaves_nothing_behind(spool: Spool) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await spool.appended(1)
    assert not spool._waiters


def test_large_events_are_read_a_few_at_a_time(spool: Spool) -> None:
    for _ in range(25):
        spool.append([Draft(SYSTEM, Kind.METRIC_COLLECTED, AT, {"text": "x" * 400_000})])
    assert [position for position, _ in spool.read(1, 500)] == list(range(2, 11))
    assert [position for position, _ in spool.read(10, 500)] == list(range(11, 20))


def test_a_reader_sees_what_the_writer_committed(spool: Spool, spool_path: Path) -> None:
    with SpoolReader(spool_path) as reader:
        assert reader.owner == spool.owner
        events = spool.append([draft(n) for n in range(10)])
        assert reader.heads() == spool.heads()
        assert reader.position() == 11
        assert [event for _, event in reader.read(3, 4, upto=5)] == events[2:4]
        spool.acknowledge("legacy", 4)
        assert reader.acknowledged() == {"supabase": 0, "legacy": 4}


def test_a_reader_of_nothing_says_so(spool_path: Path) -> None:
    with pytest.raises(SpoolUnwritable, match="unable to open"):
        SpoolReader(spool_path)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    payload=st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), json_values, max_size=5),
    at=st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001 - made aware below
)
def test_any_event_survives_the_spool(spool: Spool, payload: dict[str, object], at: datetime) -> None:
    event = spool.append([Draft(SYSTEM, "anything", at.replace(tzinfo=UTC), payload)])[0]
    assert to_json(spool.read(spool.position - 1, 1)[0][1]) == to_json(event)
