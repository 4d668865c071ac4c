"""From reports to gates and trips: what a controller would be told, in plain numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from crossfade.rollout.evidence import CohortEvidence, Comparison, barred, pass_standard, sight
from monitoring.flags.model import ClientId, Flags
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout.ledger import Growth, Ledger, resumed
from monitoring.rollout.observations import Answer
from monitoring.rollout.state import Policy, Position, Rollout
from monitoring.service import Backend

POLICY = Policy(max_disturbed=0.02, hoped_disturbed=0.004)
START = "2026-11-26T12:00:00Z"
LATER = "2026-11-26T12:00:01Z"
NOW = 1_795_694_400.0  # the same moment


def summary(
    decided: int, lost: int = 0, *, live: tuple[bool, bool] = (True, True), at: str = START, **more: Any
) -> dict[str, Any]:
    return {
        "state": "comparing",
        "updated_at": at,
        "live": {"legacy": live[0], "supabase": live[1]},
        "coverage": 1.0,
        "suspended": False,
        "sides": {
            "legacy": {"latency": {"p99_seconds": 0.05}},
            "supabase": {"duplicates": 0, "reordered": 0, "late": 0, "latency": {"p99_seconds": 0.2}},
        },
        "total": {"started_at": START, "decided": decided, "counts": {"missing_supabase": lost}},
        **more,
    }


def seen(*summaries: dict[str, Any] | None, elapsed: float = 2.0) -> Comparison:
    comparison = Comparison()
    for each in summaries:
        comparison = comparison.seen(each, NOW, elapsed, POLICY)
    return comparison


def answers(comparison: Comparison) -> dict[str, Answer]:
    return {gate.name: gate.answer for gate in comparison.gates(POLICY)}


def test_a_good_comparison_passes_every_gate() -> None:
    comparison = seen(summary(0), summary(500), summary(1000))
    assert set(answers(comparison).values()) == {Answer.PASS}
    assert comparison.evidence.events == 1000
    assert not comparison.trip(POLICY)
    assert (
        Comparison.from_json(orjson.loads(orjson.dumps(comparison.to_json()))).evidence == comparison.evidence
    )


def test_one_percent_lost_trips_everybody_within_a_thousand_events() -> None:
    policy = Policy()  # the defaults
    comparison, events = Comparison(), 0
    while not (why := comparison.trip(policy)):
        said = summary(events, events // 100, at=START if events % 200 else LATER)
        comparison = comparison.seen(said, NOW, 2.0, policy)
        events += 100
        assert events < 3000
    assert events <= 1500
    assert why.startswith("the comparison: missing_supabase: ")


def test_what_the_legacy_side_loses_is_not_the_new_paths_fault() -> None:
    lost = summary(1000, 0)
    lost["total"]["counts"] = {"missing_legacy": 500}
    assert seen(summary(0), lost).evidence.findings == 0


def test_a_side_that_is_away_trips_or_makes_going_back_unsafe_after_the_silence() -> None:
    away = summary(10, live=(True, False))
    assert not seen(summary(0), away, away).trip(POLICY)
    assert "supabase is down" in seen(summary(0), away, away, away).trip(POLICY)
    assert not seen(summary(0), away, away, summary(10), away).trip(POLICY)
    legacy = summary(10, live=(False, True))
    assert "legacy is down" in seen(summary(0), legacy, legacy, legacy).legacy_problem(POLICY)
    assert answers(seen(summary(0), legacy))["comparison"] is Answer.INCONCLUSIVE


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (None, "has not said anything"),
        ({}, "has not said anything"),
        (summary(5, at="2026-11-26T11:59:30Z"), "nothing for 30 s"),
        (
            {"state": "waiting", "updated_at": START, "live": {"legacy": True, "supabase": False}},
            "waits for supabase",
        ),
    ],
)
def test_a_comparison_that_is_dead_or_waits_is_an_error_and_no_trip_by_itself(
    said: dict[str, Any] | None, words: str
) -> None:
    comparison = seen(said)
    (gate,) = comparison.gates(POLICY)
    assert gate.answer is Answer.ERROR
    assert words in gate.reason
    assert not comparison.trip(POLICY)


def test_a_comparison_that_says_the_same_again_and_again_is_dead_whatever_the_clock_says() -> None:
    """It died, and then the clock was set back: its last word looks new for as long as that."""
    comparison = seen(summary(0), *[summary(500)] * 7)
    assert comparison.silent_seconds == 14.0
    assert set(answers(comparison).values()) == {Answer.PASS}
    comparison = comparison.seen(summary(500), NOW, 2.0, POLICY)
    (gate,) = comparison.gates(POLICY)
    assert (gate.answer, gate.reason) == (Answer.ERROR, "the comparison has said nothing for 16 s")
    assert set(answers(comparison.seen(summary(600, at=LATER), NOW, 2.0, POLICY)).values()) == {Answer.PASS}


def test_a_word_from_the_future_is_not_believed() -> None:
    comparison = Comparison().seen(summary(500), NOW - 3600, 2.0, POLICY)
    (gate,) = comparison.gates(POLICY)
    assert gate.answer is Answer.ERROR
    assert "dated 3600 s ahead: the clock was set back" in gate.reason


def test_a_comparison_that_begins_anew_is_not_counted_twice() -> None:
    again = summary(300)
    again["total"]["started_at"] = "2026-11-26T12:30:00Z"
    assert seen(summary(0), summary(1000), again).evidence.events == 1300
    assert answers(seen(summary(0)))["parity"] is Answer.NO_DATA


@pytest.mark.parametrize(
    ("change", "gate"),
    [({"coverage": 0.98}, "coverage"), ({"coverage": None}, "coverage"), ({"sides": {}}, "latency")],
)
def test_what_is_missing_or_too_little_is_not_a_pass(change: dict[str, Any], gate: str) -> None:
    assert answers(seen(summary(0), {**summary(100), **change}))[gate] is not Answer.PASS


def test_a_slow_new_path_fails() -> None:
    slow = summary(100)
    slow["sides"]["supabase"]["latency"]["p99_seconds"] = 0.31
    assert answers(seen(summary(0), slow))["latency"] is Answer.FAIL


# -- the clients


def report(blocks: int, disturbed: int = 0, backend: str = "supabase", path: str = "live") -> dict[str, Any]:
    figures = {
        "blocks": blocks,
        "disturbed": disturbed,
        "events": 20 * blocks,
        "findings": disturbed,
        "errors": 0,
    }
    return {"backend": backend, "shadow": None, path: figures, "note": "gap in a/b" if disturbed else ""}


def grown(ledger: Ledger, **clients: dict[str, Any]) -> Growth:
    found = ledger.grown({"1.json": clients}, lambda _: "default", lambda _: Backend.SUPABASE)
    return found["default"]


def test_only_what_was_added_counts() -> None:
    ledger = Ledger()
    assert grown(ledger, a=report(50)).blocks == 0
    growth = grown(ledger, a=report(53, 1), b=report(7, backend="legacy"))
    assert (growth.blocks, growth.disturbed, growth.contributing) == (3, 1, {"a"})
    assert (growth.clients, growth.on_supabase, growth.astray) == (2, 1, 1)
    assert grown(ledger, a=report(2)).blocks == 0, "it has begun anew"
    assert grown(ledger, a={"backend": None}).clients == 0
    assert grown(ledger, a={"backend": "supabase", "live": "?"}).clients == 1


def test_clean_blocks_pass_and_disturbed_ones_trip_their_cohort() -> None:
    position = Position(Extent(Stage.LIVE, 1_000))
    evidence = CohortEvidence("live/1")
    for _ in range(20):
        evidence = evidence.add(Growth(blocks=10, events=100, contributing={"a"}), POLICY)
    good = sight(position, evidence, Growth(clients=3, on_supabase=3), (), POLICY)
    assert {gate.answer for gate in good.gates} == {Answer.PASS}
    assert (good.trip, good.clients) == ("", 3)
    assert CohortEvidence.from_json(orjson.loads(orjson.dumps(evidence.to_json()))) == evidence
    for _ in range(10):
        evidence = evidence.add(
            Growth(blocks=10, disturbed=5, events=100, findings=5, note="gap in a/b"), POLICY
        )
    assert "gap in a/b" in sight(position, evidence, Growth(), (), POLICY).trip


def test_each_step_wants_clients_of_its_own_and_each_setback_more_evidence() -> None:
    evidence = CohortEvidence("live/1").add(Growth(blocks=1, events=1, contributing={"a"}), POLICY)
    assert evidence.of_step(0).clients == {"a"}
    assert evidence.of_step(1).clients == frozenset()
    assert evidence.of_step(1).blocks == evidence.blocks
    assert pass_standard(POLICY, 2).blocks_to_pass > pass_standard(POLICY).blocks_to_pass


def test_who_has_to_stay_on_the_legacy_server_is_said() -> None:
    assert barred(Flags()) == ""
    assert barred(Flags(kill=True)) == "kill is true"
    assert barred(Flags(deny=frozenset({ClientId("a")}))) == "1 clients are denied"


def test_a_restart_takes_the_dwell_of_the_same_position_alone() -> None:
    there = Rollout(active=True, cohorts={"default": Position(Extent(Stage.SHADOW), 3, 5.0)})
    later = there.moved("default", Position(Extent(Stage.SHADOW), 3, 65.0))
    assert resumed(there, later).cohorts["default"].dwelt == 65.0
    other = there.moved("default", Position(Extent(Stage.SHADOW), 4, 65.0))
    assert resumed(there, other) == there
    assert resumed(there, replace(there, cohorts={})) == there
