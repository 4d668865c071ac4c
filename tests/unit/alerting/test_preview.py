"""A rule played over history says what it would have said."""

from __future__ import annotations

from alerting.preview import play, with_parts
from alerting.rule_file import load
from tests.fakes.alert_events import at, cpu

RULES = load(
    """version: 1
channels: [{name: ops, url: json://localhost}]
grouping: {interval: 1s}
rules:
  - {name: silent, kind: absence, category: system, after: 20s}
  - {name: cpu, kind: threshold, metric: system.cpu_usage, above: 90, for: 10s, inhibited_by: [silent], channels: [ops]}
  - {name: other, kind: threshold, metric: system.cpu_usage, above: 1}
end: true
"""
)


def test_changes_and_messages_come_at_their_times() -> None:
    events = [cpu("web-1", second, 95 if 100 <= second < 200 else 5) for second in range(0, 400, 2)]
    found = play(with_parts(RULES, "cpu"), events, at(400))
    assert [(change["rule"], change["firing"], change["since"][14:19]) for change in found.changes] == [
        ("cpu", True, "01:50"),
        ("cpu", False, "03:20"),
    ]
    assert [message.title for message in found.messages] == ["[warning] cpu: web-1", "[resolved] cpu: web-1"]
    assert (found.events, found.first) == (200, at(0))


def test_a_rule_is_played_with_what_it_depends_on_and_without_the_rest() -> None:
    rules = with_parts(RULES, "cpu")
    assert [(rule.name, rule.notify) for rule in rules.rules] == [("silent", False), ("cpu", True)]


def test_no_history_is_no_change() -> None:
    found = play(with_parts(RULES, "cpu"), [], at(400))
    assert (list(found.changes), list(found.messages), found.first) == ([], [], None)
