"""What one client saw, in blocks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from monitoring.events import StreamId
from monitoring.service import Backend, Gap, MoveAbandoned, Moved
from monitoring.witness import Witness
from tests.fakes.event_factory import event

STREAM = StreamId("web-1/system")
AT = datetime(2026, 11, 26, tzinfo=UTC)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def witness(clock: Clock) -> Witness:
    return Witness("a", clock)


def after(witness: Witness, clock: Clock, seconds: float = 10.0) -> None:
    clock.now += seconds
    witness.close_block()


def test_only_what_supabase_serves_is_evidence(witness: Witness, clock: Clock) -> None:
    witness.serves(Backend.LEGACY)
    witness.took(event(seq=1))
    after(witness, clock)
    assert witness.live.blocks == 0
    witness.serves(Backend.SUPABASE)
    witness.took(event(seq=2))
    witness.took(event(seq=3))
    after(witness, clock)
    assert (witness.live.blocks, witness.live.events, witness.live.disturbed) == (1, 2, 0)
    after(witness, clock)
    assert witness.live.blocks == 1, "nothing happened: no evidence of anything"


def test_a_gap_and_a_path_that_failed_disturb_the_block(witness: Witness, clock: Clock) -> None:
    witness.serves(Backend.SUPABASE)
    witness.took(Gap(STREAM, 1, 2, 3))
    after(witness, clock)
    witness.took(Moved(Backend.SUPABASE, Backend.LEGACY, "supabase is down", AT, 1.0, 0))
    witness.took(MoveAbandoned(Backend.LEGACY, Backend.SUPABASE, "supabase was not ready within 30 s", AT))
    after(witness, clock)
    assert (witness.live.blocks, witness.live.disturbed, witness.live.findings, witness.live.errors) == (
        2,
        2,
        1,
        2,
    )
    assert "not ready" in witness.note


def test_what_made_a_client_leave_within_the_block_still_counts(witness: Witness, clock: Clock) -> None:
    """Else a path that dies under its clients would look as good as one that serves nobody."""
    witness.serves(Backend.SUPABASE)
    witness.took(event(seq=1))
    witness.took(Gap(STREAM, 1, 2, 3))
    witness.took(Moved(Backend.SUPABASE, Backend.LEGACY, "supabase is down", AT, 1.0, 0))
    witness.serves(Backend.LEGACY)
    witness.took(event(seq=4))
    after(witness, clock)
    live = witness.live
    assert (live.blocks, live.events, live.findings, live.errors) == (1, 1, 1, 1)
    witness.took(Gap(STREAM, 1, 5, 6))
    after(witness, clock)
    assert live.blocks == 1, "what the legacy server loses is not the new path's fault"


def test_a_client_that_cannot_get_there_counts(witness: Witness, clock: Clock) -> None:
    witness.serves(Backend.LEGACY)
    witness.took(MoveAbandoned(Backend.LEGACY, Backend.SUPABASE, "supabase was not ready within 30 s", AT))
    after(witness, clock)
    assert (witness.live.blocks, witness.live.errors) == (1, 1)
    witness.took(MoveAbandoned(Backend.SUPABASE, Backend.LEGACY, "legacy was not ready within 30 s", AT))
    after(witness, clock)
    assert witness.live.errors == 1


class Feed:
    live = True

    def is_live(self) -> bool:
        return self.live


@pytest.fixture
def feed(witness: Witness) -> Feed:
    """What the shadow stands on, open and live."""
    made = Feed()
    witness.serves(Backend.LEGACY)
    witness.opens_shadow(Backend.SUPABASE, made.is_live)
    return made


def test_a_shadow_that_brings_everything_in_time_is_undisturbed(
    witness: Witness, clock: Clock, feed: Feed
) -> None:
    for seq in range(1, 4):
        witness.took(event(seq=seq))
        witness.discarded(event(seq=seq))
        after(witness, clock)
    assert (witness.shadowed.blocks, witness.shadowed.disturbed, witness.shadowed.events) == (3, 0, 3)


def test_a_shadow_that_lacks_what_the_client_had_ten_seconds_ago_is_behind(
    witness: Witness, clock: Clock, feed: Feed
) -> None:
    witness.took(event(seq=1))
    witness.discarded(event(seq=1))
    after(witness, clock)
    witness.took(event(seq=2))
    after(witness, clock)
    assert witness.shadowed.disturbed == 0, "it has ten seconds for it"
    witness.took(event(seq=3))
    after(witness, clock)
    assert (witness.shadowed.disturbed, witness.shadowed.findings) == (1, 1)
    assert witness.note.endswith("is behind")
    witness.closes_shadow()
    witness.took(event(seq=4))
    after(witness, clock)
    after(witness, clock)
    assert witness.shadowed.disturbed == 1


def test_what_is_late_by_less_than_ten_seconds_is_no_loss_however_short_the_blocks(clock: Clock) -> None:
    witness = Witness("a", clock, block_seconds=0.5)
    witness.opens_shadow(Backend.SUPABASE, lambda: True)
    for seq in range(1, 31):
        witness.took(event(seq=seq))
        if seq > 18:
            witness.discarded(event(seq=seq - 18))  # nine seconds late
        after(witness, clock, 0.5)
    assert (witness.shadowed.blocks, witness.shadowed.disturbed) == (12, 0)
    after(witness, clock, 2.0)
    assert witness.shadowed.disturbed == 1, "now eleven"


def test_a_shadow_that_is_not_live_lacks_nothing_yet_and_owes_it_all(
    witness: Witness, clock: Clock, feed: Feed
) -> None:
    """Joining takes a while on a busy server, and is no loss: what comes in the end is what counts."""
    feed.live = False
    witness.took(event(seq=1))
    after(witness, clock)
    witness.took(event(seq=2))
    after(witness, clock)
    assert witness.shadowed.blocks == 0
    feed.live = True
    after(witness, clock)
    assert witness.shadowed.disturbed == 0, "what it read while it joined is on its way"
    after(witness, clock)
    assert (witness.shadowed.disturbed, witness.note) == (1, "shadow: web-1/system is behind")
    witness.discarded(event(seq=2))
    after(witness, clock)
    assert (witness.shadowed.blocks, witness.shadowed.disturbed) == (2, 1)


def test_a_shadow_that_does_not_become_live_has_failed(witness: Witness, clock: Clock, feed: Feed) -> None:
    feed.live = False
    after(witness, clock)
    after(witness, clock)
    assert witness.shadowed.errors == 0
    after(witness, clock)
    assert (witness.shadowed.errors, witness.note) == (1, "shadow: supabase was not live for 30 s")
    after(witness, clock, 30)
    assert witness.shadowed.errors == 2, "again for each half minute"


def test_a_gap_that_a_shadow_tells_disturbs_it(witness: Witness, clock: Clock, feed: Feed) -> None:
    witness.discarded(Gap(STREAM, 1, 2, 3, "deleted"))
    after(witness, clock)
    assert (witness.shadowed.disturbed, witness.note) == (1, "shadow: gap in web-1/system: deleted")


def test_a_shadow_that_cannot_be_opened_is_told(witness: Witness, clock: Clock) -> None:
    """Also when it is tried again within the block: a backend that refuses every five seconds is not without fault."""
    witness.opens_shadow(Backend.SUPABASE, lambda: False)
    witness.shadow_failed("no such key")
    after(witness, clock, 5.0)
    witness.closes_shadow()
    witness.opens_shadow(Backend.SUPABASE, lambda: False)
    after(witness, clock, 5.0)
    assert (witness.shadowed.errors, witness.to_json()["shadowed"]["disturbed"]) == (1, 1)
    assert witness.note == "shadow: no such key"
