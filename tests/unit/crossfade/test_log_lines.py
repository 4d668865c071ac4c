from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crossfade.log_lines import LogTail, merged, time_of
from crossfade.supervisor.logfile import LogFile

PRETTY = b"2026-11-27T01:00:0%d.000001Z [info     ] said %s\n"


@pytest.mark.parametrize(
    ("line", "time"),
    [
        ("2026-11-27T01:00:00.5Z [info] x", "2026-11-27T01:00:00.500000"),
        ("2026-11-27 01:00:00.123 UTC [1] LOG:  x", "2026-11-27T01:00:00.123000"),
        ("2026-11-27 01:00:00,123 INFO x", "2026-11-27T01:00:00.123000"),
        ('{"event":"x","timestamp":"2026-11-27T01:00:00.5Z"}', "2026-11-27T01:00:00.500000"),
        ("Traceback (most recent call last):", None),
    ],
)
def test_the_time_of_a_line_in_each_form_that_parts_write(line: str, time: str | None) -> None:
    assert time_of(line) == time


def test_lines_are_merged_by_time_and_a_traceback_stays_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(PRETTY % (1, b"a1") + b"Traceback\n  deep\n" + PRETTY % (3, b"a3"))
    (tmp_path / "b.log").write_bytes(PRETTY % (2, b"b2") + b"half a li")
    tails = [LogTail(name, tmp_path / f"{name}.log") for name in ("a", "b", "absent")]
    found = merged(tail.last(10) for tail in tails)
    assert [line.text.split()[-1] for line in found] == ["a1", "Traceback", "deep", "b2", "a3"]
    assert [line.part for line in found] == ["a", "a", "a", "b", "a"]


def test_what_is_added_is_followed_over_a_file_that_is_turned_over(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", max_bytes=100)
    tail = LogTail("a", tmp_path / "a.log")
    assert tail.last(5) == []
    seen = []
    for number in range(40):
        log.write(b"line %d\n" % number)
        if number % 3 == 0:
            seen += tail.added()
    log.close()
    seen += tail.added()
    assert [line.text for line in seen] == [f"line {number}" for number in range(40)]


SCRIPT = """
import logging, structlog
from crossfade import logs
logs.to_stderr(logging.INFO)
with structlog.contextvars.bound_contextvars(request_id="r-1"):
    logging.getLogger("old").warning("said %d", 1)
    structlog.get_logger("new").info("done", count=2)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("old").exception("failed")
"""


def said(form: str) -> list[str]:
    environment = {"CROSSFADE_LOG_FORMAT": form, "CROSSFADE_PART": "query", "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_every_line_is_json_with_its_part_and_the_id_of_its_request() -> None:
    first, second, third = map(json.loads, said("json"))
    assert (first["event"], first["level"], first["logger"]) == ("said 1", "warning", "old")
    assert (second["event"], second["count"], second["level"]) == ("done", 2, "info")
    assert {line["part"] for line in (first, second, third)} == {"query"}
    assert first["request_id"] == second["request_id"] == "r-1"
    assert "request_id" not in third
    assert "ZeroDivisionError" in third["exception"]


def test_lines_for_people_have_the_same() -> None:
    first, second, *rest = said("pretty")
    assert "said 1" in first
    assert "request_id=r-1" in first
    assert "count=2" in second
    assert time_of(first)
    assert "ZeroDivisionError: division by zero" in rest[-1]
