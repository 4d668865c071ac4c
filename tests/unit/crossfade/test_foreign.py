"""Another's server is chosen by settings, and what is wrong with the choice is said."""

from __future__ import annotations

import json
import os

import pytest

from crossfade.errors import UsageError
from crossfade.foreign import ForeignServer, foreign_server, load_dialect
from crossfade.locks import hold
from crossfade.paths import DataDir
from crossfade.settings import Settings, load_settings
from legacy_ws.protocol.plain_dashboard import PlainDashboard

FILE = """
from legacy_ws.protocol.json_dialect import JsonDialect

class Mine(JsonDialect):
    name = "mine"

    def read(self, message):
        return ()
"""


def test_a_built_in_dialect_a_file_and_a_module_are_found(tmp_path):
    assert isinstance(load_dialect("plain-dashboard"), PlainDashboard)
    assert isinstance(load_dialect("legacy_ws.protocol.plain_dashboard:PlainDashboard"), PlainDashboard)
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    assert load_dialect(str(file)).name == "mine"
    assert load_dialect(f"{file}:Mine").name == "mine"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("plain", "'plain' is no dialect; there are plain-dashboard, and your own"),
        ("no_such_module_at_all:Dialect", "cannot be imported"),
        ("legacy_ws.protocol.plain_dashboard:Nothing", "found: none"),
        ("there-is-none.py", "cannot be read: No such file"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused(text, reason):
    with pytest.raises(UsageError, match=reason):
        load_dialect(text)


def test_a_file_that_cannot_be_run_or_has_several_dialects_is_refused(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name")
    with pytest.raises(UsageError, match=r"broken\.py cannot be run: ModuleNotFoundError"):
        load_dialect(str(broken))
    two = tmp_path / "two.py"
    two.write_text(FILE + FILE.replace("Mine", "Other"))
    with pytest.raises(UsageError, match="found: Mine, Other"):
        load_dialect(str(two))
    abstract = tmp_path / "abstract.py"
    abstract.write_text(FILE.replace("def read", "def other"))
    with pytest.raises(UsageError, match="found: none"):
        load_dialect(str(abstract))


def test_the_address_is_a_websocket_s_and_is_shown_without_secrets(monkeypatch):
    monkeypatch.setenv("CROSSFADE_LEGACY_URL", "wss://me:secret@monitor.example/ws?token=secret")
    server = foreign_server(load_settings())
    assert server is not None
    assert server.shown == "wss://monitor.example/ws"
    monkeypatch.setenv("CROSSFADE_LEGACY_URL", "https://monitor.example/ws")
    with pytest.raises(UsageError, match="CROSSFADE_LEGACY_URL: it must look like ws://"):
        load_settings()


def test_commands_know_it_from_what_runs(tmp_path):
    data = DataDir.of(tmp_path)
    data.create()
    assert foreign_server(Settings(), data) is None
    server = ForeignServer("ws://monitor.example/ws", "plain-dashboard")
    with hold(data, "crossfade up", ""):
        data.state.write_text(json.dumps({"pid": os.getpid(), "foreign": server.to_json()}))
        assert foreign_server(Settings(), data) == server


def test_a_file_is_meant_from_where_the_command_was_given(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = Settings(legacy_url="ws://monitor.example/ws", legacy_dialect="mine.py:Mine")
    server = foreign_server(settings)
    assert server is not None
    assert server.dialect == f"{tmp_path}/mine.py:Mine"
