"""Outboxes over a transport that takes what it is told to."""

import asyncio

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
