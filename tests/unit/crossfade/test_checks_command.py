from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from crossfade.cli.app import app, register
from crossfade.cli.status import collectors_table
from crossfade.conditions import Conditions
from crossfade.errors import CrossfadeError, UsageError
from monitoring.device_status import Condition, Status


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROSSFADE_CHECKS", raising=False)
    register(["checks"])
    (tmp_path / ".crossfade" / "run").mkdir(parents=True)
    return tmp_path / ".crossfade"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["checks", *words])


def told(*words: str) -> Any:
    done = run(*words, "--format", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_without_a_file_there_are_no_checks(here: Path) -> None:
    for command in ("list", "validate", "test"):
        done = run(command)
        assert done.exit_code == 0
        assert "no checks" in done.output


def test_a_file_is_listed_with_what_the_collector_found(here: Path) -> None:
    (here / "checks.yaml").write_text("checks: {cache: {redis: 'redis://:hidden@h:1/0', every: 30s}}")
    (here / "run" / "collect.json").write_text(
        json.dumps({"collectors": {"check cache": {"status": "down", "last_error": "closed"}}})
    )
    (check,) = told("list")["checks"]
    assert (check["target"], check["every_seconds"], check["status"], check["last_error"]) == (
        "redis://h:1/0", 30.0, "down", "closed",
    )  # fmt: skip
    assert told("validate")["checks"] == ["cache"]
    assert "hidden" not in run("list").output


def test_a_mistake_is_said_with_its_line(here: Path) -> None:
    (here / "checks.yaml").write_text("checks:\n  a:\n    http: nowhere\n")
    done = run("validate")
    assert isinstance(done.exception, CrossfadeError)
    assert "line 3: a.http" in str(done.exception)


def test_a_check_that_is_not_met_is_an_exit_status(here: Path) -> None:
    (here / "checks.yaml").write_text("checks: {a: {http: 'http://127.0.0.1:1/'}}")
    done = run("test", "a")
    assert done.exit_code == 1
    assert "nothing listens" in done.output
    assert isinstance(run("test", "b").exception, UsageError)


def test_collectors_are_shown_with_their_counts() -> None:
    now = datetime(2026, 11, 26, 12, 0, 10, tzinfo=UTC)
    report = {
        "host": {"interval_seconds": 2.0, "last_success": "2026-11-26T12:00:07Z", "read": 9, "late": 3, "status": "up"},
        "check a": {"interval_seconds": 30.0, "last_success": None, "failed": 4, "last_error": "it answers 503"},
    }  # fmt: skip
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(collectors_table(report, now))
    *_, host, check, error = captured.get().splitlines()
    assert host.split() == ["host", "2", "s", "3s", "ago", "9", "0", "0", "3", "0", "up"]
    assert check.split()[:8] == ["check", "a", "30", "s", "never", "0", "4", "0"]
    assert error == "last error of check a: it answers 503"


def test_conditions_survive_and_a_damaged_file_is_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "conditions.json"
    known = Condition(status=Status.DOWN, since=datetime(2026, 11, 26, tzinfo=UTC), losses=3)
    Conditions(file).keep({"device a": known})
    again = Conditions(file)
    assert again.remembered == {"device a": known}
    again.keep({"device b": known})
    assert set(Conditions(file).remembered) == {"device a", "device b"}
    file.write_text('{"device a": {"status": "sideways"}, "device b": 7}')
    assert Conditions(file).remembered == {}
    assert "device a" in caplog.text
    file.write_bytes(b"\xff")
    assert Conditions(file).remembered == {}
    Conditions(tmp_path / "nowhere" / "c.json").keep({"device a": known})
    assert "cannot be kept" in caplog.text
