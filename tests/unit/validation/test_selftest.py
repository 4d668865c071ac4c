"""Every fault at every rate is found, and nothing else; a recording replays to the result of the run."""

import io
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.service import PUSHING, Backend
from validation.errors import InvalidRecording
from validation.faults import Fault, mutated
from validation.frames import Frame, What, read, to_line
from validation.observation import Outcome
from validation.replaying import replay
from validation.report import to_json
from validation.selftest import SIDES, examine, play, synthetic
from validation.session import Session
from validation.terms import Terms
from validation.verdict import Verdict


@pytest.fixture(scope="module")
def clean() -> list[Frame]:
    return synthetic(streams=20, seconds=600, skew_seconds=2.0)


@pytest.mark.parametrize("fault", list(Fault))
def test_every_injected_fault_is_found_and_nothing_else(clean, fault):
    scores = list(examine(clean, faults=[fault], rates=(0.001, 0.1), sides=SIDES))
    assert len(scores) == 1 + (3 if fault is Fault.STALL else 6)
    assert [score for score in scores if not score.holds] == []
    assert all(score.injected for score in scores[1:])
    assert all((score.recall, score.precision) == (1.0, 1.0) for score in scores)


def test_a_comparison_that_misses_something_does_not_hold(clean):
    """The scorer is no rubber stamp: of faults in events that nobody looks at, it finds none."""
    blind = [frame for frame in clean if frame.what is not What.DECIDE]
    session, outcomes = play(blind)
    assert (sum(session.counts.values()), outcomes) == (0, {})
    with pytest.raises(InvalidRecording):
        list(examine(blind))


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.floats(0.01, 6.0))
def test_clean_streams_have_no_finding_at_any_skew(seed, skew):
    session, outcomes = play(synthetic(streams=5, seconds=120, skew_seconds=skew, seed=seed))
    assert outcomes == {}
    assert session.counts[Outcome.MATCHED] == session.alignment.published > 100


def test_an_hour_of_a_clean_stream_has_no_finding():
    session, outcomes = play(synthetic(streams=5, seconds=3600, skew_seconds=4.0, seed=3))
    assert outcomes == {}
    assert session.counts[Outcome.MATCHED] > 8000


def test_a_loss_of_one_per_cent_trips(clean):
    scores = examine(clean, faults=[Fault.DROP], rates=(0.01,), sides=((Backend.SUPABASE,),))
    tripped = list(scores)[1].tripped_at_events
    assert tripped is not None
    assert tripped < 2500


def test_a_mutated_event_always_differs(clean):
    rng = random.Random(5)
    events = [frame.event for frame in clean if frame.event is not None][:200]
    assert all(mutated(event, rng).payload != event.payload for event in events)


def test_what_was_noted_replays_to_the_same_result(clean):
    noted: list[Frame] = []
    session = Session({}, datetime(2026, 1, 1, tzinfo=UTC), terms=Terms(), note=noted.append)
    for frame in clean[1:]:
        if frame.what is What.PUBLISHED:
            session.publish(frame.event, frame.at)
        elif frame.what is What.DELIVERED and (frame.event.seq != 7 or frame.side is Backend.LEGACY):
            session.deliver(frame.side, frame.event, frame.at, 0.1)
        elif frame.what is What.DECIDE:
            session.decide(frame.at)
    session.set_live(Backend.SUPABASE, 700.0, live=False)
    session.gap(Backend.LEGACY, 700.0)
    session.publish_upto({}, 700.0)
    session.finish(session.alignment.decided(), 700.0)
    live = session.result(datetime(2026, 1, 1, 1, tzinfo=UTC), at=701.0, doubts=("stopped",))
    assert live.verdict is Verdict.FAIL
    lines = b"".join(map(to_line, noted)).splitlines(keepends=True)
    assert to_json(replay(read(lines))) == to_json(live)


def test_a_recording_that_was_cut_off_is_inconclusive_and_one_that_is_none_is_refused(clean):
    lines = [to_line(frame) for frame in clean]
    cut = b"".join(lines)[:-20_000]
    result = replay(read(io.BytesIO(cut)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "the recording ends in the middle of the run" in result.reasons
    for wrong in (
        b"",
        b"\n",
        b"hello\n",
        lines[1],
        b'{"what":"begin","at":0,"version":9}\n',
        b'{"what":"begin","at":0,"version":1}\n',
    ):
        with pytest.raises(InvalidRecording):
            replay(read(io.BytesIO(wrong)))
    with pytest.raises(InvalidRecording, match="line 2"):
        replay(read([lines[0], b'{"what":"delivered","at":1}\n' if False else b"{}\n"]))
    with pytest.raises(InvalidRecording, match="cannot stand here"):
        replay(read([lines[0], b'{"what":"delivered","at":1}\n']))


def test_both_sides_are_faulted_alike(clean):
    scores = list(examine(clean, faults=[Fault.DROP], rates=(0.01,), sides=(PUSHING,)))
    assert scores[1].expected is Outcome.MISSING_BOTH
