"""Recording what a server says, and what is drafted from it: it runs, and the bridge can go on from it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from websockets.asyncio.server import serve

from adapters.foreign_websocket import ForeignWebSocket
from crossfade.foreign import load_dialect
from monitoring.events import Event
from monitoring.topics import GLOBAL
from tests.e2e.installation import clean_environment
from tests.fakes.event_factory import event
from tests.fakes.plain_server import PlainServer

CROSSFADE = str(Path(sys.executable).with_name("crossfade"))


async def crossfade(directory, *words):
    """Run the command; returns its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        CROSSFADE, *words, cwd=directory, env=clean_environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, said.decode()


async def happen(plain):
    seq = 0
    while True:
        seq += 1
        await plain.broadcast(event("web-1/system", seq), event("db-1/system", seq))
        await asyncio.sleep(0.05)


@pytest.fixture
async def plain():
    async with PlainServer() as server:
        task = asyncio.create_task(happen(server))
        yield server
        task.cancel()
        await asyncio.wait({task})


async def test_a_server_is_recorded_shown_and_drafted_and_the_draft_is_a_dialect(plain, tmp_path):
    code, said = await crossfade(tmp_path, "legacy", "record", plain.url, "--for", "2s", "--out", "seen")
    assert code == 0, said
    assert "the type is in 'type'" in said
    row = next(line for line in said.splitlines() if line.startswith("event "))
    assert all(word in row for word in ("broadcast_time", "script_name", "function_name")), row
    lines = [json.loads(line) for line in (tmp_path / "seen/recording.jsonl").read_text().splitlines()]
    assert {line["direction"] for line in lines} == {"received"}
    assert json.loads(lines[0]["text"])["type"] == "initial_stats"
    assert lines[0]["at"] < lines[-1]["at"]
    dialect = load_dialect(str(tmp_path / "seen/dialect.py"))
    service = ForeignWebSocket(plain.url, dialect)
    try:
        async with service.subscribe(frozenset({GLOBAL})) as subscription, asyncio.timeout(10):
            got = [await anext(subscription) for _ in range(6)]
    finally:
        await service.close()
    assert {(each.stream, each.kind) for each in got if isinstance(each, Event)} == {
        ("web-1/event", "metric_collected"),
        ("db-1/event", "metric_collected"),
    }
    assert (await service.health()).counters.get("unreadable", 0) == 0


async def test_what_is_there_is_kept(plain, tmp_path):
    (tmp_path / "legacy-recording").mkdir()
    mine = tmp_path / "legacy-recording/dialect.py"
    mine.write_text("# hours of work")
    code, said = await crossfade(tmp_path, "legacy", "record", plain.url, "--for", "1s")
    assert (code, mine.read_text()) == (2, "# hours of work")
    assert "is there already; choose another --out" in said


async def test_a_server_that_wants_to_be_asked_is_asked_and_binary_is_kept(tmp_path):
    async def answer(connection):
        async for text in connection:
            await connection.send(json.dumps({"op": "reading", "host": "a 1", "asked": text}))
            await connection.send(b"\x00\xff")

    async with serve(answer, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        code, said = await crossfade(tmp_path, "legacy", "record", url, "--for", "1s", "--send", "please")
    assert code == 0, said
    assert "1 not readable as JSON" in said
    lines = [
        json.loads(line) for line in (tmp_path / "legacy-recording/recording.jsonl").read_text().splitlines()
    ]
    assert [(line["direction"], line.get("base64")) for line in lines] == [
        ("sent", None), ("received", None), ("received", "AP8="),
    ]  # fmt: skip
    (seen,) = load_dialect(str(tmp_path / "legacy-recording/dialect.py")).decode(lines[1]["text"])
    assert (seen.stream, seen.kind) == ("a-1/reading", "reading")


async def test_nobody_there_and_nothing_said_are_told_in_one_line(tmp_path):
    code, said = await crossfade(tmp_path, "legacy", "record", "ws://127.0.0.1:9/", "--for", "1s")
    assert (code, said.count("\n")) == (1, 1)
    assert "cannot be reached" in said
    assert not (tmp_path / "legacy-recording").exists()
    code, said = await crossfade(tmp_path, "legacy", "record", "http://127.0.0.1:9/", "--for", "1s")
    assert (code, "write ws://HOST:PORT/PATH" in said) == (2, True)

    async def silent(connection):
        await connection.wait_closed()

    async with serve(silent, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        code, said = await crossfade(tmp_path, "legacy", "record", url, "--for", "1s", "--out", "other")
    assert (code, "the server said nothing" in said) == (1, True)
    assert not (tmp_path / "other").exists()


async def test_ctrl_c_ends_a_recording_with_what_there_is(plain, tmp_path):
    process = await asyncio.create_subprocess_exec(
        CROSSFADE, "legacy", "record", plain.url, "--for", "10m", cwd=tmp_path, env=clean_environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told = await asyncio.wait_for(process.stderr.readline(), 30)
    assert told.decode() == f"recording {plain.url} for 600 s; Ctrl-C ends it earlier\n"
    await plain.broadcast(event("web-1/system", 1_000))
    await asyncio.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, said
    load_dialect(str(tmp_path / "legacy-recording/dialect.py"))
