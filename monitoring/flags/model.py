"""What a flag file says, and the keys it may say it with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NewType

from monitoring.flags.stages import TOTAL_WEIGHT, Extent, Stage, percent_text

ClientId = NewType("ClientId", str)
"""What a client calls itself. Any text can be routed; only those that `CLIENT_ID` matches can be listed in a file."""

CLIENT_ID = re.compile(r"\w(?:[\w.:@/+-]{0,126}\w)?\Z")
"""Narrow on purpose: a lost comma or quote in a list must not turn two clients into an odd third one."""

PATTERN = re.compile(r"\w[\w.:@/+-]{0,126}\*\Z")
"""A cohort may name all ids with a beginning: ``ops-*``."""

COHORT = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?\Z")
DEFAULT_COHORT = "default"
"""Everybody who is in no other cohort; its wish stands at the top of the file."""

PERCENT_SCALE = TOTAL_WEIGHT // 100
"""Weights per percent: a percentage has three decimals."""


class ValueType(StrEnum):
    """What a key's value may look like."""

    SWITCH = "true or false"
    PERCENT = "a number from 0 to 100 with at most 3 decimals"
    CLIENTS = "client ids, separated by commas"
    MEMBERS = "client ids, or beginnings of ids with a * at the end, separated by commas"
    STAGE = "off, dualwrite, shadow, live, rampdown or complete"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that a person may set."""

    name: str
    type: ValueType
    meaning: str


SWITCHES: Mapping[str, frozenset[str]] = {
    "websocket_enabled": frozenset(),
    "websocket_container_stats": frozenset({"containers"}),
    "websocket_session_events": frozenset({"sessions"}),
    "websocket_system_alerts": frozenset({"alerts"}),
}
"""Switches of what is pushed -> the categories that are polled while one is false; the first one is for everything."""

KEYS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key("kill", ValueType.SWITCH, "true sends every client to the legacy server at once"),
        Key("stage", ValueType.STAGE, "how far the migration may go; crossfade stages explains them"),
        Key("live.percent", ValueType.PERCENT, "share of the clients that Supabase serves"),
        Key("live.allow", ValueType.CLIENTS, "clients that Supabase serves whatever the percentage"),
        Key(
            "live.deny",
            ValueType.CLIENTS,
            "clients that the legacy server serves in any case; wins over allow",
        ),
        Key("websocket_enabled", ValueType.SWITCH, "false has everything polled over HTTP, nothing pushed"),
        Key("websocket_container_stats", ValueType.SWITCH, "false has the category containers polled"),
        Key("websocket_session_events", ValueType.SWITCH, "false has the category sessions polled"),
        Key("websocket_system_alerts", ValueType.SWITCH, "false has the category alerts polled"),
    )
}
"""The keys that every file has, in the order of the file but for the cohorts, which come before the switches."""

COHORT_KEYS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key("clients", ValueType.MEMBERS, "who is in this cohort"),
        Key("stage", ValueType.STAGE, "how far the migration of this cohort may go"),
        Key("percent", ValueType.PERCENT, "share of this cohort that Supabase serves"),
    )
}
"""What each cohort has, by the last part of ``cohorts.NAME.KEY``."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Some clients with a wish of their own. ``members`` are ids, and beginnings of ids that end with ``*``."""

    name: str
    members: frozenset[str]
    wish: Extent


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How far the rollout may go at this moment, whatever the wish: the controller's, from its journal.

    ``cohorts`` are those with a limit of their own; all others have ``default``. ``completed`` is the one thing that no
    wish takes back. ``reason`` is one sentence for people, empty where nothing limits.
    """

    default: Extent = field(default=Extent(Stage.RAMPDOWN))
    cohorts: tuple[tuple[str, Extent], ...] = ()
    completed: bool = False
    reason: str = ""

    def of(self, cohort: str) -> Extent:
        """Return the limit of a cohort."""
        return dict(self.cohorts).get(cohort, self.default)


UNLIMITED = Ceiling()
"""Without a started rollout: everything but the step that cannot be undone, which a file alone must not take."""


@dataclass(frozen=True, slots=True)
class Flags:
    """The wish of a person about routes, with what limits it. The defaults serve everybody from the legacy server.

    ``weight`` is the percentage in thousandths of a percent, 0 to 100,000: an integer, so that nothing is rounded.
    ``switched_off`` are the `SWITCHES` that are false, ``from_environment`` those that the environment decides. Of
    several cohorts with the same client the first one counts.
    """

    kill: bool = False
    weight: int = 0
    allow: frozenset[ClientId] = frozenset()
    deny: frozenset[ClientId] = frozenset()
    switched_off: frozenset[str] = frozenset()
    from_environment: frozenset[str] = frozenset()
    stage: Stage = Stage.LIVE
    cohorts: tuple[Cohort, ...] = ()
    ceiling: Ceiling = field(default=UNLIMITED)

    @property
    def percent(self) -> str:
        """The percentage as a person would write it, for example ``12.5``."""
        return percent_text(self.weight)

    def wishes(self) -> Mapping[str, Extent]:
        """Return what the file wishes for each cohort, the default one first."""
        return {
            DEFAULT_COHORT: Extent(self.stage, self.weight),
            **{cohort.name: cohort.wish for cohort in self.cohorts},
        }

    def extents(self) -> Mapping[str, Extent]:
        """Return how far each cohort is: the lesser of wish and ceiling."""
        if self.ceiling.completed:
            return dict.fromkeys(self.wishes(), Extent(Stage.COMPLETE))
        return {name: wish.lowered_to(self.ceiling.of(name)) for name, wish in self.wishes().items()}


def keys_of(flags: Flags) -> Mapping[str, Key]:
    """Return every key of a file in its order, those of its cohorts among them."""
    cohorts = {
        name: Key(name, key.type, key.meaning)
        for cohort in flags.cohorts
        for last, key in COHORT_KEYS.items()
        for name in (f"cohorts.{cohort.name}.{last}",)
    }
    before = {name: key for name, key in KEYS.items() if name not in SWITCHES}
    return {**before, **cohorts, **{name: KEYS[name] for name in SWITCHES}}


def cohort_of(key: str) -> tuple[str, str] | None:
    """Return cohort and last part of a key ``cohorts.NAME.KEY``; None for any other."""
    match key.split("."):
        case ["cohorts", name, last] if last in COHORT_KEYS:
            return name, last
        case _:
            return None


def overridden(flags: Flags, environment: Mapping[str, bool]) -> Flags:
    """Return the flags with the `SWITCHES` that the environment names as it has them."""
    off = {name for name, on in environment.items() if not on}
    return replace(
        flags,
        switched_off=frozenset((flags.switched_off - environment.keys()) | off),
        from_environment=frozenset(environment),
    )
