"""What a viewer reads on the page, with everything but the browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from monitoring.errors import Refused, Unreachable
from monitoring.flags.model import Flags
from monitoring.service import Backend
from tests.fakes.dashboard_service import ReplayedService, parity_report

pytestmark = [
    # Streamlit starts no server here and says so, and its protobuf and pandas code warns of its own future.
    pytest.mark.filterwarnings("ignore:::streamlit"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def text(app: AppTest) -> str:
    """Return everything that is written on the page."""
    groups = (app.markdown, app.caption, app.subheader, app.warning, app.info, app.error)
    return "\n".join(str(each.value) for group in groups for each in group)


def frames(app: AppTest) -> str:
    """Return what the tables hold."""
    return "\n".join(each.value.to_string() for each in (*app.dataframe, *app.table))


def test_a_full_page(open_page: Any) -> None:
    page = open_page(ReplayedService(history=300), parity=lambda: parity_report(datetime.now(UTC)))
    app = page.when(
        lambda frame: frame.connection.ever_live and frame.parity and len(frame.state.samples) > 290
    )
    written, tables = text(app), frames(app)
    assert "box-1" in written
    assert "Live ·" in written
    assert "Fed by legacy · flags want Supabase" in written
    assert "`viewer-1`" in written
    assert "**100 %** of clients on Supabase" not in written  # it is the bar's own text
    assert [metric.label for metric in app.metric] == [
        "CPU",
        "Memory",
        "Load per core",
        "Network in",
        "Network out",
        "Disk",
    ]
    assert app.metric[0].value.endswith(" %")
    assert len(app.get("echarts_chart")) == 3
    assert "Pass" in written
    assert "/var/lib/postgresql" in tables
    assert "nginx:1.27" in tables
    assert "metric_collected" in tables
    assert "`ops@example.com`" in tables


def test_the_badge_follows_a_move_and_the_move_is_told(open_page: Any) -> None:
    service = ReplayedService(history=5, interval=None)
    page = open_page(service)
    page.when(lambda frame: frame.connection.ever_live)
    page.hub._loop.call_soon_threadsafe(service.move, Backend.SUPABASE)
    written = text(
        page.when(lambda frame: frame.state.moves and frame.connection.backend is Backend.SUPABASE)
    )
    assert "Fed by Supabase · percentage" in written
    assert "moved **legacy → Supabase**" in written
    assert "0 lost" in written


def test_an_empty_page_says_why_everything_is_empty(open_page: Any) -> None:
    docker = {"docker": {"available": False, "detail": "Docker is not there: no socket"}}
    page = open_page(ReplayedService(history=0, interval=None, with_containers=False), collect=lambda: docker)
    app = page.when(lambda frame: frame.connection.ever_live and frame.docker_note is not None)
    written = text(app)
    assert "Waiting for a host" in written
    assert "not compared yet" in written
    assert r"Docker is not there\: no socket" in written
    assert "No event has come yet." in written
    assert "No disk has been reported yet." in written
    assert "no moves since this viewer connected" in written
    assert len(app.metric) == 6


def test_an_outage_is_on_the_page_with_its_time(open_page: Any) -> None:
    service = ReplayedService(history=5, interval=None)
    page = open_page(service)
    page.when(lambda frame: frame.connection.ever_live)
    page.hub._loop.call_soon_threadsafe(lambda: service.outage(up=False))
    written = text(page.when(lambda frame: frame.connection.down_since is not None))
    assert "Reconnecting · stale since " in written


def test_a_backend_that_was_never_there(open_page: Any) -> None:
    class Absent(ReplayedService):
        async def snapshot(self, topics: Any) -> Any:
            raise Unreachable("legacy", "connection refused")

    app = open_page(Absent(history=0, interval=None)).when(lambda frame: frame.connection.detail)
    assert "Connecting" in text(app)
    assert "No backend yet" in text(app)


def test_a_refused_flag_file_is_said(open_page: Any) -> None:
    page = open_page(
        ReplayedService(history=0, interval=None), flags=lambda: (Flags(), "line 7: percent is 120")
    )
    app = page.when(lambda frame: frame.rollout.problem)
    assert "the last good flags stay" in text(app)
    assert "line 7" in text(app)


def test_the_page_keeps_drawing(open_page: Any) -> None:
    page = open_page(ReplayedService(history=5, interval=None))
    for _ in range(3):
        page.when(lambda frame: frame.connection.ever_live)


def test_a_refusal_is_said_with_what_to_do(open_page: Any) -> None:
    class Refusing(ReplayedService):
        async def snapshot(self, topics: Any) -> Any:
            raise Refused("supabase", "wrong key", "check SUPABASE_KEY")

    app = open_page(Refusing(history=0, interval=None)).when(lambda frame: frame.connection.refused)
    assert "Refused · no data yet" in text(app)
    assert "crossfade doctor" in app.warning[0].value
