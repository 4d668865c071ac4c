"""Messages as dataclasses: what fields say is what is written and read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legacy_ws.errors import MalformedMessage, UnknownMessage
from legacy_ws.protocol.records import Codec, Message, Record, encode


@dataclass(frozen=True, slots=True)
class Part(Record):
    CAMEL: ClassVar[bool] = True
    last_name: str
    age_years: float | None


@dataclass(frozen=True, slots=True)
class Whole(Message):
    TYPE: ClassVar[str] = "whole"
    at: datetime
    parts: tuple[Part, ...]
    ready: bool
    note: str | None = None
    anything: Any = 7


CODEC = Codec(Whole)
AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def test_a_message_is_written_as_its_fields_say():
    message = Whole(AT, (Part("x", None),), ready=True)
    assert json.loads(encode(message)) == {
        "type": "whole",
        "at": "2026-01-02T03:04:05.678Z",
        "parts": [{"lastName": "x", "ageYears": None}],
        "ready": True,
    }


@given(
    st.builds(
        Whole,
        st.just(AT),
        st.lists(
            st.builds(Part, st.text(), st.none() | st.floats(allow_nan=False, allow_infinity=False))
        ).map(tuple),
        st.booleans(),
        st.none() | st.text(),
        st.integers(-(2**53), 2**53) | st.text(),
    )
)
def test_what_is_written_is_read_again(message):
    assert CODEC.read(encode(message)) == message


def test_keys_of_a_newer_peer_are_ignored():
    text = json.dumps({"type": "whole", "at": "2026-01-02T03:04:05Z", "parts": [], "ready": False, "new": 1})
    assert CODEC.read(text) == Whole(AT.replace(microsecond=0), (), ready=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"at": "yesterday"}, "at must be an RFC 3339 time"),
        ({"at": None}, "at must be str"),
        ({"parts": {}}, "parts must be list"),
        ({"parts": [1]}, "parts must be dict"),
        ({"parts": [{"ageYears": 1}]}, "lastName is missing"),
        ({"parts": [{"lastName": "x", "ageYears": "old"}]}, "ageYears must be int or float"),
        ({"ready": 1}, "ready must be bool"),
        ({"note": 3}, "note must be str"),
    ],
)
def test_a_wrong_value_is_named(change, reason):
    message = {"type": "whole", "at": "2026-01-02T03:04:05Z", "parts": [], "ready": True, **change}
    with pytest.raises(MalformedMessage, match=reason):
        CODEC.read(json.dumps(message))


def test_an_unknown_type_names_the_known_ones():
    with pytest.raises(UnknownMessage, match="unknown message type 'other'; this server understands whole"):
        CODEC.read('{"type":"other"}')
