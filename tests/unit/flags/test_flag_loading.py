import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from monitoring.errors import InvalidFlags
from monitoring.flags.loading import MAX_CHARACTERS, load
from monitoring.flags.model import Cohort, Flags
from monitoring.flags.stages import Extent, Stage, percent_text

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SHIPPED = (Path(__file__).parents[3] / "flags.yaml").read_text()
BEFORE = """\
version: 1
kill: false
live:
  percent: 12.5   # a comment
  allow: [web-1, ops@example.com]
  deny:
    - old-1
    - "2021"
end: true
"""
"""From before the stages and the switches."""
SWITCHED = """\
websocket_enabled: true
websocket_container_stats: true
websocket_session_events: false
websocket_system_alerts: true
"""
USED = BEFORE.replace("version: 1", "version: 2").replace(
    "end: true",
    """\
stage: rampdown
cohorts:
  ops:   # who is on call
    clients: [dash-1, ops-*]
    stage: live
    percent: 0.5
  eu-west: {clients: [], stage: shadow, percent: 100}
"""
    + SWITCHED
    + "end: true",
)


def test_the_shipped_file_serves_everybody_from_the_legacy_server():
    assert load(SHIPPED) == Flags()


LISTED = Flags(
    kill=False,
    weight=12_500,
    allow=frozenset({"web-1", "ops@example.com"}),
    deny=frozenset({"old-1", "2021"}),
)


def test_reads_every_value_exactly():
    assert load(USED) == replace(
        LISTED,
        stage=Stage.RAMPDOWN,
        cohorts=(
            Cohort("ops", frozenset({"dash-1", "ops-*"}), Extent(Stage.LIVE, 500)),
            Cohort("eu-west", frozenset(), Extent(Stage.SHADOW)),
        ),
        switched_off=frozenset({"websocket_session_events"}),
    )


def test_a_file_from_before_the_stages_is_in_stage_live():
    assert load(BEFORE) == LISTED


def test_a_file_of_the_new_form_lacks_nothing():
    for key in ("stage", "cohorts", "websocket_enabled"):
        lines = [line for line in SHIPPED.splitlines(keepends=True) if not line.startswith(f"{key}:")]
        with pytest.raises(InvalidFlags, match=f"{key} is missing"):
            load("".join(lines))


@pytest.mark.parametrize(
    ("text", "weight"),
    [("0", 0), ("100", 100_000), ("0.001", 1), ("99.999", 99_999), ("100.000", 100_000), ("7.25", 7250)],
)
def test_percentages_keep_three_decimals(text, weight):
    assert load(USED.replace("12.5", text)).weight == weight


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (("version: 2", "version: 3"), 1, "version '3'"),
        (("version: 2", "version: [2]"), 1, "version must be one value"),
        (("version: 2", "version: 1"), 9, "stage is not known"),
        (("stage: rampdown", "stage: Live"), 9, "off, dualwrite, shadow, live, rampdown or complete"),
        (("  ops:", "  Ops:"), 11, "not a name"),
        (("  ops:", "  default:"), 11, "everybody else"),
        (("  eu-west:", "  ops:"), 15, "ops twice"),
        (("ops-*", "*ops"), 12, "not YAML"),
        (("ops-*", "o*s"), 12, "not a client id"),
        (("ops-*", "dash-1"), 12, "twice"),
        (("    stage: live\n", ""), 12, "cohorts.ops.stage is missing"),
        (("    percent: 0.5", "    share: 0.5"), 14, "cohorts.ops.share is not known"),
        (("percent: 0.5", "percent: 101"), 14, "cohorts.ops.percent must be a number"),
        (("kill: false", "kill: no"), 2, "true or false"),
        (("kill: false", "kill: 'true'"), 2, "without quotes"),
        (("kill: false", "kill: &a false"), 2, "anchors"),
        (("kill: false", "kill: !mine false"), 2, "anchors and tags"),
        (
            ("kill: false", "kil: false"),
            2,
            "kil is not known; known are version, kill, stage, live, cohorts, websocket_enabled",
        ),
        (("kill: false\n", ""), 1, "kill is missing"),
        (("kill: false", "kill: false\nkill: true"), 3, "there twice"),
        (("percent: 12.5", "percent: 101"), 4, "0 to 100"),
        (("percent: 12.5", "percent: -1"), 4, "0 to 100"),
        (("percent: 12.5", "percent: 1.2345"), 4, "3 decimals"),
        (("percent: 12.5", "percent: 05"), 4, "0 to 100"),
        (("percent: 12.5", "percent: 1e1"), 4, "0 to 100"),
        (("percent: 12.5", "percent: .nan"), 4, "0 to 100"),
        (("percent: 12.5", "percent: true"), 4, "0 to 100"),
        (("percent: 12.5", "percent:"), 4, "has no value"),
        (("percent: 12.5", "procent: 12.5"), 4, "live.procent is not known; known are live.percent"),
        (("[web-1, ops@example.com]", "web-1"), 5, "must be a list"),
        (("[web-1, ops@example.com]", "[web-1, web-1]"), 5, "twice"),
        (("[web-1, ops@example.com]", "[web-1 ops]"), 5, "not a client id"),
        (("[web-1, ops@example.com]", "[[web-1]]"), 5, "one client id"),
        (("[web-1, ops@example.com]", "[web-1"), 6, "flow sequence that begins in line 5"),
        (("    - old-1", "\t- old-1"), 7, "not YAML"),
        (("end: true\n", "end: false\n"), 20, "last line"),
        (("end: true\n", "end: true\n# more\n"), 20, "last line"),
        (("end: true\n", ""), 1, "end is missing"),
        (("end: true\n", "end: true\n---\na: 1\n"), 21, "not YAML"),
    ],
)
def test_refuses_with_the_line(change, line, reason):
    with pytest.raises(InvalidFlags, match=reason) as refused:
        load(USED.replace(*change))
    assert refused.value.line == line


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "just text", "- 1\n", "null", "{}", "a: \x00", "?", "*a", "[" * 800]
)
def test_refuses_what_is_no_flag_file(text):
    with pytest.raises(InvalidFlags):
        load(text)


def test_refuses_a_file_that_would_take_seconds():
    with pytest.raises(InvalidFlags, match="more than"):
        load("#" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("text", [SHIPPED, USED, BEFORE], ids=["shipped", "used", "before"])
def test_every_prefix_is_refused(text):
    whole = text.rstrip("\n")
    for length in range(len(whole)):
        with pytest.raises(InvalidFlags):
            load(whole[:length])


@pytest.mark.parametrize("text", [SHIPPED, USED, BEFORE], ids=["shipped", "used", "before"])
def test_a_file_with_one_character_lost_is_refused_or_means_what_it_says(text):
    for at in range(len(text)):
        damaged = text[:at] + text[at + 1 :]
        try:
            flags = load(damaged)
        except InvalidFlags:
            continue
        if text[text.rfind("\n", 0, at) + 1 : at].lstrip().startswith("#"):
            assert flags == load(text)
            continue
        says = YAML(typ="safe", pure=True).load(damaged)
        assert says["kill"] is flags.kill
        assert round(says["live"]["percent"] * 1000) == flags.weight
        assert {str(client) for client in says["live"]["allow"]} == flags.allow
        assert {str(client) for client in says["live"]["deny"]} == flags.deny
        assert not flags.kill
        assert says.get("stage", "live") == flags.stage
        for cohort in flags.cohorts:
            said = says["cohorts"][cohort.name]
            assert {str(client) for client in said["clients"]} == cohort.members
            assert (said["stage"], round(said["percent"] * 1000)) == (cohort.wish.stage, cohort.wish.weight)
        assert len(says.get("cohorts", {})) == len(flags.cohorts)


@UNHURRIED
@given(st.text(max_size=200))
def test_garbage_is_only_ever_refused(text):
    with pytest.raises(InvalidFlags):
        load(text)


@UNHURRIED
@given(st.data())
def test_garbage_within_a_file_is_refused_or_read(data):
    at = data.draw(st.integers(0, len(USED)))
    text = USED[:at] + data.draw(st.text(max_size=5)) + USED[at + data.draw(st.integers(0, 5)) :]
    with contextlib.suppress(InvalidFlags):
        assert isinstance(load(text), Flags)


@UNHURRIED
@given(st.integers(0, 100_000))
def test_a_percentage_survives_being_written_and_read(weight):
    text = percent_text(weight)
    assert load(USED.replace("12.5", text)).weight == weight
    assert Flags(weight=weight).percent == text
