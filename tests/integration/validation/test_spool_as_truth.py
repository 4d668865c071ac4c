"""The comparison with a real spool as its truth, written here and read through a second connection."""

import asyncio
from datetime import UTC, datetime

import pytest

from adapters.spool import Spool
from adapters.spool_reader import SpoolReader
from monitoring.cursor import Cursor
from monitoring.events import Draft, stream_id
from monitoring.service import Backend, Capabilities, Health, Item, Snapshot, Status
from monitoring.subscription import Subscription
from validation.limits import Limits
from validation.observation import Outcome
from validation.runner import LiveComparison, Truth
from validation.terms import Terms
from validation.verdict import Verdict

STREAM = stream_id("web-1", "system")


class SpoolFollower:
    """A backend that delivers what is in the spool, but for the seqs that it is told to lose."""

    capabilities = Capabilities()

    def __init__(self, backend: Backend, reader: SpoolReader, lost: frozenset[int] = frozenset()) -> None:
        self.backend, self._reader, self._lost = backend, reader, lost

    async def snapshot(self, topics: object) -> Snapshot:
        return Snapshot((), self._reader.heads())

    def subscribe(self, topics: object, since: Cursor | None = None) -> Subscription[Item]:
        async def feed(out: Subscription[Item]) -> None:
            place = self._reader.position()
            out.live = True
            while True:
                for at, event in self._reader.read(place, 100):
                    place = at
                    if event.seq not in self._lost:
                        await out.put(event)
                await asyncio.sleep(0.01)

        return Subscription(feed)

    async def health(self) -> Health:
        return Health(self.backend, Status.LIVE, datetime.now(UTC))

    async def close(self) -> None:
        return None


@pytest.fixture
def spool(tmp_path):
    with Spool.open(tmp_path / "spool.db") as spool:
        spool.open_stream(STREAM, 1, None, datetime.now(UTC))
        yield spool


@pytest.mark.parametrize(("lost", "verdict"), [(frozenset(), Verdict.PASS), (frozenset({9}), Verdict.FAIL)])
async def test_every_event_of_the_spool_is_accounted_for(spool, tmp_path, lost, verdict):
    with SpoolReader(tmp_path / "spool.db") as reader:
        truth: Truth = reader
        services = {
            Backend.LEGACY: SpoolFollower(Backend.LEGACY, reader),
            Backend.SUPABASE: SpoolFollower(Backend.SUPABASE, reader, lost),
        }
        comparison = LiveComparison(
            truth, terms=Terms(Limits(grace_seconds=0.2, grace_cap_seconds=1.0)), tick_seconds=0.02
        )

        async def collect() -> None:
            while (
                comparison._session is None
            ):  # what is published before the comparison begins is not compared
                await asyncio.sleep(0.01)
            for number in range(30):
                spool.append(
                    [
                        Draft(
                            STREAM, "metric_collected", datetime.now(UTC), {"n": number, "load": 0.1 * number}
                        )
                    ]
                )
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            group.create_task(collect())
            result = await comparison.run(services, 2.0)
    assert result.verdict is verdict
    assert result.published == result.decided == 30
    assert result.counts[Outcome.MISSING_SUPABASE] == len(lost)
