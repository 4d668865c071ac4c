"""A server that nobody here designed: express-status-monitor from npm, bridged, both paths compared event by event."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from adapters.foreign_websocket import ForeignWebSocket
from crossfade.foreign import load_dialect
from monitoring.events import OWN_KINDS, Event
from monitoring.fingerprint import fingerprint
from monitoring.service import Gap
from monitoring.topics import GLOBAL, parse_topics
from tests.conftest import ROOT
from tests.fakes.missing_parts import missing
from tests.integration.bridge.conftest import realtime, until
from tests.integration.bridge.test_record import crossfade

pytestmark = pytest.mark.xdist_group("express")  # installed once

HERE = Path(__file__).parent / "express"
DIALECT = str(ROOT / "docs/dialects/express_status_monitor.py")


@pytest.fixture(scope="module")
def express(tmp_path_factory):
    """The server's port and process, installed from the lock file into a directory of its own."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        missing("Node.js with npm", "install Node.js 20 or newer (apt-get install nodejs npm)")
    place = tmp_path_factory.mktemp("express")
    for file in HERE.iterdir():
        if file.is_file():
            shutil.copy(file, place)
    command = ["npm", "ci", "--omit=dev", "--omit=optional", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]  # fmt: skip
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        missing(f"express-status-monitor ({said})", f"run `{' '.join(command)}` in {HERE.relative_to(ROOT)}")
    with (place / "server.log").open("w") as log:
        server = subprocess.Popen(
            ["node", "server.js"], cwd=place, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        assert line.startswith("listening on "), (place / "server.log").read_text()
        port = int(line.split()[-1])
        # It begins to listen for dashboards with the first request to the application.
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
        yield port
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


def address(port):
    return f"ws://127.0.0.1:{port}/socket.io/?EIO=3&transport=websocket"


async def test_both_paths_tell_the_same_events_through_kills_of_the_bridge(
    express, bridge, embedded_supabase, device, tmp_path
):
    own = tmp_path / "mine.py"  # as a user's own file, in which the process has a name
    own.write_text(Path(DIALECT).read_text().replace('device: str = "express"', f'device: str = "{device}"'))
    dialect = load_dialect(str(own))
    one = bridge(address(express), str(own))
    theirs, ours, gaps = [], [], []

    async def tap(subscription, into):
        async for item in subscription:
            (gaps if isinstance(item, Gap) else into).append(item)

    server = ForeignWebSocket(address(express), dialect)
    async with realtime(embedded_supabase) as supabase:
        followed = server.subscribe(frozenset({GLOBAL}))
        tapped = supabase.subscribe(parse_topics([f"devices.{device}"]))
        tasks = [asyncio.create_task(tap(followed, theirs)), asyncio.create_task(tap(tapped, ours))]
        await asyncio.wait_for(asyncio.gather(followed.wait_live(), tapped.wait_live()), 20)
        await one.start()
        for _ in range(2):
            await more(theirs, 10)
            urllib.request.urlopen(f"http://127.0.0.1:{express}/", timeout=5).close()
            await one.kill()
            await more(theirs, 3)  # only the server's memory has these for the bridge
            await one.start()
        await more(theirs, 10)
        last = theirs[-1].occurred_at
        await until(lambda: any(e.occurred_at == last for e in ours), "the last event by Supabase")
        await server.close()
        await supabase.close()
        await asyncio.gather(*tasks)
    bridged = [e for e in ours if isinstance(e, Event) and e.kind not in OWN_KINDS]
    assert not gaps
    assert not [e for e in ours if e.kind == "bridge_gap"]
    first = bridged[0].occurred_at
    expected = [e for e in theirs if first <= e.occurred_at <= last]
    found = [e for e in bridged if e.occurred_at <= last]
    assert [fingerprint(e, dialect.likeness) for e in found] == [
        fingerprint(e, dialect.likeness) for e in expected
    ]
    assert len(expected) >= 36
    # What went out live has the responses too, on both paths; what came from the memory cannot have them.
    live = [(a, b) for a, b in zip(found, expected, strict=True) if a.payload["responses"]]
    assert len(live) >= 20
    assert all(a.payload == b.payload for a, b in live)


async def more(events, count):
    goal = len(events) + count
    await until(lambda: len(events) >= goal, f"{count} more events", 30)


async def test_the_server_keeps_a_quiet_client_as_long_as_it_is_heard(express):
    """Engine.IO 3 gives up a client that does not ping, even while the server itself speaks all the time."""
    service = ForeignWebSocket(address(express), load_dialect(DIALECT))
    try:
        async with service.subscribe(frozenset({GLOBAL})) as subscription:
            await asyncio.wait_for(subscription.wait_live(), 20)
            seen = 0
            async with asyncio.timeout(60):
                async for _ in subscription:
                    seen += 1
                    if seen >= 60:
                        break
        health = await service.health()
        assert health.counters.get("reconnects", 0) == 0
    finally:
        await service.close()


async def test_it_is_recorded_and_the_draft_follows_it(express, tmp_path):
    code, said = await crossfade(
        tmp_path, "legacy", "record", address(express), "--for", "8s", "--out", "seen"
    )
    assert code == 0, said
    assert "Socket.IO, EIO=3" in said
    assert "os.timestamp" in next(line for line in said.splitlines() if line.startswith("esm_stats"))
    lines = [json.loads(line) for line in (tmp_path / "seen/recording.jsonl").read_text().splitlines()]
    assert {line["text"] for line in lines if line["direction"] == "sent"} == {"2"}  # it asks to be pinged
    service = ForeignWebSocket(address(express), load_dialect(str(tmp_path / "seen/dialect.py")))
    try:
        async with service.subscribe(frozenset({GLOBAL})) as subscription, asyncio.timeout(20):
            got = [await anext(subscription) for _ in range(5)]
    finally:
        await service.close()
    assert {(each.stream, each.kind) for each in got} == {("server/esm_stats", "esm_stats")}


async def test_a_snapshot_is_the_newest_sample_that_was_broadcast(express):
    service = ForeignWebSocket(address(express), load_dialect(DIALECT), open_seconds=30)
    try:
        snapshot = await service.snapshot(frozenset({GLOBAL}))
        assert [(e.stream, e.kind) for e in snapshot.state] == [("express/process", "process_sampled")]
        assert snapshot.state[0].payload["memory"] > 1
    finally:
        await service.close()
