import asyncio
from datetime import UTC, datetime

import pytest

from monitoring.errors import Refused
from monitoring.events import StreamId
from monitoring.service import Backend, Gap, Moved
from validation.limits import Limits
from validation.observation import Outcome
from validation.runner import ComparisonFailed, LiveComparison
from validation.terms import Terms
from validation.verdict import Verdict

FAST = Limits(grace_seconds=0.1, grace_cap_seconds=0.4)
FOREVER = 30.0


@pytest.fixture
def services(legacy, supabase):
    return {Backend.LEGACY: legacy, Backend.SUPABASE: supabase}


@pytest.fixture
def comparison(truth):
    return LiveComparison(truth, terms=Terms(FAST), tick_seconds=0.01, start_seconds=0.5)


class Play:
    """A comparison that runs while a test plays both sides."""

    def __init__(self, comparison, services, truth) -> None:
        self.comparison, self.services, self.truth = comparison, services, truth

    async def __aenter__(self):
        self.task = asyncio.create_task(self.comparison.run(self.services, FOREVER))
        await until(lambda: self.comparison._session is not None)
        return self

    async def __aexit__(self, *_):
        await asyncio.wait({self.task}, timeout=10)
        self.task.cancel()

    def everywhere(self, *events):
        for event in events:
            self.truth.add(event)
        for service in self.services.values():
            service.deliver(*events)

    async def result(self, *, decided: int = 0):
        await until(lambda: decided_of(self.comparison) >= decided)
        self.comparison.stop()
        async with asyncio.timeout(10):
            return await self.task


def decided_of(comparison) -> int:
    return comparison._session.alignment.published - comparison._session.alignment.pending


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_passes_when_both_deliver_everything(comparison, services, truth, event):
    for seq in range(1, 4):
        truth.add(event(seq))  # before the window
    services[Backend.LEGACY].deliver(event(3))

    async def collect() -> None:
        await until(lambda: comparison._session is not None)
        for seq in range(4, 40):
            item = truth.add(event(seq))
            for side, service in services.items():
                comparison.on_raw(side)(item)
                service.deliver(item)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(collect())
        result = await comparison.run(services, 1.0)
    assert (result.verdict, result.reasons) == (Verdict.PASS, ("every one of 36 decided events matched",))
    assert result.published == result.decided == 36
    assert result.sides[Backend.LEGACY].figures.raw == 36
    assert result.sides[Backend.SUPABASE].latency.count == 36
    assert result.started_at < result.ended_at


async def test_one_lost_event_fails(comparison, services, truth, event):
    async with Play(comparison, services, truth) as play:
        play.everywhere(*(event(seq) for seq in range(1, 11)))
        services[Backend.LEGACY].deliver(truth.add(event(11)))
        play.everywhere(event(12))
        result = await play.result(decided=12)
    assert result.verdict is Verdict.FAIL
    assert result.counts[Outcome.MISSING_SUPABASE] == 1
    assert result.reasons[0] == "1 missing_supabase"
    assert result.samples[Outcome.MISSING_SUPABASE][0].key.seq == 11


async def test_a_side_that_stops_halfway_fails(comparison, services, truth, event):
    async with Play(comparison, services, truth) as play:
        play.everywhere(*(event(seq) for seq in range(1, 21)))
        services[Backend.LEGACY].subscription.live = False
        for seq in range(21, 30):
            services[Backend.SUPABASE].deliver(truth.add(event(seq)))
        result = await play.result(decided=29)
    assert result.verdict is Verdict.FAIL
    assert result.counts[Outcome.MISSING_LEGACY] == 9
    assert result.sides[Backend.LEGACY].figures.outages == 1


async def test_what_is_delivered_after_an_outage_is_no_loss(comparison, services, truth, event):
    async with Play(comparison, services, truth) as play:
        play.everywhere(*(event(seq) for seq in range(1, 11)))
        for seq in range(11, 20):
            services[Backend.SUPABASE].deliver(truth.add(event(seq)))
        await asyncio.sleep(0.2)  # longer than the grace, shorter than its cap
        services[Backend.LEGACY].deliver(*(event_ for event_ in truth.events[10:]))
        result = await play.result(decided=19)
    assert result.counts[Outcome.MATCHED] == 19
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reasons[0].startswith("stopped after")


async def test_a_side_that_never_becomes_live_is_inconclusive(comparison, services):
    services[Backend.LEGACY].starts_live = False
    result = await comparison.run(services, 5)
    assert (result.verdict, result.reasons[0]) == (Verdict.INCONCLUSIVE, "legacy was not live within 0.5 s")


async def test_nothing_published_is_no_data(comparison, services, truth, event):
    truth.add(event(1))
    result = await comparison.run(services, 0.05)
    assert result.verdict is Verdict.NO_DATA


async def test_only_the_topics_streams_are_compared(truth, services, event):
    comparison = LiveComparison(truth, terms=Terms(FAST, topics=("devices.web-1",)), tick_seconds=0.01)
    async with Play(comparison, services, truth) as play:
        truth.add(event(1, stream=StreamId("other/system")))
        play.everywhere(*(event(seq) for seq in range(1, 13)))
        result = await play.result(decided=12)
    assert result.counts[Outcome.MATCHED] == result.published == 12


async def test_events_the_spool_no_longer_has_are_still_counted(comparison, services, truth, event):
    async with Play(comparison, services, truth) as play:
        truth.pruned = {1, 2, 12}
        play.everywhere(*(event(seq) for seq in range(1, 13)))
        result = await play.result(decided=12)
    assert result.counts[Outcome.MATCHED] == result.published == 12


async def test_told_gaps_and_moves_are_taken_in(comparison, services, truth, event):
    async with Play(comparison, services, truth) as play:
        services[Backend.LEGACY].deliver(
            Gap(StreamId("web-1/system"), 1, 1, 2),
            Moved(Backend.LEGACY, Backend.SUPABASE, "x", datetime.now(UTC), 0.0, 0),
        )
        play.everywhere(event(1))
        result = await play.result(decided=1)
    assert result.sides[Backend.LEGACY].figures.gaps == 1
    assert result.counts[Outcome.MATCHED] == 1


async def test_a_refused_tap_is_an_error(comparison, services, truth):
    async with Play(comparison, services, truth) as play:
        services[Backend.SUPABASE].deliver(Refused("supabase", "wrong key"))
        result = await play.task
    assert (result.verdict, result.reasons) == (Verdict.ERROR, ("supabase refused: wrong key",))


async def test_a_tap_refused_at_the_start_is_an_error(comparison, services):
    services[Backend.SUPABASE].starts_live = False
    services[Backend.SUPABASE].deliver(Refused("supabase", "wrong key", "check it"))
    result = await comparison.run(services, 5)
    assert (result.verdict, result.reasons) == (Verdict.ERROR, ("supabase refused: wrong key; check it",))


async def test_a_subscription_that_ends_by_itself_is_an_error(comparison, services, truth):
    async with Play(comparison, services, truth) as play:
        await services[Backend.LEGACY].close()
        result = await play.result()
    assert (result.verdict, result.reasons) == (
        Verdict.ERROR,
        ("the subscription to legacy ended by itself",),
    )


async def test_a_truth_that_cannot_be_read_is_an_error(comparison, services, truth):
    truth.broken = True
    result = await comparison.run(services, 5)
    assert result.verdict is Verdict.ERROR
    assert result.reasons == ("what was published cannot be read: disk gone",)


async def test_stopped_before_the_start(comparison, services):
    comparison.stop()
    result = await comparison.run(services, 5)
    assert (result.verdict, result.reasons[0]) == (Verdict.INCONCLUSIVE, "stopped before the start")


async def test_follows_until_it_is_stopped(comparison, services, truth, event):
    seen: list[dict] = []
    services[Backend.LEGACY].starts_live = False

    async def publish(summary: dict) -> None:
        seen.append(summary)

    task = asyncio.create_task(comparison.follow(services, publish, every_seconds=0.01))
    await until(lambda: seen and seen[-1]["live"] == {"legacy": False, "supabase": True})
    assert seen[-1]["state"] == "waiting"
    services[Backend.LEGACY].subscription.live = True
    await until(lambda: seen[-1]["state"] == "comparing")
    for seq in range(1, 13):
        truth.add(event(seq))
        for service in services.values():
            service.deliver(truth.events[-1])
    await until(lambda: seen[-1].get("published") == 12 and seen[-1]["pending"] == 0)
    assert seen[-1]["total"]["counts"]["matched"] == seen[-1]["counts"]["matched"] == 12
    assert seen[-1]["verdict"] == "PASS"
    truth.broken = True
    with pytest.raises(ComparisonFailed, match="disk gone"):
        await task


async def test_following_can_be_stopped_and_cancelled(truth, services):
    async def publish(summary: dict) -> None: ...

    stopped = LiveComparison(truth, tick_seconds=0.01)
    task = asyncio.create_task(stopped.follow(services, publish))
    await services[Backend.LEGACY].subscribed.wait()
    stopped.stop()
    with pytest.raises(ComparisonFailed, match="stopped by its owner"):
        await task
    cancelled = asyncio.create_task(LiveComparison(truth, tick_seconds=0.01).follow(services, publish))
    await asyncio.sleep(0.02)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_what_no_side_should_raise_is_raised_as_it_is(comparison, services, truth):
    """Not as a group: whoever calls knows the errors by their types."""
    async with Play(comparison, services, truth) as play:
        services[Backend.LEGACY].deliver(ZeroDivisionError("a bug"))
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await play.task


async def test_a_tap_that_fails_as_the_comparison_is_cancelled_does_not_spoil_the_cancellation(
    truth, services
):
    async def publish(summary: dict) -> None: ...

    task = asyncio.create_task(LiveComparison(truth, tick_seconds=0.01).follow(services, publish))
    for service in services.values():
        await service.subscribed.wait()
    for service in services.values():
        service.deliver(ZeroDivisionError("a bug"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_streams_of_other_machines_are_no_findings(truth, services, event):
    limits = Limits(grace_seconds=0.1, grace_cap_seconds=0.4, truth_is_complete=False)
    comparison = LiveComparison(truth, terms=Terms(limits), tick_seconds=0.01)
    async with Play(comparison, services, truth) as play:
        for seq in range(1, 5):
            services[Backend.SUPABASE].deliver(event(seq, stream=StreamId("another/system")))
        play.everywhere(*(event(seq) for seq in range(1, 13)))
        result = await play.result(decided=12)
    assert result.findings == 0
    assert result.counts[Outcome.MATCHED] == result.published == 12
    assert "streams of other owners: another/system" in result.not_compared
