"""How long the comparison waits, and how much it keeps. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LINES_OUT_OF_STEP = 50_000.0
"""By so many lines one recording may be ahead of the other, or an event out of its place, to be matched at all."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait and how much to keep."""

    grace_seconds: float = 5.0
    grace_cap_seconds: float = 15.0
    max_open: int = 1_000_000
    max_recent: int = 20_000
    """Open events of which the contents are kept, so that a difference can be shown; of older ones only digests."""
    max_recent_bytes: int = 32_000_000
    max_remembered: int = 20_000
    """Decided events that did not simply match, to revise them when something arrives late."""
    max_tracks: int = 100_000
    truth_is_complete: bool = True
    """False when other owners' streams are on the backends too: streams unknown to the truth are then foreign."""
