"""What ``crossfade rollout status`` says stands in the journal, however old the controller's report is."""

from __future__ import annotations

from crossfade.cli.rollout import status_lines
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout.state import Policy, Position, Rollout

OLDER = {"cohorts": {"default": {"wish": "live 100 %", "held_by": "as far as the flag file wishes"}}}


def rollout(latch: str = "", hold: str = "") -> Rollout:
    position = Position(Extent(Stage.SHADOW, 1_000), 0, 0.0, latch=latch)
    return Rollout(active=True, policy=Policy(), cohorts={"default": position}, hold=hold)


def test_a_latch_is_told_at_once_with_what_lifts_it() -> None:
    said = "\n".join(status_lines(rollout(latch="lost 3 of 100"), OLDER))
    assert "taken back: lost 3 of 100; crossfade rollout resume --ack" in said
    assert "as far as" not in said


def test_a_hold_is_told_at_once_with_what_ends_it() -> None:
    said = "\n".join(status_lines(rollout(hold="lunch"), OLDER))
    assert "held: lunch; crossfade rollout resume goes on" in said
    assert "as far as" not in said


def test_otherwise_the_controller_says_what_keeps_a_cohort() -> None:
    assert "  as far as the flag file wishes" in status_lines(rollout(), OLDER)
