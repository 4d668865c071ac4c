"""Anybody's recordings: what differs is found, what is wrong with the files is named, and nothing crashes."""

import json
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.events import Event, StreamId, to_json
from validation.observation import Outcome
from validation.recordings import MAX_LINE_BYTES, Fields, compare_recordings
from validation.report import to_text
from validation.result import Result
from validation.verdict import Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FOREIGN = Fields(key=("order.id",), stream="host", time="ts")


def ours(seq: int, stream: str = "web-1/system", epoch: int = 1, **payload: object) -> dict:
    at = NOW + timedelta(seconds=seq)
    identity = UUID(int=seq + 10_000 * epoch + crc32(stream.encode()) % 1000 * 10**6)
    return to_json(Event(identity, StreamId(stream), epoch, seq, "k", at, {"n": seq, **payload}))


def foreign(number: int, **more: object) -> dict:
    return {
        "host": f"h{number % 3}",
        "ts": 1_700_000_000 + number,
        "order": {"id": number},
        "value": number * 2,
        **more,
    }


def lines(objects) -> list[bytes]:
    return [json.dumps(each).encode() + b"\n" for each in objects]


def compared(control, candidate, fields: Fields | None = None) -> Result:
    return compare_recordings(control, candidate, fields=fields, now=NOW)


def found(result: Result) -> dict[Outcome, int]:
    return {outcome: count for outcome, count in result.counts.items() if count}


@pytest.mark.parametrize(
    ("make", "fields"),
    [(ours, None), (foreign, FOREIGN), (foreign, Fields()), (foreign, Fields(stream="host"))],
    ids=["ours", "by key", "by content", "by content and stream"],
)
class TestRecordings:
    def test_equal_ones_pass_whatever_the_order_of_keys(self, make, fields):
        events = [make(n) for n in range(5, 505)]
        other = [dict(reversed(each.items())) for each in events]
        result = compared(lines(events), lines(other), fields)
        assert (result.verdict, found(result)) == (Verdict.PASS, {Outcome.MATCHED: 500})

    def test_one_that_is_missing_is_found(self, make, fields):
        events = [make(n) for n in range(5, 505)]
        result = compared(lines(events), lines(events[:100] + events[101:]), fields)
        assert (result.verdict, found(result)) == (
            Verdict.FAIL, {Outcome.MATCHED: 499, Outcome.MISSING_SUPABASE: 1},
        )  # fmt: skip

    def test_one_too_many_is_found(self, make, fields):
        events = [make(n) for n in range(5, 505)]
        result = compared(lines(events), lines([*events[:101], events[100], *events[101:]]), fields)
        by_content = fields is not None and not fields.key
        kind = Outcome.EXTRA if by_content else Outcome.DUPLICATE
        assert result.counts[kind] == 1
        assert result.counts[Outcome.MATCHED] == 499 + by_content

    def test_one_that_changed_is_found(self, make, fields):
        events = [make(n) for n in range(5, 505)]
        changed = json.loads(json.dumps(events[100]))
        changed.get("payload", changed)["value"] = -1
        result = compared(lines(events), lines([*events[:100], changed, *events[101:]]), fields)
        if fields is not None and not fields.key:
            assert (result.counts[Outcome.MISSING_SUPABASE], result.counts[Outcome.EXTRA]) == (1, 1)
        else:
            assert result.counts[Outcome.MISMATCH] == 1
            assert "value: expected" in result.samples[Outcome.MISMATCH][0].details[0]

    def test_a_side_that_never_speaks_does_not_pass(self, make, fields):
        result = compared(lines(make(n) for n in range(5, 50)), [], fields)
        assert result.verdict is Verdict.FAIL
        assert "B has no events" in result.reasons
        result = compared([], lines(make(n) for n in range(5, 50)), fields)
        assert result.verdict is Verdict.FAIL
        nothing = compared([], [], fields)
        assert (nothing.verdict, nothing.exit_code) == (Verdict.NO_DATA, 4)
        assert nothing.reasons == ("neither A nor B has an event",)


def test_recordings_of_other_times_are_compared_where_both_are():
    events = [ours(n) for n in range(1, 1001)]
    result = compared(lines(events[:995]), lines(events[4:]))
    assert (result.verdict, result.counts[Outcome.MATCHED]) == (Verdict.PASS, 991)
    assert "4 of 995 events of A are from before or after the other's time" in result.not_compared
    result = compared(lines(events[:600]), lines(events[400:]))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.counts[Outcome.MATCHED] == 200


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (b'{"stream": "web-1/system", "ep', "cut off in the middle of the last line (line 101)"),
        (b"hello\n", "not JSON (line 101)"),
        (b'"text"\n', "no object (line 101)"),
        (b'{"a": "\xe9"}\n', "not UTF-8 (line 101)"),
        (json.dumps(ours(300)).encode("utf-16") + b"\n", "not UTF-8 (UTF-16?) (line 101)"),
        (b'{"stream": "x", "epoch": 1, "seq": 0, "payload": {}}\n', "no event of ours;"),
        (lines([ours(1) | {"seq": 5000}])[0], "an id of another event"),
        (lines([ours(1) | {"epoch": 3}])[0], "or another epoch"),
        (lines([ours(5000) | {"occurred_at": "2020-01-01T00:00:00Z"}])[0], "a time that goes back by more than 60 s"),
        (b"x" * MAX_LINE_BYTES, "longer than 16 MiB (line 101)"),
    ],
    ids=[
        "cut", "no JSON", "no object", "Latin-1", "UTF-16", "no event", "another's id", "another epoch", "time goes back",
        "too long",
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named_and_keeps_it_from_a_pass(bad, told):
    good = lines(ours(n) for n in range(1, 101))
    for pair in ([*good, bad], good), (good, [*good, bad]):
        result = compared(*pair)
        assert result.verdict in {Verdict.INCONCLUSIVE, Verdict.FAIL}
        assert any(told in reason for reason in result.reasons), result.reasons


def test_the_rest_of_a_line_that_is_too_long_is_no_line_of_its_own():
    good = lines(ours(n) for n in range(1, 101))
    result = compared(good, [*good[:50], b"x" * MAX_LINE_BYTES, b"y" * MAX_LINE_BYTES, b"z\n", *good[50:]])
    assert result.counts[Outcome.MATCHED] == 100
    assert [reason for reason in result.reasons if "B:" in reason] == ["B: 1 x longer than 16 MiB (line 51)"]


def test_a_byte_order_mark_is_no_problem():
    good = lines(ours(n) for n in range(1, 101))
    assert compared(good, [b"\xef\xbb\xbf" + good[0], *good[1:]]).verdict is Verdict.PASS


def test_the_same_seqs_in_another_epoch_are_other_events():
    first = [ours(n) for n in range(1, 50)]
    second = [ours(n, epoch=2) | {"occurred_at": f"2026-01-02T00:{n:02}:00Z"} for n in range(1, 50)]
    result = compared(lines(first + second), lines(first + second))
    assert (result.verdict, found(result)) == (Verdict.PASS, {Outcome.MATCHED: 98})


@given(st.lists(st.binary(max_size=60) | st.sampled_from(lines(ours(n) for n in range(1, 9))), max_size=20))
def test_garbage_never_crashes_and_never_passes(rubbish):
    good = lines(ours(n) for n in range(1, 40))
    result = compared(good, [*good[:20], *(line + b"\n" for line in rubbish), *good[20:]])
    assert result.verdict is not Verdict.ERROR
    if any(line.strip() for line in rubbish):
        assert result.verdict is not Verdict.PASS


def test_files_that_are_far_out_of_step_are_compared():
    control = [foreign(n) for n in range(5000)]
    candidate = list(control)
    random.Random(1).shuffle(candidate)
    result = compared(lines(control), lines(candidate), Fields(key=("order.id",)))
    assert result.counts[Outcome.MATCHED] + result.counts[Outcome.REORDERED] == 5000


def test_many_lines_that_are_wrong_in_their_own_way_are_one_sentence():
    """A million lines of another form would otherwise be a million reasons, on the screen and in memory."""
    wrong = [b'{"stream": "a/b", "epoch": "e1", "seq": %d, "payload": {}}\n' % n for n in range(1, 1001)]
    result = compared(wrong, wrong)
    assert len(result.reasons) < 10
    told = next(reason for reason in result.reasons if reason.startswith("A: 1000 x no event of ours"))
    assert "--key" in told
    assert "(line 1, 2, 3, ...)" in told
    assert told.endswith("the first: not an event: kind is missing")


def test_a_key_that_is_named_is_used_also_where_lines_look_like_ours():
    """It went unused without a word: --key with a slip in it passed."""
    events = [ours(n) for n in range(1, 101)]
    result = compared(lines(events), lines(events), Fields(key=("no.such",)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "A: 100 x without no.such (line 1, 2, 3, ...)" in result.reasons
    theirs = [event | {"epoch": "e1"} for event in events]
    assert compared(lines(theirs), lines(theirs), Fields(key=("epoch", "seq"))).verdict is Verdict.PASS


def test_recordings_wait_in_lines_and_say_so():
    text = to_text(compared(lines([ours(1)]), lines([ours(1)])))
    assert "50000.0 s" not in text
    assert "may be up to 50,000 lines ahead" in text
