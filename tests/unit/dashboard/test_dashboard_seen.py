"""What clients saw and the states, read from a report and put into words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.reports import Parity, parity
from dashboard.seen import Evidence, Seen, StateDifference, States
from dashboard.seen import seen as read_seen
from dashboard.seen import states as read_states
from dashboard.views import seen
from tests.fakes.dashboard_service import clients_report, parity_report, states_report
from validation.clients import Fault
from validation.states import StateClass

NOW = datetime(2026, 11, 26, 8, tzinfo=UTC)
ALL_AGREE = Seen(clients=2, blocks=60, agree=60, differ=0, events=900, unchecked=())


def taps(verdict: str = "PASS") -> Parity:
    found = parity(parity_report(NOW, verdict))
    assert isinstance(found, Parity)
    return found


def test_the_report_is_read() -> None:
    found = read_seen({"clients": clients_report()})
    assert found is not None
    assert (found.clients, found.blocks, found.agree, found.differ) == (3, 180, 178, 2)
    assert found.faults == (("missing", 1), ("behind", 1))
    ops = next(each for each in found.cohorts if each.cohort == "ops")
    assert (ops.verdict, ops.blocks, ops.disturbed) == ("INCONCLUSIVE", 60, 2)
    assert ops.faults == (("missing", 1), ("behind", 1))
    assert [each.fault for each in found.disagreements] == ["behind", "missing"]
    assert found.unchecked == ("2 reports of clients that cannot be read: they may be of another version",)


def test_a_report_without_them_is_unknown() -> None:
    assert read_seen({}) is read_seen({"clients": None}) is None
    assert read_states({"states": None}) is None
    old = read_seen({"clients": {"blocks": 1}})
    assert old is not None
    assert old.unchecked is None
    assert seen.unchecked(old) == ["this report does not say which clients could not be checked"]
    assert seen.cohorts(None) == seen.disagreements(None) == {}
    assert seen.totals(None) == ""
    assert seen.unchecked(None) == []


@pytest.mark.parametrize(
    ("verdict", "found", "word", "why"),
    [
        ("PASS", ALL_AGREE, "clients confirm it", "All 60 blocks of 2 clients are what was published"),
        (
            "PASS",
            replace(ALL_AGREE, unchecked=("1 report",)),
            "nothing contradicts",
            "not everything could be checked",
        ),
        ("PASS", replace(ALL_AGREE, unchecked=None), "nothing contradicts", "not everything"),
        ("PASS", replace(ALL_AGREE, agree=59, differ=1), "clients contradict the taps", "1 of 60 blocks"),
        (
            "FAIL",
            replace(ALL_AGREE, agree=59, differ=1),
            "clients saw it, too",
            "the taps found 3 differences",
        ),
        ("FAIL", ALL_AGREE, "clients did not see it", "the taps found 3 differences"),
        ("PASS", replace(ALL_AGREE, blocks=0, agree=0), "not known yet", "Of what 2 clients reported"),
        ("PASS", Seen(clients=0, blocks=0, differ=0), "no client reported", "No client reported"),
        ("PASS", Seen(), "not known", "does not say what clients saw"),
        ("PASS", None, "not known", "does not say what clients saw"),
    ],
)
def test_whether_clients_confirm_the_taps(verdict: str, found: Seen | None, word: str, why: str) -> None:
    badge, sentence = seen.confirmation(taps(verdict), found)
    assert badge.text == word
    assert why in sentence
    assert (badge.color == "green") == (word == "clients confirm it")


def test_a_comparison_that_is_not_sure_is_confirmed_by_nobody() -> None:
    badge, why = seen.confirmation(replace(taps(), verdict="INCONCLUSIVE"), ALL_AGREE)
    assert badge.color == "blue"
    assert "the taps do not say PASS" in why


def test_an_old_result_says_nothing_of_now() -> None:
    badge, _ = seen.confirmation(taps(), ALL_AGREE, NOW + timedelta(minutes=5))
    assert badge.color == "orange"
    badge, _ = seen.confirmation(taps(), ALL_AGREE, NOW + timedelta(seconds=5))
    assert badge.color == "green"


def test_cohorts_begin_with_what_differs_and_end_with_what_is_unknown() -> None:
    rows = seen.cohorts(read_seen({"clients": clients_report()}), ("default", "ops", "canary"))
    assert rows["Cohort"] == ["ops", "default", "canary"]
    assert rows["Says"] == ["too few blocks yet", "too few blocks yet", "nothing known"]
    assert rows["Differ"] == [2, 0, None]
    assert rows["Ruled out"] == ["above 18 %", "above 3 %", "–"]  # noqa: RUF001 - as it is shown
    assert rows["How"] == ["1 missing, 1 behind", "", ""]
    assert seen.cohorts(Seen(cohorts=(Evidence("x", "PASS", 9, 0, 9, 1.0),)))["Ruled out"] == ["nothing yet"]


def test_who_disagrees_is_named_with_stream_and_how() -> None:
    rows = seen.disagreements(read_seen({"clients": clients_report()}))
    assert rows["Client"] == ["ops-2", "ops-1"]
    assert rows["What differs"][1] == "1 of 2 did not come"
    assert "178 agree, 2 differ (1 missing, 1 behind)" in seen.totals(
        read_seen({"clients": clients_report()})
    )


@pytest.mark.parametrize(
    ("found", "word", "why"),
    [
        (None, "not compared", "were not compared in this run"),
        (States(problem="legacy did not answer"), "not compared", "legacy did not answer"),
        (States(entries=0, differ=0), "nothing to compare", "Neither"),
        (States(9, 0, {"matched": 9}), "states are the same", "9 of 9 entries match."),
        (
            States(9, 0, {"matched": 7, "moving": 2}),
            "nothing differs",
            "7 of 9 entries match, 2 not compared.",
        ),
        (States(9, 1, {"matched": 8, "mismatch": 1}), "states differ", "8 of 9 entries match, 1 differ."),
    ],
)
def test_what_the_states_say(found: States | None, word: str, why: str) -> None:
    badge, sentence = seen.states_badge(found)
    assert badge.text == word
    assert why in sentence
    assert (badge.color == "green") == (word == "states are the same")


def test_states_by_class_and_by_field() -> None:
    found = read_states({"states": states_report()})
    assert found is not None
    assert found.differences == (
        StateDifference(
            "box-1/system",
            "metric_collected",
            "mismatch",
            ("payload.cores: legacy has 8, supabase has 4",),
        ),
    )
    assert seen.states_rows(found)["Class"] == ["matched", "mismatch", "moving"]
    assert seen.state_differences(found)["What differs"] == ["payload.cores: legacy has 8, supabase has 4"]
    assert seen.states_rows(None) == seen.state_differences(None) == {}


def test_every_class_has_its_meaning() -> None:
    for each in StateClass:
        assert seen.states_rows(States(1, 0, {str(each): 1}))["Meaning"] != [""]
    assert set(clients_report()["faults"]) <= set(Fault)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("any", "samples", "cohorts", "counts", "blocks", "differ", "clients")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted({**clients_report(), **states_report()})), JSON))
def test_whatever_another_version_writes_is_no_error(found: dict[str, Any]) -> None:
    report = {"clients": found, "states": found}
    clients, states = read_seen(report), read_states(report)
    seen.confirmation(taps(), clients, NOW)
    for rows in (
        seen.cohorts(clients),
        seen.disagreements(clients),
        seen.states_rows(states),
        seen.state_differences(states),
    ):
        assert len({len(column) for column in rows.values()}) <= 1
    seen.totals(clients)
    seen.unchecked(clients)
    seen.states_badge(states)
