"""How long is waited between two attempts, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from adapters.supabase_follower import Follower
from adapters.supabase_realtime import POLL_SECONDS, SupabaseRealtime
from monitoring.errors import Unreachable
from monitoring.service import Backend
from tests.fakes.virtual_time import runner


class Reads:
    """A follower whose reads of history work or not, as it was told; the last answer stands."""

    def __init__(self, works: Sequence[bool]) -> None:
        self._works = list(works)
        self.out_of_reach = False
        self.reads = 0

    async def catch_up(self) -> int:
        self.reads += 1
        if not (self._works.pop(0) if len(self._works) > 1 else self._works[0]):
            raise Unreachable(Backend.SUPABASE, "no answer")
        return 3


@pytest.mark.parametrize(
    ("works", "waited_polls"),
    [
        ([True], None),  # only the feed is down: it gets its full pause
        ([False], None),
        ([False, False, True], 3),  # within reach again: no reason to wait for the rest
    ],
)
def test_a_pause_ends_when_the_project_is_within_reach_again(
    works: list[bool], waited_polls: int | None
) -> None:
    follower = Reads(works)

    async def pause() -> float:
        loop = asyncio.get_running_loop()
        service = SupabaseRealtime("http://127.0.0.1:1", "key", wall=loop.time)
        began = loop.time()
        await service._pause(30.0, cast("Follower", follower))
        await service.close()
        return loop.time() - began

    with runner() as loop:
        waited = loop.run(pause())
    assert waited == pytest.approx(30.0 if waited_polls is None else waited_polls * POLL_SECONDS)
    assert follower.out_of_reach is (works == [False])
