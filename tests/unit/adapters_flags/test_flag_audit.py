"""Who changed the flags: one line for each change, and nothing that stands in the way of a change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from adapters import flag_audit

ROOT = Path(__file__).parents[3]
FILE = Path("/etc/flags.yaml")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rollout" / "flags.jsonl"


def test_a_change_is_kept_with_who_when_what_and_why(path: Path) -> None:
    flag_audit.record(path, FILE, ["live.percent: 0 -> 5"], "a try", "ana")
    flag_audit.record(path, FILE, ["kill: false -> true"], "")
    first, second = flag_audit.read(path)
    assert (first["who"], first["why"], first["file"]) == ("ana", "a try", "/etc/flags.yaml")
    assert first["changes"] == ["live.percent: 0 -> 5"]
    assert datetime.fromisoformat(first["at"]).utcoffset() == timedelta(0)
    assert second["who"] == flag_audit.me()
    assert first["id"] != second["id"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_no_change_is_no_entry(path: Path) -> None:
    flag_audit.record(path, FILE, [], "nothing")
    assert not path.exists()
    assert list(flag_audit.read(path)) == []


def test_lines_that_are_none_are_passed_over(path: Path) -> None:
    flag_audit.record(path, FILE, ["a"], "one", "ana")
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole + whole[:length])
        assert [entry["why"] for entry in flag_audit.read(path)] == ["one"]
    path.write_bytes(b'null\n3\n{"id": 1}\n\xff\xfe\n\n' + whole)
    assert [entry["why"] for entry in flag_audit.read(path)] == ["one"]


def test_a_change_after_a_line_that_was_cut_short_is_not_lost_with_it(path: Path) -> None:
    flag_audit.record(path, FILE, ["a"], "one", "ana")
    with path.open("ab") as file:
        file.write(b'{"id": "cut sho')
    flag_audit.record(path, FILE, ["b"], "two", "ana")
    assert [entry["why"] for entry in flag_audit.read(path)] == ["one", "two"]


def test_a_change_that_cannot_be_recorded_is_said_and_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    flag_audit.record(tmp_path / "file" / "flags.jsonl", FILE, ["a"], "why", "ana")
    assert "the change of /etc/flags.yaml is not recorded" in caplog.text


def test_programs_that_write_at_once_keep_every_line_whole(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from adapters import flag_audit\n"
        "for n in range(200): flag_audit.record(Path(sys.argv[1]), Path('f'), ['x' * 500], f'{sys.argv[2]} {n}')\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(path), name], cwd=ROOT, env=os.environ)
        for name in ("a", "b", "c")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    whys = [json.loads(line)["why"] for line in path.read_text().splitlines()]
    assert sorted(whys) == sorted(f"{name} {n}" for name in "abc" for n in range(200))
