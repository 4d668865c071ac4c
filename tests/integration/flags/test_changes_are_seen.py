"""A change of the flag file is seen however it was made: by the real programs, under the watcher with its real settings."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters import flag_file
from adapters.flag_file import POLL_SECONDS, FlagFile
from monitoring.flags.editing import edit
from tests.flag_file_changes import WAYS, lacks

SHIPPED = (Path(__file__).parents[3] / "flags.yaml").read_text()
BEFORE, AFTER = edit(SHIPPED, "live.percent", "10"), edit(SHIPPED, "live.percent", "25")
PATIENCE_SECONDS = 30.0
"""For a machine that has much else to do; bench/flag_changes.py measures."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "flags"
    directory.mkdir()
    path = directory / "flags.yaml"
    path.write_text(BEFORE)
    return path


class Watched:
    """A watcher that runs, and every percentage it has ever put in force."""

    def __init__(self, path: Path) -> None:
        self.file = FlagFile(path)
        self.weights: list[int] = []
        self.file.listen(lambda: self.weights.append(self.file.current().weight))


@pytest.fixture
async def watched(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Watched]:
    made = Watched(path)
    running = asyncio.ensure_future(made.file.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait({running})


async def until_weight(watched: Watched, weight: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while watched.file.current().weight != weight or watched.file.problem() is not None:
            await asyncio.sleep(0.02)


def test_the_watcher_looks_often_enough_to_see_a_change_within_a_second() -> None:
    assert POLL_SECONDS <= 0.5


@pytest.mark.parametrize("way", WAYS)
async def test_a_change_is_seen_however_it_was_made(way: str, path: Path, watched: Watched) -> None:
    if missing := lacks(way):
        pytest.skip(missing)
    change = WAYS[way](path, AFTER)
    await until_weight(watched, 10_000)
    await asyncio.to_thread(change)
    assert path.read_text() == AFTER
    await until_weight(watched, 25_000)
    assert watched.weights == [10_000, 25_000], "a text that was half there was never in force"


@pytest.mark.parametrize("way", WAYS)
def test_a_settled_file_that_was_changed_is_read_again(way: str, path: Path) -> None:
    """When a file was still for so long that its times alone are looked at, the next change shows in them."""
    if missing := lacks(way):
        pytest.skip(missing)
    change = WAYS[way](path, AFTER)
    watcher = FlagFile(path)
    watcher.refresh()
    look = watcher._last
    assert look is not None
    watcher._last = flag_file._Look(look.signature, look.digest, look.flags, None, settled=True)
    assert watcher._look() is None
    change()
    assert watcher.refresh().weight == 25_000


@pytest.mark.skipif(bool(lacks("vim")), reason="there is no vim here")
async def test_an_editor_that_is_open_or_was_killed_changes_nothing(path: Path, watched: Watched) -> None:
    """Its swap file lies beside the flags; what is typed is not in force before it is written."""
    await until_weight(watched, 10_000)
    terminal, inside = pty.openpty()
    editor = subprocess.Popen(
        ["vim", "-u", "NONE", "-c", "set updatecount=1", path.name],
        cwd=path.parent,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,
    )
    try:
        os.write(terminal, b":%s/percent: 10/percent: 99/\r:preserve\r")
        swap = path.with_name(".flags.yaml.swp")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (swap.exists() and b"percent: 99" in swap.read_bytes()):
            assert time.monotonic() < deadline, "vim has not kept what was typed"
            if select.select([terminal], [], [], 0.05)[0]:
                os.read(terminal, 65536)
            await asyncio.sleep(0.01)
        assert watched.file.refresh().weight == 10_000
        flag_file.write(path, edit(BEFORE, "live.percent", "20"), expected=BEFORE)
        await until_weight(watched, 20_000)
    finally:
        os.kill(editor.pid, signal.SIGKILL)
        await asyncio.to_thread(editor.wait)
        os.close(inside)
        os.close(terminal)
    assert swap.exists(), "a killed editor leaves its swap file"
    assert watched.file.refresh().weight == 20_000
    assert watched.file.problem() is None
    assert watched.weights == [10_000, 20_000]
