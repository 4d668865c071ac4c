from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.judge import from_json, to_json
from monitoring.device_status import Condition, Hysteresis, Outcome, Status, observe, stop

START = datetime(2026, 11, 21, tzinfo=UTC)
LETTERS = {"w": Outcome.WHOLE, "p": Outcome.PARTIAL, "r": Outcome.REFUSED, "s": Outcome.SILENT}


def played(script: str, condition: Condition | None = None) -> list[Condition]:
    """Play readings: a letter is an outcome, a digit before it the source."""
    found = [condition or Condition()]
    source = "1"
    for number, letter in enumerate(script):
        if letter.isdigit():
            source = letter
            continue
        at = START + timedelta(seconds=number)
        found.append(observe(found[-1], LETTERS[letter], source=source, reason=letter, at=at))
    return found


def statuses(script: str) -> str:
    return " ".join(condition.status.value for condition in played(script)[1:])


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("w", "up"),
        ("p", "degraded"),
        ("sss", "unknown unknown unreachable"),
        ("rrr", "unknown unknown down"),
        ("ws", "up up"),  # a blip is nothing
        ("wsw", "up up up"),
        ("wsss", "up up degraded unreachable"),
        ("wrrr", "up up degraded down"),
        ("wsrs", "up up degraded unreachable"),
        ("wsssw", "up up degraded unreachable degraded"),  # one answer is no recovery
        ("wsssww", "up up degraded unreachable degraded up"),
        ("wsssws", "up up degraded unreachable degraded degraded"),
        ("wsssr", "up up degraded unreachable unreachable"),
        ("wsssrr", "up up degraded unreachable unreachable down"),
        ("wp", "up up"),
        ("wpp", "up up degraded"),
        ("wppw", "up up degraded degraded"),
        ("wppww", "up up degraded degraded up"),
        ("swsw", "unknown up up up"),
    ],
)
def test_statuses_follow_readings_with_patience(script: str, expected: str) -> None:
    assert statuses(script) == expected


def test_sources_find_an_outage_together() -> None:
    assert statuses("1w2w1s2s3s") == "up up up degraded unreachable"


def test_a_source_that_is_partial_is_not_mended_by_another() -> None:
    assert statuses("1w2p2p1w1w1w") == "up up degraded degraded degraded degraded"
    assert statuses("1w2p2p1w2w") == "up up degraded degraded up"


def test_what_is_known_is_kept_when_nobody_reads_any_more() -> None:
    up = played("wss")[-1]
    assert stop(Condition(), reason="stopped", at=START) == Condition()
    stopped = stop(up, reason="stopped", at=START)
    assert (stopped.status, stopped.reason, stopped.since) == (Status.UNKNOWN, "stopped", START)
    assert (
        played("s", stopped)[-1].status == Status.UNREACHABLE
    )  # the third in a row, though between restarts


@given(st.text("123wprs", max_size=60))
def test_a_condition_survives_being_written_down(script: str) -> None:
    condition = played(script)[-1]
    assert from_json(to_json(condition)) == condition


@given(st.text("123wprs", max_size=60))
def test_since_moves_exactly_with_the_status_and_three_losses_always_tell(script: str) -> None:
    conditions = played(script)
    for before, after in itertools.pairwise(conditions):
        assert (before.status == after.status) == (before.since == after.since)
    assert played("sss", conditions[-1])[-1].status == Status.UNREACHABLE
    assert played("1ww2ww3ww", conditions[-1])[-1].status == Status.UP


@given(st.text("wprs", max_size=60))
def test_a_status_is_never_lost_before_so_many_losses_in_a_row(script: str) -> None:
    rule = Hysteresis()
    row = 0
    before = Status.UNKNOWN
    for letter, condition in zip(script, played(script)[1:], strict=True):
        row = row + 1 if letter in "rs" else 0
        if condition.status in {Status.DOWN, Status.UNREACHABLE} and before != condition.status:
            assert row >= rule.lost_after
        before = condition.status
