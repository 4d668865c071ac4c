"""Programs of users: the client library on the same machine and on another one, as the documentation has it."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from crossfade import Backend, Cursor, Event, MoveAbandoned, Moved, connect, connect_blocking
from monitoring.errors import Refused
from tests.e2e.installation import Installation, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def query_url(installation: Installation) -> str:
    checks = json.loads(installation.run("status", "--format", "json").stdout)["checks"]
    return next(str(check["address"]) for check in checks if check["name"] == "query")


@pytest.fixture
def token(installation: Installation) -> str:
    return installation.run("token", "e2e-tests").stdout.strip()


@pytest.mark.parametrize("place", ["here", "elsewhere"])
async def test_a_program_is_moved_there_and_back_in_mid_stream(
    installation: Installation, token: str, place: str
) -> None:
    moves: list[Moved | MoveAbandoned] = []
    client = (
        connect(installation.directory / ".crossfade", client_id="library", on_move=moves.append)
        if place == "here"
        else connect(query_url(installation), token=token, client_id="library", on_move=moves.append)
    )
    seqs: list[int] = []
    try:
        async with asyncio.timeout(60), client as service, service.subscribe("devices.e2e") as events:
            await events.wait_live()
            for percent, backend in (("100", Backend.SUPABASE), ("0", Backend.LEGACY)):
                await asyncio.to_thread(installation.run, "flags", "set", "live.percent", percent)
                while not (moves and moves[-1].to_backend is backend):
                    item = await anext(events)
                    if isinstance(item, Event) and item.stream == "e2e/system":
                        seqs.append(item.seq)
    finally:
        installation.run("flags", "set", "live.percent", "0")
    assert [move.to_backend for move in moves if isinstance(move, Moved)] == [
        Backend.SUPABASE,
        Backend.LEGACY,
    ]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    if place == "here":
        shown = installation.run("moves", "--client", "library", "--format", "json")
        assert [record["to"] for record in json.loads(shown.stdout)][-2:] == ["supabase", "legacy"]


def test_a_script_goes_on_from_a_cursor_it_kept(installation: Installation) -> None:
    with connect_blocking(installation.directory / ".crossfade", client_id="script") as service:
        events = service.subscribe("devices.e2e")
        events.wait_live()
        first = list(itertools.islice(events, 3))
        kept = json.dumps(events.cursor.to_json())
    with connect_blocking(installation.directory / ".crossfade", client_id="script") as service:
        events = service.subscribe("devices.e2e", since=Cursor.from_json(json.loads(kept)))
        more = list(itertools.islice(events, 3))
    positions = [
        (e.epoch, e.seq) for e in [*first, *more] if isinstance(e, Event) and e.stream == "e2e/system"
    ]
    assert positions == [(positions[0][0], positions[0][1] + n) for n in range(len(positions))]


async def test_a_wrong_token_is_refused_with_what_to_do(installation: Installation) -> None:
    with pytest.raises(Refused, match="sign in again"):
        async with connect(query_url(installation), token="nonsense"):
            pass


def test_a_watcher_of_another_machine_takes_its_route_from_there(
    installation: Installation, token: str, tmp_path: Path
) -> None:
    installation.environment["CROSSFADE_ACCESS_TOKEN"] = token
    try:
        watched = installation.run("watch", "--at", query_url(installation), "--for", "3s", "--verify")
    finally:
        del installation.environment["CROSSFADE_ACCESS_TOKEN"]
    assert watched.returncode == 0, watched.stderr
    assert watched.stderr.strip().endswith("no hole, no double")


def test_a_category_that_is_switched_off_is_polled(installation: Installation) -> None:
    watcher = installation.begin("watch", "--client", "switched", "--for", "12s", "--verify")
    try:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        installation.run("flags", "set", "websocket_container_stats", "false")
        wait_until("the move is recorded", lambda: "containers" in polled(installation), 15)
        _, err = watcher.communicate(timeout=60)
    finally:
        installation.run("flags", "set", "websocket_container_stats", "true")
    assert watcher.returncode == 0, err
    assert "containers polled" in err


def polled(installation: Installation) -> list[str]:
    shown = installation.run("moves", "--client", "switched", "--format", "json")
    return [category for record in json.loads(shown.stdout) for category in record.get("polled", [])]
