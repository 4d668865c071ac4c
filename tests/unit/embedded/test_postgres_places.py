"""Who can reach what, where things go, and how passwords are stored."""

import base64
import json
import os
from pathlib import Path

import pytest

from embedded import postgres_user, scram
from embedded.errors import DataDirectoryUnusable
from embedded.postgres_location import cache_dir, fits, locate
from embedded.postgres_user import SystemUser, can_search, reachable, unprivileged_user

USER = SystemUser("pg", 4000, 4001)


@pytest.mark.parametrize(
    ("mode", "owner", "group", "expected"),
    [
        (0o755, 0, 0, True),
        (0o700, 0, 0, False),
        (0o750, 0, 4001, True),
        (0o705, 0, 4001, False),
        (0o100, 4000, 0, True),
        (0o077, 4000, 4001, False),
        (0o711, 0, 0, True),
        (0o744, 0, 0, False),
    ],
)
def test_who_may_pass_a_directory(mode, owner, group, expected):
    assert can_search(mode, owner, group, USER) is expected


def test_every_directory_above_counts(tmp_path):
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True, mode=0o755)
    closed.chmod(0o700)
    assert not reachable(closed / "open" / "not-yet", USER)


def test_an_ordinary_user_keeps_all_below_the_data_directory():
    found = locate(Path("/d"), 54322, None)
    assert (found.pgdata, found.socket_dir) == (Path("/d/supabase/pgdata"), Path("/d/supabase/socket"))


def test_what_cannot_be_reached_goes_to_the_system_directory(tmp_path):
    tmp_path.chmod(0o700)
    first, second = (locate(tmp_path, 1, USER, Path("/sys")) for _ in range(2))
    assert first.root.parent == Path("/sys/clusters")
    assert first.root != second.root


def test_a_cluster_that_is_there_is_used_whoever_can_reach_it(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "supabase" / "pgdata").mkdir(parents=True)
    assert locate(tmp_path, 1, USER, Path("/sys")).root == tmp_path / "supabase"


def test_a_note_is_obeyed_and_a_damaged_one_refused(tmp_path):
    note = tmp_path / "supabase" / "location.json"
    note.parent.mkdir()
    note.write_text(json.dumps({"cluster": "/c", "socket_dir": "/s"}))
    found = locate(tmp_path, 1, None)
    assert (found.pgdata, found.socket_dir) == (Path("/c/pgdata"), Path("/s"))
    for damaged in ("{", "[]"):
        note.write_text(damaged)
        with pytest.raises(DataDirectoryUnusable, match="location"):
            locate(tmp_path, 1, None)


@pytest.mark.parametrize(("length", "expected"), [(96, True), (97, False)])
def test_socket_paths_end_at_107_bytes(length, expected):
    assert fits(Path("/" + "s" * (length - 1)), 1) is expected


def test_a_comma_would_split_a_connection_string():
    assert not fits(Path("/a,b"), 5432)


def test_templates_are_cached_per_user(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_dir(None) == Path("/c/crossfade")
    assert cache_dir(USER) == Path("/var/cache/crossfade")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/h")
    assert cache_dir(None) == Path("/h/.cache/crossfade")


def test_verifiers_match_their_password_only():
    stored = scram.verifier("secret")
    assert stored.startswith("SCRAM-SHA-256$4096:")
    assert scram.matches("secret", stored)
    assert not scram.matches("other", stored)
    assert stored != scram.verifier("secret")
    for damaged in ("", "a$b", "SCRAM-SHA-256$x:y$z", "a$1:!!$b"):
        assert not scram.matches("secret", damaged)


def test_the_verifier_is_the_one_of_rfc_7677():
    """Password "pencil" and the RFC's salt; the keys follow from its example exchange's server signature."""
    stored = scram.verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert stored == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


@pytest.mark.parametrize(("exit_code", "calls"), [(1, 3), (10, 3), (9, 1), (2, 1)])
def test_a_password_file_that_another_useradd_holds_is_waited_for(tmp_path, monkeypatch, exit_code, calls):
    """Whoever finds it locked asks again, or the same machine would run PostgreSQL as two users."""
    asked = tmp_path / "asked"
    program = tmp_path / "useradd"
    program.write_text(
        f'#!/bin/sh\necho >> {asked}\n[ "$(wc -l < {asked})" -ge 3 ] && exit 2\nexit {exit_code}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres_user, "USER_NAME", "crossfade-nobody-there")
    assert unprivileged_user() == postgres_user._lookup("nobody")
    assert asked.read_text().count("\n") == calls
