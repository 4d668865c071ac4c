"""The rule file: what is refused, on which line, and which rules are in force then."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from alerting.errors import InvalidRules
from alerting.rule_file import RuleFile, load, read
from alerting.rules import Absence, Threshold

ROOT = Path(__file__).parents[3]
GOOD = """version: 1
channels:
  - name: ops
    url: json://localhost
rules:
  - name: cpu
    kind: threshold
    metric: system.cpu_usage
    above: 90
    for: 1m30s
  - name: silent
    kind: absence
    category: system
    after: 20s
end: true
"""


def test_the_rules_that_come_with_it_are_good() -> None:
    rules = read(ROOT / "alerts.yaml")
    assert [rule.name for rule in rules.rules][:2] == ["host-silent", "host-down"]
    assert rules.channels == ()


def test_a_host_that_goes_down_is_noticed_before_its_containers_are() -> None:
    """Or else one cause would be two messages."""
    rules = read(ROOT / "alerts.yaml")
    silent, down = rules.rule("host-silent"), rules.rule("container-down")
    assert isinstance(silent, Absence)
    assert down is not None
    assert silent.after < down.for_


def test_what_is_written_is_what_is_read() -> None:
    rules = load(GOOD)
    cpu, silent = rules.rules
    assert isinstance(cpu, Threshold)
    assert (cpu.above, cpu.for_, cpu.cooldown) == (90.0, timedelta(seconds=90), timedelta(minutes=10))
    assert isinstance(silent, Absence)
    assert "json" not in repr(rules.channels), "the URL is a secret"


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("version: 1", "version: 2", 1, "another version"),
        ("above: 90", "above: ninety", 9, "rules.1.above: 'ninety' is not a number"),
        ("above: 90", "above: nan", 9, "is not a number"),
        ("above: 90", "abve: 90", 9, "rules.1.abve: is no key here; keys are name, kind, metric"),
        ("    above: 90\n", "", 6, "name either above or below"),
        ("    above: 90", "    above: 90\n    clear: 95", 10, "lies beyond the limit"),
        ("    above: 90", "    above: 90\n    above: 91", 10, "'above' is there twice"),
        ("for: 1m30s", "for: 90", 10, "is not a duration; write for example 30s"),
        ("for: 1m30s", "for: 999d", 10, "is not a duration"),
        ("kind: absence", "kind: absent", 11, "there is no kind 'absent'"),
        ("    kind: absence\n", "", 11, "kind is missing"),
        ("    after: 20s\n", "", 11, "rules.2.after: is missing"),
        ("after: 20s", "after: 0s", 14, "must be more than nothing"),
        ("name: silent", "name: cpu", 11, "'cpu' is there twice"),
        ("name: silent", "name: 'a b'", 11, "must be 1-64 letters"),
        ("for: 1m30s", "inhibited_by: [nobody]", 10, "there is no rule 'nobody'; rules are cpu, silent"),
        ("for: 1m30s", "inhibited_by: [cpu]", 6, "'cpu' depends on itself"),
        ("for: 1m30s", "channels: [pager]", 10, "there is no channel 'pager'; channels are ops"),
        ("for: 1m30s", "severity: bad", 10, "'info', 'warning' or 'critical'"),
        ("for: 1m30s", "notify: no", 10, "write true or false"),
        ("for: 1m30s", "summary: &a text", 10, "anchors are not read here"),
        ("    url: json://localhost\n", "", 3, "name either url or url_file"),
        ("end: true\n", "", 14, "a file that was cut short is refused"),
        ("end: true", "end: true\n# more", 16, "nothing may follow it"),
        ("channels:\n", "channel:\n", 2, "'channel' is no key here"),
        ("rules:\n", "rules: [\n", 6, "not YAML"),
        (
            "rules:\n",
            "maintenance:\n  - {name: m, start: 2026-01-01T00:00:00, lasts: 1h}\nrules:\n",
            6,
            "needs a time zone",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, line: int, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidRules) as caught:
        load(GOOD.replace(old, new, 1))
    assert sentence in str(caught.value)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "text", ["", "[]", "a", "{}", "- a\n", "version: 1\nrules: 3\nend: true\n", "\t", "a: [" * 2000]
)
def test_what_is_no_rule_file_is_refused(text: str) -> None:
    with pytest.raises(InvalidRules):
        load(text)


def test_a_file_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(InvalidRules, match="more than"):
        load("#" * 500_001)


def test_a_bad_file_leaves_the_last_good_rules_in_force(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(GOOD)
    file = RuleFile(path, tmp_path / "kept.yaml")
    assert len(file.refresh().rules) == 2
    path.write_text(GOOD.replace("above: 90", "above: x"))
    assert len(file.refresh().rules) == 2
    assert file.problem is not None
    assert "line 9" in file.problem
    assert "the last good rules stay in force" in file.problem
    path.unlink()
    assert len(file.refresh().rules) == 2
    path.write_bytes(b"version: 1\n\xff")
    assert len(file.refresh().rules) == 2
    path.write_text(GOOD)
    assert (len(file.refresh().rules), file.problem, file.revision) == (2, None, 2)


def test_a_process_that_starts_while_the_file_is_bad_has_the_last_good_rules(tmp_path: Path) -> None:
    path, kept = tmp_path / "alerts.yaml", tmp_path / "kept.yaml"
    path.write_text(GOOD)
    RuleFile(path, kept).refresh()
    assert kept.stat().st_mode & 0o777 == 0o600, "the URLs in it are secrets"
    path.write_text("nonsense")
    later = RuleFile(path, kept)
    assert len(later.refresh().rules) == 2
    assert later.problem is not None


def test_without_any_good_file_no_rules_are_in_force_and_that_is_said(tmp_path: Path) -> None:
    file = RuleFile(tmp_path / "none.yaml", tmp_path / "kept.yaml")
    assert file.refresh().rules == ()
    assert "no rules are in force" in str(file.problem)


async def test_a_change_is_picked_up_while_running(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(GOOD)
    file = RuleFile(path, tmp_path / "kept.yaml", poll_seconds=0.01)
    watching = asyncio.ensure_future(file.run())
    try:
        async with asyncio.timeout(10):
            while file.revision < 1:
                await asyncio.sleep(0.01)
            path.write_text(GOOD.replace("name: silent", "name: quiet"))
            while file.revision < 2:
                await asyncio.sleep(0.01)
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    assert file.current().rule("quiet") is not None
