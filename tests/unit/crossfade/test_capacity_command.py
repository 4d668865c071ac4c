"""`crossfade capacity`: what is asked, what is measured, and what the exit status says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from crossfade.cli.app import app, register
from crossfade.cli.capacity import number
from crossfade.errors import UsageError
from crossfade.paths import DataDir, write_json
from crossfade.rollout import load
from monitoring.events import format_time

Capacity = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir.of(tmp_path / ".crossfade")
    made.create()
    return made


@pytest.fixture
def capacity(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> Capacity:
    monkeypatch.chdir(data.root.parent)
    register(["capacity"])

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["capacity", *words, "--data-dir", str(data.root)])

    return run


def runs(data: DataDir, *, clients: int = 3, published: int = 600) -> None:
    """Write what the parts of a running installation say of themselves: for ten minutes, one event a second."""
    now = datetime.now(UTC)
    write_json(
        data.client_reports / "1.json",
        {"at": time.time(), "clients": {f"client-{n}": {"backend": "legacy"} for n in range(clients)}},
    )
    total = {"started_at": format_time(now - timedelta(minutes=10)), "published": published}
    write_json(data.parity, {"updated_at": format_time(now), "total": total})
    write_json(
        data.run / "collect.json", {"streams": {"web-1/system": {}, "web-1/drives": {}, "db-1/system": {}}}
    )


def said(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_what_fits_is_said_with_the_mode_to_take(capacity: Capacity) -> None:
    result = capacity("--clients", "10", "--streams", "1", "--rate", "0.5", "--plan", "free")
    assert result.exit_code == 0
    assert "10 clients, 1 streams, 0.5 events/s, plan free: take changes" in result.stdout
    assert (
        "changes: fits, with more messages than a month includes; first to break: messages a month"
        in result.stdout
    )
    assert "broadcast: " in result.stdout


def test_what_does_not_fit_is_exit_status_1_and_says_what_breaks_first(capacity: Capacity) -> None:
    result = capacity("--clients", "500", "--streams", "20", "--rate", "10", "--plan", "free")
    assert result.exit_code == 1
    assert "neither mode fits" in result.stdout
    assert "does not fit; first to break: " in result.stdout


def test_json_has_both_modes(capacity: Capacity) -> None:
    result = capacity(
        "--clients", "10", "--streams", "1", "--rate", "0.5", "--plan", "pro", "--format", "json"
    )
    assert result.exit_code == 0
    text = json.dumps(said(result))
    for word in ("changes", "broadcast", "messages a month", "published", "measured"):
        assert word in text


def test_what_is_not_given_is_taken_from_what_runs(capacity: Capacity, data: DataDir) -> None:
    runs(data)
    assert "3 clients, 3 streams, 1 events/s" in capacity().stdout
    assert "700 clients, 3 streams, 1 events/s" in capacity("--clients", "700").stdout
    assert "3 clients, 9 streams, 2 events/s" in capacity("--streams", "9", "--rate", "2").stdout


def test_a_rate_of_none_is_a_rate(capacity: Capacity) -> None:
    assert (
        "5 clients, 2 streams, 0 events/s"
        in capacity("--clients", "5", "--streams", "2", "--rate", "0").stdout
    )


def test_nothing_that_runs_and_nothing_given_is_a_mistake_that_says_what_to_give(capacity: Capacity) -> None:
    result = capacity("--clients", "5")
    assert isinstance(result.exception, UsageError)
    assert "give --clients, --streams and --rate" in str(result.exception)


@pytest.mark.parametrize(
    "words",
    [
        ("--clients", "0"),
        ("--rate", "-1"),
        ("--plan", "gold"),
        ("--share", "2"),
        ("--batch", "0"),
        ("--streams", "x"),
    ],
)
def test_figures_that_make_no_sense_are_refused(capacity: Capacity, words: tuple[str, str]) -> None:
    assert capacity(*words).exit_code == 2


def test_the_measured_load_is_what_the_parts_say(data: DataDir) -> None:
    assert load.measured(data) is None
    runs(data, published=1200)
    found = load.measured(data)
    assert found is not None
    assert (found.clients, found.streams, found.devices) == (3, 3, 2)
    assert found.rate == pytest.approx(2.0)


def test_beside_anothers_server_the_bridge_says_it(data: DataDir) -> None:
    write_json(
        data.bridge,
        {
            "started_at": "2026-11-21T08:00:00Z",
            "updated_at": "2026-11-21T08:01:40Z",
            "bridge": {"events": 250},
            "streams": {"esm/cpu": {}, "esm/ram": {}},
        },
    )
    found = load.measured(data)
    assert found is not None
    assert (found.streams, found.devices, found.rate) == (2, 1, pytest.approx(2.5))


def test_what_a_bridge_said_long_ago_does_not_count(data: DataDir) -> None:
    runs(data, published=1200)
    alone = load.measured(data)
    write_json(
        data.bridge,
        {
            "started_at": "2020-01-01T00:00:00Z",
            "updated_at": "2020-01-01T00:01:00Z",
            "bridge": {"events": 6000},
            "streams": {"esm/cpu": {}},
        },
    )
    assert load.measured(data) == alone


@pytest.mark.parametrize(
    "parity",
    [{}, {"total": 3}, {"total": {}}, {"total": {"started_at": "x", "published": 1}, "updated_at": "y"}],
)
def test_a_comparison_that_says_nothing_of_use_is_a_rate_of_none(
    data: DataDir, parity: dict[str, Any]
) -> None:
    runs(data)
    write_json(data.parity, parity)
    found = load.measured(data)
    assert found is not None
    assert (found.clients, found.rate) == (3, 0.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, "1"),
        (0.02, "0.02"),
        (56.67, "56.7"),
        (99.99, "100"),
        (5_066_666.7, "5,066,667"),
        (2e6, "2,000,000"),
    ],
)
def test_a_number_has_the_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown
