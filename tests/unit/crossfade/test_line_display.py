"""What `up` says when stdout is no terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.cli.display import LineDisplay
from crossfade.packaged import default_flags
from crossfade.paths import DataDir
from crossfade.plan import EMBEDDED, PARTS, Addresses, Plan
from crossfade.settings import Settings


def make_plan(root: Path, parts: tuple[str, ...] = PARTS) -> Plan:
    data = DataDir.of(root)
    data.create()
    return Plan(
        data=data,
        addresses=Addresses("127.0.0.1", 1, 2, 5, 3, 4),
        settings=Settings(_env_file=None),
        parts=parts,
        flags=root / "flags.yaml",
    )


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def display(lines: list[str]) -> LineDisplay:
    return LineDisplay(lines.append)


def test_a_broken_flag_file_is_said_once_with_its_line_and_when_it_is_good_again(
    tmp_path: Path, display: LineDisplay, lines: list[str]
) -> None:
    plan = make_plan(tmp_path)
    good = default_flags().read_text()
    plan.flags.write_text(good)
    display.refresh(plan, ())
    assert lines == []
    plan.flags.write_text(good.replace("kill: false", "kil: false"))
    display.refresh(plan, ())
    display.refresh(plan, ())
    (said,) = lines
    assert said.startswith(f"flags: {plan.flags}: line ")
    assert said.endswith("the last good flags stay in force")
    plan.flags.write_text(good.replace("percent: 0", "percent: many"))
    display.refresh(plan, ())
    plan.flags.write_text(good)
    display.refresh(plan, ())
    assert len(lines) == 3
    assert "percent" in lines[1]
    assert lines[2] == "flags: good again, 0 % of clients on Supabase"


def test_a_supabase_alone_needs_no_flag_file(tmp_path: Path, display: LineDisplay, lines: list[str]) -> None:
    display.refresh(make_plan(tmp_path, EMBEDDED), ())
    assert lines == []


def test_the_hints_name_the_data_directory(tmp_path: Path, display: LineDisplay, lines: list[str]) -> None:
    display.ready(make_plan(tmp_path))
    hints = [line for line in lines if line.startswith("  try ")]
    assert len(hints) == 4
    assert all(f" --data-dir {tmp_path}" in hint for hint in hints)
    assert f"  try crossfade flags set --data-dir {tmp_path} live.percent 100" in "\n".join(hints)


def test_the_hints_of_the_default_data_directory_are_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, display: LineDisplay, lines: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    display.ready(make_plan(Path(".crossfade")))
    assert "  try crossfade status  # is everything healthy?" in lines
