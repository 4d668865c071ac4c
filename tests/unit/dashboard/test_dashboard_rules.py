"""Rules of alerts, and what one would have said, in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.rule_file import load
from crossfade.alert_rules import _rule
from dashboard import reports
from dashboard.alerts import applied
from dashboard.hub import Frame
from dashboard.model import Connection, State
from dashboard.rules import Rule, preview, rules
from dashboard.views import rules as view
from monitoring.flags.model import Flags
from tests.fakes.dashboard_records import RULES, preview_report
from tests.fakes.dashboard_service import alert_changed

EMPTY = Frame(1, "viewer-1", Connection(), State(), reports.rollout(Flags(), None, "viewer-1"))
SHIPPED = load((Path(__file__).parents[3] / "alerts.yaml").read_text())
OWN = """
version: 1
channels: [{name: ops, url: "json://localhost"}]
rules:
  - {name: down, kind: state, metric: containers.status, states: [exited, dead], was: [running], for: 30s}
  - {name: silent, kind: absence, category: system, after: 20s, devices: ["web-*"]}
  - {name: errors, kind: rate, metric: shop.errors, over: 1m, above: 5, notify: false}
  - {name: both, kind: composite, all: [down, silent], channels: [ops]}
  - {name: either, kind: composite, any: [down, silent]}
  - {name: full, kind: threshold, metric: system.disks.used_percent, above: 90, clear: 80, over: 5m, items: [/]}
end: true
"""


def of(text: str = OWN) -> dict[str, Rule]:
    found = load(text)
    told = {
        "rules": [_rule(each) for each in found.rules],
        "channels": [each.name for each in found.channels],
    }
    return {each.name: each for each in rules(told).rules}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("down", "containers.status is exited or dead, and was running"),
        ("silent", "nothing of system for 20 s"),
        ("errors", "shop.errors above 5 per second over 60 s"),
        ("both", "all of down, silent"),
        ("either", "any of down, silent"),
        ("full", "system.disks.used_percent avg above 90 over 5 min, until 80"),
    ],
)
def test_a_rule_says_when_it_fires(name: str, words: str) -> None:
    assert view.condition(of()[name]) == words


def test_a_rule_says_where_and_who_is_told() -> None:
    found = of()
    assert [view.where(found[name]) for name in ("down", "silent", "full")] == [
        "everywhere",
        "web-*",
        "everywhere: /",
    ]
    whole = rules({"rules": [], "channels": ["ops", "night"]})
    assert view.told(found["down"], whole) == "ops, night"
    assert view.told(found["both"], whole) == "ops"
    assert view.told(found["errors"], whole) == "nobody: a part of others"
    assert view.told(found["down"], rules({})) == "nobody: there is no channel"


def test_every_rule_that_comes_with_it_has_a_sentence() -> None:
    found = rules({"rules": [_rule(each) for each in SHIPPED.rules]})
    rows = view.rows(found, EMPTY)
    assert len(rows["Rule"]) == len(SHIPPED.rules)
    assert all(rows["Fires when"])
    assert "at once" in rows["For"]


def test_rules_say_what_fires_now() -> None:
    frame = replace(EMPTY, state=State(alerts=applied({}, alert_changed())))
    rows = view.rows(rules({"rules": RULES}), frame)
    assert dict(zip(rows["Rule"], rows["Fires now"], strict=True)) == {"cpu-high": 0, "disk-full": 1}
    assert view.rows(rules({}), EMPTY) == {}


def test_a_preview_is_told_newest_first() -> None:
    found = preview(preview_report("disk-full", 86_400))
    assert view.badge(found).text == "would have fired 1 time"
    assert "1 message, of 43" in view.summary(found)
    rows = view.changes(found)
    assert rows["What"] == ["resolved", "firing"]
    assert rows["Value"] == ["71", "93.41"]
    assert view.messages(found)["Text"] == ["make room"]


def test_quiet_and_unknown_are_not_the_same() -> None:
    quiet = preview({"rule": "x", "events": 9, "first": datetime.now(UTC).isoformat()})
    assert view.badge(quiet).color == "green"
    assert view.changes(quiet) == view.messages(quiet) == {}
    nothing = preview({"rule": "x", "events": 0, "first": None})
    assert view.badge(nothing).color == "gray"
    assert "no history" in view.summary(nothing)
    away = preview({"changes": [{"state": "no_data", "since": None}], "first": quiet.first})
    assert view.changes(away)["What"] == ["no data"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(sorted(RULES[0])), JSON),
    st.dictionaries(st.sampled_from(("rule", "events", "first", "changes", "messages")), JSON),
)
def test_whatever_another_version_writes_is_no_error(rule: dict[str, Any], played: dict[str, Any]) -> None:
    view.rows(rules({"rules": [rule | {"name": "x"}]}), EMPTY)
    found = preview(played)
    view.badge(found)
    view.summary(found)
    view.changes(found)
    view.messages(found)
