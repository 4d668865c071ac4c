"""A finding, field by field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from dashboard.comparison import Sample
from dashboard.findings import differences, fields, side_by_side
from dashboard.views import validation
from monitoring.events import Event, StreamId, to_json
from monitoring.service import Backend
from validation.alignment import Alignment
from validation.observation import Outcome


def compared(published: Event, *, legacy: Event, supabase: Event) -> tuple[str, ...]:
    """Return what the real comparison says of an event, so that a change of its words is noticed here."""
    core = Alignment({})
    core.publish(published, 100.0)
    core.observe(Backend.LEGACY, legacy, 100.0, 0.01)
    core.observe(Backend.SUPABASE, supabase, 100.0, 0.02)
    (decision,) = core.decide(120.0)
    assert decision.outcome is Outcome.MISMATCH
    return decision.details


def test_what_the_comparison_says_is_read_back() -> None:
    at = datetime(2026, 11, 26, tzinfo=UTC)
    published = Event(UUID(int=1), StreamId("web-1/system"), 1, 1, "k", at, {"load": 1})
    other = replace(published, payload={"load": "a, got b"})
    details = compared(published, legacy=published, supabase=other)
    sample = Sample("mismatch", "web-1/system", 1, 1, details)
    (difference,), others = differences(sample)
    assert (difference.side, difference.path, difference.of) == ("supabase", "payload.load", "expected")
    assert (difference.expected, difference.actual) == ("1", '"a, got b"')
    assert others == []
    rows = side_by_side(to_json(published), sample)
    assert rows[0] == ("payload.load", "1", "", '"a, got b"')
    assert ("kind", '"k"', "", "") in rows


def test_both_sides_may_differ_and_the_truth_may_be_gone() -> None:
    both = Sample("mismatch", "s", 1, 1, ("legacy a: expected 1, got 2", "supabase a: expected 1, got 3"))
    assert side_by_side(None, both) == [("a", "1", "2", "3")]
    gone = Sample("mismatch", "s", 1, 1, ("supabase a: legacy has 2, got 3",))
    assert side_by_side(None, gone) == [("a", "", "2", "3")]


def test_a_finding_without_a_difference_keeps_its_words() -> None:
    sample = Sample("duplicate", "web-1/system", 1, 2, ("supabase: 3 times",))
    assert differences(sample) == ([], ["supabase: 3 times"])
    assert validation.fields(None, sample) == {}
    assert validation.fields({"kind": "k"}, sample)["On legacy"] == ["same"]


def test_leaves_have_the_comparisons_paths() -> None:
    assert dict(fields({"a": {"b": [1, {"c": None}]}, "d": []})) == {
        "a.b[0]": "1",
        "a.b[1].c": "null",
        "d": "[]",
    }
