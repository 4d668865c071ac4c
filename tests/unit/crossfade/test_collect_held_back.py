"""Which path holds the spool back, and what the process says about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters.legacy_link import LinkState
from adapters.postgres_writer import WriterStatus
from adapters.publisher import PublisherStatus
from adapters.spool import Spool, SpoolState
from crossfade.checks_file import ChecksFile
from crossfade.collect_status import Intake, held_back, report
from monitoring.events import Draft, StreamId

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM = StreamId("web-1/system")
AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def state(waiting: Mapping[str, int], used_bytes: int = 0) -> SpoolState:
    return SpoolState(
        position=500,
        retained=500,
        waiting=waiting,
        refused={},
        limit=100,
        used_bytes=used_bytes,
        limit_bytes=1000,
    )


def test_up_to_half_of_the_bound_is_nothing_to_say() -> None:
    assert held_back(state({"supabase": 50, "legacy": 0}), {}) is None
    assert held_back(state({}), {}) is None


def test_the_path_with_the_longest_wait_is_named() -> None:
    found = held_back(state({"supabase": 51, "legacy": 90}), {"supabase": AT, "legacy": AT})
    assert found is not None
    assert (found["path"], found["pending"], found["since"]) == ("legacy", 90, "2026-11-21T08:00:00.000000Z")
    assert "path legacy holds the spool back: 90 events since 2026-11-21T08" in found["detail"]
    assert "at 100 events or 1000 bytes (now 0) no more are taken, for either path" in found["detail"]


def test_few_but_large_events_are_said_too_unless_none_of_them_waits() -> None:
    found = held_back(state({"supabase": 2}, used_bytes=501), {})
    assert found is not None
    assert "now 501" in found["detail"]
    assert held_back(state({"supabase": 0}, used_bytes=501), {}) is None


def told(spool: Spool) -> dict[str, Any]:
    return report(
        device="web-1",
        running=True,
        started_at=AT,
        spool=spool,
        intake=Intake(spool),
        publisher=PublisherStatus(
            spool.state(), WriterStatus(), LinkState(False, "away", 0, 0, unsendable_events=0, connects=0)
        ),
        schedules=[],
        docker=None,
        checks=ChecksFile(Path("checks.yaml"), Path("checks.good.yaml")),
    )


def test_the_status_says_what_waits_and_since_when(tmp_path: Path) -> None:
    with Spool.open(tmp_path / "spool.db", max_events=10, retain_events=0) as spool:
        spool.open_stream(SYSTEM, 1, None, AT)
        for n in range(1, 6):
            spool.append([Draft(SYSTEM, "m", AT + timedelta(seconds=n), {})])
        spool.acknowledge("supabase", spool.position)
        spool.acknowledge("legacy", 1)
        status = told(spool)
        assert status["spool"]["limit"] == 10
        assert status["spool"]["held_back"] is None
        assert status["detail"] == "collecting"
        assert status["paths"]["supabase"]["pending_since"] is None
        assert status["paths"]["legacy"]["pending_since"] == "2026-11-21T08:00:01.000000Z"
        spool.append([Draft(SYSTEM, "m", AT + timedelta(seconds=6), {})])
        status = told(spool)
        assert status["spool"]["held_back"]["path"] == "legacy"
        assert status["detail"] == status["spool"]["held_back"]["detail"]
        spool.set_enabled("legacy", enabled=False)
        assert told(spool)["spool"]["held_back"] is None


def test_a_spool_that_cannot_be_read_still_has_a_status(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool.open(path) as spool:
        spool.open_stream(SYSTEM, 1, None, AT)
        spool._db.execute("drop table events")
        assert told(spool)["paths"]["legacy"]["pending_since"] is None


@pytest.mark.parametrize("path", ["supabase", "legacy"])
def test_a_path_that_is_off_waits_for_nothing(tmp_path: Path, path: Any) -> None:
    with Spool.open(tmp_path / "spool.db") as spool:
        spool.open_stream(SYSTEM, 1, None, AT)
        assert spool.waiting_since(path) == AT
        spool.set_enabled(path, enabled=False)
        assert spool.waiting_since(path) is None
