from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.errors import InvalidFlags
from monitoring.flags.description import describe, differences
from monitoring.flags.editing import edit
from monitoring.flags.loading import load
from monitoring.flags.model import Flags, keys_of
from monitoring.flags.stages import Stage

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SHIPPED = (Path(__file__).parents[3] / "flags.yaml").read_text()
BLOCK = """\
version: 1
kill: false   # stop
live:
  percent: 0   # share
  allow:   # friends
    # the first
    - a   # one
    - b   # two

    - "c"   # three
  deny: []
end: true
"""


def test_changes_only_the_value():
    edited = edit(SHIPPED, "live.percent", "12.50")
    assert edited == SHIPPED.replace("percent: 0\n", "percent: 12.5\n")
    assert edit(edited, "live.percent", "0") == SHIPPED


def test_the_switch():
    assert edit(BLOCK, "kill", " true ") == BLOCK.replace("kill: false   # stop", "kill: true   # stop")


def test_lists_take_ids_separated_by_commas():
    edited = edit(SHIPPED, "live.allow", "web-1, ops@example.com,web-1")
    assert edited == SHIPPED.replace("allow: []", "allow: [web-1, ops@example.com]")
    assert edit(edited, "live.allow", "") == SHIPPED
    assert load(edit(SHIPPED, "live.deny", "x")).deny == {"x"}


def test_entries_of_a_written_out_list_keep_their_lines_and_comments():
    assert edit(BLOCK, "live.allow", "c,b,d") == BLOCK.replace("    - a   # one\n", "").replace(
        '    - "c"   # three\n', '    - "c"   # three\n    - d\n'
    )
    assert edit(BLOCK, "live.allow", "a,b,c") == BLOCK


def test_a_written_out_list_can_be_emptied_and_replaced():
    emptied = edit(BLOCK, "live.allow", "")
    assert load(emptied) == Flags()
    assert "allow: []   # friends\n    # the first\n" in emptied
    assert load(edit(BLOCK, "live.allow", "z")).allow == {"z"}
    assert load(edit(emptied, "live.allow", "q")).allow == {"q"}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("live.percentage", "5", "known are kill, stage, live.percent, live.allow, live.deny"),
        ("end", "false", "not known"),
        ("kill", "yes", "true or false"),
        ("stage", "on", "off, dualwrite, shadow"),
        ("cohorts.ops.percent", "5", "not known"),
        ("live.percent", "101", "0 to 100"),
        ("live.percent", "many", "0 to 100"),
        ("live.allow", "a,,b", "not a client id"),
        ("live.deny", "a b", "not a client id"),
    ],
)
def test_refuses_what_it_cannot_mean(key, value, reason):
    with pytest.raises(InvalidFlags, match=reason):
        edit(SHIPPED, key, value)


def test_refuses_to_edit_a_broken_file():
    with pytest.raises(InvalidFlags, match="kill is missing"):
        edit(SHIPPED.replace("kill: false\n", ""), "live.percent", "5")


def test_refuses_a_form_it_cannot_edit():
    odd = BLOCK.replace(
        "allow:   # friends\n    # the first\n    - a   # one\n    - b", "? allow\n  : - a\n    - b"
    )
    assert load(odd).allow == {"a", "b", "c"}
    with pytest.raises(InvalidFlags, match="change it in an editor"):
        edit(odd, "live.allow", "")


names = st.lists(
    st.from_regex(r"[a-z0-9][a-z0-9.:@/+-]{0,8}[a-z0-9]", fullmatch=True), max_size=4, unique=True
)


@UNHURRIED
@given(st.sampled_from([SHIPPED, BLOCK]), st.sampled_from(["live.allow", "live.deny"]), names, names)
def test_what_was_set_is_what_is_read(text, key, first, second):
    once = edit(text, key, ",".join(first))
    twice = edit(once, key, ",".join(second))
    flags = load(twice)
    assert (flags.allow if key == "live.allow" else flags.deny) == set(second)
    assert twice.count("#") >= text.count("#") - 3


def test_describes_every_key_so_that_it_can_be_set_again():
    flags = load(edit(edit(BLOCK, "live.percent", "2.5"), "live.deny", "x,y"))
    text = SHIPPED
    for setting in describe(flags):
        text = edit(text, setting.key, setting.text)
    assert load(text) == flags
    assert [setting.key for setting in describe(flags)] == list(keys_of(flags))
    assert [setting.value for setting in describe(flags)] == [
        False,
        "live",
        2.5,
        ["a", "b", "c"],
        ["x", "y"],
        *[True] * 4,
    ]


COHORTS = SHIPPED.replace(
    "cohorts: {}",
    """cohorts:
  ops:   # on call
    clients: [dash-1, ops-*]
    stage: shadow   # not yet
    percent: 5
  eu: {clients: [eu-*], stage: live, percent: 100}""",
)


def test_a_cohort_is_edited_where_it_stands():
    assert edit(COHORTS, "cohorts.ops.stage", "live") == COHORTS.replace(
        "stage: shadow   # not yet", "stage: live   # not yet"
    )
    assert edit(COHORTS, "cohorts.eu.percent", "12.50") == COHORTS.replace("percent: 100}", "percent: 12.5}")
    assert edit(COHORTS, "cohorts.eu.clients", "eu-*, x") == COHORTS.replace("[eu-*]", "[eu-*, x]")
    with pytest.raises(InvalidFlags, match=r"known are .*cohorts\.ops\.clients"):
        edit(COHORTS, "cohorts.us.percent", "1")


def test_every_key_of_a_cohort_can_be_described_and_set_again():
    text = edit(edit(COHORTS, "cohorts.ops.clients", "a,b-*"), "stage", "rampdown")
    for setting in describe(load(text)):
        assert edit(text, setting.key, setting.text) == text.replace("[a, b-*]", "[a, b-*]")
    assert load(text).stage is Stage.RAMPDOWN


def test_what_differs_is_said_key_by_key():
    changed = edit(edit(COHORTS, "cohorts.ops.percent", "6"), "live.deny", "x")
    assert list(differences(load(COHORTS), load(changed))) == [
        "live.deny: (none) -> x",
        "cohorts.ops.percent: 5 -> 6",
    ]
    assert next(differences(load(SHIPPED), load(COHORTS))) == (
        "cohorts.ops.clients: (absent) -> dash-1,ops-*"
    )


def test_a_file_from_before_the_stages_becomes_one_of_today_when_a_stage_is_set():
    edited = edit(BLOCK, "stage", "shadow")
    assert load(edited) == replace(load(BLOCK), stage=Stage.SHADOW)
    assert edited.startswith("version: 2\nkill: false   # stop\n")
    assert edited.endswith("\nend: true\n")
