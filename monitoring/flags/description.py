"""Flags as rows for people and programs: what `flags list` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring.flags.model import KEYS

if TYPE_CHECKING:
    from monitoring.flags.model import Flags


@dataclass(frozen=True, slots=True)
class Setting:
    """One key with its value: ``text`` as `flags set` takes it, ``value`` as plain JSON."""

    key: str
    text: str
    value: bool | float | list[str]
    form: str
    meaning: str


def describe(flags: Flags) -> tuple[Setting, ...]:
    """Return every key in the order of the file."""
    values: dict[str, bool | float | list[str]] = {
        "kill": flags.kill,
        "live.percent": float(flags.percent),
        "live.allow": list[str](sorted(flags.allow)),
        "live.deny": list[str](sorted(flags.deny)),
    }
    texts = {
        "kill": str(flags.kill).lower(),
        "live.percent": flags.percent,
        "live.allow": ",".join(sorted(flags.allow)),
        "live.deny": ",".join(sorted(flags.deny)),
    }
    return tuple(
        Setting(name, texts[name], values[name], key.type, key.meaning) for name, key in KEYS.items()
    )
