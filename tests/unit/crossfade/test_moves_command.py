"""``crossfade moves`` in a terminal of 80 columns."""

from __future__ import annotations

from crossfade.cli.moves import lines

MOVE = {
    "at": "2026-11-27T22:30:28.010053Z", "client": "cli-5a9c3a57-root", "outcome": "moved", "from": "legacy",
    "to": "supabase", "reason": "the flags say supabase", "seconds": 0.167, "overlap_seconds": 0.05,
    "duplicates_dropped": 1, "polled": [],
}  # fmt: skip


def test_a_move_is_two_lines_that_fit() -> None:
    assert lines(MOVE).splitlines() == [
        "2026-11-27 22:30:28  cli-5a9c3a57-root: legacy to supabase, moved in 0.17 s",
        "  the flags say supabase; 0.05 s on both; 1 doubles dropped",
    ]


def test_what_a_record_does_not_tell_is_left_out() -> None:
    told = lines(
        {
            "at": "2026-11-27T22:30:28Z",
            "client": "a",
            "from": "legacy",
            "to": "supabase",
            "outcome": "abandoned",
        }
    )
    assert told == "2026-11-27 22:30:28  a: legacy to supabase, abandoned\n  "
