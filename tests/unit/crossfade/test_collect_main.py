"""How the collecting process ends when one of its tasks fails for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.spool_file import SpoolCorrupt
from crossfade import collect
from crossfade.errors import UsageError

DAMAGED = SpoolCorrupt(Path("spool.db"), "page 7")


def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    async def fail(_: collect.Options) -> None:
        raise error

    monkeypatch.setattr(collect, "_run", fail)
    code = collect.main(
        ["--data-dir", str(tmp_path), "--database-url", "postgresql://u:p@127.0.0.1:1/d", "--no-docker"]
    )
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DAMAGED, 1),
        (ExceptionGroup("a task", [DAMAGED]), 1),
        (ExceptionGroup("a task", [ExceptionGroup("its task", [DAMAGED]), UsageError("x")]), 1),
        (ExceptionGroup("a task", [UsageError("spool.db is damaged")]), 2),
    ],
)
def test_an_error_of_ours_is_one_line_however_deep_it_comes(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
) -> None:
    ended, said = run(monkeypatch, tmp_path, error, capsys)
    assert ended == code
    assert said.startswith("collect: ")
    assert "spool.db is damaged" in said
    assert said.count("\n") == 1


def test_a_bug_is_not_hidden_behind_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        run(monkeypatch, tmp_path, ExceptionGroup("tasks", [DAMAGED, KeyError("seq")]), capsys)
    assert raised.group_contains(KeyError)
