"""What hubs of one host share."""

from __future__ import annotations

import json

from legacy_ws.arrivals import Arrivals
from legacy_ws.hub import Hub
from legacy_ws.protocol.catalogue import catalogue
from tests.fakes.event_factory import START, event
from tests.unit.legacy_ws.test_hub import WEB, Pipe


def hub(shared):
    return Hub([catalogue()["dashboard"]()], now=lambda: START, clock_started=START, shared=shared)


async def test_an_event_is_written_and_compressed_once_for_all_hubs():
    shared = Arrivals(lambda: START)
    hubs = [hub(shared) for _ in range(3)]
    pipes = [Pipe(deflates=deflates) for deflates in (True, True, False)]
    for one, pipe in zip(hubs, pipes, strict=True):
        one.attach("dashboard", pipe)
        one.flusher.flush()
        pipe.frames()
    told = event(WEB, 1, note="again and again " * 30)
    for one in hubs:
        one.take([told])
        one.flusher.flush()
    assert pipes[0].writes[-1] is pipes[1].writes[-1]
    said = [[json.loads(payload) for payload in pipe.frames()] for pipe in pipes]
    assert said[0] == said[1] == said[2]
    assert said[0][0]["metadata"]["event"]["payload"] == told.payload


def test_another_event_at_the_same_place_is_another_and_old_ones_are_let_go():
    shared = Arrivals(lambda: START, most=2)
    first, copy = event(WEB, 1), event(WEB, 1)
    assert shared.arrived(first) is shared.arrived(first)
    assert shared.arrived(first) is not shared.arrived(copy)
    kept = shared.arrived(first)
    for seq in range(2, 5):
        shared.arrived(event(WEB, seq))
    assert shared.arrived(first) is not kept
