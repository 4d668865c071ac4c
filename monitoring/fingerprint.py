"""Fingerprints: how an event is recognised where it has no identity.

Pure. Two copies of one event, over two connections or two backends, have the same fingerprint in every process and on
every machine; two events may have the same one too, when they say the same of the same moment. Whoever matches by
fingerprint therefore counts them (`monitoring.overlap`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NewType, Protocol

import orjson

from monitoring.events import StreamId

Fingerprint = NewType("Fingerprint", bytes)
"""16 bytes; by the birthday bound one accidental pair is expected among about 2**64 events."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# 12.0 or 1e16: PostgreSQL and browsers write them as integers. Two patterns that each begin with a letter are searched
# for six times as fast as one that does not.
_POINT_ZERO = re.compile(rb"\.0[,}\]]")
_EXPONENT = re.compile(rb"e(?<=\de)\d")


class Observed(Protocol):
    """What a fingerprint is taken of: an event, or what a server without identities says of one."""

    @property
    def stream(self) -> StreamId: ...  # noqa: D102 - as in Event
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def occurred_at(self) -> datetime: ...  # noqa: D102
    @property
    def payload(self) -> Mapping[str, Any]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Likeness:
    """What makes two observations the same event to a dialect."""

    resolution: timedelta | None = timedelta(milliseconds=1)
    """Times are compared in steps of this, cut off; None leaves the time out, for servers that do not tell it."""
    ignored: frozenset[str] = frozenset()
    """Paths in the payload that differ from one connection to the next, with dots: ``metadata.delivery_ms``."""


EXACT = Likeness()


def fingerprint(observed: Observed, likeness: Likeness = EXACT) -> Fingerprint:
    """Return the fingerprint; the order of keys does not count, nor whether 12 was written as 12.0."""
    payload: Mapping[str, Any] = observed.payload
    for path in likeness.ignored:
        payload = _without(payload, path.split("."))
    digest = blake2b(canonical_json(payload), digest_size=16)
    step = None
    if likeness.resolution is not None:
        step = (observed.occurred_at - _EPOCH) // likeness.resolution
    digest.update(f"\0{observed.stream}\0{observed.kind}\0{step}".encode())
    return Fingerprint(digest.digest())


def canonical_json(value: Any) -> bytes:
    """Return JSON in one form: sorted keys, whole floats as integers."""
    try:
        data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        if _POINT_ZERO.search(data) is None and _EXPONENT.search(data) is None:
            return data
        return orjson.dumps(_integral(value), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        return json.dumps(_integral(value), sort_keys=True, separators=(",", ":")).encode()


def _integral(value: Any) -> Any:
    """Return the value with every whole float as an integer."""
    match value:
        case Mapping():
            return {key: _integral(each) for key, each in value.items()}
        case list():
            return [_integral(each) for each in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def _without(value: Mapping[str, Any], path: list[str]) -> Mapping[str, Any]:
    """Return the object without what stands at a path; the same object when nothing does."""
    key, *rest = path
    if key not in value:
        return value
    if not rest:
        return {name: each for name, each in value.items() if name != key}
    inside = value[key]
    return {**value, key: _without(inside, rest)} if isinstance(inside, Mapping) else value
