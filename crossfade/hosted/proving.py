"""Whether a project works for Crossfade, found out by using it as the collector and as a client do."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from crossfade.checks import Check
from crossfade.errors import CrossfadeError
from crossfade.hosted import facts, installing, judging
from crossfade.paths import DataDir
from crossfade.wiring import Wiring
from monitoring.service import Backend
from monitoring.topics import GLOBAL

if TYPE_CHECKING:
    from crossfade.settings import Settings

_SECONDS = 30.0
"""How long Realtime may take to say that its feed is live; a project that slept takes some."""


async def look(settings: Settings) -> list[Check]:
    """Return what there is to say of a project's database; raises CrossfadeError when it cannot be asked."""
    url = settings.database_url.get_secret_value() if settings.database_url else ""
    async with facts.connected(url) as connection:
        found = await facts.find(connection, url)
        checks = judging.judge(found)
        if pending := judging.pending(found, installing.ours()):
            detail = f"{len(pending)} to apply, the first is {pending[0].file.name}"
            checks.append(Check("migrations", ok=False, detail=detail, advice="run crossfade init"))
            return checks
        checks.append(Check("migrations", ok=True, detail="all applied"))
        try:
            checks.append(Check("events", ok=True, detail=await installing.prove(connection)))
        except CrossfadeError as error:
            checks.append(Check("events", ok=False, detail=str(error)))
        return checks


async def follow(settings: Settings) -> str:
    """Subscribe to the feed until it is live; returns what was seen, raises CrossfadeError that says what was not."""
    service = Wiring(DataDir.of(settings.data_dir), settings).connect_backend(Backend.SUPABASE)
    began = time.monotonic()
    try:
        async with asyncio.timeout(_SECONDS), service.subscribe(frozenset({GLOBAL})) as subscription:
            await subscription.wait_live()
    except TimeoutError:
        health = await service.health()
        raise CrossfadeError(f"the feed was not live within {_SECONDS:g} s: {health.detail}") from None
    finally:
        await service.close()
    return f"is live after {time.monotonic() - began:.1f} s"
