from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.collect import device_name, parse_arguments
from monitoring.events import stream_id

DATABASE = ("--database-url", "postgresql://u@h/d")


@pytest.mark.parametrize(
    ("hostname", "device"),
    [
        ("web-1", "web-1"),
        ("web-1.example.org", "web-1.example.org"),
        ("Björns Mac", "Bj-rns-Mac"),
        ("-x-", "x"),
        ("", "host"),
        ("日本", "host"),
        ("a/b", "a-b"),
    ],
)
def test_a_host_name_becomes_a_device_name(hostname: str, device: str) -> None:
    assert device_name(hostname) == device


@given(st.text())
def test_any_host_name_becomes_one_that_can_be_addressed(hostname: str) -> None:
    stream_id(device_name(hostname), "system")


def test_the_defaults_follow_from_the_data_directory(tmp_path: Path) -> None:
    options = parse_arguments(["--data-dir", str(tmp_path), *DATABASE])
    assert options.link_token_file == tmp_path / "legacy" / "link.token"
    assert options.interval_seconds == 2.0
    assert options.docker
    assert options.legacy_url is None


@pytest.mark.parametrize(
    "arguments",
    [
        (*DATABASE, "--device", "a/b"),
        (*DATABASE, "--interval", "0"),
        (*DATABASE, "--most-at-once", "0"),
        (*DATABASE, "--system-interval", "0.5"),
        (*DATABASE, "--interval", "nan"),
        (*DATABASE, "--interval", "soon"),
        (),
    ],
)
def test_what_cannot_be_meant_ends_with_status_2(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
