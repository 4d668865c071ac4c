"""What a viewer may do on the pages, and what an operator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.session import Session
from monitoring.control import ActionFailed
from monitoring.flags.loading import load
from monitoring.rollout.steering import RolloutStep
from tests.fakes.dashboard_records import Kept
from tests.fakes.dashboard_service import ReplayedService, alert_changed
from tests.fakes.operating import PEOPLE, Acting, Person

pytestmark = [
    pytest.mark.filterwarnings("ignore:::streamlit"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

FLAGS = (Path(__file__).parents[3] / "flags.yaml").read_text()
Open = Callable[[str, str | None], tuple[AppTest, Acting]]


@pytest.fixture
def open_as(open_page: Any) -> Open:
    """Open a page over a small host, signed in with a token or not."""

    def opened(path: str, token: str | None = None) -> tuple[AppTest, Acting]:
        acting = Acting(FLAGS)
        page = open_page(
            ReplayedService(history=3, interval=None),
            path,
            actions=acting,
            records=Kept(acting.steered),
            flags=lambda: (load(acting.text), None),
        )
        if token is not None:
            page.app.session_state["operator"] = Session(PEOPLE[token], datetime.now(UTC))
        app = page.when(lambda frame: frame.connection.ever_live and len(frame.state.feed) == 6)
        return app, acting

    return opened


def text(app: AppTest, key: str) -> Any:
    return next(each for each in app.text_input if each.key == key)


def labelled(app: AppTest, label: str) -> Any:
    return next(each for each in app.button if each.label == label)


def button(app: AppTest, key: str) -> Any:
    return next(each for each in app.button if each.key == key)


def written(app: AppTest) -> str:
    groups = (app.markdown, app.caption, app.warning, app.error, app.toast)
    return "\n".join(str(each.value) for group in groups for each in group)


def frames(app: AppTest) -> str:
    return "\n".join(each.value.to_string() for each in (*app.dataframe, *app.table))


def test_the_migration_shows_stage_clients_and_moves(open_as: Open) -> None:
    app, _ = open_as("migration", None)
    assert "**live**" in written(app)
    assert "1 on legacy · 1 on Supabase" in written(app)
    assert "dash-1" in frames(app)
    assert "410 ms" in frames(app)


def test_a_change_is_planned_before_it_is_made(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    app.slider[0].set_value(100.0).run()
    assert "**2** would move to Supabase" in written(app)
    assert "`dash-1`, `dash-2`" in written(app)
    assert not acting.done


@pytest.mark.parametrize("token", [None, "look"])
@pytest.mark.parametrize("path", ["migration", "containers", "alerts"])
def test_who_may_not_change_anything_sees_no_switch(open_as: Open, path: str, token: str | None) -> None:
    app, _ = open_as(path, token)
    assert not app.slider
    keys = {each.key for each in app.button if "FormSubmitter:sign-in" not in (each.key or "")}
    assert keys <= {"sign-out", "rule-try"}  # trying a rule on what was changes nothing


def test_an_operator_changes_a_flag_and_says_why(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    app.slider[0].set_value(25.0).run()
    next(each for each in app.text_input if each.key == "flag-why").set_value("canary").run()
    button(app, "flag-apply").click().run()
    assert acting.done == [("live.percent", "25", "canary")]
    assert load(acting.text).percent == "25"
    assert "Clients follow within a second" in written(app)


@pytest.mark.parametrize(
    ("key", "change", "made"),
    [
        ("kill", lambda app: app.toggle[0].set_value(True), ("kill", "true", "")),
        (
            "live.deny",
            lambda app: text(app, "value-live.deny").set_value("dash-1"),
            ("live.deny", "dash-1", ""),
        ),
    ],
)
def test_switches_and_lists_too(
    open_as: Open, key: str, change: Callable[[AppTest], Any], made: tuple[str, str, str]
) -> None:
    app, acting = open_as("migration", "op")
    next(each for each in app.selectbox if each.key == "flag").set_value(key).run()
    change(app).run()
    button(app, "flag-apply").click().run()
    assert acting.done == [made]


def test_what_cannot_be_meant_is_said_before_it_is_applied(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    next(each for each in app.selectbox if each.key == "flag").set_value("live.allow").run()
    text(app, "value-live.allow").set_value("a client").run()
    assert any("live.allow" in each.value for each in app.warning)
    assert not [each for each in app.button if each.key == "flag-apply"]
    assert not acting.done


def test_somebody_who_was_quicker_is_said(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    acting.conflict = True
    app.slider[0].set_value(25.0).run()
    button(app, "flag-apply").click().run()
    assert "changed by somebody else" in written(app)


def test_nobody_reads_a_log_or_commands_without_signing_in(open_as: Open) -> None:
    app, _ = open_as("containers", None)
    assert "Sign in to read its log" in written(app)
    assert not app.code
    assert not [each for each in app.button if str(each.key).startswith("container-")]


def test_a_viewer_reads_the_log(open_as: Open) -> None:
    app, _ = open_as("containers", "look")
    assert "order 7 taken" in app.code[0].value


def test_an_operator_starts_at_once_and_stops_after_a_question(open_as: Open) -> None:
    app, acting = open_as("containers", "op")
    button(app, "container-start").click().run()
    assert acting.done == [("start", "box-1", "api")]
    button(app, "container-stop").click().run()
    assert acting.done == [("start", "box-1", "api")]
    assert "**Stop** container **api** on box-1?" in written(app)
    app.run()
    assert "**Stop** container **api** on box-1?" in written(app), "drawn anew, it still asks"
    button(app, "confirmed").click().run()
    assert acting.done == [("start", "box-1", "api"), ("stop", "box-1", "api")]
    app.run()
    assert "container **api** on box-1?" not in written(app)


def test_a_log_is_searched_and_its_marks_stay(open_as: Open) -> None:
    app, _ = open_as("containers", "op")
    next(each for each in app.text_input if each.key == "log-search").set_value("ORDER").run()
    assert "api is up" not in app.code[0].value
    assert "order 7 taken" in app.code[0].value
    assert "it was restarted" in app.code[0].value
    assert "1 of 2 lines" in written(app)
    next(each for each in app.toggle if each.key == "log-paused").set_value(True).run()
    assert app.get("download_button")


def test_a_bad_token_is_told_and_a_good_one_lets_in(open_as: Open) -> None:
    app, _ = open_as("migration", None)
    text(app, "token").set_value("x")
    labelled(app, "Use the token").click().run()
    assert "not valid here" in app.error[0].value
    text(app, "token").set_value("op")
    labelled(app, "Use the token").click().run()
    assert "flag-apply" in {each.key for each in app.button}
    button(app, "sign-out").click().run()
    assert "flag-apply" not in {each.key for each in app.button}


def test_a_person_signs_in_by_mail_and_password(open_as: Open) -> None:
    app, _ = open_as("migration", None)
    text(app, "email").set_value("ann@example.com")
    text(app, "password").set_value("wrong")
    labelled(app, "Sign in").click().run()
    assert "Invalid login credentials" in app.error[0].value
    text(app, "password").set_value("correct horse")
    labelled(app, "Sign in").click().run()
    assert "flag-apply" in {each.key for each in app.button}


def test_the_rollout_is_shown_with_its_gates(open_as: Open) -> None:
    app, _ = open_as("migration", None)
    assert "Goes on by itself" in written(app)
    assert "0 of 4,210 events" in frames(app)
    assert "7 min of 15 min" in frames(app)
    assert app.get("echarts_chart")


def test_a_step_is_shown_before_it_is_taken_and_needs_a_reason(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    button(app, "rollout-advance").click().run()
    assert "**live 5 %** → **live 10 %**" in written(app)
    assert button(app, "rollout-confirmed").disabled
    assert not acting.steered.journal
    app.run()
    assert "**live 5 %** → **live 10 %**" in written(app), "drawn anew, it still asks"
    text(app, "rollout-why").set_value("all is well").run()
    button(app, "rollout-confirmed").click().run()
    assert len(acting.steered.journal) == 1
    app.run()
    assert not [each for each in app.button if each.key == "rollout-confirmed"]


def test_a_command_that_is_not_possible_says_why(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    button(app, "rollout-resume").click().run()
    assert "nothing is held" in written(app)
    assert not acting.steered.journal


def test_an_operator_rolls_back_and_the_journal_says_why(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    acting.steer_rollout("op", RolloutStep("rollback", "orders are late"))
    app.run()
    assert "Somebody has to look and acknowledge" in written(app)
    assert "orders are late" in frames(app)
    assert "0 of 4,210 events" in frames(app)
    with pytest.raises(ActionFailed, match="only read"):
        acting.steer_rollout("look", RolloutStep("hold", "no"))


def test_an_operator_acknowledges_and_silences(open_page: Any) -> None:
    acting = Acting(FLAGS)
    service = ReplayedService(history=3, interval=None)
    page = open_page(service, "alerts", actions=acting, flags=lambda: (load(acting.text), None))
    page.app.session_state["operator"] = Session(PEOPLE["op"], datetime.now(UTC))
    page.when(lambda frame: frame.connection.ever_live)
    page.do(service.offer, [alert_changed()])
    app = page.when(lambda frame: frame.state.alerts)
    assert "1 warning" in written(app)
    assert "disk-full" in frames(app)
    button(app, "alert-acknowledge").click().run()
    button(app, "alert-silence").click().run()
    assert acting.done == [("acknowledge", "a-1", ""), ("silence", "box-1", "1800 ")]


def test_a_session_is_renewed_while_its_page_is_open(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    now = datetime.now(UTC)
    soon = Person("ann", "op", "operator", writes=True, expires_at=now + timedelta(seconds=60), renewal="r1")
    later = Person("ann", "op", "operator", writes=True, expires_at=now + timedelta(hours=1), renewal="r2")
    acting.renewals["r1"] = later
    session = app.session_state["operator"] = Session(soon, now - timedelta(hours=1))
    app.run()
    assert session.expires_at == later.expires_at
    assert not acting.renewals
    assert "flag-apply" in {each.key for each in app.button}
    assert "session" not in written(app)


def test_a_session_that_ended_is_told_and_what_was_entered_stays(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    app.slider[0].set_value(25.0).run()
    text(app, "flag-why").set_value("canary").run()
    now = datetime.now(UTC)
    over = Person(
        "ann", "old", "operator", writes=True, expires_at=now - timedelta(seconds=5), renewal="gone"
    )
    app.session_state["operator"] = Session(over, now - timedelta(hours=1))
    app.run()
    assert "Sign in again to act; what is entered here stays." in written(app)
    assert "ann · session ended" in written(app)
    assert (app.slider[0].value, text(app, "flag-why").value) == (25.0, "canary")
    button(app, "flag-apply").click().run()
    assert "not valid here" in written(app)
    assert not acting.done
    text(app, "email").set_value("ann@example.com")
    text(app, "password").set_value("correct horse")
    labelled(app, "Sign in").click().run()
    assert "Sign in again" not in written(app)
    assert (app.slider[0].value, text(app, "flag-why").value) == (25.0, "canary")
    button(app, "flag-apply").click().run()
    assert acting.done == [("live.percent", "25", "canary")]


def test_a_role_that_was_taken_away_takes_the_switches_with_it(open_as: Open) -> None:
    app, acting = open_as("migration", "op")
    now = datetime.now(UTC)
    soon = Person("ann", "op", "operator", writes=True, expires_at=now + timedelta(seconds=60), renewal="r1")
    acting.renewals["r1"] = Person(
        "ann", "look", "viewer", writes=False, expires_at=now + timedelta(hours=1), renewal="r2"
    )
    app.session_state["operator"] = Session(soon, now - timedelta(hours=1))
    app.run()
    assert "flag-apply" not in {each.key for each in app.button}
