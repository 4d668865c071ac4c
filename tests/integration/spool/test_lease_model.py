"""The model that the state machine stands on, and the database's own functions: the same answers to the same questions."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from monitoring.events import Event, StreamId, to_json, uuid7
from tests.integration.spool.lease_model import LeaseModel

OWNERS = [uuid4(), uuid4()]
STREAMS = [StreamId("web-1/system"), StreamId("web-1/containers")]
TTL = 5


async def asked(connection: Any, statement: str, *arguments: Any) -> Any:
    """Return what was answered, or what was raised, without the times."""
    try:
        answer = await connection.fetchval(statement, *arguments)
    except asyncpg.PostgresError as error:
        return error.sqlstate, orjson.loads(error.detail or "null")
    if isinstance(answer, str):
        return {
            stream: {key: value for key, value in each.items() if key != "until"}
            for stream, each in orjson.loads(answer).items()
        }
    return answer


def some_event(chance: random.Random, stream: StreamId, epoch: int, seq: int) -> dict[str, Any]:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    event = Event(uuid7(0, chance.getrandbits(74)), stream, epoch, seq, "seen", at, {})
    return {**to_json(event), "metric_type": "m"}


@pytest.mark.parametrize("seed", range(8))
async def test_the_model_answers_as_the_database_does(database: Any, seed: int) -> None:
    chance = random.Random(seed)
    model = LeaseModel()
    # The rule for the first term after a start has a test of its own.
    while await database.connection.fetchval("select now() < pg_postmaster_start_time() + interval '5 s'"):
        await asyncio.sleep(0.05)
    for _ in range(120):
        owner: UUID = chance.choice(OWNERS)
        some = sorted(chance.sample(STREAMS, chance.randint(1, 2)))
        question = chance.choice(["lease", "lease", "append", "append", "append", "release", "time"])
        if question == "time":
            model.now += TTL + 1
            await database.connection.execute(
                "update public.cf_leases set expires_at = expires_at - interval '6 s'"
            )
            continue
        if question == "release":
            some = [stream for stream in some if stream in model.leases]
            statement = "select public.cf_release_leases($1, $2)"
            await model.fetchval(statement, owner, some)
            await database.connection.fetchval(statement, owner, some)
            continue
        if question == "lease":
            hints = {stream: chance.choice([None, 1, 2, 3, 5]) for stream in some}
            statement = "select public.cf_acquire_leases($1, $2::jsonb, $3)"
            arguments = (owner, orjson.dumps(hints).decode(), TTL)
        else:
            events = [
                some_event(chance, stream, chance.randint(1, 6), chance.randint(1, 3))
                for stream in some
                for _ in range(chance.randint(1, 2))
            ]
            events = list({(each["stream"], each["epoch"], each["seq"]): each for each in events}.values())
            statement = "select public.cf_append($1, $2::jsonb, $3)"
            arguments = (owner, orjson.dumps(events).decode(), TTL)
        expected, answer = (
            await asked(model, statement, *arguments),
            await asked(database.connection, statement, *arguments),
        )
        assert answer == expected, (statement, arguments)
    rows = await database.connection.fetch("select stream, epoch, seq from public.cf_events order by 1, 2, 3")
    assert [tuple(row) for row in rows] == sorted(
        (event.stream, *event.position) for events in model.rows.values() for event in events
    )
    assert rows
