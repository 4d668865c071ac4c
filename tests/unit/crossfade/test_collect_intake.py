from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.spool import Spool
from crossfade.collect_status import Intake
from monitoring.events import Draft, StreamId

SYSTEM = StreamId("web-1/system")
CONTAINERS = StreamId("web-1/containers")
AT = datetime(2026, 11, 21, tzinfo=UTC)


def test_what_is_refused_is_counted_and_said_once_per_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Spool.open(tmp_path / "spool.db") as spool:
        intake = Intake(spool)
        spool.open_stream(SYSTEM, 1, None, AT)
        for _ in range(3):
            intake.publish([Draft(SYSTEM, "m", AT, {})])
            intake.publish([Draft(CONTAINERS, "m", AT, {})])
        assert intake.events == {SYSTEM: 3}
        assert intake.refused == 3
        assert "StreamNotOpen" in str(intake.last_error)
        spool.open_stream(CONTAINERS, 1, None, AT)
        intake.publish([Draft(CONTAINERS, "m", AT, {})])
        assert intake.last_error is None
        intake.publish([])
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "spool: stream web-1/containers cannot be written: it was never opened; a lease from the database opens it",
        "spool: takes events of web-1/containers again; 3 were refused so far",
    ]
