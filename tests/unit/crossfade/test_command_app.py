"""What every command shares: the version, and words for what is no command."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest


def crossfade(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "crossfade", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("asked", ["--version", "version"])
def test_the_version_is_told_either_way(asked: str) -> None:
    done = crossfade(asked)
    assert (done.returncode, done.stdout) == (0, f"crossfade {importlib.metadata.version('crossfade')}\n")


@pytest.mark.parametrize("arguments", [["wacht"], ["watch", "--version"], ["--verison"]])
def test_a_slip_is_one_line_that_says_where_to_look(arguments: list[str]) -> None:
    done = crossfade(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert arguments[-1] in done.stderr
    assert "; see crossfade " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["flags", "plan"], "crossfade flags plan"),
        (["flags", "wacht"], "crossfade flags"),
        (["stages", "--format", "xml"], "crossfade stages"),
        (["stages", "--nothing"], "crossfade stages"),
    ],
)
def test_a_wrong_option_names_the_help_that_explains_it(arguments: list[str], command: str) -> None:
    done = crossfade(*arguments)
    assert done.returncode == 2
    assert done.stderr.endswith(f"; see {command} --help\n")
    assert "Value error" not in done.stderr


def test_a_group_without_a_command_shows_its_help_and_says_nothing_more() -> None:
    done = crossfade("flags")
    assert (done.returncode, done.stderr) == (2, "")
    assert "explain" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["stages"], ["stages", "--format", "json"]])
def test_whoever_reads_may_go(arguments: list[str]) -> None:
    """`crossfade stages | head -1` ended with 1 or 0, after who had noticed that head was gone."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments], stdout=write, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_test_of_no_channel_at_all_is_no_success(tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yaml"
    rules.write_text("version: 1\nend: true\n")
    done = crossfade("alerts", "notify-test", "--rules", str(rules), "--data-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "has no channels" in done.stderr


def test_a_flag_file_that_is_not_there_is_told_in_one_way(tmp_path: Path) -> None:
    for arguments in (["list"], ["explain", "web-1"], ["plan", str(tmp_path / "flags.yaml")]):
        done = crossfade(
            "flags", *arguments, "--data-dir", str(tmp_path), "--flags", str(tmp_path / "flags.yaml")
        )
        assert done.returncode == 1
        assert "flags.yaml" in done.stderr
        assert done.stderr.count("is not there") == 1


def test_no_rollout_begins_beside_a_server_where_nothing_could_steer_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSFADE_LEGACY_URL", "ws://127.0.0.1:9/ws")
    done = crossfade("rollout", "start", "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert "crossfade flags set live.percent" in done.stderr
    assert not list(tmp_path.rglob("*journal*"))


def test_files_that_cannot_be_compared_do_not_look_like_a_difference(tmp_path: Path) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text("version: [")
    for other in (file, tmp_path / "none.yaml"):
        done = crossfade("flags", "diff", str(other), "--flags", "flags.yaml", "--data-dir", str(tmp_path))
        assert (done.returncode, done.stdout) == (2, "")
        assert str(other) in done.stderr
