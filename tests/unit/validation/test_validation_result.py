import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from monitoring.events import Event, Position, StreamId
from monitoring.fingerprint import Likeness
from monitoring.service import PUSHING, Backend
from validation.errors import InconsistentResult
from validation.limits import Limits
from validation.observation import FINDINGS, MEANINGS, Decision, Key, Outcome
from validation.repeats import RawRepeats
from validation.report import to_json, to_text
from validation.result import Conditions, Thresholds, check_sum, judge
from validation.session import Session
from validation.tally import MAX_SAMPLES, RollingTally, Tally
from validation.terms import Terms
from validation.verdict import EXIT_CODES, Verdict

AT = datetime(2026, 1, 1, tzinfo=UTC)
STREAM = StreamId("web-1/system")
NONE = dict.fromkeys(Outcome, 0)


def verdict_of(published: int, *, silent=(), errors=(), doubts=(), **counts: int):
    return judge(
        {**NONE, **{Outcome(name): count for name, count in counts.items()}},
        published=published,
        thresholds=Thresholds(),
        conditions=Conditions(errors, doubts),
        silent=silent,
    )


def test_passes_when_everything_matched():
    assert verdict_of(10, matched=10) == (Verdict.PASS, ("every one of 10 decided events matched",))
    assert verdict_of(1000, matched=990)[0] is Verdict.PASS


@pytest.mark.parametrize("finding", FINDINGS)
def test_any_finding_fails(finding):
    verdict, reasons = verdict_of(100, matched=100, **{finding: 1})
    assert verdict is Verdict.FAIL
    assert reasons == (f"1 {finding}",)


def test_a_finding_fails_however_the_run_ended():
    verdict, reasons = verdict_of(3, matched=2, extra=1, doubts=("stopped after 1 of 9 s",))
    assert verdict is Verdict.FAIL
    assert reasons == ("1 extra", "stopped after 1 of 9 s")


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"published": 9, "matched": 9}, "9 events were decided, 10 are needed"),
        ({"published": 1000, "matched": 989}, "98.9% of the events were decided, 99% are needed"),
        ({"published": 100, "matched": 100, "silent": (Backend.LEGACY,)}, "legacy delivered nothing"),
        ({"published": 100, "matched": 100, "doubts": ("suspended",)}, "suspended"),
        ({"published": 0, "doubts": ("legacy was not live",)}, "legacy was not live"),
    ],
)
def test_doubt_is_never_a_pass(case, reason):
    verdict, reasons = verdict_of(case.pop("published"), **case)
    assert verdict is Verdict.INCONCLUSIVE
    assert reason in reasons


def test_no_data_and_errors_are_their_own_verdicts():
    assert verdict_of(0)[0] is Verdict.NO_DATA
    assert verdict_of(100, matched=100, errors=("wrong key",)) == (Verdict.ERROR, ("wrong key",))


def test_every_verdict_has_its_exit_code():
    assert {verdict: EXIT_CODES[verdict] for verdict in Verdict} == {
        Verdict.PASS: 0,
        Verdict.FAIL: 1,
        Verdict.ERROR: 2,
        Verdict.INCONCLUSIVE: 3,
        Verdict.NO_DATA: 4,
    }


def test_every_class_is_explained():
    assert set(MEANINGS) == set(Outcome)


@pytest.mark.parametrize(
    ("counts", "published", "pending"),
    [
        ({Outcome.MATCHED: 2}, 3, 0),
        ({Outcome.MATCHED: 2}, 2, 1),
        ({Outcome.MATCHED: 3, Outcome.LATE: -1}, 2, 0),
    ],
)
def test_figures_that_do_not_add_up_are_refused(counts, published, pending):
    with pytest.raises(InconsistentResult):
        check_sum({**NONE, **counts}, published=published, pending=pending)


def test_extras_are_not_among_the_published():
    check_sum({**NONE, Outcome.EXTRA: 5, Outcome.EXCLUDED: 1, Outcome.MATCHED: 1}, published=3, pending=1)


def decision(seq: int, outcome: Outcome, at: float = 0.0, replaces: Outcome | None = None) -> Decision:
    return Decision(Key(STREAM, 1, seq), outcome, at, ("x",), replaces)


def test_a_tally_keeps_a_few_samples_and_moves_revised_events():
    tally = Tally()
    tally.add(decision(seq, Outcome.MISSING_BOTH) for seq in range(50))
    assert len(tally.samples[Outcome.MISSING_BOTH]) == MAX_SAMPLES
    tally.add([decision(0, Outcome.LATE, replaces=Outcome.MISSING_BOTH)])
    assert tally.counts[Outcome.MISSING_BOTH] == 49
    assert tally.counts[Outcome.LATE] == 1
    assert len(tally.samples[Outcome.MISSING_BOTH]) == MAX_SAMPLES - 1


def test_a_rolling_tally_forgets():
    rolling = RollingTally(window_seconds=60, bucket_seconds=10)
    rolling.add([decision(1, Outcome.MATCHED, 5.0), decision(2, Outcome.MISSING_LEGACY, 55.0)])
    assert rolling.counts(60.0)[Outcome.MATCHED] == 1
    rolling.add([decision(2, Outcome.LATE, 55.0, replaces=Outcome.MISSING_LEGACY)])
    after = rolling.counts(80.0)
    assert (after[Outcome.MATCHED], after[Outcome.MISSING_LEGACY], after[Outcome.LATE]) == (0, 0, 1)
    rolling.add([decision(1, Outcome.DUPLICATE, 5.0, replaces=Outcome.MATCHED)])
    assert rolling.counts(80.0)[Outcome.MATCHED] == 0
    assert not any(rolling.counts(1000.0).values())


def played(event, *, changed: int = 0, count: int = 12, limits: Limits | None = None) -> Session:
    """Run a session in which the last ``changed`` of ``count`` events differ on Supabase."""
    raw = {side: RawRepeats() for side in PUSHING}
    session = Session({}, AT, raw=raw, terms=Terms(limits or Limits()))
    for seq in range(1, count + 1):
        item = event(seq)
        session.publish(item, 1.0)
        session.deliver(Backend.LEGACY, item, 1.1, 0.1)
        session.deliver(
            Backend.SUPABASE,
            replace(item, payload={**item.payload, "text": "y" * 400}) if seq > count - changed else item,
            1.2,
            0.2,
        )
        raw[Backend.LEGACY].add(item)
    raw[Backend.LEGACY].add(event(1))
    session.gap(Backend.LEGACY, 1.3)
    session.set_live(Backend.SUPABASE, 1.3, live=False)
    session.set_live(Backend.SUPABASE, 1.3, live=False)
    session.set_live(Backend.SUPABASE, 1.3, live=True)
    session.decide(1.5)
    session.decide(3.0)
    session.decide(4.5)
    session.decide(6.4)
    return session


def test_a_clean_session_reports_its_certainty(event):
    result = played(event).result(AT + timedelta(seconds=30))
    text = to_text(result)
    assert text.startswith(
        "PASS: every one of 12 decided events matched\n12 published, 12 decided, 0 pending in 30.0 s\n"
    )
    assert "coverage 100.00%" in text
    assert "0 of 12 differ: below 26.170% (95 %, valid at any look)" in text
    assert "legacy   12 delivered, latency p50 " in text
    assert "1 told gaps" in text
    assert "1 repeats on the wire" in text
    assert "1 outages" in text
    assert "Not compared:\n  - log lines" in text
    assert result.exit_code == 0


def test_an_outage_that_cost_nothing_is_told_in_the_head_and_is_no_doubt(event):
    text = to_text(played(event).result(AT))
    head = text.partition("\n\n")[0]
    assert head.startswith("PASS")
    assert "supabase was away 1 time, nothing was missed" in head
    assert "legacy was away" not in head


def test_an_outage_that_cost_events_is_told_with_their_number(event):
    session = played(event)
    session.set_live(Backend.SUPABASE, 1.3, live=False)
    session.set_live(Backend.SUPABASE, 1.3, live=True)
    for seq in range(13, 16):
        session.publish(event(seq), 7.0)
        session.deliver(Backend.LEGACY, event(seq), 7.0, 0.1)
    pending = to_text(session.result(AT))
    assert "supabase was away 2 times, nothing was missed so far, 3 pending" in pending
    for at in (8.0, 9.5, 11.0, 12.5, 14.0, 15.5, 17.0, 18.5, 20.0, 21.5, 23.0):
        session.decide(at)
    text = to_text(session.result(AT))
    assert text.startswith("FAIL")
    assert "supabase was away 2 times, 3 events were missed" in text.partition("\n\n")[0]


def test_findings_are_shown_with_values_cut(event):
    result = played(event, changed=11).result(AT)
    text = to_text(result)
    assert text.startswith("FAIL: 11 mismatch\n")
    assert "mismatch: 11, of which 10:" in text
    assert "web-1/system 1:2  supabase payload.text: expected (absent), got " in text
    assert max(len(line) for line in text.splitlines()) < 200
    assert result.upper_bound is None


def test_the_json_says_the_same(event):
    result = played(event, changed=1).result(AT)
    found = json.loads(json.dumps(to_json(result)))
    assert (found["verdict"], found["exit_code"], found["decided"]) == ("FAIL", 1, 12)
    assert found["counts"] == {**{str(name): 0 for name in Outcome}, "matched": 11, "mismatch": 1}
    assert found["samples"]["mismatch"][0]["seq"] == 12
    assert found["sides"]["legacy"]["raw_repeats"] == 1
    assert found["sides"]["supabase"]["latency"]["count"] == 12
    assert found["upper_bound_95"] is None


def test_an_empty_session_has_no_data(event):
    result = Session({}, AT).result(AT)
    assert result.verdict is Verdict.NO_DATA
    assert result.coverage == 0
    assert "latency unknown" in to_text(result)


def test_what_was_left_out_is_said(event):
    session = Session(
        {STREAM: Position(1, 1)},
        AT,
        terms=Terms(Limits(max_open=1, max_remembered=1, truth_is_complete=False)),
    )
    session.deliver(Backend.LEGACY, event(1), 0.0)
    session.deliver(Backend.LEGACY, event(2, stream=StreamId("x/y")), 0.0)
    for at in (1.0, 2.5, 4.0, 5.5):
        session.decide(at)
    session.publish(event(2), 6.0)
    session.publish(event(3), 6.0)
    session.deliver(Backend.LEGACY, event(3), 6.0)
    result = session.result(AT, doubts=("stopped after 1 of 2 s",))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reasons[:3] == (
        "stopped after 1 of 2 s",
        "the comparison was suspended: too many events were open",
        "1 deliveries were too late to be attributed",
    )
    assert result.not_compared[:2] == (
        "1 deliveries from before the start or after the end",
        "streams of other owners: x/y",
    )


def test_the_rolling_summary_has_the_last_minutes_and_the_totals(event):
    session = played(event, changed=1)
    now = json.loads(json.dumps(session.rolling(6.4, AT + timedelta(hours=1))))
    assert (now["verdict"], now["decided"], now["published"]) == ("FAIL", 12, 12)
    assert now["started_at"] == "2026-01-01T00:50:00.000000Z"
    assert now["total"]["counts"]["mismatch"] == now["counts"]["mismatch"] == 1
    assert now["live"] == {"legacy": True, "supabase": True}
    later = session.rolling(10_000.0, AT)
    assert (later["verdict"], later["decided"], later["samples"]) == ("NO_DATA", 0, {})
    assert later["total"]["decided"] == 12


def test_raw_repeats_remember_a_bounded_number(event):
    raw = RawRepeats()
    for seq in range(2, 20_010):
        raw.add(event(seq))
    raw.add(event(2))
    raw.add(event(20_009))
    assert (raw.count, raw.repeats) == (20_010, 1)


def test_a_server_that_tells_each_connection_something_else_is_named_as_the_cause():
    """It was "23 missing_legacy; 46 extra" without a word about why."""
    session = Session({STREAM: Position(1, 0)}, AT, terms=Terms(likeness=Likeness(), legacy_taps=2))
    for number in range(1, 21):
        event = Event(UUID(int=number), STREAM, 1, number, "k", AT, {"n": number})
        session.publish(event, float(number))
        session.deliver(Backend.SUPABASE, event, float(number))
        for tap in (0, 1):
            told = replace(event, payload={"n": number, "connection": tap})
            session.deliver(Backend.LEGACY, told, float(number), tap=tap)
    session.decide(200.0)
    result = session.result(AT)
    assert result.verdict is Verdict.FAIL
    assert result.noise == 1.0
    assert any("disagree about 100%" in reason and "likeness" in reason for reason in result.reasons)
