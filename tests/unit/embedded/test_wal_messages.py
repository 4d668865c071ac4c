"""The protocol's messages: any chunking gives the same, garbage raises only ProtocolError."""

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.errors import ProtocolError
from embedded.wal import messages
from embedded.wal.messages import Frames, Keepalive, XLogData


def frame(tag, payload):
    return struct.pack("!BI", tag, len(payload) + 4) + payload


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60))), st.data())
def test_any_chunking_yields_the_same_messages(expected, data):
    stream = b"".join(frame(tag, payload) for tag, payload in expected)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    frames, found = Frames(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += frames.feed(stream[begin:end])
    assert found == expected


@given(st.lists(st.binary(max_size=30)))
def test_garbage_raises_only_protocol_errors(chunks):
    frames = Frames()
    try:
        for chunk in chunks:
            for _tag, payload in frames.feed(chunk):
                messages.parse_error(payload)
                messages.parse_copy_data(payload)
    except ProtocolError:
        pass


@given(st.binary(max_size=60))
def test_garbage_rows_raise_only_protocol_errors(payload):
    try:
        messages.parse_row(payload)
        messages.parse_authentication(payload)
    except ProtocolError:
        pass


def test_a_senseless_length_is_refused_even_in_pieces():
    frames = Frames()
    assert frames.feed(b"d\xff\xff") == []
    with pytest.raises(ProtocolError, match="cannot be read on"):
        frames.feed(b"\xff\xff")


@given(st.integers(0, 2**64 - 1))
def test_positions_round_trip(lsn):
    assert messages.parse_lsn(messages.lsn_text(lsn)) == lsn


@pytest.mark.parametrize("text", ["", "/", "16", "16/", "x/y"])
def test_a_bad_position_is_refused(text):
    with pytest.raises(ProtocolError):
        messages.parse_lsn(text)


def test_positions_look_like_postgresql_writes_them():
    assert messages.lsn_text(0x16_B374D848) == "16/B374D848"


def test_rows_have_text_and_null():
    payload = struct.pack("!HI", 2, 3) + b"abc" + struct.pack("!i", -1)
    assert messages.parse_row(payload) == ("abc", None)


def test_errors_carry_their_fields():
    error = messages.parse_error(b"SFEHLER\0VFATAL\0C57P01\0Mgoing away\0Hwait\0\0")
    assert (error.severity, error.sqlstate, error.message, error.hint) == (
        "FATAL",
        "57P01",
        "going away",
        "wait",
    )


def test_stream_messages():
    data = b"w" + struct.pack("!QQq", 1, 2, 3) + b"payload"
    assert messages.parse_copy_data(data) == XLogData(1, 2, b"payload")
    assert messages.parse_copy_data(b"k" + struct.pack("!QqB", 7, 0, 1)) == Keepalive(7, reply_requested=True)


def test_status_says_received_and_flushed():
    moment = datetime(2000, 1, 1, 0, 0, 1, tzinfo=UTC)
    sent = messages.standby_status(9, 5, moment)
    assert sent[:1] == b"d"
    assert struct.unpack("!cQQQqB", sent[5:]) == (b"r", 9, 5, 5, 1_000_000, 0)
    assert messages.timestamp(messages.microseconds(moment)) == moment


def test_start_up_names_its_parameters():
    sent = messages.startup({"user": "a", "replication": "database"})
    assert struct.unpack("!II", sent[:8]) == (len(sent), 196608)
    assert sent[8:] == b"user\0a\0replication\0database\0\0"
    assert messages.query("select 1") == b"Q" + struct.pack("!I", 13) + b"select 1\0"
    assert messages.terminate() == b"X\0\0\0\4"
