"""Outboxes over a transport that takes what it is told to, and over a real socket."""

import asyncio
import os
import socket

from embedded.realtime_outbox import Flusher, Outbox


class Transport:
    """Keeps what is written in its buffer until it is read."""

    def __init__(self):
        self.calls = []
        self.waiting = 0

    def writelines(self, data):
        self.calls.append(b"".join(data))
        self.waiting += len(self.calls[-1])

    write = None

    def get_extra_info(self, name):
        return None

    def get_write_buffer_size(self):
        return self.waiting

    def is_closing(self):
        return False


def outboxes(count, limit=1000):
    flusher, dropped = Flusher(), []
    transports = [Transport() for _ in range(count)]
    made = [Outbox(transport, flusher, dropped.append, limit=limit) for transport in transports]
    return flusher, transports, made, dropped


async def flushed(flusher):
    position = asyncio.get_running_loop().create_future()
    flusher.then(position.set_result, 7)
    assert await asyncio.wait_for(position, 10) == 7


async def test_what_is_sent_in_a_tick_is_one_write():
    flusher, (transport,), (outbox,), _ = outboxes(1)
    for frame in (b"a", b"b", b"c"):
        outbox.write(frame)
    assert transport.calls == []
    await flushed(flusher)
    assert transport.calls == [b"abc"]


async def test_who_does_not_read_is_dropped_once_and_gets_no_more():
    flusher, (slow, fast), (behind, ahead), dropped = outboxes(2, limit=10)
    for _ in range(3):
        behind.write(b"123456")
        ahead.write(b"1")
        await flushed(flusher)
    assert dropped == [12]
    assert (len(slow.calls), len(fast.calls)) == (2, 3)


async def test_relief_waits_for_those_that_read():
    flusher, (transport,), (outbox,), dropped = outboxes(1)
    outbox.write(b"x" * 600)
    await flushed(flusher)
    waiting = asyncio.create_task(flusher.relief())
    await asyncio.sleep(0)
    assert not waiting.done()
    transport.waiting = 0
    await asyncio.wait_for(waiting, 10)
    assert dropped == []


async def test_relief_does_not_wait_for_those_that_never_read():
    flusher, _, (outbox,), _ = outboxes(1)
    outbox.write(b"x" * 600)
    await flushed(flusher)
    await asyncio.wait_for(flusher.relief(), 10)
    outbox.write(b"x")
    await flushed(flusher)
    await asyncio.wait_for(flusher.relief(), 0.5)  # it had its chance


async def test_relief_waits_again_for_those_that_caught_up():
    flusher, (transport,), (outbox,), _ = outboxes(1)
    outbox.write(b"x" * 600)
    await flushed(flusher)
    await asyncio.wait_for(flusher.relief(), 10)
    transport.waiting = 0
    for size in (1, 600):
        outbox.write(b"x" * size)
        await flushed(flusher)
    waiting = asyncio.create_task(flusher.relief())
    await asyncio.sleep(0)
    assert not waiting.done()
    transport.waiting = 0
    await asyncio.wait_for(waiting, 10)


async def test_relief_ends_when_the_client_is_gone():
    flusher, _, (outbox,), _ = outboxes(1)
    outbox.write(b"x" * 600)
    await flushed(flusher)
    outbox.close()
    await asyncio.wait_for(flusher.relief(), 0.5)


async def test_what_many_are_sent_keeps_its_place_among_the_rest():
    flusher, transports, made, _ = outboxes(3)
    flusher.send(made[:2], b"1")
    made[0].write(b"2")
    flusher.send(made, b"3")
    flusher.send(made[1:], b"4")
    await flushed(flusher)
    assert [transport.calls for transport in transports] == [[b"123"], [b"134"], [b"34"]]
    flusher.send(made, b"5")
    flusher.send(made, b"6")
    flusher.send(made[:1], b"7")
    await flushed(flusher)
    assert [transport.calls[1:] for transport in transports] == [[b"567"], [b"56"], [b"56"]]


async def test_what_many_are_sent_is_written_before_the_end():
    flusher, (first, second), made, _ = outboxes(2)
    flusher.send(made, b"1")
    made[0].close()
    made[0].write(b"2")
    await flushed(flusher)
    assert (first.calls, second.calls) == ([b"1"], [b"1"])


class Piped(Transport):
    """Over a real socket, which takes what fits."""

    def __init__(self):
        super().__init__()
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)

    def get_extra_info(self, name):
        return self.socket

    def close(self):
        self.socket.close()
        self.peer.close()


async def test_frames_go_to_the_socket_and_the_rest_to_the_transport():
    transport, flusher = Piped(), Flusher()
    outbox = Outbox(transport, flusher, print, limit=1 << 30)
    outbox.write(b"a")
    await flushed(flusher)
    outbox.write(b"b")
    outbox.write(b"c")
    await flushed(flusher)
    assert transport.calls == []
    large = [os.urandom(200_000) for _ in range(8)]
    for frame in large:
        outbox.write(frame)
    await flushed(flusher)
    flusher.send([outbox, outbox], b"behind")  # not past what waits
    await flushed(flusher)
    transport.socket.setblocking(True)
    got = transport.peer.recv(3, socket.MSG_WAITALL)
    sent = b"".join(large) + b"behindbehind"
    left = b"".join(transport.calls)
    got += transport.peer.recv(len(sent) - len(left), socket.MSG_WAITALL)
    assert got + left == b"abc" + sent
    assert left.startswith(sent[len(got) - 3 :][:100])
    transport.close()


async def test_a_broken_socket_is_the_transports_business():
    transport, flusher = Piped(), Flusher()
    outbox = Outbox(transport, flusher, print)
    transport.peer.close()
    outbox.write(b"a")
    await flushed(flusher)
    assert transport.calls == [b"a"]
    transport.close()


async def test_more_frames_than_one_call_takes_all_arrive():
    transport, flusher = Piped(), Flusher()
    outbox = Outbox(transport, flusher, print, limit=1 << 20)
    for _ in range(3000):
        outbox.write(b"x")
    await flushed(flusher)
    assert b"".join(transport.calls) == b"x" * 3000
    transport.close()
