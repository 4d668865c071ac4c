"""The real script over a data directory where nothing runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_where_nothing_runs_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_DATA_DIR", str(tmp_path / "data"))
    try:
        app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=30).run()
        assert not app.exception
        assert any("dashboard-" in each.value for each in app.caption)
        assert any("Connecting" in each.value for each in app.markdown)
    finally:
        st.cache_resource.clear()


def test_a_setting_that_cannot_be_meant_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_PORT_LEGACY", "many")
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=30).run()
    assert not app.exception
    assert "CROSSFADE_PORT_LEGACY" in app.error[0].value


def test_the_look_needs_no_internet() -> None:
    text = (ROOT / ".streamlit" / "config.toml").read_text()
    config = tomllib.loads(text)
    assert not re.search(r"https?://", text)
    assert config["browser"]["gatherUsageStats"] is False
    assert config["server"]["fileWatcherType"] == "none"
    assert {"light", "dark"} <= config["theme"].keys()
