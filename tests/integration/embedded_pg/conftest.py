"""A real cluster for each test that changes the server, one shared for those that do not."""

import asyncio
import contextlib
import time

import asyncpg
import pytest

from embedded.postgres import Postgres
from embedded.wal.client import WalClient


@pytest.fixture(scope="session")
def shared_postgres(tmp_path_factory):
    postgres = Postgres(tmp_path_factory.mktemp("shared"), port=0, durable=False)
    postgres.start()
    yield postgres
    postgres.remove()


@pytest.fixture
def postgres(tmp_path):
    """A running cluster of the test's own."""
    postgres = Postgres(tmp_path / "own", port=0, durable=False)
    postgres.start()
    yield postgres
    postgres.remove()


@pytest.fixture
async def database(shared_postgres):
    """A connection to a fresh database with everything bootstrap.sql gives (cloned from the project's one)."""
    name = f"test_{time.monotonic_ns()}"
    admin = await asyncpg.connect(shared_postgres.dsn(database="template1"))
    try:
        for attempt in range(50):  # the template must have no connections; other tests' may just be ending
            try:
                await admin.execute(f"create database {name} template postgres")
                break
            except asyncpg.ObjectInUseError:
                assert attempt < 49
                await asyncio.sleep(0.05)
        connection = await asyncpg.connect(shared_postgres.dsn(database=name))
        try:
            yield connection
        finally:
            await connection.close()
            await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()


class Follower:
    """Collects what a WalClient delivers; ``wait_for`` returns when enough has come."""

    def __init__(self, client):
        self.client = client
        self.transactions = []
        self.arrived_at = []
        self.acknowledge = True
        self._news = asyncio.Event()
        self._failure = None

    async def run(self):
        try:
            async with contextlib.aclosing(self.client.transactions()) as transactions:
                async for transaction in transactions:
                    self.arrived_at.append(time.perf_counter())
                    self.transactions.append(transaction)
                    if self.acknowledge and transaction.last:
                        self.client.acknowledge(transaction.commit_lsn)
                    self._news.set()
        except Exception as error:
            self._failure = error
            self._news.set()
            raise

    @property
    def changes(self):
        return [change for transaction in self.transactions for change in transaction.changes]

    async def wait_for(self, count, seconds=20):
        async with asyncio.timeout(seconds):
            while len(self.changes) < count:
                self._news.clear()
                await self._news.wait()
                if self._failure is not None:
                    raise self._failure
        return self.changes


@contextlib.asynccontextmanager
async def following(postgres, **options):
    follower = Follower(WalClient(postgres.socket_dir, postgres.port, **options))
    task = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(20):
            live = asyncio.create_task(follower.client.wait_live())
            await asyncio.wait({task, live}, return_when=asyncio.FIRST_COMPLETED)
            live.cancel()
            if task.done():
                task.result()
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def follow():
    return following
