"""Who is waited for, for how long, and who makes room for whom."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from embedded.patience import Bounds, Client, Crowd, Mentions
from tests.fakes.virtual_time import VirtualTimeLoop

BOUNDS = Bounds(connections=3, request_seconds=10, unread_seconds=30, unread_bytes=1000)


class Transport(asyncio.Transport):
    """Remembers what becomes of it; ``unread`` is what waits in it for its peer."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = 0
        self.written = b""
        self.closed = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def loop() -> Iterator[VirtualTimeLoop]:
    made = VirtualTimeLoop()
    yield made
    made.close()


@pytest.fixture
def crowd() -> Crowd:
    return Crowd(BOUNDS)


def opened(crowd: Crowd, loop: VirtualTimeLoop) -> tuple[Client, Transport]:
    transport = Transport()
    return Client(crowd, transport, loop), transport


def after(loop: VirtualTimeLoop, seconds: float) -> None:
    loop.run_until_complete(asyncio.sleep(seconds))


def asks(client: Client) -> None:
    client.heard()
    client.asked()
    client.received()


def test_a_client_that_says_nothing_is_closed(loop: VirtualTimeLoop, crowd: Crowd) -> None:
    _, transport = opened(crowd, loop)
    after(loop, 9.9)
    assert not transport.is_closing()
    after(loop, 0.2)
    assert transport.aborted
    assert not transport.written
    assert len(crowd) == 0


def test_half_a_head_is_told_that_it_is_late_however_often_some_of_it_comes(
    loop: VirtualTimeLoop, crowd: Crowd
) -> None:
    client, transport = opened(crowd, loop)
    for _ in range(11):
        client.received()
        after(loop, 1)
    assert transport.written.startswith(b"HTTP/1.1 408 ")
    head, _, body = transport.written.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert transport.closed


def test_time_begins_anew_with_each_request_and_stands_still_while_it_is_answered(
    loop: VirtualTimeLoop, crowd: Crowd
) -> None:
    client, transport = opened(crowd, loop)
    for _ in range(5):
        after(loop, 8)
        asks(client)
        after(loop, 3600)
        client.answered()
        after(loop, 20)  # between two requests the server's own time for that is what counts
        client.received()
    assert not transport.is_closing()
    after(loop, 11)
    assert transport.closed


def test_what_is_left_of_a_request_that_was_refused_does_not_come_for_ever(
    loop: VirtualTimeLoop, crowd: Crowd
) -> None:
    client, transport = opened(crowd, loop)
    client.heard()
    client.answered()  # 429, with most of its body still to come
    for _ in range(11):
        client.received()
        after(loop, 1)
    assert transport.aborted
    assert not transport.written  # nobody would take it for the answer to anything


def test_an_answer_has_to_be_read(loop: VirtualTimeLoop, crowd: Crowd) -> None:
    client, transport = opened(crowd, loop)
    asks(client)
    transport.unread = 10_000
    client.answered()
    for unread in (9_000, 8_000, 7_000):  # slowly, but fast enough
        transport.unread = unread
        after(loop, 30.1)
        assert not transport.is_closing()
    transport.unread = 6_500
    after(loop, 30.1)
    assert transport.aborted


def test_an_answer_that_was_read_is_looked_at_no_more(loop: VirtualTimeLoop, crowd: Crowd) -> None:
    client, transport = opened(crowd, loop)
    asks(client)
    transport.unread = 500
    client.answered()
    transport.unread = 0
    after(loop, 31)
    asks(client)
    after(loop, 3600)
    assert not transport.is_closing()


def test_a_close_that_waits_for_a_client_that_reads_nothing_ends(loop: VirtualTimeLoop, crowd: Crowd) -> None:
    client, transport = opened(crowd, loop)
    asks(client)
    transport.unread = 500
    client.answered()
    transport.close()
    after(loop, 31)
    assert transport.aborted


def test_who_has_waited_longest_for_its_client_makes_room(loop: VirtualTimeLoop, crowd: Crowd) -> None:
    clients = [opened(crowd, loop) for _ in range(3)]
    asks(clients[0][0])
    clients[1][0].received()  # does not make it younger
    opened(crowd, loop)
    assert [transport.aborted for _, transport in clients] == [False, True, False]
    clients[0][0].answered()
    opened(crowd, loop)
    assert [transport.aborted for _, transport in clients] == [False, True, True]
    assert len(crowd) == 3


def test_where_all_are_being_answered_the_newest_goes(loop: VirtualTimeLoop, crowd: Crowd) -> None:
    clients = [opened(crowd, loop) for _ in range(3)]
    for client, _ in clients:
        asks(client)
    _, newest = opened(crowd, loop)
    assert newest.aborted
    assert not any(transport.aborted for _, transport in clients)


def test_whoever_left_is_not_counted_and_not_closed(loop: VirtualTimeLoop, crowd: Crowd) -> None:
    client, transport = opened(crowd, loop)
    client.received()
    client.leave()  # for another protocol
    client.received()
    client.answered()
    after(loop, 3600)
    assert not transport.is_closing()
    assert len(crowd) == 0


def test_the_log_says_it_once_a_minute(
    loop: VirtualTimeLoop, crowd: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            opened(crowd, loop)
        after(loop, 61)
        opened(crowd, loop)
        after(loop, 11)
    assert [line.args[0] for line in caplog.records if isinstance(line.args, tuple)] == [1, 50]


def test_what_happens_often_is_mentioned_once_a_minute_with_its_count() -> None:
    mentions = Mentions()
    assert [mentions.one_more(now) for now in (5.0, 6.0, 64.9, 65.0, 66.0, 200.0)] == [
        1, None, None, 3, None, 2,
    ]  # fmt: skip
