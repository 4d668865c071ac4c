"""Commands as real processes: progress, time-outs, being ended, and what they leave behind."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from uuid import UUID

from crossfade.agent.journal import Journal
from crossfade.agent.running import OUTPUT_BYTES, Ended, Running
from monitoring.commands import CommandState


async def ran(*arguments: str, seconds: float = 60.0) -> tuple[Ended, list[tuple[float, str]]]:
    told: list[tuple[float, str]] = []
    running = Running(arguments, seconds, lambda percent, text: told.append((percent, text)))
    return await running.run(), told


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")
    except (ProcessLookupError, FileNotFoundError):
        return True


async def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while not gone(pid):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def test_a_program_is_run_as_it_stands_without_a_shell() -> None:
    ended, _ = await ran("echo", "$HOME; touch x", "`id`", "a b")
    assert ended == Ended(CommandState.SUCCEEDED, "", 0, "$HOME; touch x `id` a b\n")


async def test_its_end_is_told_as_it_was() -> None:
    ended, told = await ran(
        "sh", "-c", "echo progress: 40% unpacking; echo progress 100%; echo no >&2; exit 3"
    )
    assert (ended.state, ended.exit_code, ended.message) == (CommandState.FAILED, 3, "exit status 3")
    assert ended.output.endswith("no\n")
    assert told == [(40.0, "unpacking"), (100.0, "")]
    killed, _ = await ran("sh", "-c", "kill -9 $$")
    assert (killed.state, killed.message) == (CommandState.FAILED, "killed by signal 9")


async def test_a_program_that_is_not_there_has_failed() -> None:
    ended, _ = await ran("/no/such/program")
    assert (ended.state, ended.exit_code) == (CommandState.FAILED, None)
    assert "cannot run /no/such/program" in ended.message


async def test_only_the_end_of_much_output_is_kept() -> None:
    program = "import sys; [print(n, 'x' * 50) for n in range(5000)]; print('y' * 20000); print('last')"
    ended, _ = await ran(sys.executable, "-c", program)
    assert ended.state is CommandState.SUCCEEDED
    assert len(ended.output) <= OUTPUT_BYTES
    assert ended.output.endswith("last\n")


async def test_what_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"trap '' TERM; sleep 600 & echo $! > {pid}; wait; wait; sleep 600"
    ended, _ = await ran("sh", "-c", script, seconds=3.0)
    assert ended.state is CommandState.TIMED_OUT
    assert await is_gone(int(pid.read_text()))


async def test_it_is_ended_when_it_is_to_be() -> None:
    begun = asyncio.Event()
    running = Running(["sh", "-c", "echo progress 1%; exec sleep 600"], 600.0, lambda *_: begun.set())
    task = asyncio.ensure_future(running.run())
    await asyncio.wait_for(begun.wait(), 20)
    running.cancel()
    ended = await asyncio.wait_for(task, 20)
    assert (ended.state, ended.message) == (CommandState.CANCELLED, "ended as it was asked to be")


async def test_it_is_not_told_the_agents_secrets() -> None:
    os.environ["CROSSFADE_ACCESS_TOKEN"] = "a secret"
    try:
        ended, _ = await ran("env")
    finally:
        del os.environ["CROSSFADE_ACCESS_TOKEN"]
    assert "PATH=" in ended.output
    assert "a secret" not in ended.output


def test_the_journal_remembers_what_was_begun_and_how_it_ended(tmp_path: Path) -> None:
    one, two, life = UUID(int=1), UUID(int=2), UUID(int=9)
    journal = Journal(tmp_path / "journal")
    assert list(journal.entries()) == []
    journal.begin(one, life)
    journal.begin(two, life)
    journal.end(two, life, Ended(CommandState.FAILED, "exit status 1", 1, "no\n"))
    (tmp_path / "journal" / f"{UUID(int=3)}.json").write_text("{ cut")
    found = {each.command: each for each in Journal(tmp_path / "journal").entries()}
    assert found[one].ended is None
    assert found[two].ended == Ended(CommandState.FAILED, "exit status 1", 1, "no\n")
    assert set(found) == {one, two}
    journal.forget(one)
    journal.forget(two)
    assert list(journal.entries()) == []
