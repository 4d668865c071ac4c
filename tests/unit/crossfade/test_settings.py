from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crossfade.errors import UsageError
from crossfade.settings import load_settings, plain_dsn

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (
    "SUPABASE_URL",
    "SUPABASE_KEY",
    "DATABASE_URL",
    "CROSSFADE_ACCESS_TOKEN",
    "CROSSFADE_DATA_DIR",
    "CROSSFADE_FLAGS",
    "CROSSFADE_LEGACY_MOUNTS",
)


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_an_environment_everything_is_embedded_and_local() -> None:
    settings = load_settings()
    assert (settings.hosted, settings.host, settings.port_supabase, settings.port_legacy) == (
        False,
        "127.0.0.1",
        54321,
        8001,
    )
    settings.require_complete()


def test_sqlalchemys_form_of_a_database_url_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "DATABASE_URL", "postgresql+asyncpg://u:p%40w@db.example.com:6543/postgres?ssl=require"
    )
    url = load_settings().database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://u:p%40w@db.example.com:6543/postgres?ssl=require"


def test_a_dotenv_file_here_is_read_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SUPABASE_URL=https://one.supabase.co/\nSUPABASE_KEY=k\nOTHER=1\n")
    assert load_settings().supabase_url == "https://one.supabase.co"
    monkeypatch.setenv("SUPABASE_URL", "https://two.supabase.co")
    assert load_settings().supabase_url == "https://two.supabase.co"


def test_an_empty_variable_is_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES[:4]:
        monkeypatch.setenv(name, " ")
    settings = load_settings()
    assert (settings.hosted, settings.supabase_key, settings.access_token) == (False, None, None)


def test_half_a_hosted_supabase_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://one.supabase.co")
    with pytest.raises(UsageError, match="SUPABASE_URL set, SUPABASE_KEY and DATABASE_URL not"):
        load_settings().require_complete()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUPABASE_URL", "one.supabase.co"),
        ("DATABASE_URL", "mysql://u:secret@h/d"),
        ("CROSSFADE_PORT_LEGACY", "secret"),
        ("CROSSFADE_REALTIME_MODE", "secret"),
        ("CROSSFADE_HEARTBEAT_SECONDS", "0.1"),
    ],
)
def test_a_bad_value_names_the_variable_and_not_the_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name) as caught:
        load_settings()
    assert "secret" not in str(caught.value)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_KEY", "sb_secret_1")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hidden@h/d")
    assert "sb_secret_1" not in repr(load_settings())
    assert "hidden" not in repr(load_settings())


@pytest.mark.parametrize("url", ["", "http://x", "postgres", "sqlite+aiosqlite:///x"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="postgresql"):
        plain_dsn(url)


@pytest.mark.parametrize("name", ["WEBSOCKET_ENABLED", "websocket_enabled"])
def test_switches_of_the_environment_are_read_by_their_seeds_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    assert load_settings().switches == {}
    monkeypatch.setenv(name, "false")
    (tmp_path / ".env").write_text("WEBSOCKET_CONTAINER_STATS=true\nWEBSOCKET_SYSTEM_ALERTS=\n")
    assert load_settings().switches == {"websocket_enabled": False, "websocket_container_stats": True}
    monkeypatch.setenv(name, "perhaps")
    with pytest.raises(UsageError, match=r"WEBSOCKET_ENABLED: .*boolean"):
        load_settings()


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().origins == ()
    monkeypatch.setenv("CROSSFADE_CORS_ORIGINS", "https://a.example, http://b.example:3000,")
    assert load_settings().origins == ("https://a.example", "http://b.example:3000")


def test_mounts_of_the_legacy_server_are_checked_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_LEGACY_MOUNTS", "8080/ws=dashboard,8090/=containers")
    assert load_settings().legacy_mounts == "8080/ws=dashboard,8090/=containers"
    monkeypatch.setenv("CROSSFADE_LEGACY_MOUNTS", "8080/ws=chat")
    with pytest.raises(
        UsageError, match="CROSSFADE_LEGACY_MOUNTS: mount '8080/ws=chat': 'chat' is no dialect"
    ):
        load_settings()
