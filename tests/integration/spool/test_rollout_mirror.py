"""What the rollout tells a real database: which paths are published to, and mirrors of the journal and the audit."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapters import flag_audit
from adapters.rollout_journal import Journal
from crossfade.paths import DataDir
from crossfade.rollout.mirror import Mirror
from monitoring.flags.stages import Extent, Paths, Stage
from monitoring.rollout.observations import Answer, Decision, Gate
from monitoring.rollout.state import Position, Rollout
from tests.integration.spool.conftest import Database

BOTH = Paths(feed=True, legacy=True)
STATE = Rollout(active=True, cohorts={"default": Position(Extent(Stage.SHADOW, 1_000))})


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir.of(tmp_path / ".crossfade")
    made.create()
    return made


@pytest.fixture
async def mirror(database: Database, data: DataDir) -> AsyncIterator[Mirror]:
    made = Mirror(database.url, data)
    yield made
    await made.close()


def decide(data: DataDir, *reasons: str) -> None:
    gates = (Gate("coverage", Answer.PASS, "99.9 %"),)
    decisions = [
        Decision("advance", "default", "shadow 1 %", "live 1 %", reason, gates) for reason in reasons
    ]
    Journal(data.rollout_journal).decide("ana", lambda _: (STATE, decisions))


async def mirrored(database: Database) -> list[tuple[int, str]]:
    rows = await database.connection.fetch("select n, reason from public.cf_rollout_journal order by n")
    return [tuple(row) for row in rows]


async def test_the_paths_are_ordered_and_whoever_has_not_heard_is_named(
    database: Database, mirror: Mirror
) -> None:
    owner = uuid.uuid4()
    await database.connection.execute(
        "insert into public.cf_leases (stream, owner, epoch, expires_at) values ('a/b', $1, 1, now() + interval '1 h')",
        owner,
    )
    assert await mirror.tell(BOTH) == (str(owner),)
    hear = "select public.cf_hear($1, $2, 'collect')"
    await database.connection.execute(hear, owner, 1)
    assert await mirror.tell(BOTH) == ()
    assert await mirror.tell(Paths(feed=True, legacy=False)) == ("collect",)
    await database.connection.execute(hear, owner, 2)
    assert await mirror.tell(Paths(feed=True, legacy=False)) == ()
    assert mirror.problem is None


async def test_every_entry_is_mirrored_once_in_order_with_its_evidence(
    database: Database, mirror: Mirror, data: DataDir
) -> None:
    decide(data, "one", "two")
    await mirror.tell(BOTH)
    await mirror.tell(BOTH)
    decide(data, "three")
    await mirror.tell(BOTH)
    assert await mirrored(database) == [(1, "one"), (2, "two"), (3, "three")]
    row = await database.connection.fetchrow("select * from public.cf_rollout_journal where n = 3")
    assert (row["by"], row["action"], row["cohort"]) == ("ana", "advance", "default")
    assert (row["before"], row["after"]) == ("shadow 1 %", "live 1 %")
    assert '"99.9 %"' in row["gates"]
    assert '"active": true' in row["state"]


async def test_a_controller_that_starts_again_goes_on_where_the_mirror_ends(
    database: Database, mirror: Mirror, data: DataDir
) -> None:
    decide(data, "one")
    await mirror.tell(BOTH)
    decide(data, "two", "three")
    again = Mirror(database.url, data)
    await again.tell(BOTH)
    await again.close()
    await mirror.tell(BOTH)  # the other one believes itself at one
    assert await mirrored(database) == [(1, "one"), (2, "two"), (3, "three")]


async def test_a_journal_that_was_begun_anew_at_the_same_place_is_mirrored_beside_the_old_one(
    database: Database, mirror: Mirror, data: DataDir
) -> None:
    decide(data, "one", "two")
    await mirror.tell(BOTH)
    data.rollout_journal.unlink()
    for _ in range(2):  # and knows its own again
        again = Mirror(database.url, data)
        await again.tell(BOTH)
        if not data.rollout_journal.exists():
            decide(data, "new")
        await again.tell(BOTH)
        await again.close()
    rows = await database.connection.fetch(
        "select n, reason from public.cf_rollout_journal order by installation, n"
    )
    assert [tuple(row) for row in rows] == [(1, "one"), (2, "two"), (1, "new")]


async def test_the_audit_of_the_flags_is_mirrored_once(
    database: Database, mirror: Mirror, data: DataDir, tmp_path: Path
) -> None:
    for why in ("first", "second"):
        flag_audit.record(data.flag_audit, tmp_path / "flags.yaml", ["kill: false -> true"], why, "ana")
        await mirror.tell(BOTH)
    again = Mirror(database.url, data)
    await again.tell(BOTH)
    await again.close()
    rows = await database.connection.fetch(
        "select who, file, changes, why from public.cf_flags_audit order by at"
    )
    assert [row["why"] for row in rows] == ["first", "second"]
    assert (rows[0]["who"], rows[0]["changes"]) == ("ana", '["kill: false -> true"]')
    assert rows[0]["file"].endswith("flags.yaml")


async def test_a_database_that_is_away_is_said_and_told_later(
    database: Database, mirror: Mirror, data: DataDir
) -> None:
    decide(data, "one")
    assert await mirror.tell(BOTH) == ()
    await database.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
        database.name,
    )
    decide(data, "two")
    told = await mirror.tell(BOTH)
    if told is None:  # it learned of the end of its connection by using it
        assert mirror.problem
        told = await mirror.tell(BOTH)
    assert told == ()
    assert mirror.problem is None
    assert await mirrored(database) == [(1, "one"), (2, "two")]


async def test_a_journal_that_makes_no_sense_still_has_the_paths_ordered(
    database: Database, mirror: Mirror, data: DataDir
) -> None:
    decide(data, "one")
    with data.rollout_journal.open("ab") as file:
        file.write(b"nonsense\n")
    assert await mirror.tell(Paths(feed=False, legacy=True)) == ()
    assert await database.connection.fetchval("select feed from public.cf_paths") is False
    assert await mirrored(database) == []


async def test_nobody_there_is_no_error_of_ours(data: DataDir) -> None:
    nowhere = Mirror("postgresql://nobody@127.0.0.1:9/nothing", data)
    assert await nowhere.tell(BOTH) is None
    assert "9" in (nowhere.problem or "")
    await nowhere.close()
    await nowhere.close()


REFUSALS: list[Callable[[Any], Any]] = [
    lambda connection: connection.execute("drop function public.cf_unheard(bigint)"),
    lambda connection: connection.execute("alter table public.cf_rollout_journal add check (n < 2)"),
]


@pytest.mark.parametrize("spoil", REFUSALS, ids=["a function is missing", "a row is refused"])
async def test_a_database_that_refuses_is_said_in_its_own_words(
    database: Database, mirror: Mirror, data: DataDir, spoil: Callable[[asyncpg.Connection[Any]], Any]
) -> None:
    await spoil(database.connection)
    decide(data, "one", "two")
    assert await mirror.tell(BOTH) is None
    assert "cf_unheard" in (mirror.problem or "") or "check constraint" in (mirror.problem or "")
