"""What is handed over is kept once, in order, within bounds: against a spool without a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from adapters.event_intake import EventIntake
from adapters.spool import Spool
from monitoring.events import Draft, StreamId
from monitoring.intake import Taken

NOWHERE = "postgresql://127.0.0.1:9/nowhere"
AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def draft(
    stream: str = "app-7/things", kind: str = "thing", id_: UUID | None = None, **payload: Any
) -> Draft:
    return Draft(StreamId(stream), kind, AT, payload, id_ or uuid4())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool that has been open before: its streams need no lease from the database any more."""
    with Spool.open(tmp_path / "spool.db") as spool:
        for name in ("things", "others"):
            spool.open_stream(StreamId(f"app-7/{name}"), 1, None, AT)
    return tmp_path / "spool.db"


@pytest.fixture
async def intake(path: Path) -> AsyncIterator[EventIntake]:
    async with EventIntake(path, database_url=NOWHERE, max_streams=3) as opened:
        yield opened


def kept(path: Path) -> list[Any]:
    with Spool.open(path) as spool:
        return [event.payload.get("n") for _, event in spool.read(0, 500) if event.kind == "thing"]


async def test_a_bad_event_is_refused_and_the_others_of_its_stream_are_kept_in_order(
    intake: EventIntake, path: Path
) -> None:
    drafts = [draft(n=0), draft(n=1, kind="tombstone"), draft(n=2), draft("app-7/others", n=3)]
    outcomes = await intake.take(drafts)
    assert [each.refused is None for each in outcomes] == [True, False, True, True]
    assert "made by Crossfade alone" in str(outcomes[1].refused)
    assert not outcomes[1].again
    await intake.__aexit__(None, None, None)
    assert kept(path) == [0, 2, 3]


async def test_ids_are_remembered_within_a_batch_and_over_a_restart(intake: EventIntake, path: Path) -> None:
    first = draft(n=0)
    assert await intake.take([first, first]) == [Taken(), Taken(repeated=True)]
    assert await intake.take([first]) == [Taken(repeated=True)]
    await intake.__aexit__(None, None, None)
    async with EventIntake(path, database_url=NOWHERE) as again:
        assert await again.take([first, draft(n=1)]) == [Taken(repeated=True), Taken()]
    assert kept(path) == [0, 1]


async def test_a_stream_without_a_lease_waits_and_holds_up_no_other(intake: EventIntake) -> None:
    async with asyncio.timeout(5):
        new, known = await intake.take([draft("app-7/new"), draft()])
    assert (new.refused is not None, new.again) == (True, True)
    assert known == Taken()


async def test_streams_are_bounded(intake: EventIntake) -> None:
    (one, two, known) = await intake.take([draft("a/a"), draft("b/b"), draft()])
    assert (one.again, two.again, known) == (True, False, Taken())
    assert "3 streams already" in str(two.refused)


async def test_the_same_event_twice_at_once_is_kept_once(intake: EventIntake, path: Path) -> None:
    drafts = [draft("app-7/new"), draft(n=1)]
    answers = await asyncio.gather(*(intake.take(drafts) for _ in range(5)))
    assert sum(answer[1].refused is None and not answer[1].repeated for answer in answers) == 1
    assert all(answer[1].refused is None or answer[1].again for answer in answers)
    await intake.__aexit__(None, None, None)
    assert kept(path) == [1]


async def test_a_spool_that_is_in_use_is_said_and_works_afterwards(path: Path) -> None:
    with Spool.open(path):
        async with EventIntake(path, database_url=NOWHERE) as intake:
            (refused,) = await intake.take([draft(n=0)])
            assert refused.again
            assert "in use by process" in str(refused.refused)
    async with EventIntake(path, database_url=NOWHERE) as intake:
        assert await intake.take([draft(n=0)]) == [Taken()]


async def test_a_draft_without_an_id_is_a_mistake_of_ours(intake: EventIntake) -> None:
    with pytest.raises(ValueError, match="needs an id"):
        await intake.take([Draft(StreamId("app-7/things"), "thing", AT, {})])
