"""What every command shares: the version, and words for what is no command."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

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
