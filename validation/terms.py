"""On which terms a comparison is made, and what it takes along when it is begun again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from monitoring.cursor import Cursor
from monitoring.fingerprint import Likeness
from monitoring.topics import GLOBAL
from validation.errors import InvalidRecording
from validation.limits import Limits
from validation.result import Thresholds
from validation.rules import NO_RULES, Rules, parse_rules
from validation.statistics import DEFAULT, Evidence, Standard


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a comparison is made: what counts, how long is waited, what may differ."""

    limits: Limits = field(default_factory=Limits)
    thresholds: Thresholds = field(default_factory=Thresholds)
    rules: Rules = NO_RULES
    standard: Standard = DEFAULT
    topics: tuple[str, ...] = (str(GLOBAL),)
    likeness: Likeness | None = None
    """How events of a legacy server without ids are recognised; None when it has ids."""
    legacy_taps: int = 1
    """With two, the second is the noise control."""
    clients_seconds: float | None = None
    """How often clients report what they saw; None when that is not compared."""

    def to_json(self) -> dict[str, Any]:
        """Return its form in a recording."""
        return {
            "limits": asdict(self.limits),
            "thresholds": asdict(self.thresholds),
            "rules": [rule.to_json() for rule in (*self.rules.rules, *self.rules.expired)],
            "standard": asdict(self.standard),
            "topics": list(self.topics),
            "likeness": None
            if self.likeness is None
            else {
                "milliseconds": self.likeness.resolution / timedelta(milliseconds=1)
                if self.likeness.resolution
                else None,
                "ignored": sorted(self.likeness.ignored),
            },
            "legacy_taps": self.legacy_taps,
            "clients_seconds": self.clients_seconds,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], today: datetime) -> Terms:
        """Read ``to_json``; raises InvalidRecording."""
        try:
            likeness = value["likeness"]
            return cls(
                Limits(**value["limits"]),
                Thresholds(**value["thresholds"]),
                parse_rules(
                    [
                        {
                            "path": rule["path"],
                            rule["act"]: rule["amount"] or True,
                            "owner": rule["owner"],
                            "expires": rule["expires"],
                            "reason": rule["reason"],
                        }
                        for rule in value["rules"]
                    ],
                    today.date(),
                ),
                Standard(**value["standard"]),
                tuple(value["topics"]),
                None
                if likeness is None
                else Likeness(
                    None
                    if likeness["milliseconds"] is None
                    else timedelta(milliseconds=likeness["milliseconds"]),
                    frozenset(likeness["ignored"]),
                ),
                int(value["legacy_taps"]),
                value.get("clients_seconds"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRecording(f"its terms cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a comparison stood: up to where everything is decided, and what had been learnt.

    Without a cursor another one begins anew, with what had been learnt.
    """

    cursor: Cursor | None
    evidence: Mapping[str, Evidence]

    def to_json(self) -> dict[str, Any]:
        """Return its form in a file."""
        return {
            "cursor": self.cursor.to_json() if self.cursor is not None else None,
            "evidence": {name: each.to_json() for name, each in self.evidence.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Resumption:
        """Read ``to_json``; raises InvalidCursor, InvalidFigures, KeyError or AttributeError."""
        evidence = {name: Evidence.from_json(each) for name, each in value["evidence"].items()}
        cursor = value["cursor"]
        return cls(Cursor.from_json(cursor) if cursor is not None else None, evidence)
