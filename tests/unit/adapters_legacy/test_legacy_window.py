"""The link's window of unacknowledged frames."""

from __future__ import annotations

import asyncio

import pytest

from adapters.legacy_dialect import Misbehaved
from adapters.legacy_link import _WINDOW, _Window


async def test_frames_of_one_position_are_acknowledged_one_by_one():
    window = _Window()
    for position in (5, 9, 9):
        await window.enter(position)
    for position in (5, 9, 9):
        window.leave(position)
    with pytest.raises(Misbehaved, match="position 9, which was not sent"):
        window.leave(9)


async def test_an_acknowledgement_covers_what_was_sent_before():
    window = _Window()
    for position in (1, 2, 3):
        await window.enter(position)
    window.leave(3)
    with pytest.raises(Misbehaved):
        window.leave(3)


async def test_what_was_not_sent_cannot_be_acknowledged():
    window = _Window()
    await window.enter(3)
    with pytest.raises(Misbehaved, match="position 4"):
        window.leave(4)


async def test_a_full_window_waits_for_an_acknowledgement():
    window = _Window()
    for position in range(1, _WINDOW + 1):
        await window.enter(position)
    entering = asyncio.ensure_future(window.enter(99))
    await asyncio.sleep(0)
    assert not entering.done()
    window.leave(1)
    await asyncio.wait_for(entering, 1)
