"""The installation that the pages are about, as the commands on them name it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """An installation; everything is empty for the one in the directory where a command is given."""

    option: str = ""
    """What a command line needs to mean it, with a space before it."""
    variable: str = ""
    """What a program's environment needs, with a space after it."""
    hosted: bool = False
    """Whether people are users of a project of one's own."""
