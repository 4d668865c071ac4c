"""What counts as the same in two recordings, and that nothing else does."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded import keys
from tests.conformance import transcript
from tests.conformance.compare import differences
from tests.conformance.differences import CHOSEN, NOT_REPLAYED, REWRITTEN
from tests.conformance.transcript import SECRET, Present

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.jsonl"))
recordings = pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)


def recv(text, conn="A"):
    return {"t": 0.0, "dir": "recv", "conn": conn, "op": "text", "data": json.dumps(text)}


def send(conn="A"):
    return {"t": 0.0, "dir": "send", "conn": conn, "op": "text", "data": "x"}


@recordings
def test_a_recording_is_the_same_as_itself(path):
    lines = transcript.load(path).lines
    assert differences(lines, lines) == []


@given(data=st.data(), path=st.sampled_from(TRANSCRIPTS))
def test_a_dropped_frame_is_exactly_one_difference(data, path):
    lines = transcript.load(path).lines
    # frames that bring binding ids are left out: without one, the ids after it are numbered otherwise
    answers = [
        index
        for index, line in enumerate(lines)
        if line["dir"] == "recv" and "postgres_changes" not in line.get("data", "")
    ]
    if answers:
        gone = data.draw(st.sampled_from(answers))
        without = lines[:gone] + lines[gone + 1 :]
        assert [found.expected for found in differences(lines, without)] == [True]
        assert [found.expected for found in differences(without, lines)] == [False]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, {"id": "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"}),
        ({"at": "2026-11-20T23:45:46.784Z"}, {"at": "2027-01-01T00:00:00Z"}),
        ({"m": "expired 5 seconds ago"}, {"m": "expired 70 seconds ago"}),
        ({"phx_ref": "GOnltiR72i9VAxpB"}, {"phx_ref": "x"}),
        ({"ids": [5, 6]}, {"ids": [70, 80]}),
    ],
)
def test_what_differs_from_run_to_run_does_not_count(one, other):
    assert differences([recv(one)], [recv(other)]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"n": 1.50}, {"n": 1.25}),
        ({"id": "11111111-1111-1111-1111-111111111111"}, {"id": "22222222-2222-2222-2222-222222222222"}),
        ({"at": "2024-05-06T05:08:09Z"}, {"at": "2024-05-07T05:08:09Z"}),
        ({"phx_ref_prev": None}, {"phx_ref_prev": "x"}),
        ({"ids": [5, 5]}, {"ids": [5, 6]}),
        ({"ref": 5}, {"ref": "5"}),
    ],
)
def test_what_means_something_counts(one, other):
    assert len(differences([recv(one)], [recv(other)])) == 2


def test_order_counts_between_phases_only():
    first, second = recv({"n": 1}), recv({"n": 2})
    assert differences([first, second], [second, first]) == []
    assert differences([first], [{**first, "conn": "B"}]) != []


def test_a_binary_broadcast_is_compared_by_its_parts():
    def binary(payload):
        data = b"\x04\x01\x01\x00\x01te" + payload
        return {"t": 0, "dir": "recv", "conn": "A", "op": "binary", "hex": data.hex()}

    assert differences([binary(b'{"a":1, "b":2}')], [binary(b'{"b":2,"a":1}')]) == []
    assert len(differences([binary(b'{"a":1}')], [binary(b'{"a":2}')])) == 2


def test_close_codes_and_http_bodies_count():
    def closed(code):
        return [{"t": 0, "dir": "close", "conn": "A", "code": code}]

    assert len(differences(closed(1000), closed(1009))) == 2
    answer = {"t": 0, "dir": "http_response", "status": 401, "body": "a", "headers": {}}
    assert len(differences([answer], [{**answer, "body": "b"}])) == 2


def test_every_chosen_difference_is_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "embedded-supabase.md").read_text()
    reasons = {entry.reason for entry in (*CHOSEN, *REWRITTEN)} | set(NOT_REPLAYED.values())
    assert [reason for reason in reasons if reason not in page] == []


def test_a_cut_frame_is_made_whole_again():
    head = '["1","2","t","broadcast",{"payload":{"x":"y'
    line = {"op": "text", "data": head, "truncated": True, "length": 100}
    frame = transcript.sent(line)
    assert len(frame) == 100
    assert json.loads(frame)[4]["payload"]["x"].strip("y") == ""


def test_tokens_about_to_expire_keep_their_distance_and_others_stay():
    soon = keys.sign({"role": "anon", "exp": 1_000_005}, SECRET)
    late = keys.sign({"role": "anon", "exp": 2_051_222_400}, SECRET)
    forged = keys.sign({"role": "anon", "exp": 1_000_005}, "another secret that is long enough for it")
    present = Present(started_at=1_000_000.0)
    moved = present.text(f"{soon} {late} {forged}", t=2.0, now=5_000_002.0).split()
    assert keys.verify(moved[0], SECRET, now_seconds=5_000_004)["exp"] == 5_000_005
    assert moved[1:] == [late, forged]
    assert present.text(soon, t=4.0, now=5_000_009.0) == moved[0]
