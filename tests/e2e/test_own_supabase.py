"""`crossfade supabase start` in somebody's own project: its migrations, its seeds, its keys, and the real one's habits."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.installation import Installation

PORTS = ("--port-supabase", "0", "--port-database", "0")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Installation]:
    """A directory with a migration, as the Supabase CLI has it; nothing runs yet."""
    migrations = tmp_path / "supabase" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "20260101000000_towns.sql").write_text(
        "create table towns (id int primary key, name text);\n"
        "grant select on towns to anon;\nalter publication supabase_realtime add table towns;\n"
    )
    made = Installation(tmp_path)
    yield made
    made.run("supabase", "stop")
    made.remove()


def begun(project: Installation, *options: str) -> subprocess.CompletedProcess[str]:
    return project.run("supabase", "start", *PORTS, *options, seconds=120)


@contextlib.contextmanager
def running(project: Installation, *options: str) -> Iterator[dict[str, Any]]:
    """Start it, yield its addresses and keys, and stop it."""
    done = begun(project, *options)
    assert done.returncode == 0, done.stderr
    try:
        yield json.loads(project.run("supabase", "status", "-o", "json").stdout)
    finally:
        assert project.run("supabase", "stop").returncode == 0


def towns(facts: dict[str, Any]) -> list[str]:
    answer = httpx.get(
        f"{facts['API_URL']}/rest/v1/towns?select=name&order=id", headers={"apikey": facts["ANON_KEY"]}
    )
    assert answer.status_code == 200, answer.text
    return [row["name"] for row in answer.json()]


def test_a_new_database_is_filled_from_the_seed_files_and_an_old_one_is_not(project: Installation) -> None:
    supabase = project.directory / "supabase"
    (supabase / "seed.sql").write_text("insert into towns values (1, 'Aachen');\n")
    with running(project) as facts:
        assert towns(facts) == ["Aachen"]
    (supabase / "seed.sql").write_text("insert into towns values (2, 'Bonn');\n")
    with running(project) as facts:
        assert towns(facts) == ["Aachen"]


def test_a_seed_that_fails_is_named_with_its_line_and_can_be_corrected(project: Installation) -> None:
    supabase = project.directory / "supabase"
    (supabase / "config.toml").write_text('[db.seed]\nenabled = true\nsql_paths = ["./seeds/*.sql"]\n')
    (supabase / "seeds").mkdir()
    (supabase / "seeds" / "a.sql").write_text("insert into towns values (1, 'Aachen');\n")
    (supabase / "seeds" / "b.sql").write_text(
        "insert into towns values (2, 'Bonn');\n\ninsert into town values (3);\n"
    )
    done = begun(project)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert 'seeds/b.sql:3: relation "town" does not exist' in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    (supabase / "seeds" / "b.sql").write_text("insert into towns values (2, 'Bonn');\n")
    with running(project) as facts:
        assert towns(facts) == ["Aachen", "Bonn"]


def test_a_configuration_that_is_not_understood_is_named(project: Installation) -> None:
    (project.directory / "supabase" / "config.toml").write_text("[db.seed\n")
    done = begun(project)
    assert done.returncode == 1
    assert "supabase/config.toml cannot be used" in done.stderr


def test_a_habit_is_off_unless_asked_for(project: Installation) -> None:
    def refused_after(facts: dict[str, Any]) -> float:
        at = time.monotonic()
        answer = httpx.get(f"{facts['API_URL']}/realtime/v1/websocket", timeout=10)
        assert answer.status_code == 401
        return time.monotonic() - at

    with running(project) as facts:
        assert refused_after(facts) < 1.5
    with running(project, "--habit", "connect-penalty", "--habit", "hosted-limits") as facts:
        assert refused_after(facts) > 1.9
        large = {"messages": [{"topic": "a", "event": "e", "payload": {"p": "x" * 300_000}}]}
        answer = httpx.post(
            f"{facts['API_URL']}/realtime/v1/api/broadcast",
            json=large,
            headers={"apikey": facts["ANON_KEY"]},
        )
        assert answer.status_code == 422, answer.text


def test_a_habit_that_there_is_not_is_answered_with_those_there_are(project: Installation) -> None:
    for command in (("supabase", "start"), ("up",)):
        done = project.run(*command, "--habit", "slow")
        assert done.returncode == 2
        assert "There is no habit 'slow'; there are connect-penalty" in done.stderr
