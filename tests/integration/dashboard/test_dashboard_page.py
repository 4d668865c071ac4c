"""What a viewer reads on the page, with everything but the browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.app import PAGES
from dashboard.hub import Frame
from dashboard.place import Place
from monitoring.errors import Refused, Unreachable
from monitoring.events import StreamId
from monitoring.flags.model import Flags
from monitoring.service import Backend
from tests.fakes.dashboard_records import Kept
from tests.fakes.dashboard_service import ReplayedService, event, parity_report

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


def samples(frame: Frame) -> int:
    """Return how many readings the page has."""
    return sum(len(host.samples) for host in frame.state.hosts.values())


def test_the_overview_in_full(open_page: Any) -> None:
    page = open_page(ReplayedService(history=300), parity=lambda: parity_report(datetime.now(UTC)))
    app = page.when(lambda frame: frame.connection.ever_live and frame.parity and samples(frame) > 290)
    written, tables = text(app), frames(app)
    assert "Live ·" in written
    assert "Fed by legacy · flags want Supabase" in written
    assert "`viewer-1`" in written
    assert "**100 %** of clients on Supabase" not in written  # it is the bar's own text
    assert [metric.label for metric in app.metric] == [
        "Hosts up",
        "Containers",
        "Events",
        "Sessions",
        "Requests",
        "Connections",
    ]
    assert app.metric[0].value == "1 of 1"
    assert "Pass" in written
    assert "**mailer** on box-1 is unhealthy" in written
    assert "box-1" in tables
    assert "`ops@example.com`" in tables


def test_a_host_in_full(open_page: Any) -> None:
    page = open_page(ReplayedService(history=300), "hosts")
    app = page.when(lambda frame: frame.connection.ever_live and samples(frame) > 290)
    written, tables = text(app), frames(app)
    assert app.selectbox[0].value == "box-1"
    assert "8 cores" in written
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
    assert "/var/lib/postgresql" in tables
    assert "nginx:1.27" in tables


def test_containers_are_searched(open_page: Any) -> None:
    page = open_page(ReplayedService(history=5, interval=None), "containers")
    app = page.when(lambda frame: frame.connection.ever_live)
    assert "nginx:1.27" in frames(app)
    app.text_input[0].set_value("postgres").run()
    assert "nginx:1.27" not in frames(app)
    assert "postgres:17.2" in frames(app)
    app.text_input[0].set_value("nothing has this").run()
    assert "No container has that in its name or image." in text(app)


def test_events_are_filtered_paused_and_downloaded(open_page: Any) -> None:
    page = open_page(ReplayedService(history=5, interval=None), "events")
    app = page.when(lambda frame: len(frame.state.feed) == 10)
    assert "metric_collected" in frames(app)
    assert '"kind": "containers_collected"' in app.code[0].value
    app.multiselect[0].set_value(["metric_collected"]).run()
    assert "containers_collected" not in frames(app)
    assert '"kind": "metric_collected"' in app.code[0].value
    assert not app.get("download_button")
    app.toggle[0].set_value(True).run()
    assert app.get("download_button")


def test_the_badge_follows_a_move_and_the_move_is_told(open_page: Any) -> None:
    service = ReplayedService(history=5, interval=None)
    page = open_page(service)
    page.when(lambda frame: frame.connection.ever_live)
    page.do(service.move, Backend.SUPABASE)
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
    assert "No host has been heard yet" in written
    assert "Nothing is watched yet." in written
    assert "not compared yet" in written
    assert "no moves since this viewer connected" in written
    assert len(app.metric) == 6


def test_no_containers_says_why(open_page: Any) -> None:
    docker = {"docker": {"available": False, "detail": "Docker is not there: no socket"}}
    page = open_page(
        ReplayedService(history=1, interval=None, with_containers=False), "containers", collect=lambda: docker
    )
    app = page.when(lambda frame: frame.connection.ever_live and frame.docker_note is not None)
    assert r"Docker is not there\: no socket" in text(app)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_drawn_where_nothing_is_known(open_page: Any, path: str) -> None:
    app = open_page(ReplayedService(history=0, interval=None, with_containers=False), path).when(
        lambda frame: frame.connection.ever_live
    )
    assert "Live · no reading yet" in text(app)


def test_an_outage_is_on_the_page_with_its_time(open_page: Any) -> None:
    service = ReplayedService(history=5, interval=None)
    page = open_page(service)
    page.when(lambda frame: frame.connection.ever_live)
    page.do(lambda: service.outage(up=False))
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


def test_first_steps_are_there_while_there_is_next_to_nothing(open_page: Any) -> None:
    service = ReplayedService(history=1, interval=None)
    page = open_page(service, records=Kept(), place=Place(" --data-dir /srv/x"))
    app = page.when(lambda frame: frame.connection.ever_live and len(frame.state.hosts) == 1)
    assert "nothing but this machine is watched yet" in text(app)
    commands = [each.value for each in app.code]
    assert (
        "crossfade devices add web-1 monitor@web-1.example --key-file ~/.ssh/crossfade --data-dir /srv/x"
        in commands
    )
    assert "crossfade users add ann@example.com --role operator --data-dir /srv/x" in commands
    assert ":green[:material/check: done]" in text(app)  # the rollout of `Kept`
    told = event(StreamId("shop/sessions"), 1, "session_created", datetime.now(UTC), {"session_id": "a"})
    page.do(service.offer, [told])
    assert "First steps" not in text(page.when(lambda frame: frame.state.applications))


def test_first_steps_where_nothing_arrives(open_page: Any) -> None:
    page = open_page(ReplayedService(history=0, interval=None, with_containers=False))
    app = page.when(lambda frame: frame.connection.ever_live)
    assert "nothing has arrived yet" in text(app)
    assert "crossfade doctor" in [each.value for each in app.code]
