"""What makes two copies of one event the same, everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.fingerprint import Likeness, fingerprint
from tests.fakes.event_factory import START, event

numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
payloads = st.dictionaries(st.text(min_size=1), values, max_size=5)


def says(payload: dict[str, object]) -> bytes:
    return fingerprint(replace(event(), payload=payload))


@given(payloads)
def test_a_trip_over_json_and_another_order_of_keys_change_nothing(payload: dict[str, object]) -> None:
    again = json.loads(json.dumps(payload))
    assert says(again) == says(payload)
    assert says(dict(reversed(payload.items()))) == says(payload)


@given(st.integers(-(2**52), 2**52))
def test_a_whole_number_is_the_same_as_an_integer_and_as_a_float(number: int) -> None:
    assert says({"a": [number]}) == says({"a": [float(number)]})


@given(payloads, payloads)
def test_different_payloads_differ(one: dict[str, object], other: dict[str, object]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    if one != other:
        assert says(one) != says(other)
    elif same:
        assert says(one) == says(other)


def test_stream_kind_and_time_count() -> None:
    base = event()
    others = [
        replace(base, stream="web-2/system"),
        replace(base, kind="other"),
        replace(base, occurred_at=base.occurred_at + timedelta(milliseconds=1)),
    ]
    assert len({fingerprint(one) for one in [base, *others]}) == 4


def test_identity_does_not_count() -> None:
    assert fingerprint(replace(event(seq=1), epoch=7, seq=9, id=event(seq=2).id)) == fingerprint(event(seq=1))


@pytest.mark.parametrize(
    ("resolution", "microseconds", "same"),
    [
        (timedelta(milliseconds=1), 999, True),
        (timedelta(milliseconds=1), 1000, False),
        (timedelta(seconds=1), 999_999, True),
        (None, 5_000_000, True),
    ],
)
def test_times_are_compared_in_steps(resolution: timedelta | None, microseconds: int, *, same: bool) -> None:
    likeness = Likeness(resolution=resolution)
    later = replace(event(), occurred_at=event().occurred_at + timedelta(microseconds=microseconds))
    assert (fingerprint(event(), likeness) == fingerprint(later, likeness)) is same


def test_what_a_dialect_ignores_does_not_count_however_deep() -> None:
    likeness = Likeness(ignored=frozenset({"sent_ms", "metadata.worker", "absent.key", "n.not_an_object"}))
    one = event(n=1, sent_ms=4, metadata={"worker": 1, "kept": 2})
    other = event(n=1, sent_ms=5, metadata={"worker": 2, "kept": 2})
    third = event(n=1, sent_ms=4, metadata={"worker": 1, "kept": 3})
    assert fingerprint(one, likeness) == fingerprint(other, likeness)
    assert fingerprint(one, likeness) != fingerprint(third, likeness)
    assert one.payload == {"n": 1, "sent_ms": 4, "metadata": {"worker": 1, "kept": 2}}


def test_another_process_computes_the_same() -> None:
    program = (
        "from datetime import UTC, datetime\nfrom uuid import UUID\nfrom monitoring.events import Event\n"
        "from monitoring.fingerprint import fingerprint\n"
        f"at = datetime.fromisoformat({START.isoformat()!r})\n"
        "print(fingerprint(Event(UUID(int=0), 'a/b', 0, 1, 'k', at, {'b': 1.5, 'a': {'z': 'é', 'y': 2}})).hex())"
    )
    here = replace(
        event("a/b"), kind="k", occurred_at=START, payload=orjson.loads('{"a":{"y":2,"z":"é"},"b":1.5}')
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {fingerprint(here).hex()}
