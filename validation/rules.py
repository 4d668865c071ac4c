"""What may differ: rules for single fields, each with who answers for it. Pure.

A rule names a path (``payload.disks[*].used``; ``*`` is any key, ``[*]`` any element) and does one of three things:
``ignore`` it, which needs an owner and a day on which that ends, ``tolerance`` (absolute) or ``relative`` for a number,
or ``unordered`` for a list. What a rule let pass is counted. A rule that has expired is not applied, and said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from validation.errors import InvalidRules


class Act(StrEnum):
    """What a rule does."""

    IGNORE = "ignore"
    TOLERANCE = "tolerance"
    RELATIVE = "relative"
    UNORDERED = "unordered"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``amount`` is a tolerance's: in the field's unit, or as a share of the expected value."""

    path: str
    act: Act
    amount: float = 0.0
    owner: str = ""
    expires: date | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return its form in a report."""
        return {
            "path": self.path,
            "act": str(self.act),
            "amount": self.amount,
            "owner": self.owner,
            "expires": self.expires.isoformat() if self.expires else None,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force; empty ones let nothing pass."""

    rules: tuple[Rule, ...] = ()
    expired: tuple[Rule, ...] = ()
    _patterns: tuple[tuple[re.Pattern[str], Rule], ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        patterns = tuple((_pattern(rule.path), rule) for rule in self.rules)
        object.__setattr__(self, "_patterns", patterns)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def find(self, path: str) -> Rule | None:
        """Return the first rule for a path."""
        return next((rule for pattern, rule in self._patterns if pattern.fullmatch(path)), None)


NO_RULES = Rules()


def parse_rules(value: object, today: date) -> Rules:
    """Read a list of rules as plain JSON or YAML; raises InvalidRules that says which one is wrong."""
    if isinstance(value, Mapping) and set(value) == {"rules"}:
        value = value["rules"]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidRules("rules are a list, or an object with one: rules: [{path: ..., ignore: true, ...}]")
    parsed = [_rule(number, each) for number, each in enumerate(value, 1)]
    expired = tuple(rule for rule in parsed if rule.expires is not None and rule.expires < today)
    return Rules(tuple(rule for rule in parsed if rule not in expired), expired)


_KEYS = {"path", "owner", "expires", "reason", *map(str, Act)}


def _rule(number: int, value: object) -> Rule:
    if not isinstance(value, Mapping):
        raise InvalidRules(f"rule {number} is no object")
    path = value.get("path")
    named = f"rule {number} ({path})"
    if not isinstance(path, str) or not path:
        raise InvalidRules(f"rule {number} needs a path, such as payload.load")
    if unknown := set(map(str, value)) - _KEYS:
        raise InvalidRules(
            f"{named}: unknown {', '.join(sorted(unknown))}; there are {', '.join(sorted(_KEYS))}"
        )
    acts = [act for act in Act if value.get(act) not in {None, False}]
    if len(acts) != 1:
        raise InvalidRules(f"{named} must say one of {', '.join(Act)}")
    act = acts[0]
    expires = _day(named, value.get("expires"))
    owner = str(value.get("owner") or "")
    if act is Act.IGNORE and (not owner or expires is None):
        raise InvalidRules(f"{named} ignores a field: it needs an owner and expires: YYYY-MM-DD")
    amount = 0.0
    if act in {Act.TOLERANCE, Act.RELATIVE}:
        given = value[act]
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < float("inf"):
            raise InvalidRules(f"{named}: {act} must be a number above 0, got {given!r}")
        amount = float(given)
    elif value[act] is not True:
        raise InvalidRules(f"{named}: {act} must be true, got {value[act]!r}")
    return Rule(path, act, amount, owner, expires, str(value.get("reason") or ""))


def _day(named: str, value: object) -> date | None:
    if value is None or type(value) is date:
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise InvalidRules(f"{named}: expires must be a day, YYYY-MM-DD, got {value!r}") from None


def _pattern(path: str) -> re.Pattern[str]:
    """Return what matches the paths that `comparison` makes; a rule for an object or a list is for all in it, too."""
    text = re.escape(path).replace(r"\[\*\]", r"\[\d+\]").replace(r"\*", r"[^.\[]+")
    return re.compile(text)
