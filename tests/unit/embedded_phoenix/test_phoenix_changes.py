"""The frames that carry changes, byte for byte."""

import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.phoenix import changes
from embedded.phoenix.changes import ChangeData, Envelope
from embedded.phoenix.frames import Vsn

COLUMNS = changes.columns_json([("id", "int8"), ("details", "text")])


def framed(envelope, topic, *data):
    name = json.dumps(topic).encode()
    return name.join(changes.spliced(map(envelope.around, data), len(name)))


def payload(frame):
    return frame[2:] if frame[1] < 126 else frame[4:]


def test_an_update_as_recorded():
    data = ChangeData(
        "public",
        "todos",
        "UPDATE",
        b'{"id": 1, "details": "b"}',
        b'{"id": 1}',
        COLUMNS,
        "2026-11-20T23:45:48.091Z",
    ).encoded()
    expected = (
        b'{"table":"todos","type":"UPDATE","record":{"id": 1, "details": "b"},"columns":[{"name": "id", '
        b'"type": "int8"}, {"name": "details", "type": "text"}],"errors":null,"schema":"public",'
        b'"commit_timestamp":"2026-11-20T23:45:48.091Z","old_record":{"id": 1}}'
    )
    assert data == expected
    assert payload(framed(Envelope.of(Vsn.V2, (7, 8)), "realtime:t", data)) == (
        b'[null,null,"realtime:t","postgres_changes",{"data":' + expected + b',"ids":[7,8]}]'
    )
    assert payload(framed(Envelope.of(Vsn.V1, (7,)), "realtime:t", data)) == (
        b'{"ref":null,"event":"postgres_changes","payload":{"data":'
        + expected
        + b',"ids":[7]},"topic":"realtime:t"}'
    )
    assert payload(framed(Envelope.legacy(Vsn.V1, "UPDATE"), "realtime:t", data)) == (
        b'{"ref":null,"event":"UPDATE","payload":' + expected + b',"topic":"realtime:t"}'
    )


@pytest.mark.parametrize("vsn", list(Vsn))
@pytest.mark.parametrize("sizes", [(0, 1), (60, 200, 70_000), (70_000, 3)])
def test_frames_spliced_together_are_those_of_each_alone(vsn, sizes):
    data = [json.dumps("x" * size).encode() for size in sizes]
    for envelope in (Envelope.of(vsn, (1, 2)), Envelope.legacy(vsn, "INSERT")):
        for topic in ("realtime:a", "realtime:" + "ä" * 90):
            alone = b"".join(framed(envelope, topic, body) for body in data)
            assert framed(envelope, topic, *data) == alone


def test_an_unauthorized_insert_as_recorded():
    data = ChangeData("public", "nogrant", "INSERT", b"{}", None, b"[]", None, changes.UNAUTHORIZED).encoded()
    assert data == (
        b'{"table":"nogrant","type":"INSERT","record":{},"columns":[],"errors":["Error 401: Unauthorized"],'
        b'"schema":"public","commit_timestamp":null}'
    )


def test_large_values_are_left_out():
    record = json.dumps({"id": 3, "body": "x" * 63, "small": "x" * 62}).encode()
    assert json.loads(changes.without_large(record)) == {"id": 3, "small": "x" * 62}


def test_numbers_keep_their_digits():
    record = b'{"id": 1, "n": 12345678901234567890.123456789000, "o": {"a,": [1, "}"]}, "t": "\\"}"}'
    assert changes.only(record, frozenset(("n", "o"))) == (
        b'{"n": 12345678901234567890.123456789000, "o": {"a,": [1, "}"]}}'
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.booleans())
def test_members_are_cut_where_they_end(record, ascii_only):
    raw = json.dumps(record, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return
    assert {key: json.loads(value) for key, value in changes.members(raw)} == record


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_only_keeps_the_order(kept):
    names = [f"c{i}" for i, _ in zip(range(5), count(), strict=False)]
    record = json.dumps(dict.fromkeys(names, 1)).encode()
    chosen = names[:kept]
    assert list(json.loads(changes.only(record, frozenset(chosen)))) == chosen
