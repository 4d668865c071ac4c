"""Flags and a client's id to a route, with the reason.

The percentage uses the split that flagd publishes (docs/reference/custom-operations/fractional-operation.md and its
decision records of 2026), bit for bit, so that other languages can compute the same route::

    bucket = murmur3_32(canonical CBOR of [flag key, client id]) * total weight >> 32

A client stays in its bucket for good, and buckets below the weight are on Supabase: a higher percentage only ever
adds clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import mmh3

from monitoring.flags.model import TOTAL_WEIGHT, Flags, percent_text
from monitoring.service import Backend

FLAG_KEY = "live"
"""Part of the hash: another name would put every client into another bucket."""


class Reason(StrEnum):
    """Which rule chose the route, in order of precedence."""

    KILLED = "KILLED"
    DENIED = "DENIED"
    ALLOWED = "ALLOWED"
    PERCENTAGE = "PERCENTAGE"
    DEFAULT = "DEFAULT"


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a client is served, and why.

    ``bucket`` is the client's place in the split, 0 to 99,999 (thousandths of a percent), or None when the client
    has no id and cannot be placed. ``variant`` is the route in flagd's words.
    """

    value: Backend
    variant: str
    reason: Reason
    bucket: int | None


def evaluate(flags: Flags, client: str) -> Decision:
    """Return where the client is served. Never raises: a client that cannot be placed stays on the legacy server.

    PERCENTAGE stands for either side of a split; DEFAULT means that there was none (0 %), or no id to split by.
    """
    bucket = bucket_of(client)
    if flags.kill:
        return _decision(Backend.LEGACY, Reason.KILLED, bucket)
    if client in flags.deny:
        return _decision(Backend.LEGACY, Reason.DENIED, bucket)
    if client in flags.allow:
        return _decision(Backend.SUPABASE, Reason.ALLOWED, bucket)
    if bucket is None or flags.weight == 0:
        return _decision(Backend.LEGACY, Reason.DEFAULT, bucket)
    return _decision(Backend.SUPABASE if bucket < flags.weight else Backend.LEGACY, Reason.PERCENTAGE, bucket)


def bucket_of(client: str, *, flag_key: str = FLAG_KEY, total: int = TOTAL_WEIGHT) -> int | None:
    """Return a client's bucket, 0 to ``total`` - 1; None for an empty id and for text that is not Unicode."""
    if not client:
        return None
    try:
        encoded = b"\x82" + _cbor_text(flag_key) + _cbor_text(client)  # 0x82: an array of two
    except UnicodeEncodeError:
        return None
    return mmh3.hash(encoded, signed=False) * total >> 32


def explain(flags: Flags, client: str) -> str:
    """Return one sentence for people on why a client is where it is."""
    decision = evaluate(flags, client)
    match decision.reason:
        case Reason.KILLED:
            why = "kill is true: every client is on the legacy server"
        case Reason.DENIED:
            why = "listed in live.deny"
        case Reason.ALLOWED:
            why = "listed in live.allow"
        case Reason.PERCENTAGE:
            place = percent_text(decision.bucket or 0)
            side = "below" if decision.value is Backend.SUPABASE else "not below"
            why = f"its place in the split, {place} %, is {side} live.percent {flags.percent} %"
        case Reason.DEFAULT:
            why = "live.percent is 0" if client else "it has no id, so it cannot be placed"
        case _:
            assert_never(decision.reason)
    return f"{client or '(no id)'}: {decision.value} ({decision.reason}): {why}"


def _decision(value: Backend, reason: Reason, bucket: int | None) -> Decision:
    return Decision(value, value.value, reason, bucket)


def _cbor_text(text: str) -> bytes:
    """Encode text as CBOR (RFC 8949, 3.1, major type 3) with the shortest length, as canonical CBOR has it."""
    data = text.encode()
    length = len(data)
    if length < 24:  # noqa: PLR2004 - the length fits into the initial byte
        return bytes((0x60 | length,)) + data
    if length < 1 << 8:
        return bytes((0x78, length)) + data
    if length < 1 << 16:
        return b"\x79" + length.to_bytes(2, "big") + data
    return b"\x7a" + length.to_bytes(4, "big") + data
