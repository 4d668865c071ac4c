"""On a database that has pg_cron and pg_partman, Crossfade keeps house as everywhere, and says what would conflict.

Neither extension comes with the embedded PostgreSQL: what stands for them here are their catalogues, which are all that is
looked at.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from adapters.housekeeping import Housekeeping
from tests.integration.spool.test_time_series import Owner, equal_truth, rolled_up

_CATALOGUES = """
create schema cron;
create table cron.job (jobid bigint primary key, schedule text, command text, active boolean, jobname text);
create schema tools;
create table tools.part_config (parent_table text primary key, control text, partition_interval text);
insert into tools.part_config values ('public.orders', 'at', '1 day');
"""


async def others(connection: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await connection.fetchval("select public.cf_other_housekeepers()"))
    return told


async def test_neither_is_needed_and_both_are_seen(database: Any) -> None:
    connection = database.connection
    assert await others(connection) == {"cron": False, "cron_calls_us": False, "partman_has": []}
    await connection.execute(_CATALOGUES)
    assert await others(connection) == {"cron": True, "cron_calls_us": False, "partman_has": []}
    await connection.execute(
        "insert into cron.job values (1, '1 minute', 'select public.cf_maintain()', true, 'cf')"
    )
    assert (await others(connection))["cron_calls_us"]
    await connection.execute("update cron.job set active = false")
    assert not (await others(connection))["cron_calls_us"]


async def test_a_table_of_ours_that_pg_partman_was_told_of_is_said_until_it_is_not(database: Any) -> None:
    connection, house = database.connection, Housekeeping()
    await connection.execute(_CATALOGUES)
    await house.step(connection)
    assert house.problem is None, "other people's tables are none of our business"
    await connection.execute(
        "insert into tools.part_config values ('public.cf_samples', 'sampled_at', '1 day')"
    )
    await house.step(connection)
    assert house.problem == (
        "pg_partman was told to keep public.cf_samples, which Crossfade keeps by itself: delete that row of part_config"
    )
    await connection.execute("delete from tools.part_config where parent_table like '%cf_samples'")
    await house.step(connection)
    assert house.problem is None


async def test_pg_cron_and_an_owner_keep_house_at_once_and_nothing_is_counted_twice(database: Any) -> None:
    """As pg_cron does it: a session of its own that calls ``cf_maintain`` while an owner's housekeeping does."""
    connection = database.connection
    owner = await Owner.of(connection)
    sessions = [await asyncpg.connect(database.url) for _ in range(2)]
    try:
        start = datetime.now(UTC) - timedelta(hours=30)
        for batch in range(10):
            await owner.append(
                [(start + timedelta(minutes=batch * 150 + each * 7), each) for each in range(20)]
            )
            house = Housekeeping()
            await asyncio.gather(house.step(sessions[0]), sessions[1].fetchval("select public.cf_maintain()"))
        await rolled_up(connection)
        await equal_truth(connection)
    finally:
        for session in sessions:
            await session.close()
