"""Flags as rows for people and programs: what `flags list` shows, and what differs between two files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring.flags.model import PERCENT_SCALE, SWITCHES, Flags, cohort_of, keys_of
from monitoring.flags.stages import percent_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from monitoring.flags.model import Cohort

    Value = bool | float | str | list[str]


@dataclass(frozen=True, slots=True)
class Setting:
    """One key with its value: ``text`` as `flags set` takes it, ``value`` as plain JSON."""

    key: str
    text: str
    value: Value
    form: str
    meaning: str


def describe(flags: Flags) -> tuple[Setting, ...]:
    """Return every key in the order of the file."""
    return tuple(
        Setting(name, _text(value), value, key.type, key.meaning)
        for name, key in keys_of(flags).items()
        for value in (_value(flags, name),)
    )


def differences(before: Flags, after: Flags) -> Iterator[str]:
    """Say what a person changed from one file to another, one line for each key."""
    old = {setting.key: setting.text for setting in describe(before)}
    new = {setting.key: setting.text for setting in describe(after)}
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key):
            yield f"{key}: {_shown(old.get(key))} -> {_shown(new.get(key))}"


def _value(flags: Flags, name: str) -> Value:
    if (found := cohort_of(name)) is not None:
        return _of_cohort(next(each for each in flags.cohorts if each.name == found[0]), found[1])
    if name in SWITCHES:
        return name not in flags.switched_off
    match name:
        case "kill":
            return flags.kill
        case "stage":
            return str(flags.stage)
        case "live.percent":
            return flags.weight / PERCENT_SCALE
        case _:
            return _sorted(flags.allow if name == "live.allow" else flags.deny)


def _of_cohort(cohort: Cohort, last: str) -> Value:
    match last:
        case "clients":
            return _sorted(cohort.members)
        case "stage":
            return str(cohort.wish.stage)
        case _:
            return cohort.wish.weight / PERCENT_SCALE


def _sorted(names: Collection[str]) -> list[str]:
    return sorted(names)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return percent_text(round(value * PERCENT_SCALE))
    return value if isinstance(value, str) else ",".join(value)


def _shown(text: str | None) -> str:
    return "(absent)" if text is None else text or "(none)"
