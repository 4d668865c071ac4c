"""The rules of alerts on their page, and what one of them would have said."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from crossfade.alert_rules import Previews
from crossfade.errors import CrossfadeError
from crossfade.paths import DataDir
from dashboard.session import Session
from tests.fakes.dashboard_records import RULES, Kept
from tests.fakes.dashboard_service import ReplayedService
from tests.fakes.operating import PEOPLE, Acting
from tests.integration.dashboard.test_dashboard_actions import button, frames, written

pytestmark = [
    pytest.mark.filterwarnings("ignore:::streamlit"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

FLAGS = (Path(__file__).parents[3] / "flags.yaml").read_text()


@pytest.fixture
def open_alerts(open_page: Any) -> Any:
    def opened(token: str | None, records: Kept | None = None) -> AppTest:
        service = ReplayedService(history=1, interval=None)
        page = open_page(service, "alerts", actions=Acting(FLAGS), records=records or Kept())
        if token is not None:
            page.app.session_state["operator"] = Session(PEOPLE[token], datetime.now(UTC))
        return page.when(lambda frame: frame.connection.ever_live)

    return opened


def test_everybody_sees_the_rules(open_alerts: Any) -> None:
    app = open_alerts(None)
    assert "system.cpu_usage avg above 90 over 5 min, until 75" in frames(app)
    assert "web-* !web-9: /" in frames(app)
    assert "Sign in to try a rule" in written(app)
    assert "rule-try" not in {each.key for each in app.button}


def test_a_file_with_a_mistake_is_said(open_alerts: Any) -> None:
    records = Kept()
    records.rules_problem = "line 7: above is missing; the last good rules stay in force"
    app = open_alerts(None, records)
    assert "the last good rules stay in force" in app.warning[0].value


def test_rules_that_cannot_be_read_say_why(open_alerts: Any) -> None:
    records = Kept()
    records.away = True
    assert "does not answer" in written(open_alerts("op", records))


def test_a_viewer_tries_a_rule_on_what_was(open_alerts: Any) -> None:
    app = open_alerts("look")
    next(each for each in app.selectbox if each.key == "rule").set_value("disk-full").run()
    assert "crossfade alerts test disk-full --since 1d" in written(app)
    button(app, "rule-try").click().run()
    assert "would have fired 1 time" in written(app)
    assert "[warning] disk-full: box-1 /" in frames(app)
    next(each for each in app.selectbox if each.key == "rule").set_value("cpu-high").run()
    assert "would have fired" not in written(app)


def test_what_cannot_be_tried_says_why(open_alerts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_alerts("op")
    monkeypatch.setattr("tests.fakes.operating.RULES", RULES[:1])
    next(each for each in app.selectbox if each.key == "rule").set_value("disk-full").run()
    button(app, "rule-try").click().run()
    assert "has no rule" in app.error[0].value


def test_a_rule_is_tried_by_the_command_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(
        "version: 1\nrules: [{name: silent, kind: absence, category: system, after: 20s}]\nend: true\n"
    )
    monkeypatch.setenv("CROSSFADE_ALERTS", str(path))
    with pytest.raises(CrossfadeError, match="has no rule '--help'; rules are silent"):
        Previews(DataDir.of(tmp_path / ".crossfade")).of("--help", 60)
