"""What all pages share: badges, names of the backends, and text that Markdown leaves alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from monitoring.service import Backend

Color = Literal["red", "orange", "blue", "green", "violet", "gray"]
Columns = dict[str, list[Any]]
"""A table: column titles to values, all of one length; empty without any row."""

NAMES = {Backend.LEGACY: "legacy", Backend.SUPABASE: "Supabase", Backend.POLLING: "polling"}
COLORS: dict[Backend | None, Color] = {
    Backend.LEGACY: "orange",
    Backend.SUPABASE: "blue",
    Backend.POLLING: "violet",
    None: "gray",
}
ICONS = {
    Backend.LEGACY: ":material/lan:",
    Backend.SUPABASE: ":material/bolt:",
    Backend.POLLING: ":material/cloud_download:",
    None: ":material/help:",
}
REASONS = {
    "KILLED": "kill switch",
    "DENIED": "deny list",
    "ALLOWED": "allow list",
    "PERCENTAGE": "percentage",
    "DEFAULT": "default",
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$~:])")


@dataclass(frozen=True, slots=True)
class Badge:
    """A short state with an icon."""

    text: str
    icon: str
    color: Color
    help: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its name, a note below it and a sparkline."""

    label: str
    value: str
    note: str = ""
    spark: tuple[float, ...] = ()


def escape(text: str) -> str:
    """Return foreign text so that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"
