"""An open spool in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.spool import Spool
from monitoring.events import StreamId

SYSTEM = StreamId("web-1/system")
AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


@pytest.fixture
def spool_path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(spool_path: Path) -> Iterator[Spool]:
    with Spool.open(spool_path, retain_events=20) as opened:
        opened.open_stream(SYSTEM, 1, None, AT)
        yield opened
