"""Moving into somebody else's project: what the facts of a database mean, and what is left in its .env file."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import dotenv
import pytest

from crossfade.errors import CrossfadeError, UsageError
from crossfade.hosted import env_file, judging, users
from crossfade.hosted.facts import Facts
from crossfade.hosted.installing import ours
from crossfade.wiring import Role

GOOD = Facts(
    version=15, database="postgres", user="postgres", wal_level="logical", may_create=True, missing_roles=(),
    missing_functions=(), publication=True, may_publish=True, publishes_all=False, messages=True, may_police=True,
    bypasses_rls=True, tables=0, applied=frozenset(), session=True,
)  # fmt: skip


def test_a_project_as_supabase_makes_it_is_good() -> None:
    assert all(check.ok and not check.advice for check in judging.judge(GOOD))


@pytest.mark.parametrize(
    ("found", "name", "advice"),
    [
        ({"version": 14}, "PostgreSQL", "15 or newer"),
        ({"session": False}, "connection", "session pooler (port 5432)"),
        ({"missing_roles": ("anon",)}, "Supabase", "no Supabase project's database"),
        ({"missing_functions": ("auth.jwt()",)}, "Supabase", "no Supabase project's database"),
        ({"messages": False, "may_police": False}, "Supabase", "no Supabase project's database"),
        ({"wal_level": "replica"}, "change feed", "set wal_level to logical"),
        ({"publication": False, "may_publish": False}, "publication", "create publication supabase_realtime"),
        ({"publishes_all": True}, "publication", "lists its tables"),
        ({"may_publish": False}, "publication", "owner to postgres"),
        ({"may_create": False}, "tables", "grant create on schema public to postgres"),
        ({"may_police": False}, "policies", "grant supabase_realtime_admin to postgres"),
        ({"bypasses_rls": False}, "row security", "alter role postgres bypassrls"),
    ],
)
def test_what_is_missing_is_one_finding_that_says_what_to_do(
    found: dict[str, Any], name: str, advice: str
) -> None:
    bad = [check for check in judging.judge(replace(GOOD, **found)) if not check.ok]
    assert [check.name for check in bad] == [name]
    assert advice in bad[0].advice


def test_only_what_is_not_recorded_is_pending() -> None:
    known = ours()
    assert judging.pending(GOOD, known) == known
    some = replace(GOOD, applied=frozenset({known[0].version, "somebody-elses"}), tables=3)
    assert judging.pending(some, known) == known[1:]
    assert not judging.unrecorded(some, known)


def test_tables_without_a_record_have_no_version() -> None:
    assert judging.unrecorded(replace(GOOD, tables=3, applied=frozenset({"somebody-elses"})), ours())
    assert not judging.unrecorded(GOOD, ours())


def test_somebody_is_a_role_and_an_address() -> None:
    assert users.parse("operator= Ann@Example.com ") == users.Wanted(Role.OPERATOR, "ann@example.com")


@pytest.mark.parametrize(
    "text", ["", "viewer", "viewer=", "viewer=ann", "king=ann@example.com", "=ann@example.com"]
)
def test_anything_else_says_the_form_or_the_roles(text: str) -> None:
    with pytest.raises(UsageError, match="viewer, operator, admin"):
        users.parse(text)


def test_the_env_file_keeps_what_others_wrote(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# ours\nOTHER='a b'\nSUPABASE_KEY=old\n")
    path.chmod(0o644)
    values = {"SUPABASE_URL": "https://one.example", "SUPABASE_KEY": "new#1'\"$x"}
    assert env_file.write(path, values) == ["SUPABASE_URL", "SUPABASE_KEY"]
    assert dotenv.dotenv_values(path, interpolate=False) == {"OTHER": "a b", **values}
    assert path.read_text().startswith("# ours\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert env_file.write(path, values) == []
    assert env_file.forget(path, ["SUPABASE_URL", "SUPABASE_KEY", "DATABASE_URL"]) == [
        "SUPABASE_URL",
        "SUPABASE_KEY",
    ]
    assert path.read_text() == "# ours\nOTHER='a b'\n"


def test_an_env_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CrossfadeError, match="cannot be written"):
        env_file.write(tmp_path / "missing" / ".env", {"A": "b"})
    assert env_file.forget(tmp_path / "missing" / ".env", ["A"]) == []
