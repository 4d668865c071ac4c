"""The rollout as the page shows it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dashboard.steering import Steering, entries, steering
from dashboard.views import rollout
from monitoring.flags.stages import TOTAL_WEIGHT, Extent, Stage
from monitoring.rollout.steering import RolloutStep
from tests.fakes.dashboard_records import Kept, Steered

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)


def test_where_a_cohort_stands_and_what_holds_it() -> None:
    (row,) = [{name: values[0] for name, values in rollout.cohorts(steering(Kept().rollout())).items()}]
    assert row["Stands at"] == "live 5 %"
    assert row["Next"] == "live 10 %"
    assert row["Dwell"] == "7 min of 15 min"
    assert row["Clients"] == "12"
    assert row["What holds it"] == "dwelt 420 of 900 s"


def test_without_a_controller_the_journal_says_it_alone() -> None:
    found = steering({**Kept().rollout(), "controller": None})
    (cohort,) = found.cohorts
    assert cohort.extent == "live 5 %"
    assert not found.controlled
    assert rollout.gates(found) == {}
    assert "No controller runs" in rollout.summary(found)[0]


def test_a_decision_keeps_what_it_rested_on() -> None:
    steered = Steered()
    steered.keep("ann", RolloutStep("rollback", "orders are late"))
    (entry,) = entries(Kept(steered).decisions(5))
    assert entry.by == "ann"
    assert rollout.journal([entry], NOW)["Why"] == ["orders are late"]
    assert rollout.evidence(entry.gates)["Gate"] == ["parity", "clients"]
    assert "rollback default: live 5 % → shadow 0 %" in rollout.entry(entry)
    assert steering(Kept(steered).rollout()).latched == ("default",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"active": False}, "flags.yaml alone"),
        ({"completed": True}, "Complete"),
        ({"unsafe": "the legacy server is away"}, "ROLLBACK UNSAFE"),
        ({"hold": "release day"}, "Held: release day"),
        ({"completing": True}, "Completing"),
        ({}, "Goes on by itself"),
    ],
)
def test_the_rollout_in_a_sentence(changes: dict[str, object], words: str) -> None:
    found = steering(Kept().rollout())
    assert words in rollout.summary(replace(found, **changes))[0]  # type: ignore[arg-type]  # fields by name


def test_nothing_known_is_nothing_shown() -> None:
    assert steering({}) == Steering()
    assert rollout.cohorts(Steering()) == rollout.gates(Steering()) == rollout.journal((), NOW) == {}
    assert rollout.capacity(None)[1] == {}


def test_capacity_names_what_is_used_of_each_limit() -> None:
    said, rows = rollout.capacity(Kept().capacity())
    assert said.startswith("12 clients, 1.5 events/s on plan free")
    assert rows["Limit"]
    assert dict(zip(rows["Limit"], rows["Of"], strict=True))["connections"] == "200"
    assert dict(zip(rows["Limit"], rows["Used"], strict=True))["connections"] == pytest.approx(6)


@pytest.mark.parametrize(
    ("extent", "flows"),
    [
        (Extent(Stage.OFF), {"Legacy server": "100 % of clients on legacy"}),
        (Extent(Stage.DUALWRITE), {"Supabase": "compared, serves nobody"}),
        (Extent(Stage.SHADOW, 5_000), {"Supabase": "5 % of clients open it, too"}),
        (Extent(Stage.LIVE, 25_000), {"Legacy server": "75 % of clients on legacy", "Supabase": "25 % of clients on Supabase"}),
        (Extent(Stage.LIVE, TOTAL_WEIGHT), {"Legacy server": "compared with"}),
        (Extent(Stage.RAMPDOWN), {"Legacy server": "stands in while Supabase fails"}),
        (Extent(Stage.COMPLETE), {"Supabase": "100 % of clients on Supabase"}),
    ],
)  # fmt: skip
def test_each_stage_has_its_picture(extent: Extent, flows: dict[str, str]) -> None:
    found = {source: target for source, target, _ in rollout.flows(extent)}
    assert flows.items() <= found.items()
    (series,) = rollout.picture(extent)["baseOption"]["series"]
    names = {each["name"] for each in series["data"]}
    assert {end for link in series["links"] for end in (link["source"], link["target"])} == names
    assert all(target in rollout.told(extent) for target in flows.values())
