"""State against state: snapshots of both sides."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId
from monitoring.service import Snapshot
from tests.unit.validation.conftest import STREAM, make_event
from validation.rules import NO_RULES, Rules, parse_rules
from validation.states import (
    StateClass,
    StateResult,
    States,
    snapshot_from_json,
    snapshot_to_json,
    verdict_of,
)
from validation.verdict import Verdict

OTHER = StreamId("web-2/drives")


def snapshot(*events: Event, **at: int) -> Snapshot:
    """A snapshot that stands at the newest of its events, or where it is told to."""
    cursor = Cursor()
    for event in events:
        cursor = cursor.merged({event.stream: event.position})
    return Snapshot(events, cursor.merged({StreamId(name): Position(1, seq) for name, seq in at.items()}))


def compared(
    legacy: Snapshot,
    supabase: Snapshot,
    start: dict[StreamId, Position] | None = None,
    rules: Rules = NO_RULES,
) -> StateResult:
    states = States(start or {}, rules)
    states.take(legacy, supabase)
    return states.finish()


def counts(result: StateResult) -> dict[StateClass, int]:
    return {found: count for found, count in result.counts.items() if count}


A, B = make_event(7, cpu=1.0, disks=[{"used": 1}, {"used": 2}]), make_event(9, kind="status", up=True)
DRIVES = make_event(4, stream=OTHER)


def test_a_state_equals_itself_in_other_words() -> None:
    said = replace(A, payload={"disks": [{"used": 1}, {"used": 2}], "cpu": 1, "n": 7})
    result = compared(snapshot(A, B, DRIVES), snapshot(said, B, DRIVES))
    assert counts(result) == {StateClass.MATCHED: 3}
    assert result.finding is None
    assert verdict_of(result) is Verdict.PASS


def test_every_field_that_differs_is_told() -> None:
    said = replace(A, payload={"disks": [{"used": 1}, {"used": 3}], "cpu": 2.0, "n": 7})
    result = compared(snapshot(A, B), snapshot(said, B))
    assert counts(result) == {StateClass.MATCHED: 1, StateClass.MISMATCH: 1}
    (sample,) = result.samples
    assert sample.details == (
        "payload.cpu: legacy has 1.0, supabase has 2.0",
        "payload.disks[1].used: legacy has 2, supabase has 3",
    )
    assert verdict_of(result) is Verdict.FAIL


def test_rules_let_fields_differ_and_count_that() -> None:
    said = replace(A, payload={**A.payload, "cpu": 1.005})
    rules = parse_rules([{"path": "payload.cpu", "tolerance": 0.01}], date(2026, 1, 1))
    result = compared(snapshot(A), snapshot(said), rules=rules)
    assert (counts(result), result.passed) == ({StateClass.MATCHED: 1}, {"payload.cpu": 1})


@pytest.mark.parametrize(
    ("legacy", "supabase", "found"),
    [
        (snapshot(A, B), snapshot(B), StateClass.MISSING_SUPABASE),
        (snapshot(B), snapshot(A, B), StateClass.MISSING_LEGACY),
        (snapshot(A, B, DRIVES), snapshot(A, B), StateClass.MISSING_SUPABASE),
        (snapshot(A, B), snapshot(A, B, DRIVES), StateClass.MISSING_LEGACY),
        (snapshot(A, B), snapshot(replace(A, seq=6), B), StateClass.MISMATCH),
    ],
    ids=[
        "a kind of Supabase",
        "a kind of legacy",
        "a stream of Supabase",
        "a stream of legacy",
        "an older one",
    ],
)
def test_what_one_side_lacks_is_missing_there(
    legacy: Snapshot, supabase: Snapshot, found: StateClass
) -> None:
    result = compared(legacy, supabase)
    assert result.differ == result.counts[found] == 1
    assert str(found) in (result.finding or "")


def test_what_the_legacy_server_forgot_in_a_restart_before_the_run_is_excluded_and_what_supabase_lacks_is_not() -> (
    None
):
    start = {STREAM: Position(1, 8)}
    assert counts(compared(snapshot(B), snapshot(A, B), start))[StateClass.EXCLUDED] == 1
    assert compared(snapshot(A, B), snapshot(B), start).differ == 1
    assert compared(snapshot(A), snapshot(A, B, web=9), {STREAM: Position(1, 6)}).differ == 0, (
        "B is on its way"
    )


def test_streams_that_move_are_compared_with_a_later_pair_or_said() -> None:
    states = States({})
    assert states.take(snapshot(A, DRIVES), snapshot(A, B, DRIVES)), "another pair would tell more"
    spoilt = replace(DRIVES, payload={})  # compared already
    assert not states.take(snapshot(A, B, DRIVES), snapshot(A, B, spoilt))
    assert counts(states.finish()) == {StateClass.MATCHED: 3}
    moving = compared(snapshot(A), snapshot(A, B))
    assert counts(moving) == {StateClass.MOVING: 2}
    assert verdict_of(moving) is Verdict.INCONCLUSIVE


def test_events_about_the_delivery_are_no_state() -> None:
    opened: Any = make_event(1)
    result = compared(snapshot(opened, A), snapshot(A))
    assert counts(result) == {StateClass.MATCHED: 1}


def test_nothing_at_all_is_no_data_and_a_problem_is_an_error() -> None:
    assert verdict_of(compared(snapshot(), snapshot())) is Verdict.NO_DATA
    assert verdict_of(StateResult(problem="away")) is Verdict.ERROR


def test_a_snapshot_survives_a_recording() -> None:
    before = snapshot(A, B, DRIVES)
    after = snapshot_from_json(snapshot_to_json(before))
    assert counts(compared(before, after)) == {StateClass.MATCHED: 3}
    assert after.cursor == before.cursor
