"""kill -9 in the middle of a roll-up, of PostgreSQL, of its backend, of who keeps house: nothing lost, nothing twice.

The middle is where the finest level is written and the next is not: a lock holds the roll-up there until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psutil
import pytest

from adapters.errors import DATABASE_AWAY
from embedded.postgres import Postgres
from tests.integration.spool.conftest import _migrate
from tests.integration.spool.test_time_series import Owner, equal_truth, rolled_up, some_times

_HOUSEKEEPER = """
import asyncio, sys
import asyncpg
from adapters.errors import DATABASE_AWAY
from adapters.housekeeping import Housekeeping

async def main(url):
    house = Housekeeping()
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=5, command_timeout=30)
            while True:
                await asyncio.sleep(min(0.02, await house.step(connection)))
        except DATABASE_AWAY:
            await asyncio.sleep(0.05)

asyncio.run(main(sys.argv[1]))
"""
_IN_THE_MIDDLE = """
select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%cf_maintain%' and pid <> pg_backend_pid()
  and exists (select from pg_locks l where l.pid = pg_stat_activity.pid and l.mode = 'RowExclusiveLock'
    and l.relation = 'public.cf_rollups_1m'::regclass)
"""
"""Who keeps house, has written minutes, and waits to write ten minutes."""


@pytest.fixture
def server(tmp_path: Any) -> Iterator[Postgres]:
    """A PostgreSQL of its own: others do not like to be killed."""
    made = Postgres(tmp_path, port=0, durable=False)
    made.start()
    try:
        asyncio.run(_migrate(made))
        yield made
    finally:
        made.remove()


async def connected(server: Postgres) -> Any:
    """Connect, as soon as it has recovered."""
    async with asyncio.timeout(60):
        while True:
            with suppress(*DATABASE_AWAY):
                return await asyncpg.connect(server.dsn(database="crossfade"))
            await asyncio.sleep(0.05)


class Housekeeper:
    """A process that keeps house without a pause."""

    def __init__(self, server: Postgres) -> None:
        self._url = server.url(database="crossfade")
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(sys.executable, "-c", _HOUSEKEEPER, self._url)

    async def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def held_in_the_middle(server: Postgres) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Hold roll-ups, and give what waits for one in the middle and returns its backend; what lives goes on after the block."""

    async def middle() -> int:
        async with asyncio.timeout(60):
            while (backend := await looking.fetchval(_IN_THE_MIDDLE)) is None:
                await asyncio.sleep(0.005)
        return int(backend)

    holding, looking = [await connected(server) for _ in range(2)]
    try:
        transaction = holding.transaction()
        await transaction.start()
        await holding.execute("lock table public.cf_rollups_10m in share mode")
        yield middle
    finally:
        for each in (holding, looking):
            each.terminate()


async def kill_postgres(server: Postgres, _: int, __: Housekeeper) -> None:
    """Kill the postmaster and everything that it began, at once, and start it again."""
    assert server.pid is not None
    postmaster = psutil.Process(server.pid)
    for process in [postmaster, *postmaster.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    async with asyncio.timeout(20):
        while server.pid is not None:
            await asyncio.sleep(0.01)
    await asyncio.to_thread(server.start)


async def kill_backend(server: Postgres, backend: int, _: Housekeeper) -> None:
    """Kill the one backend: PostgreSQL ends all others and recovers by itself."""
    witness = await connected(server)
    os.kill(backend, signal.SIGKILL)
    async with asyncio.timeout(30):
        while not witness.is_closed():  # from then on whoever connects comes after the recovery
            await asyncio.sleep(0.01)


async def kill_housekeeper(server: Postgres, _: int, housekeeper: Housekeeper) -> None:
    """Kill who asked for it: the database does not know yet."""
    await housekeeper.kill()
    await housekeeper.start()


Kill = Callable[[Postgres, int, Housekeeper], Awaitable[None]]


@pytest.mark.parametrize("kill", [kill_postgres, kill_backend, kill_housekeeper])
async def test_what_is_killed_while_it_rolls_up_loses_nothing_and_counts_nothing_twice(
    server: Postgres, kill: Kill
) -> None:
    """Of days that still have their samples, and of days that had gone, to whose roll-ups late samples are added."""
    chance = random.Random(kill.__name__)
    connection = await connected(server)
    owner = await Owner.of(connection)
    housekeeper = Housekeeper(server)
    appended = 0
    await connection.fetchval("select public.cf_maintain()")  # partitions, which are not what is held
    await housekeeper.start()
    try:
        for days in (9.0, 9.0, 0.2, 9.0):
            async with held_in_the_middle(server) as middle:
                samples = [(at, chance.randint(-1000, 1000)) for at in some_times(chance, 60, days)]
                await owner.append(samples)
                appended += len(samples)
                backend = await middle()
                late = datetime.now(UTC) - timedelta(hours=3, milliseconds=appended)
                await owner.append([(late, 7)])  # and an owner goes on writing meanwhile
                appended += 1
                await kill(server, backend, housekeeper)
            connection.terminate()  # its backend may be gone
            owner.connection = connection = await connected(server)
            await connection.fetchval("select public.cf_acquire_lease('web-1/system', $1, 1, 3600)", owner.id)
            assert await connection.fetchval("select count(*) from truth where path = 'cpu'") == appended
            await rolled_up(connection)
            await equal_truth(connection)
        dropped = await connection.fetchval("select raw_from > current_date - 9 from public.cf_storage")
        assert dropped, "some samples came after their day had been dropped"
    finally:
        connection.terminate()
        await housekeeper.kill()
