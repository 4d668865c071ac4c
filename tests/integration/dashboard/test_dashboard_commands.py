"""Agents and their commands on the page: who sees what, what an operator may have done, and how it goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.session import Session
from monitoring.control import ActionFailed
from monitoring.events import StreamId
from monitoring.flags.loading import load
from tests.fakes.dashboard_records import AGENT, Kept, command
from tests.fakes.dashboard_service import ReplayedService, event
from tests.fakes.operating import PEOPLE, Acting
from tests.integration.dashboard.test_dashboard_actions import button, frames, text, written

pytestmark = [
    pytest.mark.filterwarnings("ignore:::streamlit"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

FLAGS = (Path(__file__).parents[3] / "flags.yaml").read_text()
Opened = tuple[AppTest, Acting, Any]
Open = Callable[..., Opened]


@pytest.fixture
def open_commands(open_page: Any) -> Open:
    """Open the page over one agent and two commands, signed in with a token or not."""

    def opened(token: str | None = None, records: Kept | None = None) -> Opened:
        if records is None:
            records = Kept()
            records.listed_agents = [AGENT]
            records.listed_commands = [
                command(2, "running", progress=40.0, message="half"),
                command(1, "succeeded", output="all done\n", exit_code=0),
            ]
        acting = Acting(FLAGS)
        page = open_page(
            ReplayedService(history=3, interval=None),
            "events",
            actions=acting,
            records=records,
            flags=lambda: (load(acting.text), None),
        )
        if token is not None:
            page.app.session_state["operator"] = Session(PEOPLE[token], datetime.now(UTC))
        app = page.when(lambda frame: frame.connection.ever_live and len(frame.state.feed) == 6)
        return app, acting, page

    return opened


def choice(app: AppTest, key: str) -> Any:
    return next(each for each in app.selectbox if each.key == key)


def test_agents_and_commands_are_there_for_everybody(open_commands: Open) -> None:
    app, _, _ = open_commands()
    assert "restart-shop, disk-usage" in frames(app)
    assert "instance=a wait=5" in frames(app)
    choice(app, "command").set_value(command(1, "succeeded")["id"]).run()
    assert "all done" in "\n".join(each.value for each in app.code)


@pytest.mark.parametrize("token", [None, "look"])
def test_who_may_only_read_sees_no_button(open_commands: Open, token: str | None) -> None:
    app, acting, _ = open_commands(token)
    keys = {str(each.key) for each in app.button}
    assert not [key for key in keys if key.startswith("command-")]
    assert "command-agent" not in {each.key for each in app.selectbox}
    with pytest.raises(ActionFailed, match="only read"):
        acting.submit("look", "web-1", "disk-usage", {}, "k")


def test_an_operator_has_a_command_run_after_a_question(open_commands: Open) -> None:
    app, acting, _ = open_commands("op")
    choice(app, "parameter-web-1-restart-shop-instance").set_value("b").run()
    button(app, "command-run").click().run()
    assert "Run **restart-shop** on **web-1**?" in written(app)
    assert not acting.done
    button(app, "command-confirmed").click().run()
    assert acting.done == [("submit", "restart-shop on web-1", "instance=b wait=5")]
    assert "restart-shop is queued on web-1" in written(app)


def test_what_an_agent_would_not_take_cannot_be_asked(open_commands: Open) -> None:
    app, acting, _ = open_commands("op")
    choice(app, "command-web-1").set_value("disk-usage").run()
    assert "how full a disk is" in written(app)
    text(app, "parameter-web-1-disk-usage-path").set_value("-x").run()
    assert button(app, "command-run").disabled
    assert "must not begin with a dash" in written(app)
    assert not acting.done


def test_an_operator_ends_a_command_after_a_question(open_commands: Open) -> None:
    app, acting, _ = open_commands("op")
    button(app, "command-cancel").click().run()
    assert "End **restart-shop** on **web-1**?" in written(app)
    assert not acting.done
    button(app, "command-confirmed").click().run()
    assert acting.done == [("cancel", command(2, "running")["id"], "")]
    assert "is asked to end" in written(app)


def test_what_has_ended_cannot_be_ended(open_commands: Open) -> None:
    app, _, _ = open_commands("op")
    choice(app, "command").set_value(command(1, "succeeded")["id"]).run()
    assert "command-cancel" not in {each.key for each in app.button}


def test_a_refusal_of_the_service_is_said(open_commands: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    app, acting, _ = open_commands("op")

    def refuse(*_: object) -> str:
        raise ActionFailed("the control service refused: agent web-1 may not run restart-shop")

    monkeypatch.setattr(acting, "submit", refuse)
    button(app, "command-run").click().run()
    button(app, "command-confirmed").click().run()
    assert "may not run restart-shop" in app.error[0].value


def test_progress_is_pushed(open_page: Any) -> None:
    records = Kept()
    records.listed_agents = [AGENT]
    records.listed_commands = [command(2, "running", progress=40.0)]
    service = ReplayedService(history=3, interval=None)
    page = open_page(service, "events", records=records)
    app = page.when(lambda frame: frame.connection.ever_live)
    assert "40.0" in frames(app)
    told = command(2, "running", progress=80.0, revision=4, message="nearly there")
    pushed = event(StreamId("crossfade/commands"), 1, "command_changed", datetime.now(UTC), told)
    page.do(service.offer, [pushed])
    app = page.when(lambda frame: frame.state.commands)
    assert "80.0" in frames(app)
    assert "nearly there" in frames(app)


def test_without_a_control_service_the_page_says_how_to_begin(open_commands: Open) -> None:
    records = Kept()
    records.away = True
    app, _, _ = open_commands("op", records)
    assert "does not answer" in written(app)
    assert "crossfade up --with control" in written(app)


def test_without_an_agent_the_page_says_how_to_begin(open_commands: Open) -> None:
    app, _, _ = open_commands("op", Kept())
    assert "crossfade agent is one" in written(app)
    assert "crossfade agent --check" in written(app)
