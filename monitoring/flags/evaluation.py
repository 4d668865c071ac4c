"""Flags and a client's id to a decision, with the reason.

The percentage uses the split that flagd publishes (docs/reference/custom-operations/fractional-operation.md and its
decision records of 2026), bit for bit, so that other languages can compute the same route::

    bucket = murmur3_32(canonical CBOR of [flag key, client id]) * total weight >> 32

A client stays in its bucket for good, and buckets below the weight are on Supabase: a higher percentage only ever
adds clients. The hash is the same in every cohort, so a client that changes its cohort keeps its place too.

`compiled` makes a function of flags once, with every possible decision made beforehand: a process asks for each of its
clients after each change, and an edge for thousands each second (bench/flags.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import assert_never

import mmh3

from monitoring.flags.model import DEFAULT_COHORT, Flags
from monitoring.flags.stages import TOTAL_WEIGHT, Extent, Stage, percent_text
from monitoring.service import Backend

FLAG_KEY = "live"
"""Part of the hash: another name would put every client into another bucket."""


class Reason(StrEnum):
    """Which rule chose the route, in order of precedence."""

    COMPLETED = "COMPLETED"
    KILLED = "KILLED"
    DENIED = "DENIED"
    CEILING = "CEILING"
    STAGE = "STAGE"
    ALLOWED = "ALLOWED"
    PERCENTAGE = "PERCENTAGE"
    DEFAULT = "DEFAULT"


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a client is served, and why.

    ``variant`` is the route in flagd's words, ``stage`` the one that its cohort is in, and ``shadows`` whether the
    client is to open Supabase as well, and discard what comes.
    """

    value: Backend
    reason: Reason
    cohort: str = DEFAULT_COHORT
    stage: Stage = Stage.LIVE
    shadows: bool = False

    @property
    def variant(self) -> str:
        """The value in flagd's words."""
        return self.value.value


Evaluate = Callable[[str], Decision]


def evaluate(flags: Flags, client: str) -> Decision:
    """Return where the client is served. Never raises: a client that cannot be placed stays on the legacy server.

    CEILING says that the file wishes for Supabase and the rollout is not there yet, or not any more. PERCENTAGE stands
    for either side of a split; DEFAULT means that there was none (0 %), or no id to split by.
    """
    return compiled(flags)(client)


@lru_cache(maxsize=32)
def compiled(flags: Flags) -> Evaluate:
    """Return `evaluate` of these flags as a function of the client alone."""
    extents = flags.extents()
    rules = {
        name: _rule(name, wish, flags.ceiling.of(name), extents[name], flags)
        for name, wish in flags.wishes().items()
    }
    default = rules.pop(DEFAULT_COHORT)
    if not rules:
        return default
    return _by_cohort(flags, rules, default)


def bucket_of(client: str, *, flag_key: str = FLAG_KEY, total: int = TOTAL_WEIGHT) -> int | None:
    """Return a client's bucket, 0 to ``total`` - 1; None for an empty id and for text that is not Unicode."""
    if not client:
        return None
    try:
        encoded = b"\x82" + _cbor_text(flag_key) + _cbor_text(client)  # 0x82: an array of two
    except UnicodeEncodeError:
        return None
    return mmh3.hash(encoded, signed=False) * total >> 32


def _by_cohort(flags: Flags, rules: Mapping[str, Evaluate], default: Evaluate) -> Evaluate:
    """Return what asks the rule of the first cohort that a client is in."""
    exact: dict[str, int] = {}
    patterns: list[str] = []
    for number, cohort in enumerate(flags.cohorts):
        beginnings = sorted(each[:-1] for each in cohort.members if each.endswith("*"))
        patterns.append(f"({'|'.join(map(re.escape, beginnings)) or '(?!)'})")
        for member in cohort.members:
            exact.setdefault(member, number)
    found = re.compile("|".join(patterns)).match  # of several alternatives the first one counts
    by_number = [rules[cohort.name] for cohort in flags.cohorts]
    none = len(by_number)

    def decide(client: str) -> Decision:
        named = exact.get(client, none)
        match = found(client)
        # lastindex counts the groups from 1: one for each cohort
        begun = none if match is None else (match.lastindex or 0) - 1
        number = min(named, begun)
        return default(client) if number == none else by_number[number](client)

    return decide


def _rule(name: str, wish: Extent, ceiling: Extent, extent: Extent, flags: Flags) -> Evaluate:  # noqa: C901 - one rule after another, in order of precedence
    """Return what decides for the clients of one cohort."""

    def made(value: Backend, reason: Reason, *, shadows: bool = False) -> Decision:
        return Decision(value, reason, name, extent.stage, shadows)

    legacy, supabase = Backend.LEGACY, Backend.SUPABASE
    if flags.ceiling.completed:
        completed = made(supabase, Reason.COMPLETED)
        return lambda _: completed
    if flags.kill:
        killed = made(legacy, Reason.KILLED)
        return lambda _: killed
    deny, allow = flags.deny, flags.allow
    denied = made(legacy, Reason.DENIED)
    held = wish.stage.rank >= Stage.LIVE.rank > extent.stage.rank
    if extent.stage is Stage.SHADOW:
        apart = Reason.CEILING if held else Reason.STAGE
        waits, shadows = made(legacy, apart), made(legacy, apart, shadows=True)
        place_of, share = bucket_of, extent.weight

        def in_shadow(client: str) -> Decision:
            if client in deny:
                return denied
            place = place_of(client)
            return shadows if client in allow or (place is not None and place < share) else waits

        return in_shadow
    if extent.stage is not Stage.LIVE:
        rest = made(legacy, Reason.CEILING if held else Reason.STAGE)
        if extent.stage.rank > Stage.LIVE.rank:
            rest = made(supabase, Reason.STAGE)
        return lambda client: denied if client in deny else rest
    allowed, default = made(supabase, Reason.ALLOWED), made(legacy, Reason.DEFAULT)
    inside, outside = made(supabase, Reason.PERCENTAGE), made(legacy, Reason.PERCENTAGE)
    above = made(legacy, Reason.CEILING)
    top = ceiling.served
    weight = min(extent.weight, top)
    wished = wish.served
    digest, heads = mmh3.hash, _HEADS

    def live(client: str) -> Decision:  # noqa: PLR0911 - one rule after another
        if client in deny:
            return denied
        try:
            data = client.encode()
        except UnicodeEncodeError:
            return default
        length = len(data)
        if not length:
            return default
        # bucket_of, written out: a call would cost a third of the whole
        bucket = digest((heads[length] if length < 24 else _head(length)) + data, 0, False) * 100_000 >> 32  # noqa: PLR2004 - CBOR's, and TOTAL_WEIGHT
        if bucket < weight:
            return allowed if client in allow else inside
        if bucket >= top:
            if client in allow or bucket < wished:
                return above
        elif client in allow:
            return allowed
        return outside if wished else default

    return live


def explain(flags: Flags, client: str) -> str:
    """Return one sentence for people on why a client is where it is."""
    decision = evaluate(flags, client)
    whose, prefix = ("", "live.") if decision.cohort == DEFAULT_COHORT else _named(decision.cohort)
    wish = flags.wishes()[decision.cohort]
    place = percent_text(bucket_of(client) or 0)
    match decision.reason:
        case Reason.COMPLETED:
            why = "the migration is complete: there is no legacy server any more"
        case Reason.KILLED:
            why = "kill is true: every client is on the legacy server"
        case Reason.DENIED:
            why = "listed in live.deny"
        case Reason.CEILING:
            said = f" ({flags.ceiling.reason})" if flags.ceiling.reason else ""
            why = f"the file wishes for {wish}, the rollout allows {flags.ceiling.of(decision.cohort)}{said}"
        case Reason.STAGE:
            why = f"stage {decision.stage}"
        case Reason.ALLOWED:
            why = "listed in live.allow"
        case Reason.PERCENTAGE:
            side = "below" if decision.value is Backend.SUPABASE else "not below"
            why = (
                f"its place in the split, {place} %, is {side} {prefix}percent {percent_text(wish.weight)} %"
            )
        case Reason.DEFAULT:
            why = f"{prefix}percent is 0" if client else "it has no id, so it cannot be placed"
        case _:
            assert_never(decision.reason)
    shadow = "; it opens Supabase too, and discards what comes" if decision.shadows else ""
    return f"{client or '(no id)'}: {decision.value} ({decision.reason}): {whose}{why}{shadow}"


def _named(cohort: str) -> tuple[str, str]:
    return f"cohort {cohort}: ", f"cohorts.{cohort}."


def _cbor_text(text: str) -> bytes:
    """Encode text as CBOR (RFC 8949, 3.1, major type 3) with the shortest length, as canonical CBOR has it."""
    data = text.encode()
    return _cbor_length(len(data)) + data


def _cbor_length(length: int) -> bytes:
    if length < 24:  # noqa: PLR2004 - the length fits into the initial byte
        return bytes((0x60 | length,))
    if length < 1 << 8:
        return bytes((0x78, length))
    if length < 1 << 16:
        return b"\x79" + length.to_bytes(2, "big")
    return b"\x7a" + length.to_bytes(4, "big")


def _head(length: int) -> bytes:
    """Return what stands before a client's id of so many bytes in the text that is hashed."""
    return b"\x82" + _cbor_text(FLAG_KEY) + _cbor_length(length)


_HEADS = tuple(_head(length) for length in range(24))
