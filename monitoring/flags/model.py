"""What a flag file says, and the keys it may say it with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

ClientId = NewType("ClientId", str)
"""What a client calls itself. Any text can be routed; only those that `CLIENT_ID` matches can be listed in a file."""

CLIENT_ID = re.compile(r"\w(?:[\w.:@/+-]{0,126}\w)?\Z")
"""Narrow on purpose: a lost comma or quote in a list must not turn two clients into an odd third one."""

PERCENT_SCALE = 1000
"""Weights per percent: a percentage has three decimals."""

TOTAL_WEIGHT = 100 * PERCENT_SCALE


class ValueType(StrEnum):
    """What a key's value may look like."""

    SWITCH = "true or false"
    PERCENT = "a number from 0 to 100 with at most 3 decimals"
    CLIENTS = "client ids, separated by commas"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that a person may set."""

    name: str
    type: ValueType
    meaning: str


KEYS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key("kill", ValueType.SWITCH, "true sends every client to the legacy server at once"),
        Key("live.percent", ValueType.PERCENT, "share of the clients that Supabase serves"),
        Key("live.allow", ValueType.CLIENTS, "clients that Supabase serves whatever the percentage"),
        Key(
            "live.deny",
            ValueType.CLIENTS,
            "clients that the legacy server serves in any case; wins over allow",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Flags:
    """The wish of a person about routes. The defaults serve everybody from the legacy server.

    ``weight`` is the percentage in thousandths of a percent, 0 to 100,000: an integer, so that nothing is rounded.
    """

    kill: bool = False
    weight: int = 0
    allow: frozenset[ClientId] = frozenset()
    deny: frozenset[ClientId] = frozenset()

    @property
    def percent(self) -> str:
        """The percentage as a person would write it, for example ``12.5``."""
        return percent_text(self.weight)


def percent_text(weight: int) -> str:
    """Return thousandths of a percent as a percentage without needless zeros."""
    whole, thousandths = divmod(weight, PERCENT_SCALE)
    return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".")
