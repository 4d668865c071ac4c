"""The class of an event that is decided. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validation.observation import SIDES, Outcome
from validation.tracks import LEGACY, SUPABASE

if TYPE_CHECKING:
    from validation.tracks import Sighting

MISSING = {
    (False, True): Outcome.MISSING_LEGACY,
    (True, False): Outcome.MISSING_SUPABASE,
    (False, False): Outcome.MISSING_BOTH,
}
"""By which sides have delivered an event."""


def judge(sighting: Sighting) -> tuple[Outcome, tuple[str, ...]]:
    """Put an event into its class; the docstring of `Outcome` has the order."""
    arrived = [side for side in (LEGACY, SUPABASE) if sighting.times_on(side)]
    if not sighting.published:
        return Outcome.EXTRA, tuple(f"{SIDES[side]}: not in the spool" for side in arrived)
    missing = MISSING.get((LEGACY in arrived, SUPABASE in arrived))
    if missing is not None:
        return missing, sighting.differences
    if sighting.differences:
        return Outcome.MISMATCH, sighting.differences
    repeated = [
        f"{SIDES[side]}: {times} times"
        for side in (LEGACY, SUPABASE)
        if (times := sighting.times_on(side)) > 1
    ]
    if repeated:
        return Outcome.DUPLICATE, tuple(repeated)
    reordered = [f"{SIDES[side]}: after a later one" for side in arrived if sighting.reordered >> side & 1]
    return (Outcome.REORDERED, tuple(reordered)) if reordered else (Outcome.MATCHED, ())
