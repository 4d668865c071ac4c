"""What open tabs are sent without having asked, by a real Streamlit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from dashboard.identity import COOKIE
from tests.dashboard_process import serving

DEADLINE_SECONDS = 60
BROWSER = "2|01020304|0a0b0c0d|1790000000"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return where the pages are served."""
    with serving() as url:
        yield url.removeprefix("http://")


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


def until_drawn(socket: ClientConnection, times: int) -> Counter[str]:
    """Return how often each fragment was drawn without having been asked for, once one was so often."""
    drawn: Counter[str] = Counter()
    for message in messages(socket):
        if message.HasField("new_session"):
            drawn.update(message.metadata.run.fragment_ids)
        if max(drawn.values(), default=0) >= times:
            break
    return drawn


@dataclass
class Drawn:
    """What a browser is told of a page that is drawn as a whole."""

    timers: dict[str, float] = field(default_factory=dict)
    """Of fragments, in seconds."""
    switches: dict[str, str] = field(default_factory=dict)
    """By their label."""
    fragments: dict[str, str] = field(default_factory=dict)
    """By a text that is in it."""


def page_drawn(socket: ClientConnection) -> Drawn:
    """Return what came, once all has."""
    page = Drawn()
    for message in messages(socket):
        element = message.delta.new_element
        if message.HasField("auto_rerun"):
            page.timers[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        elif element.HasField("checkbox"):
            page.switches[element.checkbox.label] = element.checkbox.id
        elif element.HasField("markdown"):
            page.fragments[element.markdown.body.split(" :")[0]] = message.delta.fragment_id
        elif message.HasField("script_finished"):
            return page
    raise AssertionError("messages end with an error")


@pytest.mark.parametrize("page", ["", "hosts", "events"])
def test_what_is_new_is_drawn_without_being_asked_for(address: str, page: str) -> None:
    with tab(address, page) as socket:
        timers = page_drawn(socket).timers
        drawn = until_drawn(socket, 3)
    assert drawn.keys() - timers.keys(), "most have none"
    assert {timers[fragment] for fragment in drawn.keys() & timers.keys()} <= {5.0}, "that of the tab"


def test_what_is_paused_is_not_drawn(address: str) -> None:
    with tab(address, "events") as socket:
        page = page_drawn(socket)
        table = page.fragments["**Events**"]
        assert table in until_drawn(socket, 3)
        ask(socket, "events", **{page.switches["Pause"]: True})
        page_drawn(socket)
        assert table not in until_drawn(socket, 2), "what else grows old is"


def test_two_tabs_are_drawn_each_and_a_closed_one_disturbs_nobody(address: str) -> None:
    with tab(address, "hosts") as one:
        with tab(address, "hosts") as other:
            until_drawn(one, 2)
            until_drawn(other, 2)
        until_drawn(one, 3)
