"""What is kept on disk, and what is made of a file that is not as it should be."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from alerting.engine import Memory
from alerting.errors import StoreUnusable
from alerting.lifecycle import Alert, Key
from alerting.store import MOST_EVENTS, Store
from monitoring.cursor import Cursor
from monitoring.events import Position, StreamId

KEY = Key("cpu", "web-1", "")


def test_the_cursor_comes_back_with_what_was_made_from_it(tmp_path: Path) -> None:
    cursor = Cursor({StreamId("web-1/system"): Position(1, 7)})
    with Store.open(tmp_path / "alerts.db") as store:
        assert store.load() == (Memory(), None)
        store.save(Memory(alerts={KEY: Alert(KEY)}), [KEY, Key("gone", "x", "")], cursor, [])
    with Store.open(tmp_path / "alerts.db") as store:
        memory, found = store.load()
    assert (memory.alerts, found) == ({KEY: Alert(KEY)}, cursor)


def test_events_wait_in_their_order_until_they_are_taken_and_the_newest_are_kept(tmp_path: Path) -> None:
    with Store.open(tmp_path / "alerts.db") as store:
        store.save(Memory(), [], None, [{"number": number} for number in range(MOST_EVENTS + 5)])
        first = store.waiting(2)
        assert [each.event["number"] for each in first] == [5, 6]
        assert store.dropped == 5
        store.taken(each.number for each in first)
        assert store.waiting(1)[0].event == {"number": 7}


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path / "alerts.db"), pytest.raises(StoreUnusable, match="in use by another process"):
        Store.open(tmp_path / "alerts.db")


def test_a_file_that_is_none_of_ours_is_said(tmp_path: Path) -> None:
    (tmp_path / "alerts.db").write_bytes(b"not a database at all, and long enough to be looked at" * 20)
    with pytest.raises(StoreUnusable, match="move the file away"):
        Store.open(tmp_path / "alerts.db")


def test_what_another_version_wrote_is_left_out_and_the_rest_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "alerts.db"
    with Store.open(path) as store:
        store.save(Memory(alerts={KEY: Alert(KEY)}), [KEY], None, [])
    with sqlite3.connect(path) as database:
        database.execute("insert into alerts values ('x', 'y', 'z', '{}', null)")
    database.close()
    with Store.open(path) as store:
        memory, _ = store.load()
    assert list(memory.alerts) == [KEY]
    assert "1 entries cannot be read" in caplog.text
