from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.spool import Spool
from crossfade.collect_status import Publisher
from monitoring.events import Draft, StreamId

SYSTEM = StreamId("web-1/system")
CONTAINERS = StreamId("web-1/containers")
AT = datetime(2026, 11, 21, tzinfo=UTC)


def test_what_is_refused_is_counted_and_said_once_per_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Spool.open(tmp_path / "spool.db") as spool:
        publisher = Publisher(spool)
        spool.open_stream(SYSTEM, 1, None, AT)
        for _ in range(3):
            publisher.publish([Draft(SYSTEM, "m", AT, {})])
            publisher.publish([Draft(CONTAINERS, "m", AT, {})])
        assert publisher.events == {SYSTEM: 3}
        assert publisher.refused == 3
        assert "StreamNotOpen" in str(publisher.last_error)
        spool.open_stream(CONTAINERS, 1, None, AT)
        publisher.publish([Draft(CONTAINERS, "m", AT, {})])
        assert publisher.last_error is None
        publisher.publish([])
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "spool: stream web-1/containers cannot be written: it was never opened; a lease from the database opens it",
        "spool: takes events of web-1/containers again; 3 were refused so far",
    ]
