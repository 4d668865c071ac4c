"""What open tabs are sent without having asked, by a real Streamlit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from dashboard.identity import COOKIE
from embedded.ports import free_port

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 60
BROWSER = "2|01020304|0a0b0c0d|1790000000"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where the pages are served over a host that is read every two seconds."""
    port, place = free_port("127.0.0.1"), tmp_path_factory.mktemp("dashboard")
    command = [sys.executable, "-m", "crossfade.dashboard", "--port", str(port)]
    command += ["--script", str(ROOT / "tests/fakes/dashboard_script.py")]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=place, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            assert process.poll() is None, (place / "log").read_text()
            try:
                httpx.get(f"http://127.0.0.1:{port}/_stcore/health", timeout=5)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


@contextmanager
def tab(address: str, page: str) -> Iterator[ClientConnection]:
    """Open a page as a browser does, always the same viewer's, which then asks for nothing any more."""
    with connect(
        f"ws://{address}/_stcore/stream",
        subprotocols=["streamlit"],  # type: ignore[list-item]  # a NewType
        additional_headers={"Cookie": f"{COOKIE}={BROWSER}"},
        max_size=64 << 20,
    ) as socket:
        ask(socket, page)
        yield socket


def ask(socket: ClientConnection, page: str, **switched: bool) -> None:
    """Ask for a page, with switches as they are now."""
    asked = BackMsg()
    asked.rerun_script.page_name = page
    for widget, on in switched.items():
        asked.rerun_script.widget_states.widgets.add(id=widget, bool_value=on)
    socket.send(asked.SerializeToString())


def messages(socket: ClientConnection) -> Iterator[ForwardMsg]:
    """Yield what comes, for a minute; an error on the page is one."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        data = socket.recv(timeout=deadline - time.monotonic())
        assert isinstance(data, bytes)
        message = ForwardMsg()
        message.ParseFromString(data)
        drawn = message.delta.new_element
        assert drawn.WhichOneof("type") != "exception", drawn.exception.message
        yield message


def until_drawn(socket: ClientConnection, times: int) -> tuple[dict[str, float], dict[str, int]]:
    """Return the timers that the browser is to keep, and how often each fragment was drawn, once one was so often."""
    timers: dict[str, float] = {}
    drawn: dict[str, int] = {}
    for message in messages(socket):
        if message.WhichOneof("type") == "auto_rerun":
            timers[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        for fragment in message.metadata.run.fragment_ids if message.HasField("new_session") else ():
            drawn[fragment] = drawn.get(fragment, 0) + 1
        if max(drawn.values(), default=0) >= times:
            break
    return timers, drawn


def page_drawn(socket: ClientConnection) -> tuple[set[str], dict[str, str]]:
    """Return the fragments that have a timer and the switches by their label, once the page has been drawn as a whole."""
    timers: set[str] = set()
    switches: dict[str, str] = {}
    for message in messages(socket):
        drawn = message.delta.new_element
        if message.HasField("auto_rerun"):
            timers.add(message.auto_rerun.fragment_id)
        if drawn.WhichOneof("type") == "checkbox":
            switches[drawn.checkbox.label] = drawn.checkbox.id
        if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY and message.HasField(
            "script_finished"
        ):
            break
    return timers, switches


@pytest.mark.parametrize("page", ["", "hosts", "events"])
def test_what_is_new_is_drawn_without_being_asked_for(address: str, page: str) -> None:
    with tab(address, page) as socket:
        timers, drawn = until_drawn(socket, 3)
    assert drawn.keys() <= timers.keys()
    assert {timers[fragment] for fragment in drawn} == {5.0}


def test_what_is_paused_is_not_drawn(address: str) -> None:
    with tab(address, "events") as socket:
        before, switches = page_drawn(socket)
        until_drawn(socket, 2)
        ask(socket, "events", **{switches["Pause"]: True})
        running, _ = page_drawn(socket)
        (paused,) = before - running
        _, drawn = until_drawn(socket, 3)
    assert paused not in drawn


def test_two_tabs_are_drawn_each_and_a_closed_one_disturbs_nobody(address: str) -> None:
    with tab(address, "hosts") as one:
        with tab(address, "hosts") as other:
            until_drawn(one, 2)
            until_drawn(other, 2)
        until_drawn(one, 3)
